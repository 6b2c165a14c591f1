"""The grades of a class, in one SQLite file, and what a teacher takes from it: grade books and statistics.

A row is one version of one submission, told by the bytes; a student may have several, which are attempts. Graded again,
by other lessons say, it is the same attempt. Each row is written in a transaction of its own, so a killed grading loses
nothing that it had finished.
"""

import csv
import io
import json
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vqbet_course.core.errors import BadInput
from vqbet_course.grading.grades import STATUSES, Grade
from vqbet_course.grading.submissions import Submission

SCHEMA = """
CREATE TABLE IF NOT EXISTS grades (
    name TEXT NOT NULL, digest TEXT NOT NULL, student TEXT NOT NULL, number TEXT NOT NULL, late INTEGER NOT NULL,
    received REAL NOT NULL, clock TEXT NOT NULL, lessons TEXT NOT NULL, graded REAL NOT NULL, lab TEXT NOT NULL,
    score REAL, max_score REAL,
    problem TEXT NOT NULL, left_out INTEGER NOT NULL, grade TEXT NOT NULL, PRIMARY KEY (name, digest))
"""

DAY_S = 86_400


@contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """The grades of a folder, in `grades.sqlite`; made if they are not there. Raises BadInput for another file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "grades.sqlite"
    with closing(sqlite3.connect(path, timeout=60)) as store:
        try:
            store.row_factory = sqlite3.Row
            store.execute(SCHEMA)
            store.execute("SELECT clock, lessons FROM grades LIMIT 1")
        except sqlite3.DatabaseError as error:
            raise BadInput(f"{path}: not a file of grades ({error}); choose another --out") from None
        yield store


def existing(folder: Path) -> list[dict[str, Any]]:
    """All rows in a folder's grades. Raises BadInput where there are none."""
    if not (folder / "grades.sqlite").is_file():
        raise BadInput(f"{folder}: holds no grades.sqlite; give the folder that `vqbet-course grade --out` wrote")
    with opened(folder) as store:
        return [dict(row) for row in store.execute("SELECT * FROM grades ORDER BY name, received")]


def keep(
    store: sqlite3.Connection,
    submission: Submission,
    digest: str,
    grade: Grade | None,
    problem: str = "",
    lessons: str = "",
) -> None:
    """Write the grade of a submission, or why it has none. `digest`: of its bytes, empty where they could not be read;
    `lessons`: of what it was graded with."""
    values = (
        submission.name,
        digest,
        submission.student,
        submission.number,
        submission.late,
        submission.received,
        submission.clock,
        lessons,
        time.time(),
        grade.lab if grade else "",
        grade.score if grade else None,
        grade.max_score if grade else None,
        problem,
        submission.left_out,
        json.dumps(grade.complete()) if grade else "",
    )
    with store:
        store.execute("DELETE FROM grades WHERE name = ? AND digest = ''", (submission.name,))
        store.execute(f"INSERT OR REPLACE INTO grades VALUES ({', '.join('?' * len(values))})", values)


def digests(store: sqlite3.Connection, lessons: str) -> set[tuple[str, str]]:
    """Pairs of a name and a digest that have their grade, by these lessons."""
    found = store.execute("SELECT name, digest FROM grades WHERE problem = '' AND lessons = ?", (lessons,))
    return {(row["name"], row["digest"]) for row in found}


def received_in_words(row: dict[str, Any]) -> str:
    """When a submission was handed in, and what says so."""
    if not row["received"]:
        return "nothing says when it was handed in"
    return f"{datetime.fromtimestamp(row['received']):%Y-%m-%d %H:%M} ({row['clock']})"


# --- grade books --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """How attempts become a grade: which counts, until when they may come, and what a day costs (percent)."""

    keep: str = "best"
    due: datetime | None = None
    penalty: float = 0.0

    def points(self, row: dict[str, Any]) -> float:
        """The points of an attempt, less those for each day begun after the due time. What the learning platform calls
        late costs one day at least."""
        late = row["received"] - self.due.timestamp() if self.due and row["received"] else 0.0
        days = max(math.ceil(late / DAY_S), int(bool(row["late"])), 0)
        return round(row["score"] * max(0.0, 1 - days * self.penalty / 100), 2)


def book(rows: Iterable[dict[str, Any]], rules: Rules) -> list[dict[str, Any]]:
    """One entry per student and lab: the points that count, the attempts, and the problems of files without a grade.

    Raises BadInput for a penalty where neither a due time nor the learning platform says what was late."""
    rows = list(rows)
    if rules.penalty and rules.due is None and not any(row["late"] for row in rows):
        raise BadInput("a penalty needs a due time: nothing else says which submissions were late; give --due")
    by_student: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if not row["left_out"]:
            by_student.setdefault((row["student"], row["number"]), []).append(row)
    entries = []
    for (student, number), own in sorted(by_student.items()):
        problems = [f"{row['name']}: {row['problem']}" for row in own if row["problem"]]
        labs = sorted({row["lab"] for row in own if not row["problem"]})
        for lab in labs or [""]:
            tries = sorted(
                (row for row in own if row["lab"] == lab and not row["problem"]), key=lambda r: r["received"]
            )
            counted = [rules.points(row) for row in tries]
            points = None if not counted else max(counted) if rules.keep == "best" else counted[-1]
            entries.append(
                {
                    "student": student,
                    "number": number,
                    "lab": lab,
                    "points": points,
                    "max_score": tries[-1]["max_score"] if tries else None,
                    "attempts": len(tries),
                    "scores": [row["score"] for row in tries],
                    "received": [received_in_words(row) for row in tries],
                    "problems": problems,
                }
            )
    return entries


def as_csv(entries: Sequence[dict[str, Any]], kind: str) -> str:
    """A grade book that Moodle or Canvas imports: a line per student, a column per lab."""
    labs = sorted({entry["lab"] for entry in entries if entry["lab"]})
    most = {entry["lab"]: entry["max_score"] for entry in entries}
    students = sorted({(entry["student"], entry["number"]) for entry in entries})
    points = {(entry["student"], entry["number"], entry["lab"]): entry["points"] for entry in entries}
    problems = {(entry["student"], entry["number"]): "; ".join(entry["problems"]) for entry in entries}
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    if kind == "canvas":
        lines.writerow(["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *labs])
        lines.writerow(["    Points Possible", "", "", "", "", *(most[lab] for lab in labs)])
    else:
        lines.writerow(["Identifier", "Full name", *labs, "Feedback comments"])
    for student, number in students:
        own = ["" if (value := points.get((student, number, lab))) is None else f"{value:g}" for lab in labs]
        if kind == "canvas":
            lines.writerow([as_text(student), number, "", "", "", *own])
        else:
            lines.writerow(
                [f"Participant {number}" if number else "", as_text(student), *own, as_text(problems[student, number])]
            )
    return file.getvalue()


def as_text(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


# --- statistics ---------------------------------------------------------------------------------------------


def item_statistics(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per exercise, over each student's last attempt: how many passed (`difficulty`, 0..1), how well passing goes with
    the other points (`discrimination`, -1..1 or None), the statuses, and which misconceptions were seen."""
    last = {
        (row["student"], row["number"], row["lab"]): json.loads(row["grade"])
        for row in sorted(rows, key=lambda row: row["received"])
        if not row["problem"]
    }
    found: dict[tuple[str, str], list[tuple[dict[str, Any], float]]] = {}
    for (_, _, lab), grade in last.items():
        total = sum(exercise["awarded"] for exercise in grade["exercises"])
        for exercise in grade["exercises"]:
            found.setdefault((lab, exercise["id"]), []).append((exercise, total - exercise["awarded"]))
    return [
        {
            "lab": lab,
            "id": exercise_id,
            "students": len(said),
            "difficulty": sum(e["status"] == "passed" for e, _ in said) / len(said),
            "discrimination": correlation(
                [float(e["status"] == "passed") for e, _ in said], [rest for _, rest in said]
            ),
            "statuses": {s: n for s in STATUSES if (n := sum(e["status"] == s for e, _ in said))},
            "misconceptions": Counter(e["misconception"] for e, _ in said if e["misconception"]).most_common(),
        }
        for (lab, exercise_id), said in sorted(found.items())
    ]


def correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Pearson's correlation of two rows of numbers; None where one of them does not vary."""
    n = len(one)
    means = sum(one) / n, sum(other) / n
    spread = [math.sqrt(sum((x - mean) ** 2 for x in row)) for row, mean in zip((one, other), means)]
    if min(spread) < 1e-12:
        return None
    return round(sum((x - means[0]) * (y - means[1]) for x, y in zip(one, other)) / (spread[0] * spread[1]), 9)
