"""What a grading leaves behind: report.html and report.json per student, class.html and grades.csv per class."""

import json
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from vqbet_course.core.io import write_atomically, write_json, write_text
from vqbet_course.core.pages import render
from vqbet_course.grading.gradebook import (
    Attempt,
    Problems,
    Rules,
    attempts,
    by_name,
    in_order,
    item_statistics,
    owner_in,
    received_in_words,
)
from vqbet_course.grading.grades import Grade
from vqbet_course.grading.handout import keep_out_of_repositories, readable_name, replace_files
from vqbet_course.grading.platforms import as_text, csv_text, in_digits
from vqbet_course.grading.submissions import NO_SUBMISSION, alphabetical

BINS = 10
"""Bars of the distribution of scores."""


def folder_of(out: Path, name: str) -> Path:
    """Where the reports of a submission go: a folder for each, whatever their names and places are."""
    return folder_called(out, readable_name(name))


def folder_called(out: Path, folder: str) -> Path:
    """Where the reports are that lie in a folder of this name; see `gradebook.folder_for`."""
    return out / "students" / folder


def shown_digest(folder: Path) -> str:
    """The digest of the submission whose pages are in a folder; empty where they are not complete."""
    try:
        return str(json.loads((folder / "report.json").read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def coded(text: str) -> Markup:
    """A text as HTML: what stands between backticks as code, all else escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def student_page(
    student: str, grade: Grade, received: str = "", points: float | None = None, standing: Sequence[str] = ()
) -> str:
    """The page of a graded submission; `received`: when it was handed in, in words; `points`: less a penalty, where
    there is one; `standing`: what is to be said of this attempt among the student's."""
    total = f"{grade.score if points is None else points:g}"
    return render(
        "student_report.html",
        student=student,
        grade=grade,
        received=received,
        total=total,
        standing=standing,
        coded=coded,
    )


def write_student(folder: Path, name: str, grade: Grade, student: str = "") -> None:
    """The reports of a submission of this name. report.json comes last: where it is, the grade is complete."""
    (folder / "report.json").unlink(missing_ok=True)
    (folder / "executed.ipynb").unlink(missing_ok=True)  # it may be that of another version
    if grade.executed:
        write_atomically(folder / "executed.ipynb", lambda path: path.write_bytes(grade.executed))
    write_text(folder / "report.html", student_page(student or name, grade))
    write_json(folder / "report.json", grade.to_dict() | {"student": name, "digest": grade.digest})


def write_class(out: Path, rows: list[dict[str, Any]], rules: Rules) -> None:
    """The class's page, with one entry per student and lab as in the grade book, and a table of all files, from the rows
    that stand. Raises BadInput as `attempts` does."""
    left_out = {row["name"]: row["problem"] for row in rows if row["left_out"]}
    rows = [row for row in rows if not row["left_out"]]
    problems, own = Problems(rows), attempts(rows, rules)
    labs = {tries[0].row["lab"]: [t for t in own if t[0].row["lab"] == tries[0].row["lab"]] for tries in own}
    by_owner = by_student(problems.rows)
    none = [
        row
        for row in problems.rows
        if problems.without_attempt(row, [tries for tries in own if owner_in(tries[0].row) == owner_in(row)])
    ]
    page = render(
        "class_report.html",
        labs=[summary(lab, tries) for lab, tries in sorted(labs.items())],
        others=by_student(none),
        refused=lambda owner, lab: [row for row in by_owner.get(owner, []) if problems.may_be_of(row, lab)],
        students=len({owner_in(row) for row in rows if is_of_a_student(row)}),
        files=len(rows),
        left_out=left_out,
        rule=rule_in_words(rules),
        received=received_in_words,
        owner_in=owner_in,
        page_of=page_of(out, rows),
        short=short_name,
    )
    write_text(out / "class.html", page)
    write_text(out / "grades.csv", grades_csv(own, problems.rows))


def is_of_a_student(row: dict[str, Any]) -> bool:
    """Whether the file of a row came from a student, and does not merely lie there: a PDF without a platform's name."""
    return bool(row["grade"] or row["number"] or row["problem"] != NO_SUBMISSION)


def by_student(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """The rows of each student."""
    return {
        owner: [row for row in rows if owner_in(row) == owner] for owner in sorted(map(owner_in, rows), key=by_name)
    }


def page_of(out: Path, rows: list[dict[str, Any]]) -> Callable[[dict[str, Any]], str]:
    """What gives the address of a row's page, empty for an earlier version of a file, whose page was replaced."""
    shown = {row["folder"]: row["digest"] for row in sorted(rows, key=lambda row: (not row["gone"], row["graded"]))}

    def address(row: dict[str, Any]) -> str:
        here = shown[row["folder"]] == row["digest"]
        return f"students/{quote(row['folder'])}/report.html" if here else ""

    return address


def short_name(row: dict[str, Any]) -> str:
    """The name of a row's file without the folder that a learning platform made for its student."""
    first, _, rest = row["name"].partition("/")
    return rest if rest and row["number"] else row["name"]


def rule_in_words(rules: Rules) -> str:
    """How attempts became the points of the class's page."""
    said = f"A student's {rules.keep} attempt counts"
    if rules.penalty:
        said += f", less {rules.penalty:g} % of the points that it earned for each day begun after "
        said += f"{rules.due:%Y-%m-%d %H:%M}" if rules.due else "the platform's due time"
    return f"{said}{'' if rules.penalty else ', without a penalty for late ones'}."


def summary(lab: str, own: list[list[Attempt]]) -> dict[str, Any]:
    """What class.html shows of one lab; `own`: the attempts of each student at it."""
    counted = [next(attempt for attempt in tries if attempt.counts) for tries in own]
    scores = [attempt.points / max(1, attempt.row["max_score"]) for attempt in counted]
    items = item_statistics(attempt.row for attempt in counted)
    misconceptions = [((item["id"], name), n) for item in items for name, n in item["misconceptions"]]
    return {
        "name": lab,
        "students": list(zip(counted, own, strict=True)),
        "median": statistics.median(scores),
        "mean": sum(scores) / len(scores),
        "bins": [sum(min(BINS - 1, int(score * BINS + 1e-9)) == b for score in scores) for b in range(BINS)],
        "exercises": sorted(items, key=lambda item: item["passed"]),
        "misconceptions": sorted(misconceptions, key=lambda item: (-item[1], item[0])),
    }


def grades_csv(own: list[list[Attempt]], refused: list[dict[str, Any]]) -> str:
    """One line per file, with the points of each exercise, before a penalty; and whether it counts."""
    tries = [(attempt, json.loads(attempt.row["grade"])) for attempts_ in own for attempt in attempts_]
    ids = list(dict.fromkeys(exercise["id"] for _, grade in tries for exercise in grade["exercises"]))
    header = ["student", "number", "file", "lab", "attempt", "counts", "score", "max_score", *ids, "problem"]
    lines: list[list[Any]] = []
    for attempt, grade in tries:
        row, awarded = attempt.row, {exercise["id"]: exercise["awarded"] for exercise in grade["exercises"]}
        counts = "yes" if attempt.counts else "no"
        points = [in_digits(value) for value in (row["score"], row["max_score"], *map(awarded.get, ids))]
        lines.append([*who(row), row["lab"], attempt.number, counts, *points, ""])
    lines += [[*who(row), "", "", "no", "", "", *[""] * len(ids), row["problem"]] for row in refused]
    return csv_text(
        [header, *sorted(lines, key=lambda line: (alphabetical(line[0]), [str(cell) for cell in line[:5]]))]
    )


def who(row: dict[str, Any]) -> list[str]:
    """The first cells of a file's line: the student's name and number, and the file."""
    return [as_text(row["student"]), row["number"], as_text(row["name"])]


def write_feedback(rows: list[dict[str, Any]], out: Path, rules: Rules) -> tuple[list[Path], list[Path]]:
    """A page for every submission to hand back, in folders named as the submissions came; returns their paths, and
    those of pages of an earlier run that were removed. Raises BadInput as `attempts` and `replace_files` do."""
    standing: dict[int, list[str]] = {}
    for own in attempts(rows, rules):
        counted = next(attempt for attempt in own if attempt.counts)
        standing |= {id(a.row): standing_in_words(a, counted, rules) for a in own}
    at: dict[str, dict[str, Any]] = {}
    for row in reversed(in_order(rows)):
        if not row["left_out"]:
            at[free_place(row, at)] = row
    pages = {place: feedback_page(row, rules, standing.get(id(row), [])) for place, row in at.items()}
    keep_out_of_repositories(out)
    removed = replace_files(out, pages)
    return [out / place for place in pages], removed


def page_place(name: str) -> str:
    """Where the page of a submission lies in the folder to hand back: a learning platform finds whose it is by the
    name of the first folder, or of the file."""
    first, _, rest = name.partition("/")
    return f"{readable_name(first)}/{readable_name(rest or first)}.html"


def free_place(row: dict[str, Any], taken: dict[str, dict[str, Any]]) -> str:
    """Where the page of a row lies. An earlier version of a file has a mark of its bytes; a file of the same name in
    another class has its lab. `taken`: the rows of the pages so far."""
    place = page_place(row["name"])
    if place not in taken:
        return place
    marks = [row["digest"][:8], *map(str, range(2, len(taken) + 3))]
    if taken[place]["collection"] != row["collection"]:
        marks.insert(0, row["lab"])
    named = (f"{place.removesuffix('.html')} ~{mark}.html" for mark in marks if mark)
    return next(free for free in named if free not in taken)


def feedback_page(row: dict[str, Any], rules: Rules, standing: list[str]) -> str:
    """The page of a submission to hand back, with its points less the penalty."""
    if not row["grade"]:
        return render("refused_report.html", student=row["student"], problem=row["problem"])
    grade = Grade.from_dict(json.loads(row["grade"]))
    return student_page(row["student"], grade, received_in_words(row), rules.points(row), standing)


def standing_in_words(attempt: Attempt, counted: Attempt, rules: Rules) -> list[str]:
    """What a student is told of an attempt: the penalty, which attempt it is, and which counts."""
    said, most = list[str](), f"{attempt.row['max_score']:g}"
    if rules.penalty and attempt.days_late:
        days = "1 day" if attempt.days_late == 1 else f"{attempt.days_late} days"
        said.append(
            f"Late by {days} (a day that has begun counts): {rules.percent_off(attempt.row):g} % of the {attempt.row['score']:g} "
            f"points earned are taken off, so {attempt.points:g} are left."
        )
    if attempt.of > 1:
        other = f"attempt {counted.number} counts, with {counted.points:g} of {most} points"
        which = f"this one counts, the {rules.keep}" if attempt.counts else other
        said.append(f"Attempt {attempt.number} of {attempt.of}: {which}.")
    return said
