"""The growth curve as SVG: wall time against TIME_WAITs, as multiples of the largest `ss -tan`."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from .commands import CHECK, DIAGNOSE, FLOOR, PSUTIL, PYROUTE2, SS, SS_AWK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .measure import Setting

WIDTH: Final = 760
HEIGHT: Final = 440
LEFT, RIGHT, TOP, BOTTOM = 62, 560, 64, 384
"""The plot; what is right of it are the names of the lines."""
_LINE_HEIGHT: Final = 17

LINES: Final = {
    PYROUTE2.name: "pyroute2",
    PSUTIL.name: "psutil",
    SS_AWK.name: "awk",
    SS.name: "ss",
    DIAGNOSE.name: "diagnose",
    CHECK.name: "check",
    FLOOR.name: "floor",
}
"""The commands that are drawn, with the class of their line."""

# Colours on a light and on a dark ground.  An image follows the reader's theme by itself, so it
# brings both; plain rules instead of CSS variables, which some viewers do not know.
_COLOURS: Final = {
    "ground": ("#ffffff", "#0d1117"),
    "title": ("#1f2328", "#f0f6fc"),
    "axis": ("#59636e", "#9198a1"),
    "grid": ("#d8dee4", "#30363d"),
    "check": ("#0550ae", "#79c0ff"),
    "diagnose": ("#0a7ea4", "#56d4dd"),
    "ss": ("#bc4c00", "#ffa657"),
    "awk": ("#8a6100", "#e3b341"),
    "floor": ("#59636e", "#9198a1"),
    "psutil": ("#8250df", "#d2a8ff"),
    "pyroute2": ("#bf3989", "#ff9bce"),
}
_SHAPES: Final = """\
  text { font: 13px system-ui, sans-serif }
  text.title { font-size: 15px; font-weight: 600 }
  text.check { font-weight: 600 }
  .line { fill: none; stroke-width: 2 }
  .line.check { stroke-width: 3.5 }
  .line.ss { stroke-width: 2.5 }
  .line.floor { stroke-dasharray: 2 4 }
  .line.diagnose { stroke-dasharray: 8 4 }
  .line.awk { stroke-dasharray: 12 3 2 3 }
"""

Point = tuple[int, float]
"""(TIME_WAITs, wall time as a multiple of the largest `ss -tan`)"""


def curves(settings: Sequence[Setting]) -> dict[str, list[Point]]:
    """Return the points of each command's line, by its name; none without `ss -tan`."""
    sized = sorted(settings, key=lambda setting: setting.counts["TIME_WAIT"])
    if not sized or SS.name not in sized[-1].commands():
        return {}
    unit = sized[-1].median(SS.name, "wall")
    return {
        name: [
            (setting.counts["TIME_WAIT"], setting.median(name, "wall") / unit)
            for setting in sized
            if name in setting.commands()
        ]
        for name in LINES
        if any(name in setting.commands() for setting in sized)
    }


def growth(settings: Sequence[Setting], machine: str) -> str:
    """Return the picture of the settings of one kind, none of them without `ss -tan`."""
    lines = curves(settings)
    most_rows = max((rows for points in lines.values() for rows, _ in points), default=0)
    if not most_rows:
        raise ValueError("a growth curve needs `ss -tan` and TIME_WAITs")
    # The naive programs would flatten everything else: they leave the picture at the top.
    plain = [name for name in lines if name not in (PSUTIL.name, PYROUTE2.name)]
    highest = 1.1 * max(share for name in plain for _, share in lines[name])

    def place(point: Point) -> tuple[float, float]:
        rows, share = point
        across = LEFT + (RIGHT - LEFT) * rows / most_rows
        return across, BOTTOM - (BOTTOM - TOP) * share / highest

    kind = settings[0].name
    body = [
        f'<text class="title" x="{LEFT}" y="26">Wall time by number of TIME_WAITs ({kind})</text>',
        f'<text class="axis" x="{LEFT}" y="46">1 = ss -tan at {most_rows:,}; '
        "whole processes, medians</text>",
        *_grid(most_rows, highest),
        f'<clipPath id="plot"><path d="M{LEFT} {TOP}H{RIGHT}V{BOTTOM}H{LEFT}z"/></clipPath>',
    ]
    for name, points in lines.items():
        body += _line(LINES[name], [place(point) for point in points])
    body += _names(lines, place)
    body.append(f'<text class="axis" x="{LEFT}" y="{HEIGHT - 10}">{escape(machine)}</text>')
    label = f"Wall time of {', '.join(lines)} for up to {most_rows:,} TIME_WAIT sockets"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(label)}">',
            f"<style>\n{_style()}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
            *body,
            "</svg>\n",
        ]
    )


def _style() -> str:
    def rules(theme: int) -> str:
        return "".join(
            f"  path.{name} {{ stroke: {pair[theme]} }}\n"
            f"  rect.{name}, text.{name}, circle.{name} {{ fill: {pair[theme]} }}\n"
            for name, pair in _COLOURS.items()
        )

    return f"{_SHAPES}{rules(0)}  @media (prefers-color-scheme: dark) {{\n{rules(1)}  }}\n"


def _grid(most_rows: int, highest: float) -> list[str]:
    parts = []
    step = 0.25 if highest < 1.5 else 0.5 if highest < 3 else 1.0
    for number in range(int(highest / step) + 1):
        share = number * step
        y = BOTTOM - (BOTTOM - TOP) * share / highest
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(
            f'<text class="axis" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share:g}x</text>'
        )
    for number in range(5):
        rows = most_rows * number / 4
        x = LEFT + (RIGHT - LEFT) * number / 4
        parts.append(
            f'<text class="axis" x="{x:.1f}" y="{BOTTOM + 20}" text-anchor="middle">'
            f"{rows:,.0f}</text>"
        )
    return parts


def _line(style: str, points: Sequence[tuple[float, float]]) -> list[str]:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return [
        f'<g clip-path="url(#plot)"><path class="line {style}" d="M{path}"/></g>',
        *(
            f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
            for x, y in points
            if y >= TOP
        ),
    ]


def _names(
    lines: dict[str, list[Point]], place: Callable[[Point], tuple[float, float]]
) -> list[str]:
    """Name each line at its end, moved apart where ends are close; the naive ones at the top."""
    ends = [(place(points[-1])[1], name, points[-1]) for name, points in lines.items()]
    parts = []
    lowest = float(TOP - _LINE_HEIGHT)
    most_rows = max(points[-1][0] for points in lines.values())
    for y, name, (rows, share) in sorted(ends):
        at = max(y + 4, lowest + _LINE_HEIGHT, TOP + 4)
        lowest = at
        where = f" at {rows:,}" if rows < most_rows else ""
        parts.append(
            f'<text class="name {LINES[name]}" x="{RIGHT + 10}" y="{at:.1f}">'
            f"{escape(name)} {share:.2f}x{where}</text>"
        )
    return parts
