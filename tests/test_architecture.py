"""The house's rules, read from the sources: who may import whom, where each library lives, what is documented."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NODE, BRIDGE = "mqtt_client", "bridge"
MAX_LINES = 400

CONTRACT = {
    "errors",
    "reading",
    "messages",
    "intervals",
    "topics",
    "broker",
    "expiry",
    "settings",
    "setting_values",
    "unknown_names",
    "lock",
    "logs",
    "probe",
    "version",
    "notify",
}
"""The node's modules that the bridge may import: what the two promise each other."""

TOPS = {f"{NODE}.cli", f"{NODE}.node", f"{BRIDGE}.cli", f"{BRIDGE}.service"}
"""May import anything of their package; nobody below them imports them: not even one another, but downwards."""

DOWNWARDS = ("__main__", "cli", "service", "node")

HOMES = {
    "paho": {
        f"{NODE}.broker",
        f"{NODE}.publisher",
        f"{NODE}.probe",
        f"{BRIDGE}.ingest",
        f"{BRIDGE}.alarms.notices",
        f"{BRIDGE}.provision.broker",
    },
    "cryptography": {f"{BRIDGE}.provision.certificates"},
    "requests": {f"{BRIDGE}.forward.transport"},
    "urllib3": {f"{BRIDGE}.forward.transport"},
    "xlsxwriter": {f"{BRIDGE}.archive.workbook"},
    "openpyxl": {f"{BRIDGE}.archive.workbook"},
    "pandas": {f"{BRIDGE}.plot.frames"},
    "pyarrow": {f"{BRIDGE}.export.parquet"},
    "matplotlib": {f"{BRIDGE}.plot.plot", f"{BRIDGE}.plot.themes"},
    "tsdownsample": {f"{BRIDGE}.plot.thin"},
    "dash": {f"{BRIDGE}.web"},
    "flask": {f"{BRIDGE}.web"},
    "waitress": {f"{BRIDGE}.web"},
    "prometheus_client": {f"{BRIDGE}.metrics"},
    "alembic": {f"{BRIDGE}.store"},
    "dotenv": {f"{NODE}.settings"},
    "gpiozero": {f"{NODE}.sensors", f"{NODE}.indicator"},
    "click": {
        f"{NODE}.cli",
        f"{BRIDGE}.cli",
        f"{BRIDGE}.command",
        f"{BRIDGE}.output_commands",
        f"{BRIDGE}.provision.commands",
    },
}
"""The only modules, or packages with all that is in them, that import a library."""

LIBRARIES_OF_THE_NODE = {"paho", "msgspec", "dotenv", "gpiozero", "click"}
HEAVY = {"pandas", "numpy", "matplotlib", "requests", "alembic", "xlsxwriter", "openpyxl", "dash", "flask"}


@dataclass(frozen=True)
class Import:
    """One import of a module: what, where, and whether it runs when the module is loaded."""

    target: str
    line: int
    at_load: bool


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether it is an ``__init__``."""
        return self.path.name == "__init__.py"

    @property
    def package(self) -> str:
        """The distribution's package that it belongs to."""
        return self.name.partition(".")[0]

    def imports(self) -> Iterator[Import]:
        """Find all imports, also those inside functions."""
        at_load = set(map(id, _statements_at_load(self.tree)))
        for node in ast.walk(self.tree):
            for target in _targets(node):
                yield Import(target, node.lineno, id(node) in at_load)  # type: ignore[attr-defined]


def _statements_at_load(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        if not is_function and not is_for_types:
            yield child
            yield from _statements_at_load(child)


def _targets(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        assert node.module
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in _names() else node.module


@cache
def _names() -> dict[str, Path]:
    found = {}
    for package in (NODE, BRIDGE):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def modules() -> dict[str, Module]:
    """Read all modules of both packages, by name."""
    return {name: Module(name, path, ast.parse(path.read_text(encoding="utf-8"))) for name, path in _names().items()}


def imports_of(package: str) -> Iterator[tuple[Module, Import]]:
    """Return each import of each module of a package."""
    for module in modules().values():
        if module.package == package:
            for found in module.imports():
                yield module, found


def is_in(name: str, places: set[str]) -> bool:
    """Tell whether a module is one of these, or inside one of these packages."""
    return any(name == place or name.startswith(place + ".") for place in places)


def test_the_node_never_imports_the_bridge() -> None:
    wrong = [f"{module.name}:{found.line}" for module, found in imports_of(NODE) if is_in(found.target, {BRIDGE})]

    assert wrong == []


def test_the_bridge_imports_only_the_contract_of_the_node() -> None:
    allowed = {f"{NODE}.{name}" for name in CONTRACT}

    wrong = [
        f"{module.name}:{found.line} imports {found.target}"
        for module, found in imports_of(BRIDGE)
        if is_in(found.target, {NODE}) and not is_in(found.target, allowed)
    ]

    assert wrong == []


def test_the_contract_imports_nothing_of_the_node_but_itself() -> None:
    contract = {f"{NODE}.{name}" for name in CONTRACT}

    wrong = [
        f"{module.name}:{found.line} imports {found.target}"
        for module, found in imports_of(NODE)
        if is_in(module.name, contract) and is_in(found.target, {NODE}) and not is_in(found.target, contract)
    ]

    assert wrong == []


def test_nobody_imports_the_commands_and_the_tops_import_one_another_only_downwards() -> None:
    def height(name: str) -> int:
        last = name.rpartition(".")[2]
        return DOWNWARDS.index(last) if last in DOWNWARDS else len(DOWNWARDS)

    wrong = [
        f"{module.name}:{found.line} imports {found.target}"
        for package in (NODE, BRIDGE)
        for module, found in imports_of(package)
        if found.target in TOPS and height(module.name) >= height(found.target)
    ]

    assert wrong == []


@pytest.mark.parametrize("library", HOMES)
def test_each_library_is_imported_only_at_home(library: str) -> None:
    wrong = [
        f"{module.name}:{found.line}"
        for package in (NODE, BRIDGE)
        for module, found in imports_of(package)
        if is_in(found.target, {library}) and not is_in(module.name, HOMES[library])
    ]

    assert wrong == []


def test_the_node_imports_its_own_few_libraries_and_no_others() -> None:
    allowed = LIBRARIES_OF_THE_NODE | set(sys.stdlib_module_names) | {NODE}

    wrong = [
        f"{module.name}:{found.line} imports {found.target}"
        for module, found in imports_of(NODE)
        if found.target.partition(".")[0] not in allowed
    ]

    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: {found.target for found in module.imports() if found.at_load and found.target in modules()}
        for name, module in modules().items()
    }

    while free := [name for name, targets in graph.items() if not targets & graph.keys() - {name}]:
        for name in free:
            del graph[name]

    assert sorted(graph) == []


def test_packages_import_nothing_when_they_are_entered() -> None:
    assert [module.name for module in modules().values() if module.is_package and list(module.imports())] == []


@pytest.mark.parametrize("job", ["bridge.ingest.ingest", "bridge.ingest.subscription"])
def test_what_takes_readings_in_loads_no_heavy_library(job: str) -> None:
    program = f"import sys, {job}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert HEAVY & set(loaded.stdout.split()) == set()


def test_a_running_node_loads_nothing_that_it_does_not_use() -> None:
    program = "import sys, mqtt_client.__main__, mqtt_client.service; print(*sys.modules)"
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {program}"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)

    unused = {"click", "dotenv", "gpiozero", "json", "csv", "asyncio", "unittest", "importlib.metadata"}
    assert unused & set(loaded.stdout.split()) == set()
    assert {name for name in loaded.stdout.split() if name.startswith("mqtt_client.sensors.")} == {
        f"mqtt_client.sensors.{name}" for name in ("median", "quality", "registry", "sampler", "sensor")
    }


def test_every_public_name_says_what_it_is() -> None:
    undocumented = []
    for module in modules().values():
        if ".migrations.versions." in module.name:
            continue  # Alembic gives the names, and the module says what the migration does
        if not ast.get_docstring(module.tree) and module.tree.body:
            undocumented.append(module.name)
        undocumented += [f"{module.name}.{name}" for name in _undocumented(module.tree)]

    assert undocumented == []


def _undocumented(parent: ast.Module | ast.ClassDef) -> Iterator[str]:
    for child in parent.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith(
            "_"
        ):
            if not ast.get_docstring(child) and not _is_a_further_face(child):
                yield child.name
            if isinstance(child, ast.ClassDef):
                yield from (f"{child.name}.{name}" for name in _undocumented(child))


def _is_a_further_face(child: ast.AST) -> bool:
    """Tell whether it only completes what is documented elsewhere: a setter, an overload, an override."""
    decorators = [ast.unparse(decorator) for decorator in getattr(child, "decorator_list", [])]
    return any(name.endswith((".setter", "overload", "override")) for name in decorators)


def test_no_module_has_outgrown_its_concept() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in _names().items()}

    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_nothing_is_called_after_no_concept() -> None:
    vague = re.compile(r"(^|_)(utils?|helpers?|manager|common|misc)(_|$)")

    assert [name for name in modules() if any(vague.search(part) for part in name.split("."))] == []


def test_each_dependency_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    wanted = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]

    without = [
        one
        for one in wanted
        if not one.startswith(f"{project['name']}[") and not re.search(rf'"{re.escape(one)}",? *# \S', text)
    ]

    assert without == []
