"""The completion script for zsh, to be autoloaded as `_twdiag` or evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from completions.grammar import Takes, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from completions.grammar import Argument, Command, Option, Value

_LISTS: Final = (
    Takes.RULE,
    Takes.STATE,
    Takes.LIMIT,
    Takes.METRIC,
    Takes.PAGE,
    Takes.SCENARIO,
    Takes.COMMAND,
)
_HEAD: Final = """\
#compdef twdiag
# zsh completion for twdiag, made from its command line; do not edit.
"""
_TAIL: Final = """
if [[ $funcstack[1] == _twdiag ]]; then
  _twdiag "$@"
else
  compdef _twdiag twdiag
fi
"""


def script(root: Command) -> str:
    """Return the whole script."""
    functions = [*map(_function, root.walk()), *map(_list, _LISTS)]
    return _HEAD + "".join(f"\n{function}" for function in functions) + _TAIL


def _name(command: Command) -> str:
    return "_".join(("_twdiag", *command.path))


def _function(command: Command) -> str:
    """Return the function that completes the words after a command."""
    specs = [spec for option in command.options for spec in _specs(option)]
    if command.commands:
        specs += ["'1: :->command'", "'*:: :->rest'"]
    specs += map(_argument_spec, command.arguments)
    lines = "".join(f" \\\n    {spec}" for spec in specs)
    if not command.commands:
        return f"{_name(command)}() {{\n  _arguments -s -S{lines}\n}}\n"
    return f"""\
{_name(command)}() {{
  local curcontext="$curcontext" state line ret=1
  typeset -A opt_args
  _arguments -S -C -A '-*'{lines} && ret=0
  case $state in
    command)
      local -a commands=(
{_indented(_pairs((c.path[-1], c.summary) for c in command.commands), 8)}
      )
      _describe -t commands command commands && ret=0
      ;;
    rest)
      curcontext="${{curcontext%:*}}-$line[1]:"
      case $line[1] in
{_indented((f"{c.path[-1]}) {_name(c)} && ret=0 ;;" for c in command.commands), 8)}
      esac
      ;;
  esac
  return ret
}}
"""


def _indented(lines: Iterator[str], width: int) -> str:
    return "\n".join(" " * width + line for line in lines)


def _pairs(pairs: Iterator[tuple[str, str]]) -> Iterator[str]:
    return (_quoted(f"{name}:{meaning}" if meaning else name) for name, meaning in pairs)


def _specs(option: Option) -> Iterator[str]:
    """Yield the specifications of one option for _arguments."""
    text = _quoted(f"[{_escaped(option.help)}]{_action(option.value)}")
    names = [name + ("=" if option.value and name[:2] == "--" else "") for name in option.names]
    names += option.off
    excluded = "" if option.repeats else "(- *)" if option.ends else ""
    if not excluded and not option.repeats and len(names) > 1:
        excluded = f"({' '.join((*option.names, *option.off))})"
    before = _quoted(excluded) if excluded else _quoted("*") if option.repeats else ""
    spelled = f"{{{','.join(names)}}}" if len(names) > 1 else names[0]
    yield f"{before}{spelled}{text}"


def _action(value: Value | None) -> str:
    return "" if value is None else f":{_escaped(value.metavar)}:{_words(value)}"


def _argument_spec(argument: Argument) -> str:
    colons = ":" if argument.required else "::"
    return _quoted(f"1{colons}{_escaped(argument.value.metavar)}:{_words(argument.value)}")


def _words(value: Value) -> str:
    """Return the action that offers the words of a value."""
    if value.kind is Takes.CHOICE:
        return f"({' '.join(value.choices)})"
    if value.kind is Takes.FILE:
        return "_files"
    return "" if value.kind is Takes.FREE else f"_twdiag_words_{value.kind.value}"


def _list(kind: Takes) -> str:
    """Return the function that offers all words of a kind with their meanings."""
    assigns = kind in (Takes.LIMIT, Takes.METRIC)
    after_equals = "  compset -P '*=' && return 1\n" if assigns else ""
    # -q takes the "=" away again where something else follows; explain takes any case.
    more = (
        " -qS ="
        if assigns
        else " -M 'm:{a-zA-Z}={A-Za-z}'"
        if kind in (Takes.PAGE, Takes.STATE)
        else ""
    )
    return f"""\
_twdiag_words_{kind.value}() {{
{after_equals}  local -a found=(
{_indented(_pairs((word.name, word.meaning) for word in words(kind)), 4)}
  )
  _describe -t {kind.value}s {kind.value} found{more}
}}
"""


def _escaped(text: str) -> str:
    """Return text without the characters that part a specification."""
    for character in "\\:[]":
        text = text.replace(character, "\\" + character)
    return text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
