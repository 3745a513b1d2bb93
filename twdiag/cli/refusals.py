"""What is wrong with a command line, in plain English and with a next step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.errors import UsageError
from twdiag.model.limits import closest, nearest

if TYPE_CHECKING:
    from twdiag.cli.typer_parts import Mistake, Parameter


def refusal(mistake: Mistake) -> UsageError:
    """Return the refusal of a command line."""
    step = f"see: {mistake.command} --help"
    if mistake.kind == "option":
        instead = _instead(mistake)
        if mistake.command.endswith(" explain") and not instead:
            step = f"a line that begins with a dash goes behind --: {mistake.command} -- '-ERR ...'"
        return UsageError(f"{mistake.command} has no option {mistake.word}{instead}", step)
    if mistake.kind == "command":
        near = nearest(mistake.word, mistake.known)
        what = f"{mistake.command} has no command {mistake.word!r}{near}"
        return UsageError(what, _about_a_word(mistake.word) or step)
    if mistake.kind == "no value":
        return UsageError(f"{mistake.word} needs a value", step)
    if mistake.kind == "needless value":
        return UsageError(f"{mistake.word} takes no value", step)
    if mistake.kind == "extra":
        return UsageError(f"{mistake.command} does not know what to do with {mistake.word!r}", step)
    if mistake.parameter is not None:
        parameter = mistake.parameter
        name = parameter.names[-1] if parameter.is_option else parameter.metavar.strip("[].")
        if mistake.kind == "missing":
            return UsageError(f"{mistake.command} needs {_article(name)}", step)
        return UsageError(f"{name} needs {_wanted(parameter)}, not {_shown(mistake.word)}", step)
    return UsageError(mistake.text, step)


def _instead(mistake: Mistake) -> str:
    """Return what was probably meant by an option that there is not."""
    if mistake.word.lstrip("-") in mistake.formats:
        return f"; write --format {mistake.word.lstrip('-')}"
    if not mistake.word.startswith("--"):
        return ""
    # Without the dashes, which make any two options alike.
    long = [name[2:] for name in mistake.known if name.startswith("--")]
    near = closest(mistake.word[2:], long)
    return f"; did you mean --{near}?" if near else ""


def _about_a_word(word: str) -> str:
    """Return how to read about a word that names no command but a state or a rule."""
    from twdiag.rules import RULES
    from twdiag.tcp import parse_state

    known = parse_state(word) is not None or any(rule.name == word for rule in RULES)
    return f"to read about it: twdiag explain {word}" if known else ""


def _article(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}" if name.isupper() else name


def _wanted(parameter: Parameter) -> str:
    """Return what a parameter takes: "one of a, b", "a whole number from 1 to 65535"."""
    if parameter.choices:
        return f"one of {', '.join(parameter.choices)}"
    if parameter.whole is None:
        return "another value"
    number = "a whole number" if parameter.whole else "a number"
    if parameter.low is None or parameter.high is None:
        return number
    return f"{number} from {parameter.low:g} to {parameter.high:g}"


def _shown(word: str) -> str:
    """Return a value as it is quoted: numbers plainly."""
    try:
        return f"{float(word):.15g}"
    except ValueError:
        return repr(word)
