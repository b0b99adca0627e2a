"""The import rules of docs/architecture.md, checked on the source of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import index

ROOT = Path(__file__).resolve().parent.parent
MAX_MODULES = 13

# A layer may import from itself and from the layers below it. Packages of one layer must not import
# each other.
LAYERS = [
    ["bitcodes"],
    ["hashing", "index"],
    ["app.database", "app.errors", "app.pools"],
    ["app.datasets"],
    ["app.encoding"],
    ["app.benchmark"],
    ["app.explain"],
    ["app.recommend"],
    ["app.jobs"],
    ["app.service"],
    ["app.http", "app.main"],
    ["app.cli"],
]
LEVEL = {package: level for level, layer in enumerate(LAYERS) for package in layer}
TOGETHER = {frozenset({"app.http", "app.main"})}


def modules() -> dict[str, Path]:
    """Return the modules of all packages by their dotted names."""
    found = {}
    for package in ("bitcodes", "hashing", "index", "app"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(source: str) -> Iterator[str]:
    """Yield what a module imports, at the top, inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return what a module of this project imports."""
    return frozenset(imports(MODULES[module].read_text()))


def graph() -> dict[str, frozenset[str]]:
    """Return the imports between the modules of this project."""
    return {name: imports_of(name) & MODULES.keys() for name in MODULES}


def package_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "app" else parts[0]


def breaks_a_rule(module: str, imported: str) -> bool:
    """Return whether an import points up, or sideways between packages of one layer."""
    source, target = package_of(module), package_of(imported)
    if source == target or {source, target} in TOGETHER or source == "app":
        return False
    return LEVEL[target] >= LEVEL[source]


def test_imports_point_down() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, names in graph().items()
        for imported in names
        if breaks_a_rule(module, imported)
    ]
    assert not wrong


def test_there_is_no_import_cycle() -> None:
    try:
        tuple(TopologicalSorter(graph()).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("module", "imported", "wrong"),
    [
        ("hashing.base", "index.store", True),
        ("app.jobs.queue", "app.service.keys", True),
        ("app.service.keys", "app.jobs.queue", False),
        ("app.http.routes.jobs", "app.cli.main", True),
        ("app.cli.main", "app.http.server", False),
        ("bitcodes", "hashing", True),
    ],
)
def test_the_rule_tells_good_from_bad(module: str, imported: str, wrong: bool) -> None:
    assert breaks_a_rule(module, imported) == wrong


def test_the_graph_sees_imports_inside_functions() -> None:
    source = "def f():\n    from index import store\n    import hashing.base\n"
    assert set(imports(source)) == {"index.store", "hashing.base"}


@pytest.mark.parametrize("package", ["hashing", "index", "app.datasets", "app.benchmark"])
def test_only_http_and_cli_know_the_web_framework(package: str) -> None:
    web = {"fastapi", "starlette", "uvicorn", "httpx2"}
    for name in MODULES:
        if not name.startswith(package):
            continue
        used = {imported.partition(".")[0] for imported in imports_of(name)} & web
        # The images of CIFAR-10 are downloaded.
        assert used <= ({"httpx2"} if name == "app.datasets.cifar10" else set()), name


@pytest.mark.parametrize("package", ["app.jobs", "app.service"])
def test_the_service_layer_knows_no_http(package: str) -> None:
    for name in MODULES:
        if name.startswith(package):
            used = {imported.partition(".")[0] for imported in imports_of(name)}
            assert not used & {"fastapi", "starlette", "uvicorn", "httpx2"}, name


# What only the embedded backend has, and the modules that open it.
EMBEDDED = {"Collection", "Store", "searches_by_path"}
OPENING = {"app.service.state.opening"}
# The database also holds what is not in the index; its errors are those of the index.
SHARING = {
    *OPENING,
    "app.database.embedded",
}


def index_names(source: str) -> Iterator[tuple[str, str]]:
    """Yield what a module takes from the index: the module there, and the name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "index":
                    yield alias.name, ""
        elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "index":
            for alias in node.names:
                yield str(node.module), alias.name


def reaches_in(module: str, source: str, name: str) -> bool:
    """Return whether an import by a module of `app` is of something inside the index."""
    if source == "index.backend":
        return False
    if source == "index.milvus.store":
        return module not in OPENING
    if source != "index" or name not in index.__all__:
        return True
    if name == "Database":
        return module not in SHARING
    if name == "searches_by_path":
        return module != "app.service.prometheus"
    return name in EMBEDDED and module not in OPENING


def test_the_service_uses_the_interface_of_the_index_only() -> None:
    wrong = [
        f"{module} imports {name} from {source}"
        for module, path in MODULES.items()
        if package_of(module).startswith("app")
        for source, name in index_names(path.read_text())
        if reaches_in(module, source, name)
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("module", "line", "wrong"),
    [
        ("app.service.keys", "from index.state import State", True),
        ("app.service.keys", "import index.state", True),
        ("app.service.keys", "from index import Collection", True),
        ("app.service.keys", "from index import Database", True),
        ("app.service.state.opening", "from index import Database, Store", False),
        ("app.service.keys", "from index.backend import Collection", False),
        ("app.service.keys", "from index import NotFound", False),
    ],
)
def test_the_rule_tells_what_is_inside(module: str, line: str, wrong: bool) -> None:
    assert any(reaches_in(module, *found) for found in index_names(line)) == wrong


def test_the_interface_names_no_database() -> None:
    used = set(imports((ROOT / "index" / "backend.py").read_text()))
    assert not {name for name in used if name.startswith(("sqlite3", "index.storage.database"))}


def test_no_folder_is_crowded() -> None:
    for folder in {path.parent for path in MODULES.values()}:
        n = len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        assert n <= MAX_MODULES, f"{folder} has {n} modules"
