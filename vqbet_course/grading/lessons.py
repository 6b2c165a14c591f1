"""The lessons as labs: which exported cells are exercises, and what an exercise may build on."""

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

from vqbet_course.core.errors import BadInput
from vqbet_course.core.notebooks import Cell, directives, has_directive, read_notebook, source_of
from vqbet_course.core.places import LESSONS, find_lessons
from vqbet_course.grading.answers import bound_names

NBDEV = ("export", "default_exp")
"""The directives that speak to nbdev alone."""


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
        return [source_of(cell) for cell in self.exported[: ids.index(exercise.cell_id)]]

    def names_before(self, exercise: Exercise) -> set[str]:
        """The names that those cells bind."""
        return set().union(
            *(bound_names(statement) for source in self.before(exercise) for statement in ast.parse(source).body)
        )

    @property
    def max_score(self) -> int:
        return sum(exercise.points for exercise in self.exercises.values())


def read_lab(path: Path) -> Lab | None:
    """The lab that a lesson is; None for a lesson without exercises."""
    cells = read_notebook(path)["cells"]
    names = directives("\n".join(source_of(cell) for cell in cells))
    lab = Lab(path.stem, names.get("default_exp", ""), cells)
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
