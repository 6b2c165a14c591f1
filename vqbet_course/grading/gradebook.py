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

    def days_late(self, row: dict[str, Any]) -> int:
        """The days begun after the due time. What the learning platform calls late is late by one day at least."""
        late = row["received"] - self.due.timestamp() if self.due and row["received"] else 0.0
        return max(math.ceil(late / DAY_S), int(bool(row["late"])), 0)

    def points(self, row: dict[str, Any]) -> float:
        """The points of an attempt, less those for each day begun after the due time."""
        return round(row["score"] * max(0.0, 1 - self.days_late(row) * self.penalty / 100), 2)


@dataclass(frozen=True)
class Attempt:
    """A graded submission among a student's for a lab: its row, which it is (1 is the first) of how many, the days by
    which it was late, its points less the penalty, and whether it is the one that counts."""

    row: dict[str, Any]
    number: int
    of: int
    days_late: int
    points: float
    counts: bool


def attempts(rows: Iterable[dict[str, Any]], rules: Rules) -> list[list[Attempt]]:
    """The attempts of each student at each lab, in the order in which they were handed in.

    Raises BadInput for a penalty where neither a due time nor the learning platform says what was late."""
    rows = list(rows)
    if rules.penalty and rules.due is None and not any(row["late"] for row in rows):
        raise BadInput("a penalty needs a due time: nothing else says which submissions were late; give --due")
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["received"]):
        if not row["left_out"] and not row["problem"]:
            found.setdefault((row["student"], row["number"], row["lab"]), []).append(row)
    return [of_one_lab(found[key], rules) for key in sorted(found)]


def of_one_lab(rows: Sequence[dict[str, Any]], rules: Rules) -> list[Attempt]:
    """One student's attempts at one lab."""
    points = [rules.points(row) for row in rows]
    counted = points.index(max(points)) if rules.keep == "best" else len(rows) - 1
    return [
        Attempt(row, at + 1, len(rows), rules.days_late(row), points[at], at == counted) for at, row in enumerate(rows)
    ]


def book(rows: Iterable[dict[str, Any]], rules: Rules) -> list[dict[str, Any]]:
    """One entry per student and lab: the points that count, the attempts, and the problems of files without a grade.
    Raises BadInput as `attempts` does."""
    rows = [row for row in rows if not row["left_out"]]
    tries: dict[tuple[str, str], list[list[Attempt]]] = {(row["student"], row["number"]): [] for row in rows}
    for own in attempts(rows, rules):
        tries[own[0].row["student"], own[0].row["number"]].append(own)
    problems: dict[tuple[str, str], list[str]] = {student: [] for student in tries}
    for row in rows:
        if row["problem"]:
            problems[row["student"], row["number"]].append(f"{row['name']}: {row['problem']}")
    return [
        entry(student, own, problems[student])
        for student, labs in sorted(tries.items())
        for own in labs or [[]]  # who handed in nothing that could be graded has an entry, too
    ]


def entry(student: tuple[str, str], own: Sequence[Attempt], problems: list[str]) -> dict[str, Any]:
    """What a grade book says of a student and a lab; empty `own`: no attempt at any."""
    counted = next((attempt for attempt in own if attempt.counts), None)
    return {
        "student": student[0],
        "number": student[1],
        "lab": counted.row["lab"] if counted else "",
        "points": counted.points if counted else None,
        "max_score": counted.row["max_score"] if counted else None,
        "attempts": len(own),
        "counted": counted.number if counted else None,
        "days_late": counted.days_late if counted else None,
        "graded": f"{datetime.fromtimestamp(counted.row['graded']):%Y-%m-%d %H:%M:%S}" if counted else "",
        "scores": [attempt.row["score"] for attempt in own],
        "received": [received_in_words(attempt.row) for attempt in own],
        "problems": problems,
    }


def of_lab(entries: Sequence[dict[str, Any]], number: str) -> list[dict[str, Any]]:
    """The entries of one lab, by its number; with one for each student who has no grade of it. Raises BadInput."""
    students: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in entries:
        students.setdefault((one["student"], one["number"]), []).append(one)
    found = [
        next((one for one in own if one["lab"].split("_")[0] == number), entry(student, [], own[0]["problems"]))
        for student, own in students.items()
    ]
    if not any(one["lab"] for one in found):
        known = sorted({one["lab"].split("_")[0] for one in entries if one["lab"]})
        raise BadInput(f"--lab {number}: no grade of that lab; there are some of {', '.join(known) or 'none'}")
    return found


def as_csv(entries: Sequence[dict[str, Any]], kind: str) -> str:
    """A grade book that Moodle or Canvas imports. Raises BadInput for what they would not take."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerows(canvas_rows(entries) if kind == "canvas" else moodle_rows(entries))
    return file.getvalue()


def canvas_rows(entries: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
    """The rows of Canvas's grade book: one per student, a column per lab."""
    labs = sorted({entry["lab"] for entry in entries if entry["lab"]})
    most = {entry["lab"]: entry["max_score"] for entry in entries}
    points = {(entry["student"], entry["number"], entry["lab"]): entry["points"] for entry in entries}
    yield ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *labs]
    yield ["    Points Possible", "", "", "", "", *(most[lab] for lab in labs)]
    for student, number in sorted({(entry["student"], entry["number"]) for entry in entries}):
        own = [in_digits(points.get((student, number, lab))) for lab in labs]
        yield [as_text(student), number, "", "", "", *own]


def moodle_rows(entries: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
    """The rows of Moodle's grading worksheet, which is of one assignment: one per student.

    Moodle finds a student by the identifier, and keeps a grade that was changed there after `Last modified (grade)`."""
    labs = sorted({entry["lab"] for entry in entries if entry["lab"]})
    if len(labs) > 1:
        raise BadInput(
            f"these are grades of {', '.join(labs)}, and Moodle's worksheet is of one assignment; choose one with "
            f"--lab {labs[0].split('_')[0]}"
        )
    if not any(entry["number"] for entry in entries):
        raise BadInput(
            "no file has a name as Moodle gives it (Ada Lovelace_12345_assignsubmission_file_), so Moodle would not "
            "know whose the grades are; grade the zip file of all submissions as it comes, or use --format canvas or json"
        )
    yield ["Identifier", "Full name", "Grade", "Last modified (grade)", "Feedback comments"]
    for entry in entries:
        identifier = f"Participant {entry['number']}" if entry["number"] else ""
        said = as_text("; ".join(entry["problems"]))
        yield [identifier, as_text(entry["student"]), in_digits(entry["points"]), entry["graded"], said]


def in_digits(points: float | None) -> str:
    """Points as a grade book has them; empty for no grade."""
    return "" if points is None else f"{points:g}"


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
