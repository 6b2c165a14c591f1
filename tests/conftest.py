"""What several test files share."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pytest

from vqbet_course.core.specs import TaskContract
from vqbet_course.tasks import TASKS

REPO = Path(__file__).resolve().parent.parent

Cell = str | tuple[str, str]  # code, or a tag and code

LESSON_CELLS = "::test_the_lessons_own_test_cells_pass["


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `--dist loadfile`, the tests of a file run on one worker, which makes what they share once. The cells of
    each lesson share nothing: each goes where a worker is free."""
    from xdist.scheduler import LoadFileScheduling

    class FilesThenLessons(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if LESSON_CELLS in nodeid else super()._split_scope(nodeid)

    return FilesThenLessons(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The cells of the lessons come last: they are many small pieces, so that no worker is left with a large file."""
    items.sort(key=lambda item: LESSON_CELLS in item.nodeid)


@pytest.fixture(autouse=True)
def no_task_of_another_test() -> Iterator[None]:
    """A task that a test makes known would own the data of later tests."""
    before = set(TASKS)
    yield
    for name in set(TASKS) - before:
        del TASKS[name]


@pytest.fixture(autouse=True)
def as_quiet_as_before() -> Iterator[None]:
    """A test that turns all logging up, as LeRobot's commands do, leaves the next ones the level that they expect:
    pytest keeps what is logged, matplotlib's records of debugging hold their figures."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture
def short_evaluations(monkeypatch: pytest.MonkeyPatch) -> TaskContract:
    """Episodes of PushT end after 40 steps instead of 300, and little is measured of them: for tests of what an evaluation
    writes and says. Returns the contract of the task as it is then."""
    from vqbet_course.evaluation import evaluate
    from vqbet_course.tasks.pusht import environment

    short = replace(environment.PUSHT_TASK, horizon=40)
    monkeypatch.setattr(environment, "PUSHT_TASK", short)
    monkeypatch.setattr(evaluate, "latency", partial(evaluate.latency, decisions=5))
    monkeypatch.setattr(evaluate, "mode_entropy", partial(evaluate.mode_entropy, repeats=3, steps=12))
    return short


@pytest.fixture
def repo() -> Path:
    """The root of the repository."""
    return REPO


@pytest.fixture
def write_lesson(tmp_path: Path) -> Callable[..., Path]:
    """Write a lesson of a title, the parameters cell and `cells` (code, or a pair of a tag and code)."""

    def write(name: str, *cells: Cell, title: str = "A lesson") -> Path:
        kernelspec = {"name": "python3", "display_name": "python3"}
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernelspec})
        notebook.cells.append(nbformat.v4.new_markdown_cell(f"# {title}"))
        for cell in (("parameters", 'profile = "quick"'), *cells):
            tag, source = cell if isinstance(cell, tuple) else (None, cell)
            code = nbformat.v4.new_code_cell(source, metadata={"tags": [tag]} if tag else {})
            notebook.cells.append(code)
        path = tmp_path / "nbs" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, path)
        return path

    return write


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def skip_without_chromium() -> None:
    """Skip the tests of a module where no Chromium is, unless it is required."""
    if CHROMIUM is None and os.environ.get("VQBET_BROWSER") != "required":
        pytest.skip("no Chromium here: install it (Debian: apt-get install chromium)", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
