"""Draws the imports between rooms: `python -m devtools.import_graph` reads the source text and writes docs/import_graph.svg.

A room is a package or a single module directly below `explorer` or `mcp_bridge`, or another package as a whole. An arrow that
follows from two others is left out, so the picture shows direct dependencies.
"""

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

from devtools.imports import ROOT, cycles, internal_edges, read_modules

PICTURE = ROOT / "docs" / "import_graph.svg"
_DIVIDED = ("explorer", "mcp_bridge")
_COLOURS = {"explorer": "#dbeafe", "mcp_bridge": "#dcfce7", "explorer_dagster": "#ede9fe", "explorer_cli": "#fef3c7"}
_OTHER_COLOUR = "#f3f4f6"
_CHAR, _PAD, _HEIGHT, _GAP, _ROW, _MARGIN = 7, 12, 30, 18, 82, 20
_SWEEPS = 12


def room_of(module: str) -> str:
    """The room of a module."""
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] in _DIVIDED else 1])


def room_edges() -> dict[str, set[str]]:
    """For each room the rooms that its modules import. A package that only contains rooms is not a room."""
    edges: dict[str, set[str]] = {}
    for module, targets in internal_edges(read_modules()).items():
        room = room_of(module)
        rooms = {room_of(target) for target in targets} - {room}
        if room not in _DIVIDED:
            edges.setdefault(room, set()).update(rooms - set(_DIVIDED))
    return edges


def direct(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The edges without those that follow from others (transitive reduction of an acyclic graph)."""
    below = {room: _reached(room, edges) for room in edges}
    return {
        room: {target for target in targets if not any(target in below[other] for other in targets - {target})}
        for room, targets in edges.items()
    }


def draw(edges: Mapping[str, set[str]]) -> str:
    """The picture as SVG text; equal edges give equal text. Raises ValueError when rooms import each other in a circle."""
    if found := cycles(dict(edges)):
        raise ValueError(f"Rooms import each other in a circle: {found}")
    arrows = direct(edges)
    rows = _ordered(_rows(edges), arrows)
    boxes = _boxes(rows)
    width = max(x + w for x, _, w in boxes.values()) + _MARGIN
    height = _MARGIN * 2 + _HEIGHT + _ROW * (len(rows) - 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        "<title>Which room imports which</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#6b7280"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    lines += [_arrow(boxes[room], boxes[target]) for room in sorted(arrows) for target in sorted(arrows[room])]
    lines += [_box(room, *boxes[room]) for room in sorted(boxes)]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _reached(room: str, edges: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    left = list(edges.get(room, ()))
    while left:
        target = left.pop()
        if target not in found:
            found.add(target)
            left += edges.get(target, ())
    return found


def _rows(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Rooms in rows by the length of the longest path down from them, longest first."""
    depth: dict[str, int] = {}

    def of(room: str) -> int:
        if room not in depth:
            depth[room] = max((of(target) + 1 for target in edges.get(room, ())), default=0)
        return depth[room]

    rows: dict[int, list[str]] = {}
    for room in sorted(edges):
        rows.setdefault(of(room), []).append(room)
    return [rows[number] for number in sorted(rows, reverse=True)]


def _ordered(rows: list[list[str]], arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """The rows, each sorted so that a room is near its neighbours in the graph."""
    near: dict[str, set[str]] = {room: set(targets) for room, targets in arrows.items()}
    for room, targets in arrows.items():
        for target in targets:
            near[target].add(room)
    for _ in range(_SWEEPS):
        place = {room: index / len(row) for row in rows for index, room in enumerate(row)}
        rows = [
            sorted(row, key=lambda room: (round(sum(place[n] for n in near[room]) / max(len(near[room]), 1), 6), room))
            for row in rows
        ]
    return rows


def _boxes(rows: list[list[str]]) -> dict[str, tuple[int, int, int]]:
    """Left, top and width of each room's box; rows are centred."""
    widths = {room: len(room) * _CHAR + 2 * _PAD for row in rows for room in row}
    totals = [sum(widths[room] for room in row) + _GAP * (len(row) - 1) for row in rows]
    boxes = {}
    for number, (row, total) in enumerate(zip(rows, totals, strict=True)):
        x = _MARGIN + (max(totals) - total) // 2
        for room in row:
            boxes[room] = (x, _MARGIN + number * _ROW, widths[room])
            x += widths[room] + _GAP
    return boxes


def _arrow(start: tuple[int, int, int], end: tuple[int, int, int]) -> str:
    x1, y1 = start[0] + start[2] // 2, start[1] + _HEIGHT
    x2, y2 = end[0] + end[2] // 2, end[1] - 1
    bend = (y2 - y1) // 2
    way = f"M{x1} {y1}C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}"
    return f'<path d="{way}" fill="none" stroke="#9ca3af" marker-end="url(#tip)"/>'


def _box(room: str, x: int, y: int, width: int) -> str:
    colour = _COLOURS.get(room.partition(".")[0], _OTHER_COLOUR)
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{_HEIGHT}" rx="5" fill="{colour}" stroke="#6b7280"/>'
        f'<text x="{x + width // 2}" y="{y + 19}" text-anchor="middle">{escape(room)}</text>'
    )


def main(path: Path = PICTURE) -> None:
    """Write the picture again."""
    path.write_text(draw(room_edges()), encoding="utf-8")


if __name__ == "__main__":
    main()
