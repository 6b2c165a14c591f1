"""What a grading leaves behind: report.html and report.json per student, class.html and grades.csv per class."""

import csv
import hashlib
import io
import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from vqbet_course.core.io import write_atomically, write_json, write_text
from vqbet_course.core.pages import render
from vqbet_course.grading.gradebook import Attempt, Rules, as_text, attempts, item_statistics, received_in_words
from vqbet_course.grading.grades import Grade
from vqbet_course.grading.handout import replace_files

LONGEST = 180
"""Bytes of a name without its mark; no file system takes more than 255, a suffix and that of a partial file included."""

UNSAFE = re.compile(r'[\\:*?"<>|~\x00-\x1f]|^\.|[. ]$')
"""What some file systems do not take, or hide; `~` begins a mark."""

BINS = 10
"""Bars of the distribution of scores."""


def folder_of(out: Path, name: str) -> Path:
    """Where the reports of a submission go: a folder for each, whatever their names and places are."""
    return out / "students" / readable_name(name)


def readable_name(name: str) -> str:
    """A name for a file or folder: the submission's own, so that a teacher and a learning platform find it. Where a
    file system might not take that, other characters stand in it, and a mark that no other name gets."""
    plain = UNSAFE.sub("_", name.replace("/", " - "))
    if len(plain.encode()) > LONGEST:
        plain = plain.encode()[:LONGEST].decode(errors="ignore")
    return plain if plain == name else f"{plain} ~{hashlib.sha256(name.encode()).hexdigest()[:12]}"


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
    if grade.executed:
        write_atomically(folder / "executed.ipynb", lambda path: path.write_bytes(grade.executed))
    write_text(folder / "report.html", student_page(student or name, grade))
    write_json(folder / "report.json", grade.to_dict() | {"student": name, "digest": grade.digest})


def write_class(out: Path, rows: list[dict[str, Any]], present: dict[str, str], left_out: dict[str, str]) -> None:
    """The class's page and its gradebook, from the rows of the submissions that are present, {name: digest}."""
    rows = [row for row in rows if present.get(row["name"]) == row["digest"] and not row["left_out"]]
    problems = {row["name"]: row["problem"] for row in rows if row["problem"]}
    graded = [row for row in rows if not row["problem"]]
    names = sorted({row["lab"] for row in graded})
    labs = [summary(lab, [row for row in graded if row["lab"] == lab]) for lab in names]
    write_text(
        out / "class.html",
        render(
            "class_report.html",
            labs=labs,
            problems=problems,
            total=len(rows),
            left_out=left_out,
            folder=lambda student: quote(folder_of(out, student).name),
        ),
    )
    write_text(out / "grades.csv", grades_csv(graded, problems))


def summary(lab: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What class.html shows of one lab."""
    scores = [row["score"] / max(1, row["max_score"]) for row in rows]
    items = item_statistics(rows)
    misconceptions = [((item["id"], name), n) for item in items for name, n in item["misconceptions"]]
    return {
        "name": lab,
        "reports": [{**row, "received": received_in_words(row)} for row in rows],
        "median": statistics.median(scores),
        "mean": sum(scores) / len(scores),
        "bins": [sum(min(BINS - 1, int(score * BINS + 1e-9)) == b for score in scores) for b in range(BINS)],
        "exercises": sorted(items, key=lambda item: item["difficulty"]),
        "misconceptions": sorted(misconceptions, key=lambda item: (-item[1], item[0])),
    }


def grades_csv(graded: list[dict[str, Any]], problems: dict[str, str]) -> str:
    """One line per submission, with the points of each exercise."""
    grades = {row["name"]: json.loads(row["grade"]) for row in graded}
    ids = list(dict.fromkeys(exercise["id"] for grade in grades.values() for exercise in grade["exercises"]))
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["student", "lab", "score", "max_score", *ids, "problem"])
    for name, grade in sorted(grades.items()):
        awarded = {exercise["id"]: exercise["awarded"] for exercise in grade["exercises"]}
        lines.writerow(
            [as_text(name), grade["lab"], grade["score"], grade["max_score"], *[awarded.get(id, "") for id in ids], ""]
        )
    for name, problem in sorted(problems.items()):
        lines.writerow([as_text(name), "", "", "", *[""] * len(ids), problem])
    return file.getvalue()


def write_feedback(rows: list[dict[str, Any]], out: Path, rules: Rules) -> tuple[list[Path], list[Path]]:
    """A page for every submission to hand back, in folders named as the submissions came; returns their paths, and
    those of pages of an earlier run that were removed. Raises BadInput as `attempts` and `replace_files` do."""
    standing: dict[tuple[str, str], list[str]] = {}
    for own in attempts(rows, rules):
        counted = next(attempt for attempt in own if attempt.counts)
        standing |= {(a.row["name"], a.row["digest"]): standing_in_words(a, counted, rules) for a in own}
    pages: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: -row["received"]):
        if not row["left_out"]:
            place = page_place(row["name"])
            if place in pages:  # an earlier version of the same file
                place = f"{place.removesuffix('.html')} ~{row['digest'][:8]}.html"
            pages[place] = feedback_page(row, rules, standing.get((row["name"], row["digest"]), []))
    removed = replace_files(out, pages)
    return [out / place for place in pages], removed


def page_place(name: str) -> str:
    """Where the page of a submission lies in the folder to hand back: a learning platform finds whose it is by the
    name of the first folder, or of the file."""
    first, _, rest = name.partition("/")
    return f"{readable_name(first)}/{readable_name(rest or first)}.html"


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
            f"Late by {days}, begun ones included: {min(100, attempt.days_late * rules.penalty):g} % of the points are "
            f"taken off, so {attempt.row['score']:g} points become {attempt.points:g}."
        )
    if attempt.of > 1:
        other = f"attempt {counted.number} counts, with {counted.points:g} of {most} points"
        which = f"this one counts, the {rules.keep}" if attempt.counts else other
        said.append(f"Attempt {attempt.number} of {attempt.of}: {which}.")
    return said
