"""What twdiag takes from inside of typer: all of it in one module, and each part as it is expected.

An update of typer that breaks something has to break here first.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from twdiag.cli import application, typer_parts
from twdiag.cli.refusals import refusal
from twdiag.cli.typer_parts import Mistake

ROOT = Path(__file__).resolve().parents[2]
CODE = [*(ROOT / "twdiag").rglob("*.py"), *(ROOT / "completions").glob("*.py")]
PRIVATE = {
    "typer._click.exceptions.BadOptionUsage",
    "typer._click.exceptions.BadParameter",
    "typer._click.exceptions.ClickException",
    "typer._click.exceptions.MissingParameter",
    "typer._click.exceptions.NoArgsIsHelpError",
    "typer._click.exceptions.NoSuchOption",
    "typer._completion_classes.completion_init",
}


def imported(path: Path) -> set[str]:
    """Return what a module imports from below typer, and what it names of typer.X.Y."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("typer."):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("typer.")}
    return found


def test_only_one_module_knows_the_inside_of_typer() -> None:
    inside = {path.relative_to(ROOT): imported(path) for path in CODE}
    place = Path("twdiag/cli/typer_parts.py")
    assert inside.pop(place) == PRIVATE
    assert {path: names for path, names in inside.items() if names} == {}
    # Parts of its objects: what begins with an underscore, or belongs to no public class.
    own = re.compile(r"\btyper\.main\.|\b_protected_args\b|resilient_parsing|secondary_opts")
    users = {path.relative_to(ROOT) for path in CODE if own.search(path.read_text("utf-8"))}
    assert users == {place}


@pytest.fixture
def app() -> typer.Typer:
    """A command line that has one of each."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False, suggest_commands=False)
    below = typer.Typer(no_args_is_help=True)

    @app.callback(invoke_without_command=True)
    def root() -> None:
        """Do it."""

    @app.command("do", epilog="\b\nExamples:\n  do it")
    def do(
        word: Annotated[str, typer.Argument(metavar="WORD", help="A word.")],
        number: Annotated[int, typer.Option("--number", "-n", min=1, max=9, help="One.")] = 3,
        share: Annotated[float, typer.Option("--share", min=0, max=1)] = 0.5,
        many: Annotated[list[str] | None, typer.Option("--many", metavar="X")] = None,
        on: Annotated[bool, typer.Option("--on/--off")] = True,
        hidden: Annotated[bool, typer.Option("--hidden", hidden=True)] = False,
    ) -> None:
        """Do one thing."""

    @below.command("run")
    def run() -> None:
        """Run."""

    @below.command("stop", hidden=True)
    def stop() -> None:
        """Stop."""

    app.add_typer(below, name="lab")
    return app


def test_a_command_line_is_described(app: typer.Typer) -> None:
    root = typer_parts.describe(app)
    do, lab = root.commands
    assert (root.name, root.help, do.summary) == ("twdiag", "Do it.", "Do one thing.")
    assert do.epilog == "Examples:\n  do it"
    assert [command.name for command in lab.commands] == ["run"]
    found = {parameter.names[-1]: parameter for parameter in do.parameters}
    assert "--hidden" not in found
    word, number, many, on = found["word"], found["--number"], found["--many"], found["--on"]
    assert (word.is_option, word.required, word.metavar, word.help) == (
        False, True, "WORD", "A word.",
    )  # fmt: skip
    assert number.names == ("-n", "--number")
    assert (number.low, number.high, number.whole, number.default) == (1, 9, True, "3")
    assert (found["--share"].whole, found["--share"].default) == (False, "0.5")
    assert (many.repeats, many.whole, many.metavar, number.repeats) == (True, None, "X", False)
    assert (on.is_flag, on.off, number.is_flag) == (True, ("--off",), False)


def made(app: typer.Typer, *words: str) -> Mistake:
    """Return the mistake in some words."""
    with pytest.raises(typer_parts.ClickException) as caught:
        app(list(words), prog_name="twdiag", standalone_mode=False)
    return typer_parts.mistake(caught.value, app, words)


@pytest.mark.parametrize(
    ("words", "kind", "command", "word"),
    [
        (("do", "x", "--nubmer", "3"), "option", "twdiag do", "--nubmer"),
        (("do", "x", "-z"), "option", "twdiag do", "-z"),
        (("doo",), "command", "twdiag", "doo"),
        (("lab", "rum"), "command", "twdiag lab", "rum"),
        (("do", "x", "--number", "y"), "value", "twdiag do", "y"),
        (("do", "x", "--number", "it's"), "value", "twdiag do", "it's"),
        (("do", "x", "--number", "10"), "value", "twdiag do", "10"),
        (("do", "x", "--share", "1.5"), "value", "twdiag do", "1.5"),
        (("do",), "missing", "twdiag do", ""),
        (("do", "x", "--number"), "no value", "twdiag do", "--number"),
        (("do", "x", "--on=3"), "needless value", "twdiag do", "--on"),
        (("do", "x", "y", "z"), "extra", "twdiag do", "y z"),
    ],
)
def test_each_mistake_is_told_apart(
    words: tuple[str, ...], kind: str, command: str, word: str, app: typer.Typer
) -> None:
    found = made(app, *words)
    assert (found.kind, found.command, found.word) == (kind, command, word)
    said = refusal(found)
    assert said.next_step == f"see: {command} --help"
    assert "<=" not in said.what
    assert " range" not in said.what


def test_a_group_alone_shows_its_help(app: typer.Typer) -> None:
    with pytest.raises(typer_parts.NoArgsIsHelpError) as caught:
        app(["lab"], prog_name="twdiag", standalone_mode=False)
    assert "Usage: twdiag lab" in caught.value.format_message()


def test_the_help_of_a_command_is_found(app: typer.Typer) -> None:
    assert "Usage: twdiag lab run" in str(typer_parts.help_of(app, ["lab", "run"]))
    assert "Usage: twdiag [OPTIONS]" in str(typer_parts.help_of(app, []))
    lost: Any = typer_parts.help_of(app, ["lab", "rum"])
    assert (lost.kind, lost.command, lost.word) == ("command", "twdiag lab", "rum")


@pytest.mark.parametrize(
    ("words", "what", "step"),
    [
        ("--prot 80", "twdiag diagnose has no option --prot; did you mean --port?", "diagnose"),
        ("check --json", "twdiag check has no option --json; write --format json", "check"),
        ("check --nagios", "twdiag check has no option --nagios", "check"),
        ("check --port", "--port needs a value", "check"),
        ("--port x", "--port needs a whole number from 1 to 65535, not 'x'", "diagnose"),
        ("--interval 1e9", "--interval needs a number from 0 to 3600, not 1000000000", "diagnose"),
        ("check -t 0.01", "--timeout needs a number from 0.1 to 3600, not 0.01", "check"),
        ("lab run", "twdiag lab run needs a SCENARIO", "lab run"),
        ("lab rum", "twdiag lab has no command 'rum'; did you mean 'run'?", "lab"),
        ("chekc", "twdiag has no command 'chekc'; did you mean 'check'?", ""),
        ("help chekc", "", ""),
    ],
)
def test_twdiag_says_it_in_plain_english(words: str, what: str, step: str) -> None:
    first = words.split()
    called = ["diagnose", *first] if first[0].startswith("-") else first
    if called[0] == "help":
        assert isinstance(typer_parts.help_of(application(), called[1:]), Mistake)
        return
    said = refusal(made(application(called), *called))
    assert said.what == what
    assert said.next_step == " ".join(f"see: twdiag {step} --help".split())


def test_a_word_that_explain_knows_leads_there() -> None:
    for word in ("TIME_WAIT", "close-wait", "ports-running-out"):
        said = refusal(made(application([word]), word))
        assert said.next_step == f"to read about it: twdiag explain {word}"
