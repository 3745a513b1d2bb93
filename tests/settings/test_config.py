"""Settings: precedence and origins, and errors that name the file, the line or the variable."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twdiag.errors import UsageError
from twdiag.model.ranges import Range
from twdiag.settings import config

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.running import Said


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own file, in $XDG_CONFIG_HOME."""
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "twdiag.toml"


@pytest.fixture
def system_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for /etc/twdiag.toml."""
    monkeypatch.setattr(config, "SYSTEM_FILE", str(tmp_path / "etc.toml"))
    return tmp_path / "etc.toml"


def test_without_any_file_the_defaults_hold() -> None:
    found = config.load(environ={})
    assert found.limits["ports-warning"] == 0.7
    assert found.limits.origin("ports-warning") == "default"
    assert [state for _, state in found.files] == ["absent"]


def test_rising_precedence(user_file: Path, system_file: Path, tmp_path: Path) -> None:
    names = [
        "close-wait-age",
        "close-wait-notice",
        "connection-churn",
        "fds-warning",
        "restart-blocked",
    ]
    more = tmp_path / "more.toml"
    for file, chosen in ((system_file, names), (user_file, names[1:]), (more, names[2:])):
        value = {system_file: 0.1, user_file: 0.2, more: 0.3}[file] * 10
        lines = [f"{name} = {value if name != 'fds-warning' else value / 10}" for name in chosen]
        file.write_text("[limits]\n" + "\n".join(lines) + "\n")
    environ = {
        "XDG_CONFIG_HOME": str(user_file.parent),
        "TWDIAG_FDS_WARNING": "0.4",
        "TWDIAG_RESTART_BLOCKED": "4",
        "OTHER": "x",
    }
    found = config.load(str(more), ["restart-blocked=5"], environ)
    assert [found.limits[name] for name in names] == [1.0, 2.0, 3.0, 0.4, 5.0]
    assert [found.limits.origin(name) for name in names] == [
        f"{system_file}, line 2",
        f"{user_file}, line 2",
        f"{more}, line 2",
        "environment variable TWDIAG_FDS_WARNING",
        "--limit",
    ]


def test_twdiag_config_names_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("limits.close-wait-age = 30")
    assert config.load(None, (), {"TWDIAG_CONFIG": str(file)}).limits["close-wait-age"] == 30
    other = tmp_path / "b.toml"
    other.write_text("")
    assert config.load(str(other), (), {"TWDIAG_CONFIG": str(file)}).limits["close-wait-age"] == 10


def test_home_stands_in_for_xdg(tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".config"
    folder.mkdir(parents=True)
    (folder / "twdiag.toml").write_text("[limits]\nclose-wait-age = 30\n")
    home = str(tmp_path / "home")
    assert config.load(environ={"HOME": home}).limits["close-wait-age"] == 30
    relative = {"HOME": home, "XDG_CONFIG_HOME": "somewhere"}
    assert config.load(environ=relative).limits["close-wait-age"] == 30
    assert len(config.load(environ={}).files) == 1
    assert len(config.load(environ={"HOME": ""}).files) == 1


def test_what_check_takes_from_a_file(
    user_file: Path, on: Callable[..., Said], check: Callable[..., Said]
) -> None:
    user_file.write_text(
        """
[check]
ignore = ["close-wait-leak", "fd-limit-near"]
[check.warning]
time_wait = "20000"
listen = 1
[check.critical]
"listen" = "5"
"""
    )
    said = on("fd-limit")
    assert said.code == 0
    assert said.perfdata["listen"] == "1;1;5;0"
    assert on("idle").line.startswith("TWDIAG WARNING - listen is 2, above the limit of 1")
    assert on("idle", "-w", "listen=9").code == 0
    # Who asks for a rule by name wants it, whatever the file says.
    assert on("fd-limit", "--select", "fd-limit-near").code == 1
    shown = check("--show-limits", "-c", "close_wait=3")
    assert shown.code == 0
    assert f"warning time_wait    20000  range  {user_file}, line 5" in shown.out
    assert "critical close_wait  3      range  --critical" in shown.out
    assert f"{user_file}  read" in shown.out


def test_diagnose_has_the_same_limits(
    user_file: Path, on: Callable[..., Said], capsys: pytest.CaptureFixture[str]
) -> None:
    from twdiag.cli import run

    on("close-wait-leak")
    assert run(["diagnose", "--brief"]) == 0
    assert "close-wait-leak" in capsys.readouterr().out
    user_file.write_text("[limits]\nclose-wait-notice = 6\n")
    assert run(["diagnose", "--brief"]) == 0
    assert "close-wait-leak" not in capsys.readouterr().out
    user_file.write_text("[limits]\nclose-wait-notise = 6\n")
    assert run(["diagnose"]) == 3
    assert f"twdiag: {user_file}, line 2: there is no limit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "[limits]\n\nports-warnig = 0.8\n",
            3,
            "no limit 'ports-warnig'; did you mean 'ports-warn",
        ),
        ("# a\n[limits]\nports-warning = 'much'\n", 3, "needs a number, not a text"),
        ("[limits]\nports-warning = '0.8'\n", 2, "needs a number, not a text"),
        ("[limits]\nports-warning = true\n", 2, "needs a number"),
        ("[limits]\nports-warning = [1]\n", 2, "needs a number"),
        ("[limits]\nports-warning = 80\n", 2, "must lie between 0 and 1, not 80"),
        ("[limits]\nports-warning = nan\n", 2, "must lie between"),
        ("limits.ports-warning = inf\n", 1, "must lie between"),
        ("\n\nlimits = { ports-warning = 8 }\n", 3, "must lie between"),
        ("\nlimits = 3\n", 2, "limits is a table"),
        ("\nignore = ['close-wait-leak']\n", 2, "ignore belongs to the table check"),
        ("[warning]\ntime_wait = 3\n", 1, "warning belongs to the table check"),
        ("[limit]\n", 1, "there is no table 'limit'; did you mean 'limits'"),
        (
            "[limits]\n[check]\nignored = []\n",
            3,
            "there is no key 'ignored'; did you mean 'ignore'",
        ),
        ("[check]\nignore = 'close-wait-leak'\n", 2, "needs a list of rules"),
        ("[check]\nignore = ['close-wait-leek']\n", 2, "did you mean 'close-wait-leak'"),
        ("[check]\nwarning = 10\n", 2, "check.warning is a table"),
        ("[check.warning]\ntimewait = '10'\n", 2, "did you mean 'time_wait'"),
        ("[check.warning]\ntime_wait = '20:10'\n", 2, "starts above its end"),
        ("[check.critical]\n\ntime_wait = true\n", 3, "needs a range"),
        ("[check.critical]\nports_used_ratio = 0.8\n", 2, "is in percent"),
    ],
)
def test_errors_name_the_line(
    text: str, line: int, message: str, user_file: Path, check: Callable[..., Said]
) -> None:
    user_file.write_text(text)
    with pytest.raises(UsageError) as caught:
        config.load()
    assert caught.value.what.startswith(f"{user_file}, line {line}: ")
    assert message in caught.value.what
    said = check()
    assert said.code == 3
    assert said.line.startswith("TWDIAG UNKNOWN - ")
    assert message.replace(";", ",") in said.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[limits\n", "line 1"),
        (b"[limits]\nports-warning = = 3", "line 2"),
        (b"[limits]\nports-warning = 1\nports-warning = 1\n", "line 3"),
        (b"[limits]\n# gr\xfc\xdfe\n", "line 2: not UTF-8"),
        (b"x = " + b"[" * 5000, "not TOML"),
        (b"#" * (1 << 20) + b"\n", "larger than"),
        (b"\x00", "not TOML"),
    ],
)
def test_what_is_no_toml(content: bytes, message: str, user_file: Path) -> None:
    user_file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        config.load()
    assert str(user_file) in caught.value.what
    assert message in caught.value.what


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("TWDIAG_PORTS_WARNING", "much", "needs a number, not 'much'"),
        ("TWDIAG_PORTS_WARNING", "", "needs a number"),
        ("TWDIAG_PORTS_WARNING", "8", "must lie between 0 and 1"),
    ],
)
def test_errors_name_the_variable(variable: str, value: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.load(environ={variable: value})
    assert caught.value.what.startswith(f"environment variable {variable}: ")
    assert message in caught.value.what


@pytest.mark.parametrize(
    ("variable", "note"),
    [
        ("TWDIAG_PORTS_WARNIG", "has no effect; did you mean 'TWDIAG_PORTS_WARNING'?"),
        ("TWDIAG_VERSION", "TWDIAG_VERSION has no effect"),
        ("TWDIAG_", "TWDIAG_ has no effect"),
        ("TWDIAG_IGNORE", "TWDIAG_IGNORE has no effect: use --ignore"),
        ("TWDIAG_NETNS", "TWDIAG_NETNS has no effect: use --netns"),
    ],
)
def test_a_variable_of_somebody_else_is_a_note_and_no_state(
    variable: str,
    note: str,
    monkeypatch: pytest.MonkeyPatch,
    on: Callable[..., Said],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from twdiag.cli import run

    monkeypatch.setenv(variable, "8")
    said = on("idle", "-v")
    assert (said.code, said.err) == (0, "")
    assert note.replace(";", ",") in said.out
    assert on("fd-limit").code == 1
    assert run(["diagnose", "--json"]) == 0
    assert f"twdiag: the environment variable {variable}" in capsys.readouterr().err


def test_a_folder_is_never_advised_to_be_removed(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        config.load(str(tmp_path))
    assert caught.value.what == f"{tmp_path} is a folder, not a settings file"
    assert caught.value.next_step == "name a file in it"


@pytest.mark.parametrize("text", ["'70%'", '"70 %"', '" 70% "'])
def test_a_share_may_be_written_in_percent(text: str, user_file: Path) -> None:
    user_file.write_text(f"[limits]\nports-warning = {text}\n")
    assert config.load().limits["ports-warning"] == 0.7
    assert config.load(None, ["ports-warning=65%"]).limits["ports-warning"] == 0.65
    assert config.load(environ={"TWDIAG_PORTS_WARNING": "60%"}).limits["ports-warning"] == 0.6


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("ports-warning = '0.8'", "write it without quotes: ports-warning = 0.8"),
        ("ports-warning = '80'", "its default is 0.7"),
        ("ports-warning = 'much'", "its default is 0.7"),
        ("close-wait-age = '70%'", "its default is 10"),
        ("ports-warning = '170%'", "its default is 0.7"),
    ],
)
def test_the_hint_for_a_limit_is_one_that_works(line: str, step: str, user_file: Path) -> None:
    user_file.write_text(f"[limits]\n{line}\n")
    with pytest.raises(UsageError) as caught:
        config.load()
    assert caught.value.next_step == step
    if step.startswith("write"):
        user_file.write_text(f"[limits]\n{step.partition(': ')[2]}\n")
        config.load()


def test_a_file_asked_for_must_be_there(tmp_path: Path, check: Callable[..., Said]) -> None:
    said = check("--config", str(tmp_path / "no.toml"))
    assert said.code == 3
    assert "No such file or directory" in said.out
    assert check("--config", str(tmp_path)).code == 3
    assert check("--config", "a\0b").code == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_file_without_a_name_is_not_passed_over(check: Callable[..., Said]) -> None:
    said = check("--config", "")
    assert said.code == 3
    assert "--config '' names no file" in said.out


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is there and cannot be read is an error; a folder of another user is not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        system, home = Path(folder, "etc.toml"), Path(folder, "home")
        system.write_text("")
        system.chmod(0o600)
        home.mkdir(mode=0o700)
        monkeypatch.setattr(config, "SYSTEM_FILE", str(system))
        os.seteuid(65534)
        try:
            with pytest.raises(UsageError, match=r"etc\.toml: Permission denied"):
                config.load(environ={})
            monkeypatch.setattr(config, "SYSTEM_FILE", str(home / "absent"))
            found = config.load(environ={"HOME": str(home)})
        finally:
            os.seteuid(0)
        assert [state for _, state in found.files] == ["permission denied"] * 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes(content: bytes, user_file: Path, on: Callable[..., Said]) -> None:
    user_file.write_bytes(content)
    said = on("idle")
    assert said.code in (0, 3)
    assert not said.err
    assert "Traceback" not in said.out
    assert "internal error" not in said.out


WORDS = st.sampled_from(
    ["limits", "check", "warning", "critical", "ignore", "ports-warning", "time_wait", "x", '"a b"']
)
VALUES = st.sampled_from(
    [
        "1",
        "0.5",
        "-1",
        "1e400",
        "nan",
        "true",
        '"10:20"',
        '"@"',
        "[]",
        "[1]",
        '["x"]',
        "{}",
        "{x=1}",
    ]
) | st.dates().map(str)
LINES = st.one_of(
    st.lists(WORDS, min_size=1, max_size=3).map(lambda w: f"[{'.'.join(w)}]"),
    st.tuples(st.lists(WORDS, min_size=1, max_size=3), VALUES).map(
        lambda pair: f"{'.'.join(pair[0])} = {pair[1]}"
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(lines=st.lists(LINES, max_size=6))
def test_any_toml(lines: list[str], user_file: Path) -> None:
    user_file.write_text("\n".join(lines))
    found = None
    try:
        config.load()
    except UsageError as error:
        found = error.what
    assert found is None or found.startswith(str(user_file))


def test_the_line_of_a_key() -> None:
    text = '[a]\nx = 1\n[a.b]\n"x" = 2\n[c]\na.b.x = 3\n'
    assert config.line_of(text, ("a",), "x") == 2
    assert config.line_of(text, ("a", "b"), "x") == 4
    assert config.line_of(text, ("c", "a", "b"), "x") == 6
    assert config.line_of(text, (), "c") == 5
    assert config.line_of(text, (), "d") is None


def test_a_range_of_a_file_is_a_range(user_file: Path) -> None:
    user_file.write_text('[check.warning]\nclose_wait_age = "~:3600"\n')
    assert config.load().warning == {"close_wait_age": Range(float("-inf"), 3600)}
