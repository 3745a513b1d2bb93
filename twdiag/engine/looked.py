"""A look at one namespace of several, as its parts pass it on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from twdiag.analysis.view import View
    from twdiag.model.findings import Report
    from twdiag.model.namespaces import Namespace


class Looked(NamedTuple):
    """A namespace that was looked at, None for this process's own; its report and its view."""

    namespace: Namespace | None
    report: Report
    view: View
    outside: bool = False
