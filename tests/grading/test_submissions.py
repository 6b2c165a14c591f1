"""Submissions as they arrive: every file gets a row, graded or with the reason why not; grade books and pages."""

import csv
import io
import json
import sqlite3
import unicodedata
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from grading_labs import notebook_of, solved

from vqbet_course.cli import main
from vqbet_course.core.errors import BadInput
from vqbet_course.grading import gradebook, grader, report
from vqbet_course.grading.editions import release
from vqbet_course.grading.grades import Grade, Marked, Ungradable, Verdict
from vqbet_course.grading.lessons import all_labs
from vqbet_course.grading.submissions import Submission, find_submissions

LAB = "01_tokens"


def grade_of(*statuses: str) -> Grade:
    """A grade of the lab with these statuses."""
    exercises = all_labs()[LAB].exercises.values()
    return Grade(
        LAB,
        [
            Marked(e.id, e.points, Verdict(s, s, "half a cross term" if s == "wrong" else ""))
            for e, s in zip(exercises, statuses, strict=True)
        ],
        digest="d",
    )


ALL, NONE, MOST = grade_of(*["passed"] * 4), grade_of(*["missing"] * 4), grade_of("wrong", "passed", "passed", "passed")


@pytest.mark.parametrize(
    "name, student, number, late",
    [
        ("Ada Lovelace_12345_assignsubmission_file_/lab 1.ipynb", "Ada Lovelace", "12345", False),
        ("Ada Lovelace_12345_assignsubmission_file_01_tokens.ipynb", "Ada Lovelace", "12345", False),
        ("lovelaceada_LATE_991_4711_01_tokens.ipynb", "lovelaceada", "991", True),
        ("lovelaceada_991_4711_01_tokens-2.ipynb", "lovelaceada", "991", False),
        ("12345-67890 - Ada Lovelace - Oct 3, 2026 1159 PM/01_tokens.ipynb", "Ada Lovelace", "12345", False),
        ("group 7/学生.ipynb", "group 7/学生", "", False),
    ],
)
def test_names_of_learning_platforms_say_whose_it_is(
    name: str, student: str, number: str, late: bool, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    [found] = find_submissions(tmp_path)
    assert (found.student, found.number, found.late, found.problem) == (student, number, late, "")


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_every_file_gets_a_row(tmp_path: Path) -> None:
    notebook = json.dumps(notebook_of(LAB)).encode()
    inner = zipped({"my lab.IPYNB": notebook, "__MACOSX/._my lab.ipynb": b"", "notes.pdf": b"%PDF"})
    (tmp_path / "class.zip").write_bytes(
        zipped(
            {
                "Eve_7_assignsubmission_file_/eve.zip": inner,
                "Bob_8_assignsubmission_file_/bob.py": b"# %%\nx = 1",
                "Mallory_9_assignsubmission_file_/bad.zip": b"PK no zip",
            }
        )
    )
    found = {submission.name: submission for submission in find_submissions(tmp_path / "class.zip")}
    assert {name: (s.student, s.left_out, bool(s.problem)) for name, s in found.items()} == {
        "Eve_7_assignsubmission_file_/eve/my lab": ("Eve", False, False),
        "Eve_7_assignsubmission_file_/eve/__MACOSX/._my lab": ("Eve", True, True),
        "Eve_7_assignsubmission_file_/eve/notes.pdf": ("Eve", False, True),
        "Bob_8_assignsubmission_file_/bob": ("Bob", False, False),
        "Mallory_9_assignsubmission_file_/bad.zip": ("Mallory", False, True),
    }
    assert found["Eve_7_assignsubmission_file_/eve/my lab"].read() == notebook
    with pytest.raises(Ungradable, match="damaged zip"):
        found["Mallory_9_assignsubmission_file_/bad.zip"].read()


def test_names_that_a_file_system_might_take_for_one_are_told_apart(tmp_path: Path) -> None:
    for name in (
        "ada.ipynb",
        "Ada.ipynb",
        "ada.py",
        *(unicodedata.normalize(form, "é.ipynb") for form in ("NFC", "NFD")),
    ):
        (tmp_path / name).write_text("{}")
    names = [submission.name for submission in find_submissions(tmp_path)]
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == 5


@pytest.mark.parametrize("data", [b"", b"{}", b"# only a comment", b"%PDF", b'{"worksheets": []}'])
def test_a_file_that_is_no_lab_has_its_reason(data: bytes) -> None:
    with pytest.raises(Ungradable):
        grader.grade_submission(data, grader.Options(execute=False))


# --- grade books --------------------------------------------------------------------------------------------


@pytest.fixture
def grades(tmp_path: Path) -> Path:
    """A folder of grades: Ada in two attempts, the second late; Bob once; Eve's file was refused; one file left out."""
    noon = datetime(2026, 12, 1, 12).timestamp()
    with gradebook.opened(tmp_path) as store:
        for name, student, number, hours, late, grade in [
            ("ada1", "Ada", "1", 0, False, MOST),
            ("ada2", "Ada", "1", 30, False, ALL),
            ("bob", "=Bob", "2", 1, True, NONE),
        ]:
            gradebook.keep(store, Submission(name, student, number, late, noon + 3600 * hours), name, grade)
        gradebook.keep(store, Submission("eve", "Eve", "3"), "", None, "not a notebook")
        gradebook.keep(store, Submission(".DS_Store", "x", left_out=True), "", None, "left out")
    return tmp_path


@pytest.mark.parametrize(
    "rules, points",
    [
        (gradebook.Rules(), 10),
        (gradebook.Rules("last", datetime(2026, 12, 1, 12), 25), 5),
        (gradebook.Rules("best", datetime(2026, 12, 1, 12), 25), 8),
        (gradebook.Rules("last", datetime(2026, 12, 3), 25), 10),
    ],
)
def test_attempts_and_penalties(rules: gradebook.Rules, points: float, grades: Path) -> None:
    entries = {entry["student"]: entry for entry in gradebook.book(gradebook.existing(grades), rules)}
    assert entries["Ada"]["points"] == points and entries["Ada"]["attempts"] == 2
    assert entries["=Bob"]["points"] == 0 and entries["Eve"]["points"] is None and "x" not in entries


@pytest.mark.parametrize(
    "kind, columns",
    [
        ("moodle", {"Identifier": "Participant 1", "Full name": "Ada", LAB: "10"}),
        ("canvas", {"Student": "Ada", "ID": "1", LAB: "10"}),
    ],
)
def test_grade_books_for_learning_platforms(kind: str, columns: dict[str, str], grades: Path, tmp_path: Path) -> None:
    out = tmp_path / "book.csv"
    assert main(["gradebook", str(grades), "--format", kind, "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert any(columns.items() <= row.items() for row in rows) and any("'=Bob" in row.values() for row in rows)


def test_statistics_of_exercises(grades: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.json"
    assert main(["gradebook", str(grades), "--format", "json", "--out", str(out)]) == 0
    first, *_ = json.loads(out.read_text())["exercises"]
    assert (first["id"], first["students"], first["difficulty"], first["discrimination"]) == ("1.1", 2, 0.5, 1.0)
    with gradebook.opened(grades) as store:
        gradebook.keep(store, Submission("bob", "=Bob", "2", received=2e9), "new", MOST)
    assert gradebook.item_statistics(gradebook.existing(grades))[0]["misconceptions"] == [("half a cross term", 1)]


def test_pages_to_hand_back(grades: Path, tmp_path: Path) -> None:
    assert main(["feedback", str(grades), "--out", str(tmp_path / "back")]) == 0
    pages = {path.stem: path.read_text() for path in (tmp_path / "back").rglob("*.html")}
    assert set(pages) == {"ada1", "ada2", "bob", "eve"}
    assert "half a cross term" in pages["ada1"] and "not a notebook" in pages["eve"]


def test_a_killed_writer_loses_no_row(grades: Path) -> None:
    store = sqlite3.connect(grades / "grades.sqlite")
    store.execute("DELETE FROM grades")  # and killed before it commits
    store.close()
    assert len(gradebook.existing(grades)) == 5


def test_what_holds_no_grades_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="grades.sqlite"):
        gradebook.existing(tmp_path / "nowhere")
    (tmp_path / "grades.sqlite").write_text("this is no database, however long it is" * 100)
    with pytest.raises(BadInput, match="choose another"):
        gradebook.existing(tmp_path)


def test_a_release_has_checksums(tmp_path: Path) -> None:
    paths = release(tmp_path, ["01", "02"])
    assert [path.name for path in paths] == ["01_tokens.ipynb", "02_residual_vq.ipynb", "SHA256SUMS", "release.json"]
    about: dict[str, Any] = json.loads((tmp_path / "release.json").read_text())
    assert all(
        f"{checksum}  {name}\n" in (tmp_path / "SHA256SUMS").read_text() for name, checksum in about["labs"].items()
    )
    with pytest.raises(BadInput, match="99"):
        release(tmp_path, ["99"])


def test_regrade_grades_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_class import passed, threads

    monkeypatch.setattr(grader, "grade_submission", passed)
    monkeypatch.setattr(grader, "executor", threads)
    written: list[str] = []
    monkeypatch.setattr(report, "write_student", lambda out, name, grade: written.append(name))
    monkeypatch.setattr(report, "folder_of", lambda out, name: tmp_path)
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "ada.ipynb").write_text(json.dumps(solved(LAB)))
    for regrade in (False, False, True):
        grader.grade(
            tmp_path / "ada.ipynb", tmp_path / "out", options=grader.Options(execute=False), regrade=regrade, quiet=True
        )
    assert written == ["ada", "ada"]
