"""What watch and trace do alike: at a full disk, without a stream, at words that make no sense."""

from __future__ import annotations

import os
from functools import partial

import pytest

from tests.cli.lasting import TRACE, WATCH, ran
from tests.engine.privately import in_private
from tests.running import forked

BOTH = pytest.mark.parametrize(
    "command", [[*WATCH, "--count", "1"], [*TRACE, "--for", "0.2s"]], ids=["watch", "trace"]
)


@BOTH
@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "json"])
def test_a_full_disk_is_one_sentence(command: list[str], words: tuple[str, ...]) -> None:
    def work() -> tuple[int, str]:
        with open("/dev/full", "w") as full:
            done = ran(command, *words, stdout=full)
        return done.returncode, done.stderr

    code, err = in_private(work)
    assert code == 3
    assert "No space left" in err
    assert "Traceback" not in err


@BOTH
@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_is_no_accident(command: list[str], closed: str) -> None:
    def work() -> tuple[int, str]:
        number = ("stdin", "stdout", "stderr").index(closed)
        done = ran(command, **{closed: None, "preexec_fn": partial(os.close, number)})
        return done.returncode, (done.stdout or "") + (done.stderr or "")

    code, text = in_private(work)
    assert code == (3 if closed == "stdout" else 0)
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (WATCH, ("--interval", "0"), "--interval '0' is not a time above 0"),
        (WATCH, ("--interval", "soon"), "--interval 'soon' is not a time above 0"),
        (WATCH, ("--for", "-1s"), "--for '-1s' is not a time above 0"),
        (WATCH, ("--count", "0"), "--count needs a whole number from 1"),
        (WATCH, ("--port", "70000"), "--port needs a whole number from 1 to 65535, not 70000"),
        (WATCH, ("--netns", "nowhere"), "there is no network namespace or container 'nowhere'"),
        (WATCH, ("--select", "close-wait-lek"), "close-wait-leak"),
        (WATCH, ("--limit", "ports-warning=2"), "ports-warning must lie between"),
        (WATCH, ("--source", "bpf"), "--source needs one of auto, tracefs, multicast, none"),
        (WATCH, ("--intervall", "1s"), "did you mean --interval"),
        (WATCH, ("5",), "does not know what to do with '5'"),
        (TRACE, ("--for", "0"), "not a time above 0"),
        (TRACE, ("--for", "-5s"), "not a time above 0"),
        (TRACE, ("--for", "nan"), "not a time above 0"),
        (TRACE, ("--for", "5 fortnights"), "not a time above 0"),
        (TRACE, ("--for", "9" * 400), "not a time above 0"),
        (TRACE, ("--port", "0"), "--port needs a whole number from 1 to 65535, not 0"),
        (TRACE, ("--process", "nginx"), "which process closes is not to be seen"),
        (TRACE, ("--nope",), "twdiag trace has no option --nope"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    command: list[str], words: tuple[str, ...], said: str
) -> None:
    done = forked(*command[3:], *words)
    assert (done.code, done.out) == (3, "")
    assert said in done.err
    assert "Traceback" not in done.err
