"""The part of edgeq that a worker needs, to be taken along to another machine."""

from __future__ import annotations

import ast
import functools
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def source(torch: bool = False) -> bytes:
    """The modules that the worker imports, as a zip file that Python runs from; torch: also what torch's runtime needs.

    Those that it imports only for C are left out, which is not compiled on other machines.
    """
    left_out = {"edgeq.model", "edgeq.runtime.c_host"} | (set() if torch else {"edgeq.runtime.torch"})
    found: dict[str, Path] = {}
    waiting = ["edgeq.bench.worker"]
    while waiting:
        name = waiting.pop()
        path = _module(name)
        if name in found or name in left_out or path is None:
            continue
        found[name] = path
        waiting += [name.rpartition(".")[0], *_imported(path)]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(found.values()):
            archive.writestr(f"edgeq/{path.relative_to(_PACKAGE).as_posix()}", path.read_bytes())
    return content.getvalue()


def _module(name: str) -> Path | None:
    if name.partition(".")[0] != "edgeq":
        return None
    path = _PACKAGE.joinpath(*name.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imported(path: Path) -> Iterator[str]:
    """Modules that a module imports, inside functions too but never for type checkers alone, and names in them."""
    waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        waiting += ast.iter_child_nodes(node)
