"""What a grading leaves behind: report.html and report.json per student, class.html and grades.csv per class."""

import csv
import hashlib
import io
import json
import re
import statistics
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from vqbet_course.core.io import write_atomically, write_json, write_text
from vqbet_course.core.pages import render
from vqbet_course.grading.gradebook import as_text, item_statistics, received_in_words
from vqbet_course.grading.grades import Grade

LONGEST = 200
"""Characters of a folder's name; no file system takes more than 255."""

BINS = 10
"""Bars of the distribution of scores."""


def folder_of(out: Path, student: str) -> Path:
    """Where a student's reports go: one folder each, whatever the names and the places of the submissions."""
    name = quote(student, safe=" ")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 20]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return out / "students" / name


def coded(text: str) -> Markup:
    """A text as HTML: what stands between backticks as code, all else escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def student_page(student: str, grade: Grade, received: str = "") -> str:
    """The page of a graded submission; `received`: when it was handed in, in words."""
    return render("student_report.html", student=student, grade=grade, received=received, coded=coded)


def write_student(folder: Path, student: str, grade: Grade) -> None:
    """A student's reports. report.json comes last: where it is, the grade is complete."""
    if grade.executed:
        write_atomically(folder / "executed.ipynb", lambda path: path.write_bytes(grade.executed))
    write_text(folder / "report.html", student_page(student, grade))
    write_json(folder / "report.json", grade.to_dict() | {"student": student, "digest": grade.digest})


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


def write_feedback(rows: list[dict[str, Any]], out: Path) -> list[Path]:
    """A page for every submission to hand back, in folders named as the submissions came; returns their paths."""
    paths = []
    for row in rows:
        if not row["left_out"]:
            grade = Grade.from_dict(json.loads(row["grade"])) if row["grade"] else None
            page = (
                student_page(row["student"], grade, received_in_words(row))
                if grade
                else render("refused_report.html", student=row["student"], problem=row["problem"])
            )
            first, _, rest = row["name"].partition("/")  # a learning platform finds them by the first folder's name
            paths.append(out / folder_of(out, first).name / f"{folder_of(out, rest or first).name}.html")
            write_text(paths[-1], page)
    return paths
