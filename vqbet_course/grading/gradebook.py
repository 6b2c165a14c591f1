"""The grades of a class, in one SQLite file, and what a teacher takes from it: grade books and statistics.

A row is one version of one file, told by its bytes, in the folder or zip file of its class (`collection`); a student may
have several, which are attempts. Graded again, by other lessons say, it is the same attempt, handed in when it was. Each
row is written in a transaction of its own, so a killed grading loses nothing that it had finished.

The grades follow the folder or zip file of submissions. What is no longer in it when it is graded again is `gone`: a file
without a grade counts no more, a graded one is an earlier attempt as long as its student has another file of that lab
there, and comes before those that are there, whenever it was handed in. The row of a gone file stays, so a file that
comes back has its grade.
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
from vqbet_course.grading.handout import readable_name
from vqbet_course.grading.submissions import CLOCKS, PLATFORMS, Submission, alphabetical, is_one, owner_of, plain

COLUMNS = {
    "name": "TEXT",
    "digest": "TEXT",
    "student": "TEXT",
    "number": "TEXT",
    "late": "INTEGER",
    "received": "REAL",
    "clock": "TEXT",
    "lessons": "TEXT",
    "graded": "REAL",
    "lab": "TEXT",
    "score": "REAL",
    "max_score": "REAL",
    "problem": "TEXT",
    "left_out": "INTEGER",
    "grade": "TEXT",
    "platform": "TEXT",
    "collection": "TEXT",
    "gone": "INTEGER",
    "folder": "TEXT",
}
"""What a row has. `folder`: the name of the folder of its pages below `students`."""

ADDED = {
    "clock": "''",
    "lessons": "''",
    "platform": "platform_of(name)",
    "collection": "''",
    "gone": "0",
    "folder": "folder_of(name)",
}
"""The columns that earlier versions of the course did not write, and what stands for them."""

SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS grades ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())}, "
    "PRIMARY KEY (name, digest, collection))"
)

DAY_S = 86_400


@contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """The grades of a folder, in `grades.sqlite`; made if they are not there. Raises BadInput for another file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "grades.sqlite"
    with closing(sqlite3.connect(path, timeout=60)) as store:
        try:
            store.row_factory = sqlite3.Row
            upgrade(store)
        except sqlite3.DatabaseError as error:
            raise BadInput(f"{path}: not a file of grades of this course ({error}); choose another --out") from None
        yield store


def upgrade(store: sqlite3.Connection) -> None:
    """Make the table of grades, or take over that of an earlier version of the course. Raises DatabaseError for a table
    of another kind, which stays as it is."""
    if columns_in(store) == COLUMNS.keys():
        return
    with store:
        store.execute("BEGIN IMMEDIATE")  # another process may be at it, too
        held = columns_in(store)
        if not held:
            store.execute(SCHEMA)
        if not held or held == COLUMNS.keys():
            return
        if unknown := held - COLUMNS.keys():
            raise sqlite3.DatabaseError(f"made by a newer version, with {', '.join(sorted(unknown))}")
        if missing := COLUMNS.keys() - held - ADDED.keys():
            raise sqlite3.DatabaseError(f"without {', '.join(sorted(missing))}")
        store.create_function("platform_of", 1, lambda name: owner_of(name).platform)
        store.create_function("folder_of", 1, readable_name)
        values = ", ".join(name if name in held else ADDED[name] for name in COLUMNS)
        store.execute("ALTER TABLE grades RENAME TO earlier")
        store.execute(SCHEMA)
        store.execute(f"INSERT INTO grades SELECT {values} FROM earlier")
        store.execute("DROP TABLE earlier")


def columns_in(store: sqlite3.Connection) -> set[str]:
    """The columns of the table of grades; none where there is no such table."""
    return {row["name"] for row in store.execute("PRAGMA table_info(grades)")}


def existing(folder: Path) -> list[dict[str, Any]]:
    """All rows in a folder's grades that stand: of the files that are there, and of earlier attempts. Raises BadInput
    where there are no grades."""
    if not (folder / "grades.sqlite").is_file():
        raise BadInput(f"{folder}: holds no grades.sqlite; give the folder that `vqbet-course grade --out` wrote")
    with opened(folder) as store:
        return standing([dict(row) for row in store.execute("SELECT * FROM grades ORDER BY name, received")])


def standing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without those of gone files, unless they are earlier attempts at a lab: the student still has a file of
    that lab, or files without a grade alone where the gone one was."""
    here = [row for row in rows if not row["gone"] and not row["left_out"]]
    labs = {(owner_in(row), row["lab"]) for row in here if row["grade"]}
    graded = {(owner_in(row), row["collection"]) for row in here if row["grade"]}
    refused = {(owner_in(row), row["collection"]) for row in here} - graded
    return [
        row
        for row in rows
        if not row["gone"]
        or (row["grade"] and ((owner_in(row), row["lab"]) in labs or (owner_in(row), row["collection"]) in refused))
    ]


def in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows in the order of attempts: those that are gone, then those that are there, each as they were handed in. An
    earlier version that came back is the last one, whatever its date is."""
    return sorted(rows, key=lambda row: (not row["gone"], row["received"]))


def follow(store: sqlite3.Connection, collection: str, names: set[str]) -> list[str]:
    """Note that a folder or zip file now holds the files with these names; returns those that were in it, and are gone.

    A new download of a learning platform is known by names in it, a plain folder by its path. Where the path is the same
    and no name is, these are other submissions, and the earlier ones stay as they are. What was graded alone before, as a
    trial, is no part of a class.
    """
    move = "UPDATE OR REPLACE grades SET collection = ? WHERE collection = ?"
    with store:
        before = store.execute("SELECT name, number, collection FROM grades WHERE NOT gone").fetchall()
        earlier = {row["name"] for row in before if row["collection"] == collection}
        if earlier and earlier.isdisjoint(names):
            store.execute(move, (f"{collection}, until {datetime.now():%Y-%m-%d %H:%M:%S}", collection))
            earlier = set()
        adopt = "UPDATE OR REPLACE grades SET collection = ? WHERE collection = '' AND name = ?"
        store.executemany(adopt, [(collection, name) for name in names])  # graded when nobody wrote the collection down
        again = {row["collection"] for row in before if row["number"] and row["name"] in names} - {"", collection}
        earlier |= {row["name"] for row in before if row["collection"] in again}
        store.executemany(move, [(collection, one) for one in again])
        alone = {(row["collection"],) for row in before if is_one(row["collection"])}
        store.executemany("UPDATE grades SET gone = 1 WHERE collection = ?", alone)
        gone = sorted(earlier - names)
        leave = "UPDATE grades SET gone = 1 WHERE name = ? AND collection = ?"
        store.executemany(leave, [(name, collection) for name in gone])
    return gone


def mark_found(store: sqlite3.Connection, submission: Submission, digest: str) -> None:
    """Note that a file is there with these bytes: other versions of it are earlier ones; and when it was handed in, where
    a better clock says it now. What was graded alone, or by a version that knew no collections, becomes part of this
    one."""
    about: dict[str, Any] = {"name": submission.name, "digest": digest, "collection": submission.collection}
    other = "SELECT collection FROM grades WHERE name = :name AND digest = :digest AND collection <> :collection"
    here = "name = :name AND collection = :collection AND digest"
    with store:
        loose = [row["collection"] for row in store.execute(other, about).fetchall()]
        move = "UPDATE OR REPLACE grades SET collection = :collection WHERE collection = :one"
        moved = [about | {"one": one} for one in loose if not one or is_one(one)]
        store.executemany(f"{move} AND name = :name AND digest = :digest", moved)
        about["received"], about["clock"] = handed_in(store, submission, digest)
        store.execute(f"UPDATE grades SET gone = 1 WHERE {here} <> :digest", about)
        store.execute(f"UPDATE grades SET received = :received, clock = :clock, gone = 0 WHERE {here} = :digest", about)


def class_files(store: sqlite3.Connection) -> dict[str, str]:
    """The files of classes that are there, {name: the path of its folder or zip file}."""
    rows = store.execute("SELECT name, collection FROM grades WHERE NOT gone AND NOT left_out")
    return {row["name"]: row["collection"] for row in rows if not is_one(row["collection"])}


def handed_in(store: sqlite3.Connection, submission: Submission, digest: str) -> tuple[float, str]:
    """When a file with these bytes was handed in, and what says so: the best clock, the first time that it said. A file
    graded again was not handed in again; one that comes back in place of a later version was, if its date says so."""
    asked = "SELECT digest, received, clock, gone FROM grades WHERE name = ? AND collection = ?"
    rows = store.execute(asked, (submission.name, submission.collection)).fetchall()
    said = submission.received, submission.clock
    others = [row["received"] for row in rows if row["digest"] != digest and not row["gone"]]
    known = [(row["received"], row["clock"]) for row in rows if row["digest"] == digest]
    if known and others and submission.received > max(others) and CLOCKS.index(said[1]) >= CLOCKS.index(known[0][1]):
        return said
    return max([said, *known], key=lambda told: (CLOCKS.index(told[1]), -told[0]))


def folders(store: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """The folders of pages, {(collection, name): the folder's name}."""
    rows = store.execute("SELECT collection, name, folder FROM grades")
    return {(row["collection"], row["name"]): row["folder"] for row in rows}


def folder_for(submission: Submission, known: dict[tuple[str, str], str]) -> str:
    """The name of the folder of a submission's pages: its own, with a number where a file of that name in another class
    has it. `known`: the folders so far; the answer is added."""
    place, own = (submission.collection, submission.name), readable_name(submission.name)
    if place not in known:
        taken = {plain(folder) for (collection, _), folder in known.items() if not is_one(collection)}
        numbered = (f"{own} ~{number}" for number in range(2, len(known) + 3))
        free = (folder for folder in (own, *numbered) if plain(folder) not in taken)
        known[place] = own if is_one(submission.collection) else next(free)
    return known[place]


def keep(
    store: sqlite3.Connection,
    submission: Submission,
    digest: str,
    grade: Grade | None,
    problem: str = "",
    lessons: str = "",
    folder: str = "",
) -> None:
    """Write the grade of a submission, or why it has none. `digest`: of its bytes, empty where they could not be read;
    `lessons`: of what it was graded with; `folder`: the name of the folder of its pages, see `folder_for`."""
    received, clock = handed_in(store, submission, digest)
    row: dict[str, Any] = {
        "name": submission.name,
        "digest": digest,
        "student": submission.student,
        "number": submission.number,
        "late": submission.late,
        "received": received,
        "clock": clock,
        "lessons": lessons,
        "graded": time.time(),
        "lab": grade.lab if grade else "",
        "score": grade.score if grade else None,
        "max_score": grade.max_score if grade else None,
        "problem": problem,
        "left_out": submission.left_out,
        "grade": json.dumps(grade.complete()) if grade else "",
        "platform": submission.platform,
        "collection": submission.collection,
        "gone": False,
        "folder": folder or readable_name(submission.name),
    }
    unread = "DELETE FROM grades WHERE name = ? AND collection = ? AND digest = ''"
    with store:
        store.execute(unread, (submission.name, submission.collection))  # it can be read now
        store.execute(f"INSERT OR REPLACE INTO grades VALUES ({', '.join(f':{name}' for name in COLUMNS)})", row)


def grade_by(store: sqlite3.Connection, submission: Submission, digest: str, lessons: str) -> Grade | None:
    """The grade that a file with these bytes has by these lessons; None where it has none."""
    asked = "SELECT grade FROM grades WHERE collection = ? AND name = ? AND digest = ? AND lessons = ? AND grade <> ''"
    row = store.execute(asked, (submission.collection, submission.name, digest, lessons)).fetchone()
    return Grade.from_dict(json.loads(row["grade"])) if row else None


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
    found: dict[tuple[Owner, str], list[dict[str, Any]]] = {}
    for row in in_order(rows):
        if not row["left_out"] and not row["problem"]:
            found.setdefault((owner_in(row), row["lab"]), []).append(row)
    return [of_one_lab(found[key], rules) for key in sorted(found, key=lambda key: (by_name(key[0]), key))]


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


STRAY = 0.1
"""The share of a batch's graded files up to which a lab in it is a mistake of somebody."""


def batch_of(row: dict[str, Any]) -> tuple[str, ...]:
    """In what a file came: the folder or zip file of the class, and in it that in which a learning platform gave it."""
    parts = row["name"].split("/")
    named = (at for at, part in enumerate(parts) if any(form.fullmatch(part) for form in PLATFORMS.values()))
    return row["collection"], *parts[: next(named, 0)]


class Problems:
    """The files without a grade, and the labs that each may be of: those of which its batch has grades."""

    def __init__(self, rows: Iterable[dict[str, Any]]):
        rows = list(rows)
        self.rows = [row for row in rows if row["problem"] and not row["left_out"]]
        counts: dict[tuple[str, ...], Counter[str]] = {}
        for row in rows:
            if row["grade"]:
                counts.setdefault(batch_of(row), Counter())[row["lab"]] += 1
        self.labs = {
            batch: {lab for lab, n in found.items() if n > STRAY * found.total()} for batch, found in counts.items()
        }

    def may_be_of(self, row: dict[str, Any], lab: str) -> bool:
        """Whether a file without a grade may be of a lab; where nothing tells, it may."""
        return lab in self.labs.get(batch_of(row), {lab})

    def without_attempt(self, row: dict[str, Any], own: Iterable[Sequence[Attempt]]) -> bool:
        """Whether its student has no attempt at a lab that it may be of. `own`: the student's attempts."""
        return not any(self.may_be_of(row, tries[0].row["lab"]) for tries in own)

    def left(self, own: Sequence[Sequence[Attempt]], owner: "Owner") -> list[dict[str, Any]]:
        """A student's files without a grade that no later attempt took the place of, at each lab that they may be of."""
        last = {tries[0].row["lab"]: tries[-1].row["received"] for tries in own}
        return [
            row
            for row in self.rows
            if owner_in(row) == owner
            and not all(row["received"] <= last.get(lab, -1) for lab in self.labs.get(batch_of(row), {""}))
        ]


def book(rows: Iterable[dict[str, Any]], rules: Rules, number: str | None = None) -> list[dict[str, Any]]:
    """One entry per student and lab: the points that count, the attempts, and the problems of files without a grade that
    may be of that lab and that no attempt followed; one without a lab for what is of none that the student has.

    `number`: of the only lab that is asked for, of which every student has one entry then. Raises BadInput for a lab of
    which there is no grade, and as `attempts` does."""
    rows = [row for row in rows if not row["left_out"]]
    labs = labs_with(rows, number)
    tries: dict[Owner, list[list[Attempt]]] = {owner_in(row): [] for row in rows}
    for own in attempts(rows, rules):
        tries[owner_in(own[0].row)].append(own)
    problems, entries = Problems(rows), list[dict[str, Any]]()
    for owner, all_own in sorted(tries.items(), key=lambda item: by_name(item[0])):
        left = problems.left(all_own, owner)
        if number is not None:
            left = [row for row in left if any(problems.may_be_of(row, lab) for lab in labs)]
        asked = [own for own in all_own if own[0].row["lab"] in labs]
        for own in asked:
            entries.append(entry(owner, own, [row for row in left if problems.may_be_of(row, own[0].row["lab"])]))
        rest = [row for row in left if problems.without_attempt(row, asked)]
        if rest or not asked:  # who handed in nothing that could be graded has an entry, too
            entries.append(entry(owner, [], rest))
    return entries


def labs_with(rows: Iterable[dict[str, Any]], number: str | None) -> set[str]:
    """The labs of which there are grades, or of them the one with this number. Raises BadInput where that is none."""
    labs = {row["lab"] for row in rows if row["grade"]}
    found = {lab for lab in labs if number is None or lab.split("_")[0] == number.zfill(2)}
    if number is not None and not found:
        known = ", ".join(sorted(lab.split("_")[0] for lab in labs)) or "none"
        raise BadInput(f"--lab {number}: no grade of that lab; there are some of {known}")
    return found


Owner = tuple[str, str, str]
"""Whose a submission is: the student's name and number, and the learning platform that gave the number."""


def owner_in(row: dict[str, Any]) -> Owner:
    """Whose the submission of a row is."""
    return row["student"], row["number"], row["platform"]


def by_name(owner: Owner) -> tuple[tuple[str, str], Owner]:
    """What owners are sorted by."""
    return alphabetical(owner[0]), owner


def entry(owner: Owner, own: Sequence[Attempt], refused: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What a grade book says of a student and a lab; empty `own`: no attempt at any. `refused`: rows of files without a
    grade."""
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
        "problems": [f"{row['name']}: {row['problem']}" for row in refused],
    }


# --- statistics ---------------------------------------------------------------------------------------------


def item_statistics(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per exercise, over the rows that count of each student and lab: how many passed (`passed`, 0..1), how well
    passing goes with the other points (`discrimination`, -1..1 or None), the statuses, and which misconceptions were
    seen."""
    found: dict[tuple[str, str], list[tuple[dict[str, Any], float]]] = {}
    for lab, grade in ((row["lab"], json.loads(row["grade"])) for row in rows):
        total = sum(exercise["awarded"] for exercise in grade["exercises"])
        for exercise in grade["exercises"]:
            found.setdefault((lab, exercise["id"]), []).append((exercise, total - exercise["awarded"]))
    return [
        {
            "lab": lab,
            "id": exercise_id,
            "students": len(said),
            "passed": sum(e["status"] == "passed" for e, _ in said) / len(said),
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
