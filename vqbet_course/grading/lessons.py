"""The lessons as labs: which exported cells are exercises, and what an exercise may build on."""

import functools
from dataclasses import dataclass
from pathlib import Path

from vqbet_course.core.errors import BadInput
from vqbet_course.core.notebooks import Cell, directives, has_directive, read_notebook, source_of, without_directives
from vqbet_course.core.places import LESSONS, find_lessons
from vqbet_course.grading.answers import CellSource

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
        """The cells that the lesson exports, in order."""
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

    @functools.cached_property
    def code(self) -> set[str]:
        """The code of its cells as learners get them, and of their statements; see `CellSource.code`."""
        sources = [
            CellSource(without_directives(source_of(cell), NBDEV)) for cell in self.cells if cell["cell_type"] == "code"
        ]
        statements = {code for source in sources for code in source.statement_codes}
        return ({source.code for source in sources} | statements) - {CellSource("").code}

    def holds(self, source: CellSource) -> bool:
        """Whether a cell of a learner has nothing but the lesson's code: one of its cells, or statements of them."""
        return source.code in self.code or (
            bool(source.statement_codes) and self.code.issuperset(source.statement_codes)
        )

    @functools.cached_property
    def locked_code(self) -> list[tuple[Cell, str, CellSource]]:
        """Of the exported cells that are given to the learner: the cell, its first line, its source."""
        released = [(cell, without_directives(source_of(cell), NBDEV).strip()) for cell in self.locked]
        return [(cell, text.split("\n")[0], CellSource(text)) for cell, text in released]

    def before(self, exercise: Exercise) -> list[str]:
        """The released sources of the exported cells before an exercise: what it may build on."""
        ids = [cell["id"] for cell in self.exported]
        return [source_of(cell) for cell in self.exported[: ids.index(exercise.cell_id)]]

    @functools.cached_property
    def names_before(self) -> dict[str, set[str]]:
        """The names that those cells bind, by the exercise's id."""
        return {
            exercise.id: set().union(
                *(names for source in self.before(exercise) for _, names in CellSource(source).statements)
            )
            for exercise in self.exercises.values()
        }

    @property
    def max_score(self) -> int:
        """The points that can be earned."""
        return sum(exercise.points for exercise in self.exercises.values())


def read_lab(path: Path) -> Lab:
    """A lesson as a lab; one without graded exercises has none."""
    cells = read_notebook(path)["cells"]
    names = directives("\n".join(source_of(cell) for cell in cells))
    return Lab(path.stem, names.get("default_exp", ""), cells)


@functools.cache
def all_lessons(folder: Path = LESSONS) -> dict[str, Lab]:
    """All lessons by name."""
    return {path.stem: read_lab(path) for path in find_lessons(folder)}


@functools.cache
def all_labs(folder: Path = LESSONS) -> dict[str, Lab]:
    """All labs, the lessons with graded exercises, by name."""
    return {name: lesson for name, lesson in all_lessons(folder).items() if lesson.exercises}


def lab_of(exercise_id: str) -> Lab:
    """The lab that an exercise belongs to. Raises BadInput for an id that no lesson has."""
    for lab in all_labs().values():
        if exercise_id in lab.exercises:
            return lab
    raise BadInput(f"no exercise {exercise_id!r} in {LESSONS}")
