"""What grading gives: a verdict for each exercise, a grade for each submission."""

from dataclasses import dataclass, field, replace
from typing import Any

STATUSES = ("passed", "wrong", "error", "stopped", "unfinished", "not attempted", "missing")


class Ungradable(Exception):
    """A submission that gets no grade; the message says why, in one line."""


@dataclass(frozen=True)
class Verdict:
    """One exercise: a status of STATUSES, what happened in words, the misconception that it looks like, a hint; for a
    wrong answer the smallest example, with what is expected and what came."""

    status: str
    message: str
    misconception: str = ""
    hint: str = ""
    example: str = ""

    def with_hint(self, hint: str) -> "Verdict":
        """The same verdict with another hint."""
        return replace(self, hint=hint)


@dataclass(frozen=True)
class Marked:
    """A verdict and what it is worth."""

    id: str
    points: int
    verdict: Verdict

    @property
    def awarded(self) -> int:
        """The points that the verdict earns."""
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
        """The points of all exercises together."""
        return sum(exercise.awarded for exercise in self.exercises)

    @property
    def max_score(self) -> int:
        """The points that can be earned."""
        return sum(exercise.points for exercise in self.exercises)

    def to_dict(self) -> dict[str, Any]:
        """What report.json says."""
        return {
            "lab": self.lab,
            "score": self.score,
            "max_score": self.max_score,
            "exercises": [
                {
                    "id": e.id,
                    "points": e.points,
                    "awarded": e.awarded,
                    "status": e.verdict.status,
                    "misconception": e.verdict.misconception or None,
                }
                for e in self.exercises
            ],
        }

    def complete(self) -> dict[str, Any]:
        """What `from_dict` reads: the report, and all that is said in words."""
        said = self.to_dict()
        for about, marked in zip(said["exercises"], self.exercises):
            about |= {name: getattr(marked.verdict, name) for name in ("message", "hint", "example")}
        return said | {"notes": self.notes, "digest": self.digest}

    @classmethod
    def from_dict(cls, said: dict[str, Any]) -> "Grade":
        """The grade that `complete` wrote down; without the executed notebook."""
        marked = [
            Marked(
                e["id"],
                e["points"],
                Verdict(e["status"], e["message"], e["misconception"] or "", e["hint"], e["example"]),
            )
            for e in said["exercises"]
        ]
        return cls(said["lab"], marked, said["notes"], digest=said["digest"])
