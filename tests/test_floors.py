"""Who may import whom: each room only rooms below its own, as ARCHITECTURE.md draws them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from support.paths import ROOT

FLOORS = (
    {"cli", "__main__", "__init__"},
    {"serve"},
    {"streaming", "batch", "bench"},
    {"transcriber", "sources"},
    {"install"},
    {"convert"},
    {"pipeline", "models"},
    {"text", "engine"},
    {"audio"},
    {"settings"},
    {"errors", "types", "transcript", "events", "system"},
)
"""From the top. Rooms of one floor may import one another, but not in a circle."""
PACKAGE = ROOT / "src" / "stt"


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "__init__"


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imported(path: Path) -> Iterator[str]:
    """Modules of `stt` that a file imports anywhere, also where only types are wanted."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            if not any(name.removeprefix("stt.") in MODULES for name in names):
                names = {node.module}
        else:
            continue
        for name in names:
            module = name.removeprefix("stt.") if name != "stt" else "__init__"
            if name.split(".")[0] == "stt" and module in MODULES:
                yield module


def floor(module: str) -> int:
    room = module.split(".", maxsplit=1)[0]
    (found,) = (number for number, rooms in enumerate(FLOORS) if room in rooms)
    return found


def test_every_room_imports_only_what_lies_below() -> None:
    found = {
        (module, other)
        for module, path in MODULES.items()
        for other in imported(path)
        if floor(other) < floor(module)
    }
    assert not found


def test_no_room_imports_in_a_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        for other in imported(path):
            if other.split(".")[0] != module.split(".")[0]:
                rooms.setdefault(module.split(".")[0], set()).add(other.split(".")[0])
    circles = {
        (one, two) for one, others in rooms.items() for two in others if one in rooms.get(two, ())
    }
    assert not circles


def test_no_module_imports_in_a_circle() -> None:
    """Also where an import waits in a function, or is for types alone."""
    graph = {name: set(imported(path)) - {name} for name, path in MODULES.items()}
    assert list(TopologicalSorter(graph).static_order())  # a circle raises CycleError
