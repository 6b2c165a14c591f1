"""The lessons as labs: which exported cells are exercises, and what an exercise may build on."""
import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqbet_course.core.errors import BadInput
from vqbet_course.core.places import LESSONS, find_lessons

Cell = dict[str, Any]
"""A cell as a notebook file holds it."""


def source_of(cell: Cell) -> str:
    """The source of a cell; a file may hold it as one string or as a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def has_directive(cell: Cell, directive: str) -> bool:
    """Whether a code cell starts with `#| directive`, maybe after other directives."""
    lines = source_of(cell).splitlines()
    return cell["cell_type"] == "code" and any(
        re.match(rf"#\|\s*{directive}\b", line) for line in lines if line.startswith("#|"))


def without_directives(source: str) -> str:
    """A cell's source without what speaks to nbdev alone."""
    return re.sub(r"^#\|\s*(export|default_exp)\b.*\n?", "", source, flags=re.MULTILINE)


@dataclass(frozen=True)
class Exercise:
    """An exported cell that a learner writes: its id (`1.2`), what it is worth, and the solution."""

    id: str
    points: int
    difficulty: int
    minutes: int
    cell_id: str
    solution: str


@dataclass(frozen=True)
class Lab:
    """A lesson with exercises: its name (`01_tokens`), the module it exports, its cells."""

    name: str
    module: str
    cells: list[Cell]

    @functools.cached_property
    def exported(self) -> list[Cell]:
        return [cell for cell in self.cells if has_directive(cell, "export")]

    @functools.cached_property
    def exercises(self) -> dict[str, Exercise]:
        """The exercises by id, in the order of the lesson."""
        marked = [(cell, cell["metadata"]["exercise"]) for cell in self.exported if "exercise" in cell["metadata"]]
        return {about["id"]: Exercise(**about, cell_id=cell["id"], solution=source_of(cell)) for cell, about in marked}

    @property
    def locked(self) -> list[Cell]:
        """The exported cells that are given to the learner."""
        return [cell for cell in self.exported if "exercise" not in cell["metadata"]]

    def before(self, exercise: Exercise) -> list[str]:
        """The released sources of the exported cells before an exercise: what it may build on."""
        ids = [cell["id"] for cell in self.exported]
        return [source_of(cell) for cell in self.exported[:ids.index(exercise.cell_id)]]

    @property
    def max_score(self) -> int:
        return sum(exercise.points for exercise in self.exercises.values())


def read_lab(path: Path) -> Lab | None:
    """The lab that a lesson is; None for a lesson without exercises."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    names = re.findall(r"^#\|\s*default_exp (\w+)", "\n".join(source_of(cell) for cell in cells), re.MULTILINE)
    lab = Lab(path.stem, names[0] if names else "", cells)
    return lab if lab.exercises else None


@functools.cache
def all_labs(folder: Path = LESSONS) -> dict[str, Lab]:
    """All labs by name."""
    labs = [read_lab(path) for path in find_lessons(folder)]
    return {lab.name: lab for lab in labs if lab is not None}


def lab_of(exercise_id: str) -> Lab:
    """The lab that an exercise belongs to. Raises BadInput for an id that no lesson has."""
    for lab in all_labs().values():
        if exercise_id in lab.exercises:
            return lab
    raise BadInput(f"no exercise {exercise_id!r} in {LESSONS}")
