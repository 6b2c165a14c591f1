"""What a grading leaves behind: report.html and report.json per student, class.html and grades.csv per class."""
import csv
import hashlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vqbet_course.core.io import write_atomically, write_json, write_text
from vqbet_course.core.pages import render
from vqbet_course.grading.grades import STATUSES, Grade

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
        name = f"{name[:LONGEST - 20]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return out / "students" / name


def digest(folder: Path) -> str:
    """The digest of the submission that a student's folder holds a grade for; empty without a grade."""
    try:
        return json.loads((folder / "report.json").read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def write_student(folder: Path, student: str, grade: Grade) -> None:
    """A student's reports. report.json comes last: where it is, the grade is complete."""
    if grade.executed:
        write_atomically(folder / "executed.ipynb", lambda path: path.write_bytes(grade.executed))
    write_text(folder / "report.html", render("student_report.html", student=student, grade=grade))
    write_json(folder / "report.json", grade.to_dict() | {"student": student, "digest": grade.digest})


def write_class(out: Path, students: list[str], problems: dict[str, str]) -> None:
    """The class's page and its gradebook, from the reports of the students that have a grade."""
    reports = [json.loads((folder_of(out, name) / "report.json").read_text(encoding="utf-8"))
               for name in students if name not in problems]
    labs = [summary(lab, [report for report in reports if report["lab"] == lab])
            for lab in sorted({report["lab"] for report in reports})]
    write_text(out / "class.html", render(
        "class_report.html", labs=labs, problems=problems, total=len(students),
        folder=lambda student: quote(folder_of(out, student).name)))
    write_text(out / "grades.csv", gradebook(reports, problems))


def summary(lab: str, reports: list[dict[str, Any]]) -> dict[str, Any]:
    """What class.html shows of one lab."""
    scores = sorted(report["score"] / max(1, report["max_score"]) for report in reports)
    answers = [exercise for report in reports for exercise in report["exercises"]]
    by_id = {e["id"]: [a for a in answers if a["id"] == e["id"]] for e in reports[0]["exercises"]}
    exercises = [{"id": id, "passed": sum(a["status"] == "passed" for a in said) / len(said),
                  "statuses": {s: n for s in STATUSES if (n := sum(a["status"] == s for a in said))}}
                 for id, said in by_id.items()]
    misconceptions = Counter((a["id"], a["misconception"]) for a in answers if a["misconception"])
    return {
        "name": lab, "reports": sorted(reports, key=lambda report: report["student"]),
        "median": scores[len(scores) // 2], "mean": sum(scores) / len(scores),
        "bins": [sum(min(BINS - 1, int(score * BINS + 1e-9)) == b for score in scores) for b in range(BINS)],
        "exercises": sorted(exercises, key=lambda exercise: exercise["passed"]),
        "misconceptions": sorted(misconceptions.items(), key=lambda item: (-item[1], item[0])),
    }


def gradebook(reports: list[dict[str, Any]], problems: dict[str, str]) -> str:
    """One line per student: what a gradebook reads."""
    ids = list(dict.fromkeys(exercise["id"] for report in reports for exercise in report["exercises"]))
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["student", "lab", "score", "max_score", *ids, "problem"])
    for report in sorted(reports, key=lambda report: report["student"]):
        awarded = {exercise["id"]: exercise["awarded"] for exercise in report["exercises"]}
        lines.writerow([as_text(report["student"]), report["lab"], report["score"], report["max_score"],
                        *[awarded.get(id, "") for id in ids], ""])
    for name, problem in sorted(problems.items()):
        lines.writerow([as_text(name), "", "", "", *[""] * len(ids), problem])
    return file.getvalue()


def as_text(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
