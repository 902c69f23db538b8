"""The imports between the rooms of the house, read from the source: who stands on whom, what goes up, what goes round."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "qarm_features"


def imports(path: Path, *, at_load: bool = False) -> set[str]:
    """Returns the full names of all that a file imports: at any depth, or only what loads with the module itself."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in _statements(tree) if at_load else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _statements(tree: ast.Module):
    """Yields the statements that run when a module is loaded; bodies of functions and of `if TYPE_CHECKING` are not."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def modules() -> dict[str, Path]:
    """Returns every module of the package by its dotted name below ``qarm_features``; a package by its own name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def edges(*, at_load: bool = False) -> dict[str, set[str]]:
    """Returns for every module the modules of the package that it imports, each by the longest name that exists."""
    known = modules()
    graph = {}
    for name, path in known.items():
        wanted = {
            one.removeprefix("qarm_features.")
            for one in imports(path, at_load=at_load)
            if one.startswith("qarm_features.")
        }
        graph[name] = {found for one in wanted if (found := _longest(one, known)) and found != name}
        # `from package import name` names the package too; where the name is a module of its own, that module is meant.
        graph[name] -= {one for one in graph[name] if any(other.startswith(one + ".") for other in graph[name])}
    return graph


def _longest(name: str, known: dict[str, Path]) -> str | None:
    parts = name.split(".")
    return next((".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in known), None)


def arrows(graph: dict[str, set[str]], room_of) -> set[tuple[str, str]]:
    """Returns the pairs of different rooms (from, to) between which at least one module imports another."""
    pairs = {(room_of(name), room_of(other)) for name, others in graph.items() for other in others}
    return {(a, b) for a, b in pairs if a and b and a != b}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Returns the groups of modules that import each other in a circle (strongly connected, two or more), sorted."""
    reach = {name: _reachable(graph, name) for name in graph}
    groups = {tuple(sorted({name} | {o for o in reach[name] if name in reach.get(o, set())})) for name in graph}
    return sorted(list(group) for group in groups if len(group) > 1)


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph.get(name, ())
    return seen
