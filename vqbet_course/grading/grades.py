"""What grading gives: a verdict for each exercise, a grade for each submission."""
from dataclasses import dataclass, field
from typing import Any

STATUSES = ("passed", "wrong", "error", "stopped", "not attempted", "missing")


class Ungradable(Exception):
    """A submission that gets no grade; the message says why, in one line."""


@dataclass(frozen=True)
class Verdict:
    """One exercise: a status of STATUSES, what happened in words, the misconception that it looks like, a hint."""

    status: str
    message: str
    misconception: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Marked:
    """A verdict and what it is worth."""

    id: str
    points: int
    verdict: Verdict

    @property
    def awarded(self) -> int:
        return self.points if self.verdict.status == "passed" else 0


@dataclass(frozen=True)
class Grade:
    """A graded submission; `notes` for its reader, `executed`: the notebook after it ran, if it was asked to;
    `digest`: of what it depends on."""

    lab: str
    exercises: list[Marked]
    notes: list[str] = field(default_factory=list)
    executed: bytes = b""
    digest: str = ""

    @property
    def score(self) -> int:
        return sum(exercise.awarded for exercise in self.exercises)

    @property
    def max_score(self) -> int:
        return sum(exercise.points for exercise in self.exercises)

    def to_dict(self) -> dict[str, Any]:
        """What report.json says."""
        return {"lab": self.lab, "score": self.score, "max_score": self.max_score, "exercises": [
            {"id": e.id, "points": e.points, "awarded": e.awarded, "status": e.verdict.status,
             "misconception": e.verdict.misconception or None} for e in self.exercises]}
