"""Pages for words that twdiag itself uses: limits, evidence, why threads wait, the lab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twdiag.explain.page import Command, Heading, Item, Page, PageBlock, PageKind, Text
from twdiag.model.waits import Act, Cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twdiag.model.facts import Fact
    from twdiag.rules.rule import Rule

_WAITS: Final = "forgotten-or-stuck"
_CAUSES: Final = {
    Cause.UPSTREAM: "The threads that should serve these sockets wait for an answer from another "
    "server. Look at that server first: the finding names its address.",
    Cause.LOCKED: "Every worker waits for another thread: a lock, or a pool that is empty. One "
    "thread holds what they want; its stack shows why.",
    Cause.BUSY: "Every worker is on a processor or in the middle of something: there is more work "
    "than workers.",
    Cause.FORGOTTEN: "No thread reads these sockets and no epoll set that a thread waits in has "
    "them: the code has lost them without closing them.",
    Cause.NOT_ACCEPTING: "No thread waits in accept(), and no loop watches the listener: new "
    "connections pile up in its queue.",
    Cause.PEER: "The threads wait in recv() for the other end of these sockets, without a timeout. "
    "It is the other end's move.",
    Cause.ELSEWHERE: "The threads wait for something that has nothing to do with these sockets. "
    "Their stacks show for what.",
    Cause.STOPPED: "A signal has stopped the process (SIGSTOP, Ctrl-Z): it does nothing until "
    "SIGCONT. Its kernel still acknowledges what comes.",
    Cause.TRACED: "A debugger holds the process: it does nothing until the debugger lets it go.",
    Cause.FROZEN: "The process's cgroup is frozen (docker pause, systemctl freeze): it does "
    "nothing until it is thawed.",
    Cause.DISK: "The threads wait for a disk or a network file system, and no signal reaches them "
    "there.",
    Cause.INHERITED: "A child process holds copies of the descriptors: close() in the parent sends "
    "no FIN while the child has one.",
    Cause.CHILD: "The workers wait for programs that they have started.",
    Cause.CONFIGURED: "A setting of the program keeps the connections open: they are meant to be.",
}
"""What each reason means that a finding gives for sockets that nobody serves."""


class Practice(NamedTuple):
    """A scenario of the lab, as far as a reader needs it; `rules` are those that must speak."""

    name: str
    summary: str
    teaches: str
    rules: tuple[str, ...]


def term_page(wanted: str, rules: Iterable[Rule[Any]]) -> Page | None:
    """Return the page of a limit, a piece of evidence or a reason to wait, None for other words.

    `wanted` is in lower case and has letters and digits only.
    """
    found = _limit_page(wanted, rules) or _fact_page(wanted)
    return found or _cause_page(wanted) or _act_page(wanted)


def _limit_page(wanted: str, rules: Iterable[Rule[Any]]) -> Page | None:
    owners = [
        (limit, rule) for rule in rules for limit in rule.limits if _letters(limit.name) == wanted
    ]
    for limit in {limit: None for limit, _ in owners}:
        unit = "of 1" if limit.unit == "ratio" else limit.unit
        body: list[PageBlock] = [
            Text(_sentence(limit.meaning)),
            Item(f"{limit.default:g} {unit}".rstrip(), "Default:"),
            Heading("Next"),
            Command(
                f"twdiag diagnose --limit {limit.name}={limit.default:g}", "with another value"
            ),
            Command("twdiag check --show-limits", "the limits in force, and where they come from"),
            *(Command(f"twdiag explain {rule.name}", "a rule that has it") for _, rule in owners),
        ]
        return _page(limit.name, "a limit", tuple(body))
    return None


def _fact_page(wanted: str) -> Page | None:
    from twdiag.model.facts import catalogue

    for fact in catalogue().values():
        if wanted in (_letters(fact), _letters(fact.label)):
            return _page(str(fact), "evidence of a finding", tuple(_of_fact(fact)))
    return None


def _of_fact(fact: Fact) -> Iterator[PageBlock]:
    yield Text(_sentence(fact.meaning))
    if fact.unit.value:
        yield Item(fact.unit.value, "Unit:")
    yield Heading("Next")
    yield Command("twdiag diagnose --full", f'as "{fact.label}", where a finding has it')
    yield Command("twdiag diagnose --json", f'as "{fact}" in a finding\'s evidence')


def _cause_page(wanted: str) -> Page | None:
    for cause, means in _CAUSES.items():
        if wanted == _letters(cause.value):
            return _page(cause.value, "why sockets are not served", (Text(means), *_waits_next()))
    return None


def _act_page(wanted: str) -> Page | None:
    for act in Act:
        if wanted == _letters(act.value):
            return _page(act.value, "what a thread does", (Text(_told(act)), *_waits_next()))
    return None


def _told(act: Act) -> str:
    """Return how twdiag knows what a thread does, and what that says."""
    if act is Act.UNSEEN:
        return "What the thread does could not be seen: that takes root, or its user's rights."
    seen = f"The thread {act.value}: its state and its system call say so."
    return f"{seen} That alone is no fault: it depends on what the thread should do."


def _waits_next() -> tuple[PageBlock, ...]:
    return (
        Heading("Next"),
        Command("twdiag diagnose --full", "what the threads of each process wait for"),
        Command(f"twdiag explain {_WAITS}", "how to see it without twdiag"),
        Command("twdiag explain find-the-line", "from the process to the line of its code"),
    )


def practice_page(practice: Practice) -> Page:
    """Return the page of a scenario of the lab."""
    speak = [Command(f"twdiag explain {name}", "the rule that speaks") for name in practice.rules]
    silent = Text("No rule speaks: this is what a healthy host looks like.")
    plays = "with real sockets, in a private namespace: nothing on this host changes"
    body: list[PageBlock] = [
        Text(_sentence(practice.summary)),
        Text(" ".join(practice.teaches.split())),
        *(() if speak else (silent,)),
        Heading("Next"),
        Command(f"twdiag lab run {practice.name}", plays),
        *speak,
    ]
    title = f"{practice.name}: a scenario of the lab"
    return Page(practice.name, PageKind.LAB, title, practice.summary, tuple(body))


def _page(name: str, what: str, body: tuple[PageBlock, ...]) -> Page:
    return Page(name, PageKind.TERM, f"{name}: {what}", what, body)


def _sentence(text: str) -> str:
    """Return words as a sentence: with a capital letter, and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
