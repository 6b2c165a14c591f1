"""The house as its rules say it is: imports run one way, rooms and functions are small, what is public is explained."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from configparser import ConfigParser
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest
from conftest import REPO

pytestmark = pytest.mark.fast

PACKAGE = REPO / "vqbet_course"
AT_MOST_MODULES, AT_MOST_LINES, AT_MOST_ARGUMENTS = 16, 60, 8
# Modules that answer to one protocol, so that a caller need not know which it has: their functions share names.
PROTOCOLS = (PACKAGE / "datasets" / "readers",)

Definition = ast.ClassDef | ast.FunctionDef


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def modules() -> list[Path]:
    """The modules of the package, without nbdev's index."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "_modidx.py"]


def public(body: Iterable[ast.stmt]) -> Iterator[Definition]:
    """The public classes and functions among statements; an overload has its words at its implementation."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node


def shared_names(kind: type[ast.stmt], paths: Iterable[Path]) -> dict[str, list[str]]:
    """Public classes, or functions, whose name is that of another one in another module: where they are."""
    places = defaultdict(list)
    for path in paths:
        for node in public(tree_of(path).body):
            if isinstance(node, kind):
                places[node.name].append(str(path.relative_to(PACKAGE)))
    return {name: where for name, where in places.items() if len(where) > 1}


def test_imports_run_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=REPO, text=True, check=False, capture_output=True)
    assert done.returncode == 0, done.stdout[-6000:]


def test_the_contract_has_every_room() -> None:
    text = (REPO / "pyproject.toml").read_text()
    layers = set(re.findall(r"vqbet_course\.([\w.]+)", text[text.index('id = "rooms"') : text.index('id = "cycles"')]))
    paths = [
        *PACKAGE.glob("*.py"),
        *(path.parent for path in PACKAGE.glob("*/__init__.py")),
        *PACKAGE.glob("datasets/*.py"),
        PACKAGE / "datasets" / "readers",
    ]
    rooms = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in paths}
    assert rooms - layers == {"__init__", "_modidx", "datasets", "datasets.__init__"}


def test_few_modules_lie_beside_the_folders() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= AT_MOST_MODULES


def test_functions_are_small() -> None:
    long = {
        f"{path.relative_to(REPO)}:{node.name}": lines
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef)
        and node.end_lineno
        and (lines := node.end_lineno - node.lineno + 1) > AT_MOST_LINES
    }
    assert not long


def test_progress_is_reported_in_one_way() -> None:
    """`core.progress` writes a line a minute where the output is no terminal."""
    others = [
        str(path.relative_to(PACKAGE))
        for path in modules()
        if "tqdm" in imported(tree_of(path)) and path != PACKAGE / "core" / "progress.py"
    ]
    assert not others


def test_functions_take_few_arguments() -> None:
    many = {
        f"{path.relative_to(REPO)}:{node.name}"
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef) and n_arguments(node) > AT_MOST_ARGUMENTS
    }
    assert not many


def n_arguments(node: ast.FunctionDef) -> int:
    """How many arguments a function takes, but `self` and `cls`; *args and **kwargs count as one each."""
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    return sum(argument is not None and argument.arg not in ("self", "cls") for argument in every)


def test_no_two_public_classes_have_one_name() -> None:
    assert not shared_names(ast.ClassDef, modules())


def test_no_two_public_functions_have_one_name() -> None:
    """Commands are named as users type them."""
    paths = [path for path in modules() if path.name != "cli.py" and not set(PROTOCOLS) & set(path.parents)]
    assert not shared_names(ast.FunctionDef, paths)


@cache
def classes() -> dict[str, ast.ClassDef]:
    """All classes of the package by name."""
    return {node.name: node for path in modules() for node in tree_of(path).body if isinstance(node, ast.ClassDef)}


def explained_in_a_base(name: str, kind: ast.ClassDef) -> bool:
    """Whether a base of a class defines this method: with a docstring, or outside the package."""
    for base in kind.bases:
        found = classes().get(ast.unparse(base).split("[")[0].split(".")[-1])
        if found is None:
            return True
        if any(node.name == name and ast.get_docstring(node) for node in public(found.body)):
            return True
        if any(isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name for node in found.body):
            return True  # a field, with words below it
        if explained_in_a_base(name, found):
            return True
    return False


def test_every_public_definition_has_a_docstring() -> None:
    silent = []
    for path in modules():
        for node in public(tree_of(path).body):
            if not ast.get_docstring(node):
                silent.append(f"{path.relative_to(REPO)}:{node.name}")
            if isinstance(node, ast.ClassDef):
                silent += [
                    f"{path.relative_to(REPO)}:{node.name}.{method.name}"
                    for method in public(node.body)
                    if not ast.get_docstring(method) and not explained_in_a_base(method.name, node)
                ]
    assert not silent


# --- dependencies -----------------------------------------------------------------------------------------------------


def imported(tree: ast.AST) -> set[str]:
    """The top-level packages that code imports, also inside functions."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"vqbet_course"}


def lesson_tree(path: Path) -> ast.Module:
    """The code of a notebook, without what only IPython reads."""
    cells = (cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    lines = (line for cell in cells for line in cell.splitlines() if not line.lstrip().startswith(("%", "!")))
    return ast.parse("\n".join(lines))


def declared(*options: str) -> set[str]:
    """The distributions that settings.ini asks for, in the form in which their names compare."""
    settings = ConfigParser(delimiters=["="])
    settings.read(REPO / "settings.ini", encoding="utf-8")
    asked = [line for option in options for line in settings["DEFAULT"][option].split()]
    return {comparable(re.split(r"[\[<>=;!~]", line)[0]) for line in asked}


def comparable(name: str) -> str:
    """A distribution's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("trees", "options"),
    [
        (modules, ("requirements", "umi_requirements", "ros_requirements", "arms_requirements")),
        (lambda: sorted((REPO / "nbs").glob("[0-9]*.ipynb")), ("requirements",)),
        (lambda: sorted((REPO / "nbs").glob("[a-z]*.ipynb")), ("requirements", "dev_requirements")),
        (
            lambda: [
                path
                for folder in ("tests", "benchmarks")
                for path in sorted((REPO / folder).rglob("*.py"))
                if "attacks" not in path.parts
            ],
            ("requirements", "dev_requirements", "umi_requirements", "ros_requirements", "arms_requirements"),
        ),
    ],
    ids=["package", "lessons", "other pages", "tests and benchmarks"],
)
def test_every_direct_import_is_declared(trees: Callable[[], list[Path]], options: tuple[str, ...]) -> None:
    paths = trees()
    asked, providers = declared(*options), packages_distributions()
    own = {path.stem for folder in ("tests", "benchmarks") for path in (REPO / folder).rglob("*.py")} | {"oracle"}
    code = [lesson_tree(path) if path.suffix == ".ipynb" else tree_of(path) for path in paths]
    names = {name for tree in code for name in imported(tree)}
    undeclared = {name for name in names - own if not asked & set(map(comparable, providers.get(name, (name,))))}
    assert paths and not undeclared
