"""Student editions: `labs/NN_name.ipynb`, made from the lessons.

What an exercise asks for becomes `raise NotImplementedError`; signature, docstring and a hint stay. Then follow a cell
with its `check`, and the released definition, with which the lesson goes on.
"""

import ast
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from vqbet_course import __version__
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_text
from vqbet_course.core.notebooks import Cell, notebook_text, source_lines, source_of, without_directives
from vqbet_course.core.places import LABS
from vqbet_course.grading.checks import Check, all_checks
from vqbet_course.grading.handout import digest_of, replace_files
from vqbet_course.grading.lessons import NBDEV, Exercise, Lab, all_labs, all_lessons
from vqbet_course.grading.solutions import LINK_CELL, folded, graded_solution, worked_solutions

STARS = {1: "★", 2: "★★", 3: "★★★"}


def blanked(source: str, names: tuple[str, ...]) -> str:
    """The source with the bodies of these functions and methods replaced, below their docstrings."""
    lines = source.removesuffix("\n").split("\n")
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.name in names
    ]
    missing = set(names) - {node.name for node in functions}
    assert not missing, f"no function {missing} in the cell"
    for node in sorted(functions, key=lambda node: -node.lineno):
        assert node.end_lineno is not None
        body = node.body[1] if ast.get_docstring(node) is not None else node.body[0]
        lines[body.lineno - 1 : node.end_lineno] = [" " * body.col_offset + "raise NotImplementedError"]
    return "\n".join(lines)


LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")
"""A link of Markdown that is no address: its text and its place."""


def pointing_home(text: str, labs: set[str]) -> str:
    """A lesson's prose with its links as they are seen from `labs/` in a clone."""
    text = re.sub(r"(\]\(|src=\")images/", r"\1../nbs/images/", text)
    return re.sub(r"\]\(((\w+)\.ipynb)", lambda m: m[0] if m[2] in labs else f"](../nbs/{m[1]}", text)


def pointing_inside(text: str, labs: set[str]) -> str:
    """A lesson's prose with links to these labs alone, which lie beside it; others become plain text, since what they
    lead to is not handed out."""
    return LINK.sub(lambda m: m[0] if m[2].partition("#")[0] in {f"{lab}.ipynb" for lab in labs} else m[1], text)


def cell(kind: str, cell_id: str, source: str, **metadata: object) -> Cell:
    """A cell in the form of a notebook file."""
    outputs: Cell = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "id": cell_id, "metadata": metadata, "source": source_lines(source)} | outputs


def exercise_cells(lab: Lab, exercise: Exercise, check: type[Check]) -> list[Cell]:
    """What stands in place of an exercise's cell: the task, the cell to fill, its check, the released definition."""
    points = "1 point" if exercise.points == 1 else f"{exercise.points} points"
    if len(check.blanks()) > 1:
        points += f", all or none: all {len(check.blanks())} methods have to be right"
    task = (
        f"### Exercise {exercise.id} · `{check.answer}`\n\n"
        f"{STARS[exercise.difficulty]} · {exercise.minutes} minutes · {points}. "
        "Replace each `raise NotImplementedError` below, then run the next cell. Imports and helpers of your "
        "own may stand in this cell or in others: they are found by name.\n\n"
        f"<details><summary>Hint</summary>\n\n{check.hint}\n</details>"
    )  # the empty line: Markdown inside
    source = blanked(without_directives(exercise.solution, NBDEV), check.blanks())
    about = {name: getattr(exercise, name) for name in ("id", "points", "difficulty", "minutes")}
    released = f"from vqbet_course.{lab.module} import {check.answer}  # the lesson goes on with the released one"
    return [
        cell("markdown", f"{exercise.cell_id}-task", task),
        cell("code", exercise.cell_id, source, exercise=about),
        cell("code", f"{exercise.cell_id}-check", f"check({check.answer})"),
        cell("code", f"{exercise.cell_id}-released", released, deletable=False, editable=False),
    ]


def solution_cells(lesson: str) -> list[Cell]:
    """The worked solutions of the exercises at the end of a lesson, folded."""
    solutions = worked_solutions(lesson)
    return [cell("markdown", f"{LINK_CELL}-{solution.number}", folded(solution)) for solution in solutions]


def student_edition(lab: Lab, teacher: bool = False, beside: Collection[str] | None = None) -> str:
    """The student edition of a lab, as the text of a notebook file; for a teacher with all solutions, folded.

    `beside`: the labs that lie in its folder and nothing else, to which it may link; None for `labs/` in a clone.
    """
    exercises, labs = {e.cell_id: e for e in lab.exercises.values()}, set(all_labs() if beside is None else beside)
    pointing = pointing_home if beside is None else pointing_inside
    locked = {cell["id"] for cell in lab.locked}
    cells: list[Cell] = []
    for original in lab.cells:
        source, about = source_of(original), {k: v for k, v in original["metadata"].items() if k in ("tags", "jupyter")}
        if original["id"] in exercises:
            exercise = exercises[original["id"]]
            cells += exercise_cells(lab, exercise, all_checks()[exercise.id])
            if teacher:
                cells.append(cell("markdown", f"{exercise.cell_id}-solution", folded(graded_solution(exercise))))
        elif original["id"] == LINK_CELL:  # students do not get the solutions
            cells += solution_cells(lab.name) if teacher else []
        elif original["cell_type"] == "markdown":
            cells.append(cell("markdown", original["id"], pointing(source, labs), **about))
        elif source := without_directives(source, NBDEV):
            about |= {"deletable": False, "editable": False} if original["id"] in locked else {}
            cells.append(cell(original["cell_type"], original["id"], source, **about))
    if exercises:
        first = next(i for i, made in enumerate(cells) if made["id"] in locked)
        cells.insert(first + 1, cell("code", "lab-check", "from vqbet_course.grading import check"))
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    language = {
        "name": "python",
        "file_extension": ".py",
        "mimetype": "text/x-python",
    }  # exporting a script asks for it
    metadata = {"kernelspec": kernel, "language_info": language, "vqbet_course": {"lab": lab.name}}
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return notebook_text(notebook)


def write_editions(out: Path = LABS) -> list[Path]:
    """Write all student editions; returns their paths."""
    paths = [out / f"{lab.name}.ipynb" for lab in all_labs().values()]
    for path in paths:
        write_text(path, student_edition(all_labs()[path.stem]))
    return paths


def write_teacher_editions(out: Path) -> list[Path]:
    """Write all lessons with solutions and explanations into a folder; returns their paths."""
    paths = [out / f"{lesson.name}.ipynb" for lesson in all_lessons().values()]
    for path in paths:
        write_text(path, student_edition(all_lessons()[path.stem], teacher=True))
    return paths


def labs_numbered(numbers: Sequence[str]) -> list[str]:
    """The labs with these numbers (`01`, or `1`), by name. Raises BadInput for a number that no lab has."""
    known = {name.split("_")[0]: name for name in all_labs()}
    asked = [number.strip().zfill(2) if number.strip() else "(empty)" for number in numbers]
    if unknown := [number for number in asked if number not in known]:
        lessons = {name.split("_")[0] for name in all_lessons()}
        why = "the lesson has no graded exercises" if unknown[0] in lessons else "no lab has this number"
        raise BadInput(f"--labs {unknown[0]}: {why}; choose from {','.join(known)}")
    return [known[number] for number in dict.fromkeys(asked)]


def release(out: Path, numbers: Sequence[str] | None = None) -> tuple[list[Path], list[Path]]:
    """Write the student editions, or those of some numbers, into a folder to hand out; returns the paths, and those of
    files of an earlier release that were removed.

    `SHA256SUMS` has their checksums (`sha256sum -c SHA256SUMS` tells whether a file is as it was released), and
    `release.json` the version of the course. Raises BadInput for a number that no lab has, and as `replace_files` does.
    """
    chosen = labs_numbered(numbers) if numbers is not None else list(all_labs())
    texts = {f"{name}.ipynb": student_edition(all_labs()[name], beside=chosen) for name in chosen}
    sums = {name: digest_of(text.encode()) for name, text in texts.items()}
    texts["SHA256SUMS"] = "".join(f"{said}  {name}\n" for name, said in sums.items())
    texts["release.json"] = json.dumps({"version": __version__, "labs": sums}, indent=2) + "\n"
    removed = replace_files(out, texts)
    return [out / name for name in texts], removed
