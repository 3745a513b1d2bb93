"""The runtimes: their files, how they are told apart, and commands that are ready to paste."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from twdiag.software import SoftwareFileError, runtimes
from twdiag.software.runtimes import (
    ProcessPlace,
    all_runtimes,
    next_commands,
    parse_runtime,
    recognise,
)

FOLDER = Path(runtimes.__file__).parent / "runtimes"
HERE = ProcessPlace(915, 915)
INSIDE = ProcessPlace(915, 7, ("docker", "exec", "0123456789ab"))
GOOD = """
name = "demo"
title = "Demo"
executables = ["demo"]
mapped = []

[[command]]
run = "demo {pid}"
look = "it"
effect = "none"
tool = ""
inside = false
source = "https://example.org"
"""


def test_every_file_is_a_runtime_of_its_name() -> None:
    assert [f"{one.name}.toml" for one in all_runtimes()] == sorted(
        path.name for path in FOLDER.glob("*.toml")
    )


@pytest.mark.parametrize(
    ("executable", "mapped", "go", "name"),
    [
        ("/usr/bin/python3.11", [], False, "cpython"),
        ("/usr/bin/uwsgi-core", ["libpython3.11.so.1.0"], False, "cpython"),
        ("/usr/lib/jvm/bin/java (deleted)", ["libjvm.so"], False, "jvm"),
        ("/opt/launcher", ["libjvm.so"], False, "jvm"),
        ("/usr/bin/node", [], False, "nodejs"),
        ("/usr/bin/dotnet", [], False, "dotnet"),
        ("/app/Service", ["libcoreclr.so"], False, "dotnet"),
        ("/usr/bin/ruby3.1", [], False, "ruby"),
        ("/usr/sbin/php-fpm8.2", [], False, "php-fpm"),
        ("/usr/bin/podman", ["libc.so.6"], True, "go"),
        ("/usr/sbin/nginx", ["libc.so.6"], False, "native"),
        ("", [], False, "native"),
    ],
)
def test_recognition(executable: str, mapped: list[str], go: bool, name: str) -> None:
    assert recognise(executable, mapped, go).name == name


@pytest.mark.parametrize("runtime", all_runtimes(), ids=lambda one: one.name)
@pytest.mark.parametrize("place", [HERE, INSIDE], ids=["host", "container"])
def test_commands_are_ready_to_paste(runtime: runtimes.Runtime, place: ProcessPlace) -> None:
    for command in next_commands(runtime, place):
        assert "{" not in command.run + command.effect
        assert shlex.split(command.run)
        assert len(command.look) <= 230
        assert len(command.effect) <= 160


@pytest.mark.parametrize("runtime", all_runtimes(), ids=lambda one: one.name)
def test_each_runtime_has_a_way_that_needs_nothing_installed(runtime: runtimes.Runtime) -> None:
    assert any(not command.tool for command in next_commands(runtime, HERE))


def runs(name: str, place: ProcessPlace, symbols: bool | None = None) -> list[str]:
    (runtime,) = [one for one in all_runtimes() if one.name == name]
    return [command.run for command in next_commands(runtime, place, symbols)]


def test_a_command_for_the_host_has_the_number_of_the_host() -> None:
    assert runs("cpython", INSIDE)[0] == "py-spy dump --pid 915"


def test_a_command_for_the_container_is_run_inside() -> None:
    assert runs("jvm", INSIDE)[0] == "docker exec 0123456789ab jcmd 7 Thread.print"
    assert runs("jvm", HERE)[0] == "jcmd 915 Thread.print"
    words = shlex.split(runs("nodejs", INSIDE)[0])
    assert words[:5] == ["docker", "exec", "0123456789ab", "sh", "-c"]
    assert words[5] == "kill -USR1 7 && node inspect -p 7"


def test_symbols_decide_the_command() -> None:
    assert "debuginfod" not in runs("native", HERE, symbols=True)[0]
    assert "debuginfod" in runs("native", HERE, symbols=False)[0]


def test_a_signal_that_ends_the_program_says_so() -> None:
    for runtime in all_runtimes():
        for command in next_commands(runtime, HERE):
            if "kill -QUIT" in command.run:
                assert "end" in command.effect.lower(), runtime.name
    assert "ENDS" in next(
        c.effect for c in next_commands(recognise("", (), go=True), HERE) if "QUIT" in c.run
    )


@pytest.mark.parametrize(
    ("runtime", "name", "main", "own"),
    [
        ("jvm", "GC Thread#0", False, True),
        ("jvm", "C2 CompilerThre", False, True),
        ("jvm", "pool-1-thread-1", False, False),
        ("jvm", "java", False, False),
        ("jvm", "java", True, True),
        ("nodejs", "node", False, True),
        ("nodejs", "node", True, False),
        ("go", "server", True, True),
        ("cpython", "python3", False, False),
        ("dotnet", ".NET SigHandler", False, True),
        ("dotnet", ".NET TP Worker", False, False),
    ],
)
def test_the_threads_of_the_runtime_itself(runtime: str, name: str, main: bool, own: bool) -> None:
    found = next(one for one in all_runtimes() if one.name == runtime)
    assert found.owns(name, main) is own


def test_a_good_file() -> None:
    assert parse_runtime(GOOD, "demo.toml").commands[0].run == "demo {pid}"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "demo"', "name = 1", "name: expected a string"),
        ("[[command]]", "[command]", "expected [[command]] tables"),
        ('look = "it"', "", "look: expected a string"),
        ("inside = false", 'inside = "no"', "expected true or false"),
        ("https://example.org", "http://example.org", "not an https address"),
        ('tool = ""', 'tool = ""\nextra = 1', "extra: no such key"),
        ('name = "demo"', "name = ", "not TOML"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, words: str) -> None:
    with pytest.raises(SoftwareFileError) as caught:
        parse_runtime(GOOD.replace(old, new), "demo.toml")
    assert words in caught.value.what
    assert "demo.toml" in caught.value.what
