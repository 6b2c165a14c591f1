"""Every exercise at the end of a lesson has a worked solution with an explanation, and its code runs after the lesson."""

import ast
import builtins
import json
import re
from pathlib import Path

import nbformat
import pytest

from vqbet_course.core.notebooks import Cell, notebook_text, read_notebook, source_lines, source_of
from vqbet_course.core.places import LABS, LESSONS, ROOT, find_lessons
from vqbet_course.course.runner import lesson_environment, run_lesson
from vqbet_course.grading.editions import write_teacher_editions
from vqbet_course.grading.solutions import LINK_CELL, WORKED, asked, folded, worked_solutions

NAMES = [path.stem for path in find_lessons()]

every_lesson = pytest.mark.parametrize("name", NAMES)


def cells_of(name: str) -> list[Cell]:
    return read_notebook(LESSONS / f"{name}.ipynb")["cells"]


def names_in(sources: list[str], *, used: bool) -> set[str]:
    """The names that sources read, or else those that they bind anywhere."""
    found = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Name):
            found |= {node.id} if isinstance(node.ctx, ast.Load) == used else set()
        elif not used and isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif not used and isinstance(node, ast.arg):
            found.add(node.arg)
        elif not used and isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
    return found


@every_lesson
def test_every_exercise_has_a_solution_with_an_explanation(name: str) -> None:
    solutions, numbers = worked_solutions(name), asked(cells_of(name))
    assert numbers and [solution.number for solution in solutions] == numbers
    for solution in solutions:
        assert solution.title and solution.code, solution.number
        assert solution.explanation.count(".") >= 3 and "```" not in solution.explanation, solution.number


STYLE = re.compile(r"(\d+)\. \*\*(.+?)\*\* (★{1,3}) · (\d+ minutes|open)\. \S")


@every_lesson
def test_exercises_are_asked_in_one_style(name: str) -> None:
    """Number, title, stars, minutes; the solution has the same title."""
    [text] = [source_of(cell) for cell in cells_of(name) if "## Exercises" in source_of(cell)]
    asked_for = [line for line in text.split("## Exercises")[1].splitlines() if "★" in line]
    found = [STYLE.match(line) for line in asked_for]
    assert all(found), [line for line, match in zip(asked_for, found, strict=True) if not match]
    titles = {match[1]: match[2] for match in found if match}
    for solution in worked_solutions(name):
        assert solution.title.removeprefix("Bonus: ") == titles[solution.number] or titles[solution.number] == "Bonus"


@pytest.mark.parametrize("path", sorted([*LESSONS.glob("*.ipynb"), *LABS.glob("*.ipynb")]), ids=lambda path: path.stem)
def test_what_unfolds_shows_no_raw_markdown(path: Path) -> None:
    """JupyterLab reads Markdown in <details> only between empty lines; without them, backticks would be seen."""
    for cell in read_notebook(path)["cells"]:
        folded_away = re.findall(r"<details>(.*?)</details>", source_of(cell), re.S)
        for text in folded_away if cell["cell_type"] == "markdown" else []:
            heading, _, body = text.partition("</summary>")
            assert "`" not in heading and (body.startswith("\n\n") or not re.search(r"`|\*\*", body)), text


def test_there_are_solutions_of_lessons_alone() -> None:
    assert sorted(path.stem for path in WORKED.iterdir()) == NAMES


@every_lesson
def test_a_lesson_links_to_its_solutions(name: str) -> None:
    [link] = [source_of(cell) for cell in cells_of(name) if cell["id"] == LINK_CELL]
    assert f"](solutions/{name}.md)" in link


@every_lesson
def test_solutions_use_names_that_the_lesson_or_they_bind(name: str) -> None:
    """Noticed at once, where the lesson renames what a solution uses; whether it runs is asked below."""
    lesson = [source_of(cell) for cell in cells_of(name) if cell["cell_type"] == "code"]
    solutions = [solution.code for solution in worked_solutions(name)]
    known = names_in(lesson + solutions, used=False) | set(dir(builtins)) | {"display"}
    assert names_in(solutions, used=True) <= known


def test_teachers_editions_have_the_solutions_of_all_lessons_folded(tmp_path: Path) -> None:
    assert [path.stem for path in write_teacher_editions(tmp_path)] == NAMES
    for name in NAMES:
        notebook = json.loads((tmp_path / f"{name}.ipynb").read_text(encoding="utf-8"))
        nbformat.validate(notebook)
        sources = {cell["id"]: source_of(cell) for cell in notebook["cells"]}
        assert LINK_CELL not in sources
        for solution in worked_solutions(name):
            assert sources[f"{LINK_CELL}-{solution.number}"] == folded(solution)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@every_lesson
def test_solutions_run_after_their_lesson(name: str, tmp_path: Path) -> None:
    notebook = read_notebook(LESSONS / f"{name}.ipynb")
    for solution in worked_solutions(name):
        empty: Cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
        notebook["cells"].append(empty | {"id": f"run-{solution.number}", "source": source_lines(solution.code)})
    copy = tmp_path / "nbs" / f"{name}.ipynb"
    copy.parent.mkdir()
    copy.write_text(notebook_text(notebook), encoding="utf-8")
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")  # a lesson reads what lies beside it
    with lesson_environment():
        result = run_lesson(copy, tmp_path, timeout=600)
    assert result.ok, result.failure
