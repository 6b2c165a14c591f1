"""Worked solutions of all exercises, each with an explanation.

A graded exercise is solved by the cell of its lesson, and `explanations.py` says why. The exercises at the end of a
lesson, which nobody grades, are solved in `nbs/solutions/NN_name.md`: a section for each (`## 2. Title`), with the
explanation and, where code answers, a block of Python that runs after the lesson's cells and the blocks before it.
"""

import re
from dataclasses import dataclass

from vqbet_course.core.notebooks import Cell, without_directives
from vqbet_course.core.places import LESSONS
from vqbet_course.grading.explanations import EXPLANATIONS
from vqbet_course.grading.lessons import NBDEV, Exercise

WORKED = LESSONS / "solutions"

LINK_CELL = "worked-solutions"
"""The id of the cell that ends a lesson with a link to its worked solutions."""

SECTION = re.compile(r"^## (\d+)\. *(.*)\n(?s:(.*?))(?=^## |\Z)", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(?s:(.*?))^```\n", re.MULTILINE)
ASKED = re.compile(r"^(?:\*\*)?(\d+)\.(?:\*\*)? .*★", re.MULTILINE)


@dataclass(frozen=True)
class WorkedSolution:
    """The solution of an exercise: its number (`1.2`, or `2` of those at a lesson's end), its title, why, and the code,
    empty where words answer."""

    number: str
    title: str
    explanation: str
    code: str


def asked(cells: list[Cell]) -> list[str]:
    """The numbers of the exercises at the end of a lesson, in order."""
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    return [
        number for text in texts if "## Exercises" in text for number in ASKED.findall(text.split("## Exercises")[1])
    ]


def worked_solutions(lesson: str) -> list[WorkedSolution]:
    """The solutions of the exercises at the end of a lesson (`01_tokens`), in order."""
    text = (WORKED / f"{lesson}.md").read_text(encoding="utf-8")
    return [
        WorkedSolution(number, title.strip(), BLOCK.sub("", body).strip(), "\n\n".join(BLOCK.findall(body)).strip())
        for number, title, body in SECTION.findall(text)
    ]


def graded_solution(exercise: Exercise) -> WorkedSolution:
    """The solution of a graded exercise: the lesson's own."""
    code = without_directives(exercise.solution, NBDEV).strip()
    return WorkedSolution(exercise.id, "", EXPLANATIONS[exercise.id], code)


def folded(solution: WorkedSolution) -> str:
    """A solution as Markdown that unfolds."""
    title = f"{solution.number}, {solution.title}," if solution.title else solution.number
    parts = [f"<details><summary>Solution of {title} with an explanation</summary>", solution.explanation]
    if solution.code:
        parts.append(f"```python\n{solution.code}\n```")
    return "\n\n".join([*parts, "</details>"])
