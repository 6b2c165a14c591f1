"""Package, README and lessons are in step, the notebooks are sound, and their own test cells pass."""

import functools
import json
import multiprocessing
import multiprocessing.context
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from commands import output_of
from conftest import REPO

from vqbet_course.course.profiles import CELL_TIMEOUT_S
from vqbet_course.course.runner import lesson_environment
from vqbet_course.widgets.frames import SWITCH as FRAMES_SWITCH

BIN = Path(sys.executable).parent
NOTEBOOKS = sorted((REPO / "nbs").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if path.name[:2].isdigit()]
LESSON_SECONDS = 240

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
every_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def run(*command: object, cwd: Path = REPO) -> str:
    """What a command prints that runs as the lessons do."""
    with lesson_environment():
        return output_of(*command, cwd=cwd, timeout=LESSON_SECONDS)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what nbdev reads and writes."""
    for name in ("settings.ini", "setup.py", "pyproject.toml"):
        shutil.copy(REPO / name, tmp_path)
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "data")
    for name in ("nbs", "vqbet_course"):
        shutil.copytree(REPO / name, tmp_path / name, ignore=ignore)
    return tmp_path


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    """File names below `folder`, with what the files hold."""
    files = (path for path in folder.rglob(pattern) if not {"data", ".ipynb_checkpoints"} & set(path.parts))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def differing(left: dict[str, bytes], right: dict[str, bytes]) -> list[str]:
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


@pytest.mark.fast
def test_there_are_lessons() -> None:
    assert LESSONS, "no lesson found in nbs/"


@pytest.mark.fast
def test_lesson_numbers_are_unique() -> None:
    numbers = [path.name[:2] for path in LESSONS]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.fast
def test_exporting_the_lessons_changes_no_module(copy: Path) -> None:
    run(BIN / "nbdev_export", cwd=copy)
    changed = differing(contents(REPO / "vqbet_course", "*.py"), contents(copy / "vqbet_course", "*.py"))
    assert not changed, "run nbdev_export: modules are made from the lessons"
    assert (copy / "pyproject.toml").read_bytes() == (REPO / "pyproject.toml").read_bytes()


@pytest.mark.fast
def test_cleaning_changes_no_notebook(copy: Path) -> None:
    run(BIN / "nbdev_clean", cwd=copy)
    unclean = differing(contents(REPO / "nbs", "*.ipynb"), contents(copy / "nbs", "*.ipynb"))
    assert not unclean, "run nbdev_clean"


def test_the_readme_is_made_from_the_index(tmp_path: Path) -> None:
    made = tmp_path / "README.md"
    run("make", "-s", "-o", "fresh", "readme", f"BIN={BIN}", "READY=fresh", f"README={made}")
    assert (REPO / "README.md").read_text() == made.read_text(), "run make readme: nbs/index.ipynb changed"


@pytest.mark.fast
@every_notebook
def test_notebooks_are_sound_and_clean(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    assert notebook["nbformat"] == 4 and notebook["nbformat_minor"] >= 5
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert isinstance(cell["source"], list), "a source is a list of lines"
        assert all(line.endswith("\n") for line in cell["source"][:-1]), "lines end"
        assert not cell.get("outputs") and not cell.get("execution_count")


@pytest.mark.fast
@every_lesson
def test_a_lesson_has_a_title_its_parameters_and_a_headline(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    tagged = {
        tag: [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]
        for tag in ("parameters", "headline")
    }
    [parameters], [_] = tagged["parameters"], tagged["headline"]
    values: dict[str, object] = {}
    exec(parameters, values)
    assert values["profile"] in CELL_TIMEOUT_S
    assert any(cell.cell_type == "markdown" and cell.source.startswith("# ") for cell in cells[:2])


WHAT_LESSONS_IMPORT = [
    "fastcore.test",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "nbdev.test",
    "vqbet_course.evaluation.evaluate",
    "vqbet_course.tasks.pusht.environment",
    "vqbet_course.training.trainer",
    "vqbet_course.widgets",
]


@functools.cache
def lessons_server() -> multiprocessing.context.ForkServerContext:
    """A process that has imported what lessons need and done nothing else: each lesson runs in a copy of it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(WHAT_LESSONS_IMPORT)
    return context


def run_test_cells(path: Path, printed: Path) -> None:
    """Run the cells of a lesson but the slow ones as nbdev_test does, in a process of their own."""
    from nbdev.test import nbdev_test

    output = os.open(printed, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(REPO)
    with lesson_environment():
        os.environ[FRAMES_SWITCH] = (
            ""  # frames are for pages, and cost most of a lesson's time: tests/widgets draws them
        )
        nbdev_test(path=str(path), n_workers=0)


@every_notebook
def test_the_lessons_own_test_cells_pass(path: Path, tmp_path: Path) -> None:
    """All cells but the slow ones; nbdev_test has no time limit of its own."""
    printed = tmp_path / "printed"
    with lesson_environment():  # a server that starts inherits it, too
        lesson = lessons_server().Process(target=run_test_cells, args=(path, printed))
        lesson.start()
    lesson.join(LESSON_SECONDS)
    if lesson.exitcode is None:
        lesson.kill()
        pytest.fail(f"still running after {LESSON_SECONDS} s")
    assert lesson.exitcode == 0 and "Success." in printed.read_text(), printed.read_text()[-8000:]
