"""The grades of a class, in one SQLite file, and what a teacher takes from it: grade books and statistics.

A row is one version of one submission, told by the bytes; a student may have several, which are attempts. Graded again,
by other lessons say, it is the same attempt, handed in when it was. Each row is written in a transaction of its own, so a
killed grading loses nothing that it had finished.

The grades follow the folder or zip file of submissions. What is no longer in it when it is graded again is `gone`: a file
without a grade counts no more, a graded one is an earlier attempt as long as its student has another file of that lab
there. No row is deleted, so a file that comes back has its grade.
"""

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
from vqbet_course.grading.submissions import CLOCKS, Submission, is_one

SCHEMA = """
CREATE TABLE IF NOT EXISTS grades (
    name TEXT NOT NULL, digest TEXT NOT NULL, student TEXT NOT NULL, number TEXT NOT NULL, late INTEGER NOT NULL,
    received REAL NOT NULL, clock TEXT NOT NULL, lessons TEXT NOT NULL, graded REAL NOT NULL, lab TEXT NOT NULL,
    score REAL, max_score REAL,
    problem TEXT NOT NULL, left_out INTEGER NOT NULL, grade TEXT NOT NULL,
    platform TEXT NOT NULL, collection TEXT NOT NULL, gone INTEGER NOT NULL, PRIMARY KEY (name, digest))
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
            store.execute("SELECT clock, lessons, gone FROM grades LIMIT 1")
        except sqlite3.DatabaseError as error:
            raise BadInput(f"{path}: not a file of grades ({error}); choose another --out") from None
        yield store


def existing(folder: Path) -> list[dict[str, Any]]:
    """All rows in a folder's grades that stand: of the files that are there, and of earlier attempts. Raises BadInput
    where there are no grades."""
    if not (folder / "grades.sqlite").is_file():
        raise BadInput(f"{folder}: holds no grades.sqlite; give the folder that `vqbet-course grade --out` wrote")
    with opened(folder) as store:
        return standing([dict(row) for row in store.execute("SELECT * FROM grades ORDER BY name, received")])


def standing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without those of gone files, unless they are earlier attempts at a lab: the student still has a file of
    that lab, or files without a grade alone."""
    here = [row for row in rows if not row["gone"] and not row["left_out"]]
    labs = {(row["student"], row["number"], row["lab"]) for row in here if row["grade"]}
    refused = {(row["student"], row["number"]) for row in here} - {label[:2] for label in labs}
    return [
        row
        for row in rows
        if not row["gone"]
        or (
            row["grade"]
            and ((row["student"], row["number"], row["lab"]) in labs or (row["student"], row["number"]) in refused)
        )
    ]


def follow(store: sqlite3.Connection, collection: str, names: set[str]) -> list[str]:
    """Note that a folder or zip file now holds the files with these names; returns those that were in it, and are gone.

    A new download of a learning platform is known by names in it, a plain folder by its path. Where the path is the same
    and no name is, these are other submissions, and the earlier ones stay as they are. What was graded alone before, as a
    trial, is no part of a class.
    """
    with store:
        before = store.execute("SELECT name, number, collection FROM grades WHERE NOT gone").fetchall()
        earlier = {row["name"] for row in before if row["collection"] == collection}
        if earlier and earlier.isdisjoint(names):
            store.execute("UPDATE grades SET collection = '' WHERE collection = ?", (collection,))
            earlier = set()
        again = {row["collection"] for row in before if row["number"] and row["name"] in names} - {"", collection}
        earlier |= {row["name"] for row in before if row["collection"] in again}
        store.executemany("UPDATE grades SET collection = ? WHERE collection = ?", [(collection, one) for one in again])
        alone = {(row["collection"],) for row in before if is_one(row["collection"])}
        store.executemany("UPDATE grades SET gone = 1 WHERE collection = ?", alone)
        gone = sorted(earlier - names)
        leave = "UPDATE grades SET gone = 1 WHERE name = ? AND collection = ?"
        store.executemany(leave, [(name, collection) for name in gone])
    return gone


def found(store: sqlite3.Connection, submission: Submission, digest: str) -> None:
    """Note that a file is there with these bytes: other versions of it are earlier ones; and when it was handed in, where
    a better clock says it now."""
    about: dict[str, Any] = {"name": submission.name, "digest": digest, "collection": submission.collection}
    with store:
        about["received"], about["clock"] = handed_in(store, submission, digest)
        store.execute(
            "UPDATE grades SET gone = 1 WHERE name = :name AND digest <> :digest AND collection = :collection", about
        )
        store.execute(
            "UPDATE grades SET collection = :collection, received = :received, clock = :clock, gone = 0 "
            "WHERE name = :name AND digest = :digest",
            about,
        )


def class_files(store: sqlite3.Connection) -> dict[str, str]:
    """The files of classes that are there, {name: the path of its folder or zip file}."""
    rows = store.execute("SELECT name, collection FROM grades WHERE NOT gone AND NOT left_out")
    return {row["name"]: row["collection"] for row in rows if not is_one(row["collection"])}


def handed_in(store: sqlite3.Connection, submission: Submission, digest: str) -> tuple[float, str]:
    """When a file with these bytes was handed in, and what says so: the best clock, the first time that it said. A file
    graded again was not handed in again."""
    named = "SELECT received, clock FROM grades WHERE name = ? AND digest = ?"
    known = [(row["received"], row["clock"]) for row in store.execute(named, (submission.name, digest))]
    return max([(submission.received, submission.clock), *known], key=lambda told: (CLOCKS.index(told[1]), -told[0]))


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
        *handed_in(store, submission, digest),
        lessons,
        time.time(),
        grade.lab if grade else "",
        grade.score if grade else None,
        grade.max_score if grade else None,
        problem,
        submission.left_out,
        json.dumps(grade.complete()) if grade else "",
        submission.platform,
        submission.collection,
        False,
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
    """How attempts become a grade: which counts, until when they may come, and what a day costs: percent of the points
    that the attempt earned."""

    keep: str = "best"
    due: datetime | None = None
    penalty: float = 0.0

    def days_late(self, row: dict[str, Any]) -> int:
        """The days begun after the due time. What the learning platform calls late is late by one day at least."""
        late = row["received"] - self.due.timestamp() if self.due and row["received"] else 0.0
        return max(math.ceil(late / DAY_S), int(bool(row["late"])), 0)

    def percent_off(self, row: dict[str, Any]) -> float:
        """What the penalty takes off the points that an attempt earned, in percent of them."""
        return min(100.0, self.days_late(row) * self.penalty)

    def points(self, row: dict[str, Any]) -> float:
        """The points that an attempt earned, less the penalty for each day begun after the due time."""
        return round(row["score"] * (1 - self.percent_off(row) / 100), 2)

    def check(self, lates: Iterable[bool]) -> None:
        """Raise BadInput for a penalty where neither a due time nor the learning platform says what was late."""
        if self.penalty and self.due is None and not any(lates):
            raise BadInput("a penalty needs a due time: nothing else says which submissions were late; give --due")


BEST = Rules()
"""The best attempt counts, whenever it came."""


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
    rules.check(row["late"] for row in rows)
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


def counted_rows(rows: Iterable[dict[str, Any]], rules: Rules) -> list[dict[str, Any]]:
    """The row that counts of each student and lab. Raises BadInput as `attempts` does."""
    return [attempt.row for own in attempts(rows, rules) for attempt in own if attempt.counts]


def book(rows: Iterable[dict[str, Any]], rules: Rules) -> list[dict[str, Any]]:
    """One entry per student and lab: the points that count, the attempts, and the problems of files without a grade that
    no attempt followed. Raises BadInput as `attempts` does."""
    rows = [row for row in rows if not row["left_out"]]
    tries: dict[Owner, list[list[Attempt]]] = {owner_in(row): [] for row in rows}
    for own in attempts(rows, rules):
        tries[owner_in(own[0].row)].append(own)
    problems: dict[Owner, list[str]] = {owner: [] for owner in tries}
    for row in rows:
        later = (own[-1].row["received"] for own in tries[owner_in(row)])
        if row["problem"] and not any(row["received"] <= received for received in later):
            problems[owner_in(row)].append(f"{row['name']}: {row['problem']}")
    return [
        entry(owner, own, problems[owner])
        for owner, labs in sorted(tries.items())
        for own in labs or [[]]  # who handed in nothing that could be graded has an entry, too
    ]


Owner = tuple[str, str, str]
"""Whose a submission is: the student's name and number, and the learning platform that gave the number."""


def owner_in(row: dict[str, Any]) -> Owner:
    """Whose the submission of a row is."""
    return row["student"], row["number"], row["platform"]


def entry(owner: Owner, own: Sequence[Attempt], problems: list[str]) -> dict[str, Any]:
    """What a grade book says of a student and a lab; empty `own`: no attempt at any."""
    counted = next((attempt for attempt in own if attempt.counts), None)
    return {
        "student": owner[0],
        "number": owner[1],
        "platform": owner[2],
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
    students: dict[Owner, list[dict[str, Any]]] = {}
    for one in entries:
        students.setdefault(owner_in(one), []).append(one)
    found = [
        next((one for one in own if one["lab"].split("_")[0] == number.zfill(2)), entry(owner, [], own[0]["problems"]))
        for owner, own in students.items()
    ]
    if not any(one["lab"] for one in found):
        known = sorted({one["lab"].split("_")[0] for one in entries if one["lab"]})
        raise BadInput(f"--lab {number}: no grade of that lab; there are some of {', '.join(known) or 'none'}")
    return found


# --- statistics ---------------------------------------------------------------------------------------------


def item_statistics(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per exercise, over the last of each student's rows: how many passed (`difficulty`, 0..1), how well passing goes with
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
