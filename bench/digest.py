"""Digest of the code that a trial's numbers depend on: when it changes, records are stale."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_OWN_PACKAGES = ("bench", "baselines")
# Registries grow by a line with every method and source; that line alone changes no other trial.
_REGISTRIES = {
    "bench.methods": "METHODS",
    "bench.data.sources": "SOURCES",
    "bench.decoding.contenders": "CONTENDERS",
    "bench.decoding.scores": "SOURCES",
    "bench.mach.decoders": "METHODS",
}


def code_digest(entries: Sequence[str], root: Path = _ROOT) -> str:
    """Digest of the project's code that a trial's numbers can depend on.

    Covers the transitive imports, inside the project, of the entries. Comments, formatting and
    docstrings do not count; neither do registries' own lines, type-checking imports, nor modules
    that are only registered by name. An entry from outside of the project (in a user's study file)
    counts with its own file.

    Args:
        entries: modules or `module:attribute` targets, such as a registry's values.
        root: folder of the project's packages.

    Returns:
        64 hex digits.

    Raises:
        ValueError: an entry is no module.
    """
    digest = hashlib.sha256()
    own, foreign = [], {}
    for entry in sorted(entries):
        digest.update(f"entry {entry}\n".encode())
        module = entry.partition(":")[0]
        if is_own(entry):
            own.append(module)
        else:
            foreign[module] = _foreign_file(module)
    for module, path in sorted((closure(own, root) | foreign).items()):
        digest.update(f"module {module}\n".encode())
        digest.update(_text_of(_normalised(module, path)).encode())
    return digest.hexdigest()


def is_own(entry: str) -> bool:
    """Whether an entry lies in the project's packages, not in a user's file."""
    return entry.partition(":")[0].partition(".")[0] in _OWN_PACKAGES


def closure(entries: Sequence[str], root: Path = _ROOT) -> dict[str, Path]:
    """Modules of the project that the entries import, directly or not, and their files.

    Raises:
        ValueError: an entry is no module of the project.
    """
    found: dict[str, Path] = {}
    pending = [entry.partition(":")[0] for entry in entries]
    for entry in pending:
        if _find(entry, root) is None:
            raise ValueError(f"{entry!r} is no module of the project's packages {_OWN_PACKAGES}")
    while pending:
        module = pending.pop()
        path = _find(module, root)
        if path is None or module in found:
            continue
        found[module] = path
        if "." in module:  # importing a module runs its packages' __init__ first
            pending.append(module.rpartition(".")[0])
        pending += _imports(module, path)
    return found


def _text_of(node: object) -> str:
    """A syntax tree as text, the same in every Python version that parses it.

    `ast.dump` would not do: it shows fields that one version has and another has not, and since
    3.13 leaves out empty lists. Here whatever is empty is left out.
    """
    if isinstance(node, ast.AST):
        fields = [f"{name}={_text_of(value)}" for name, value in ast.iter_fields(node) if value]
        # Constants can be empty and mean something: 0, "", False.
        fields += [repr(node.value)] if isinstance(node, ast.Constant) else []
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(_text_of(entry) for entry in node)}]"
    return repr(node)


def _find(module: str, root: Path) -> Path | None:
    if not is_own(module):
        return None
    base = root.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _foreign_file(module: str) -> Path:
    loaded = sys.modules.get(module)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ValueError(f"{module!r} is no module with a source file")
    return Path(spec.origin)


def _imports(module: str, path: Path) -> list[str]:
    """Names that may be modules; those that are not are dropped when they are looked up."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(_normalised(module, path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                anchor = ".".join(parents[: len(parents) - node.level + 1])
                base = f"{anchor}.{base}".rstrip(".")
            names.append(base)
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


class _Normaliser(ast.NodeTransformer):
    """Drops what cannot change a number: docstrings, type-checking blocks, a registry's dict."""

    def __init__(self, registry: str | None) -> None:
        self._registry = registry

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            return [self.visit(statement) for statement in node.orelse] or None
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == self._registry for t in targets):
                return None
        self.generic_visit(node)
        if isinstance(node, ast.Expr) and _is_text(node.value):
            return None
        return node


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.id if isinstance(test, ast.Name) else getattr(test, "attr", None)
    return name == "TYPE_CHECKING"


def _normalised(module: str, path: Path) -> ast.AST:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=path.name)
    normalised: ast.AST = _Normaliser(_REGISTRIES.get(module)).visit(tree)
    return normalised
