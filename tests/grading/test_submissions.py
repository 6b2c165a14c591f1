"""Submissions as they arrive: every file gets a row, graded or with the reason why not; grade books and pages."""

import csv
import io
import json
import sqlite3
import struct
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from grading_labs import notebook_of, solved

from vqbet_course.cli import main
from vqbet_course.core.errors import BadInput
from vqbet_course.grading import gradebook, grader, handout, platforms, report
from vqbet_course.grading.editions import release
from vqbet_course.grading.grades import Grade, Marked, Ungradable, Verdict
from vqbet_course.grading.lessons import all_labs
from vqbet_course.grading.submissions import Submission, copies, find_submissions

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
        ("Ada Lovelace_12345_assignsubmission_file/01_tokens.ipynb", "Ada Lovelace", "12345", False),
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


def dated_zip(files: Mapping[str, tuple[tuple[int, ...], bytes]]) -> bytes:
    """A zip file with these dates."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, (date, data) in files.items():
            archive.writestr(zipfile.ZipInfo(name, date), data)  # type: ignore[arg-type]
    return buffer.getvalue()


BEFORE, AFTER, NEVER = (2026, 11, 30, 9, 0, 0), (2026, 12, 2, 18, 30, 0), (1980, 1, 1, 0, 0, 0)


def test_a_zip_file_of_a_class_says_when_each_was_handed_in_and_a_students_own_does_not(tmp_path: Path) -> None:
    claimed = dated_zip({"lab.ipynb": (BEFORE, b"{}")})
    dated = {
        "Ada_1_assignsubmission_file_/a.ipynb": (BEFORE, b"{}"),
        "Bob_2_assignsubmission_file_/b.zip": (AFTER, claimed),
        "Eve_3_assignsubmission_file_/e.ipynb": (NEVER, b"{}"),
        "1-2 - Dan - Dec 1, 2026 1159 PM/d.ipynb": (BEFORE, b"{}"),
    }
    (tmp_path / "class.zip").write_bytes(dated_zip(dated))
    found = {submission.student: submission for submission in find_submissions(tmp_path / "class.zip")}
    assert {name: s.received for name, s in found.items()} == {
        "Ada": datetime(*BEFORE).timestamp(),
        "Bob": datetime(*AFTER).timestamp(),
        "Eve": 0,
        "Dan": datetime(2026, 12, 1, 23, 59).timestamp(),
    }
    assert "zip file" in found["Bob"].clock and "platform" in found["Dan"].clock and not found["Eve"].clock


def test_the_time_that_unix_programs_write_into_a_zip_file_is_taken(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a.ipynb", BEFORE)
    info.extra = struct.pack("<HHH", 0xCAFE, 2, 7) + struct.pack("<HHBi", 0x5455, 5, 1, 1_800_000_000)
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as archive:
        archive.writestr(info, b"{}")
    [found] = find_submissions(tmp_path / "class.zip")
    assert found.received == 1_800_000_000


def test_a_member_whose_data_are_damaged_has_its_reason(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.ipynb", json.dumps(notebook_of(LAB)))
        archive.writestr("b.ipynb", b"{}")
    data = bytearray(buffer.getvalue())
    data[60:90] = b"\xff" * 30
    (tmp_path / "class.zip").write_bytes(data)
    damaged, _ = find_submissions(tmp_path / "class.zip")
    with pytest.raises(Ungradable, match="not readable"):
        damaged.read()


def test_a_folder_that_is_a_link_has_a_row(tmp_path: Path) -> None:
    (tmp_path / "ada.ipynb").write_text("{}")
    (tmp_path / "below").symlink_to("/")
    assert {s.name: bool(s.problem) for s in find_submissions(tmp_path)} == {"ada": False, "below": True}


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
    """A folder of Moodle's grades: Ada in two attempts, the second late; Bob once; Eve's file was refused; one file left
    out."""
    noon = datetime(2026, 12, 1, 12).timestamp()
    with gradebook.opened(tmp_path) as store:
        for name, student, number, hours, late, grade in [
            ("ada1", "Ada", "1", 0, False, MOST),
            ("ada2", "Ada", "1", 30, False, ALL),
            ("bob", "=Bob", "2", 1, True, NONE),
        ]:
            about = Submission(name, student, number, late, noon + 3600 * hours, platform="Moodle")
            gradebook.keep(store, about, name, grade)
        gradebook.keep(store, Submission("eve", "Eve", "3", platform="Moodle"), "", None, "not a notebook")
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
        ("moodle", {"Identifier": "Participant 1", "Full name": "Ada", "Grade": "10"}),
        ("canvas", {"Student": "Ada", "ID": "1", LAB: "10"}),
    ],
)
def test_grade_books_for_learning_platforms(kind: str, columns: dict[str, str], grades: Path, tmp_path: Path) -> None:
    with sqlite3.connect(grades / "grades.sqlite") as store:
        store.execute("UPDATE grades SET platform = ?", (kind.capitalize(),))
    out = tmp_path / "book.csv"
    assert main(["gradebook", str(grades), "--format", kind, "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert any(columns.items() <= row.items() for row in rows) and any("'=Bob" in row.values() for row in rows)


def test_statistics_of_exercises(grades: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.json"
    assert main(["gradebook", str(grades), "--format", "json", "--out", str(out)]) == 0
    first, *_ = json.loads(out.read_text())["exercises"]
    assert (first["id"], first["students"], first["passed"], first["discrimination"]) == ("1.1", 2, 0.5, 1.0)
    with gradebook.opened(grades) as store:
        gradebook.keep(store, Submission("bob", "=Bob", "2", received=2e9, platform="Moodle"), "new", MOST)
    counted = gradebook.counted_rows(gradebook.existing(grades), gradebook.Rules("last"))
    assert gradebook.item_statistics(counted)[0]["misconceptions"] == [("half a cross term", 1)]


def test_pages_to_hand_back(grades: Path, tmp_path: Path) -> None:
    assert main(["feedback", str(grades), "--out", str(tmp_path / "back")]) == 0
    pages = {path.stem: path.read_text() for path in (tmp_path / "back").rglob("*.html")}
    assert set(pages) == {"ada1", "ada2", "bob", "eve"}
    assert "half a cross term" in pages["ada1"] and "not a notebook" in pages["eve"]


def test_a_page_says_when_it_was_handed_in_and_how_that_is_known(grades: Path, tmp_path: Path) -> None:
    with gradebook.opened(grades) as store:
        when = datetime(2026, 12, 1, 12).timestamp()
        gradebook.keep(store, Submission("dan", "Dan", received=when, clock="the date in the zip file"), "dan", ALL)
    assert main(["feedback", str(grades), "--out", str(tmp_path / "back")]) == 0
    pages = {path.stem: path.read_text() for path in (tmp_path / "back").rglob("*.html")}
    assert "2026-12-01 12:00 (the date in the zip file)" in pages["dan"]


DUE = ["--due", "2026-12-01T12:00", "--penalty", "25"]


def pages_of(grades: Path, out: Path, *options: str) -> dict[str, str]:
    """The pages to hand back, by their names."""
    assert main(["feedback", str(grades), "--out", str(out), *options]) == 0
    return {path.stem: path.read_text() for path in out.rglob("*.html")}


def test_a_page_says_the_penalty_and_which_attempt_counts(grades: Path, tmp_path: Path) -> None:
    best, last = (pages_of(grades, tmp_path / keep, *DUE, "--keep", keep) for keep in ("best", "last"))
    assert "Ada: 8 of 10 points" in best["ada1"] and "Attempt 1 of 2: this one counts" in best["ada1"]
    assert "Ada: 5 of 10 points" in best["ada2"] and "50 % of the 10 points earned" in best["ada2"]
    assert "Attempt 2 of 2: attempt 1 counts, with 8 of 10 points" in best["ada2"]
    assert "attempt 2 counts, with 5 of 10 points" in last["ada1"] and "this one counts" in last["ada2"]
    assert "Late by 1 day" in best["bob"] and "Attempt" not in best["bob"]
    assert "Late" not in best["ada1"] and "Attempt" not in best["eve"]


def test_pages_without_a_penalty_have_the_score(grades: Path, tmp_path: Path) -> None:
    pages = pages_of(grades, tmp_path / "back")
    assert "Ada: 10 of 10 points" in pages["ada2"] and "Late" not in pages["ada2"]
    assert main(["feedback", str(grades), "--penalty", "10", "--out", str(tmp_path / "b")]) == 0  # Bob's is late anyway


def test_each_version_of_a_file_has_its_page(grades: Path, tmp_path: Path) -> None:
    with gradebook.opened(grades) as store:
        gradebook.keep(store, Submission("bob", "=Bob", "2", received=2e9, platform="Moodle"), "fedcba9876", ALL)
    pages = pages_of(grades, tmp_path / "back")
    assert "10 of 10" in pages["bob"] and "0 of 10" in pages["bob ~bob"]


@pytest.mark.parametrize(
    "name",
    ["José Ñandú_7_assignsubmission_file_/lab 1", "O'Neil, Ada (2)_7_assignsubmission_file_/lab 1", "学生/lab 1"],
)
def test_a_students_name_stands_in_the_folder_as_it_is(name: str, tmp_path: Path) -> None:
    with gradebook.opened(tmp_path / "grades") as store:
        gradebook.keep(store, Submission(name, "Ada", "7"), "d", ALL)
    [page], _ = report.write_feedback(gradebook.existing(tmp_path / "grades"), tmp_path / "back", gradebook.Rules())
    assert page == tmp_path / "back" / f"{name}.html" and page.exists()
    assert report.folder_of(tmp_path, name).name.startswith(name.replace("/", " - "))


def test_pages_of_an_earlier_run_are_replaced_and_nothing_else(grades: Path, tmp_path: Path) -> None:
    pages_of(grades, tmp_path / "back")
    (tmp_path / "back" / "ada1" / "my words.txt").write_text("well done")
    with sqlite3.connect(grades / "grades.sqlite") as store:
        store.execute("DELETE FROM grades WHERE name IN ('ada1', 'bob')")
    assert set(pages_of(grades, tmp_path / "back")) == {"ada2", "eve"}
    assert [path.name for path in (tmp_path / "back" / "ada1").iterdir()] == ["my words.txt"]
    assert not (tmp_path / "back" / "bob").exists()


def test_a_page_that_a_teacher_changed_is_not_replaced(
    grades: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages_of(grades, tmp_path / "back")
    mine = tmp_path / "back" / "ada1" / "ada1.html"
    mine.write_text("my words")
    before = (tmp_path / "back" / "bob" / "bob.html").read_text()
    capsys.readouterr()
    assert main(["feedback", str(grades), "--out", str(tmp_path / "back"), *DUE]) == 2
    said = capsys.readouterr().err
    assert "ada1.html" in said and "another --out" in said and said.count("\n") == 1
    assert mine.read_text() == "my words" and (tmp_path / "back" / "bob" / "bob.html").read_text() == before


def test_a_release_replaces_an_earlier_one_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["release", "--out", str(tmp_path), "--labs"]
    assert main([*command, "01,02"]) == main([*command, "01,02"]) == 0
    (tmp_path / "welcome.txt").write_text("welcome")
    assert main([*command, "03"]) == 0
    kept = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert kept == {"03_vqvae.ipynb", "SHA256SUMS", "release.json", "welcome.txt"}
    assert "removed" in capsys.readouterr().err
    (tmp_path / "01_tokens.ipynb").write_text("somebody's own")
    assert main([*command, "01"]) == 2
    assert "01_tokens.ipynb" in capsys.readouterr().err
    assert (tmp_path / "01_tokens.ipynb").read_text() == "somebody's own" and (tmp_path / "03_vqvae.ipynb").exists()


def test_a_run_that_was_killed_while_it_wrote_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, text: str) -> None:
        if path.name == "b":
            raise KeyboardInterrupt
        path.write_text(text)

    handout.replace_files(tmp_path, {"a": "old", "c": "old"})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(handout, "write_text", killed)
        handout.replace_files(tmp_path, {"a": "new", "b": "new"})
    assert handout.replace_files(tmp_path, {"a": "newer", "b": "newer"}) == [tmp_path / "c"]
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", handout.WRITTEN}


@pytest.mark.parametrize("listed", ["{", '{"../outside": ["x"]}', '{"/etc/outside": ["x"]}'])
def test_a_damaged_list_of_what_was_written_is_refused(listed: str, tmp_path: Path) -> None:
    (tmp_path / handout.WRITTEN).write_text(listed)
    with pytest.raises(BadInput, match="damaged"):
        handout.replace_files(tmp_path, {"a": "new"})
    assert not (tmp_path / "a").exists()


def test_a_moodle_worksheet_is_of_one_lab_and_has_the_columns_that_moodle_asks_for(
    grades: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gradebook.opened(grades) as store:
        gradebook.keep(store, Submission("bob3", "=Bob", "2", platform="Moodle"), "n", Grade("03_vqvae", ALL.exercises))
    command = ["gradebook", str(grades), "--format", "moodle", "--out", str(tmp_path / "book.csv")]
    assert main(command) == 2
    assert "--lab 01" in capsys.readouterr().err
    assert main([*command, "--lab", "07"]) == 2
    assert "01, 03" in capsys.readouterr().err and not (tmp_path / "book.csv").exists()
    assert main([*command, "--lab", "03"]) == 0
    rows = {row["Identifier"]: row for row in csv.DictReader((tmp_path / "book.csv").read_text().splitlines())}
    assert rows["Participant 2"]["Grade"] == "10" and "not a notebook" in rows["Participant 3"]["Feedback comments"]
    assert datetime.fromisoformat(rows["Participant 2"]["Last modified (grade)"]) and "Participant 1" not in rows


def test_a_moodle_worksheet_without_moodles_names_is_refused(tmp_path: Path) -> None:
    with gradebook.opened(tmp_path) as store:
        gradebook.keep(store, Submission("ada", "ada"), "ada", ALL)
    with pytest.raises(BadInput, match="whose the grades are.* json"):
        platforms.as_csv(gradebook.book(gradebook.existing(tmp_path), gradebook.Rules()), "moodle")


def test_graded_again_by_other_lessons_it_is_the_same_attempt(grades: Path) -> None:
    with gradebook.opened(grades) as store:
        gradebook.keep(store, Submission("ada2", "Ada", "1", platform="Moodle"), "ada2", MOST, lessons="new")
        for lessons, has in (("new", True), ("", False)):
            assert bool(gradebook.grade_by(store, Submission("ada2", "Ada"), "ada2", lessons)) == has
    [ada] = [entry for entry in gradebook.book(gradebook.existing(grades), gradebook.Rules()) if entry["number"] == "1"]
    assert ada["attempts"] == 2


def test_a_file_that_could_be_read_in_the_end_leaves_no_problem(grades: Path) -> None:
    with gradebook.opened(grades) as store:
        gradebook.keep(store, Submission("eve", "Eve", "3", platform="Moodle"), "eve", ALL)
    [eve] = [entry for entry in gradebook.book(gradebook.existing(grades), gradebook.Rules()) if entry["number"] == "3"]
    assert eve["points"] == 10 and not eve["problems"]


def test_no_cell_of_a_grade_book_is_a_formula(grades: Path) -> None:
    with gradebook.opened(grades) as store:
        gradebook.keep(store, Submission("=cmd()", "Dan", "4"), "dan", None, "not a notebook")
    text = platforms.as_csv(gradebook.book(gradebook.existing(grades), gradebook.Rules()), "moodle")
    assert not any(cell.startswith("=") for row in csv.reader(text.splitlines()) for cell in row)


def test_the_class_page_links_to_the_pages_of_a_learning_platforms_names(tmp_path: Path) -> None:
    name = "Ada_1_assignsubmission_file_/lab 1"
    with gradebook.opened(tmp_path) as store:
        gradebook.keep(store, Submission(name, "Ada", "1"), "d", ALL)
    report.write_class(tmp_path, gradebook.existing(tmp_path), gradebook.BEST)
    assert (
        f"students/{quote(report.folder_of(tmp_path, name).name)}/report.html" in (tmp_path / "class.html").read_text()
    )


def test_names_are_sorted_as_people_sort_them(tmp_path: Path) -> None:
    with gradebook.opened(tmp_path) as store:
        for name in ("ada", "FRANK", "Özil", "zoe", "Émile", "bob"):
            gradebook.keep(store, Submission(name, name, "1" + str(len(name)), platform="Canvas"), name, ALL)
    expected = ["ada", "bob", "Émile", "FRANK", "Özil", "zoe"]
    rows = gradebook.existing(tmp_path)
    assert [entry["student"] for entry in gradebook.book(rows, gradebook.Rules())] == expected
    report.write_class(tmp_path, rows, gradebook.BEST)
    assert [row["student"] for row in csv.DictReader((tmp_path / "grades.csv").open())] == expected
    page = (tmp_path / "class.html").read_text()
    assert sorted(expected, key=lambda name: page.index(f"<tr><th>{name}</th>")) == expected
    canvas = platforms.as_csv(gradebook.book(rows, gradebook.Rules()), "canvas").splitlines()[2:]
    assert [line.split(",")[0] for line in canvas] == expected


def test_a_file_that_merely_lies_there_is_no_student(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("notes.pdf", "ada.ipynb"):
        (tmp_path / "in" / name).write_text("")
    with gradebook.opened(tmp_path) as store:
        for one in find_submissions(tmp_path / "in"):
            gradebook.keep(store, one, one.name, None, one.problem or "an empty file")
    report.write_class(tmp_path, gradebook.existing(tmp_path), gradebook.BEST)
    page = (tmp_path / "class.html").read_text()
    assert "<h1>1 student</h1>" in page and "notes.pdf" in page


def test_a_copy_beside_a_file_is_named_and_a_groups_files_are_not() -> None:
    names = ["Hana Kim/02", "Hana Kim/02 (1)", "group/ada", "group/bob", "ada-Copy1", "ada", "lab (3)", "bob/02 (1)"]
    assert copies([Submission(name, name) for name in names]) == [
        ("Hana Kim/02", "Hana Kim/02 (1)"),
        ("ada", "ada-Copy1"),
    ]
    assert not copies([Submission(name, "Hana", "7", platform="Moodle") for name in names])


def test_a_killed_writer_loses_no_row(grades: Path) -> None:
    store = sqlite3.connect(grades / "grades.sqlite")
    store.execute("DELETE FROM grades")  # and killed before it commits
    store.close()
    assert len(gradebook.existing(grades)) == 5


WRITES_ON = """
import sys
from pathlib import Path
from vqbet_course.grading import gradebook
from vqbet_course.grading.grades import Grade
from vqbet_course.grading.submissions import Submission
with gradebook.opened(Path(sys.argv[1])) as store:
    for number in range(10**9):
        gradebook.keep(store, Submission(f"s{number}", "Ada"), "d", Grade("01_tokens", []))
        print(number, flush=True)
"""


def test_a_grader_that_is_killed_while_it_writes_loses_nothing_that_it_had_finished(tmp_path: Path) -> None:
    for at in (1, 7):
        with subprocess.Popen(
            [sys.executable, "-c", WRITES_ON, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            while int(writer.stdout.readline()) < at:
                pass
            writer.kill()
        kept = {row["name"] for row in gradebook.existing(tmp_path)}
        assert {f"s{number}" for number in range(at + 1)} <= kept
        assert all(json.loads(row["grade"])["lab"] == LAB for row in gradebook.existing(tmp_path))


def test_what_holds_no_grades_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="grades.sqlite"):
        gradebook.existing(tmp_path / "nowhere")
    (tmp_path / "grades.sqlite").write_text("this is no database, however long it is" * 100)
    with pytest.raises(BadInput, match="choose another"):
        gradebook.existing(tmp_path)


FIRST, SECOND = (
    "CREATE TABLE grades (name TEXT NOT NULL, digest TEXT NOT NULL, student TEXT NOT NULL, number TEXT NOT NULL, "
    f"late INTEGER NOT NULL, received REAL NOT NULL, {clock} graded REAL NOT NULL, lab TEXT NOT NULL, score REAL, "
    f"max_score REAL, problem TEXT NOT NULL, left_out INTEGER NOT NULL, grade TEXT NOT NULL, {rest} "
    "PRIMARY KEY (name, digest))"
    for clock, rest in (
        ("", ""),
        (
            "clock TEXT NOT NULL, lessons TEXT NOT NULL,",
            "platform TEXT NOT NULL, collection TEXT NOT NULL, gone INTEGER NOT NULL,",
        ),
    )
)
"""The tables that earlier versions of the course wrote."""

ADA = "Ada_11_assignsubmission_file_/lab 1?"


@pytest.mark.parametrize("schema", [FIRST, SECOND])
def test_grades_of_an_earlier_version_are_taken_over(schema: str, tmp_path: Path) -> None:
    row: dict[str, Any] = {"name": ADA, "digest": "d", "student": "Ada", "number": "11", "late": 0, "received": 5.0}
    row |= {"graded": 9.0, "lab": LAB, "score": 10, "max_score": 10, "problem": "", "left_out": 0}
    row |= {"grade": json.dumps(ALL.complete())}
    if schema == SECOND:
        row |= {"clock": "the file's date", "lessons": "x", "platform": "Moodle", "collection": "/class", "gone": 0}
    with sqlite3.connect(tmp_path / "grades.sqlite") as store:
        store.execute(schema)
        store.execute(f"INSERT INTO grades ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()])
    store.close()
    for _ in range(2):
        [found] = gradebook.existing(tmp_path)
        assert row.items() <= found.items()
        assert (found["platform"], found["folder"]) == ("Moodle", report.folder_of(tmp_path, ADA).name)
    text = platforms.as_csv(gradebook.book([found], gradebook.Rules()), "moodle")
    assert "Participant 11,Ada,10" in text


@pytest.mark.parametrize(
    ("change", "said"), [("ADD COLUMN mood TEXT", "newer version, with mood"), ("DROP COLUMN score", "without score")]
)
def test_a_table_of_another_kind_is_refused_and_stays_as_it_is(change: str, said: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "grades.sqlite") as store:
        store.execute(SECOND)
        store.execute(f"ALTER TABLE grades {change}")
    store.close()
    before = (tmp_path / "grades.sqlite").read_bytes()
    with pytest.raises(BadInput, match=f"{said}.*another --out"):
        gradebook.existing(tmp_path)
    assert (tmp_path / "grades.sqlite").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "said"), [("lab.txt", "rename it to .py"), ("lab.pdf", "no .ipynb, .py or .zip file")]
)
def test_a_file_of_another_kind_is_not_said_to_be_missing(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("x = 1")
    with pytest.raises(BadInput, match=said):
        find_submissions(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"\.txt"):
        find_submissions(tmp_path / "empty")


def test_one_student_on_two_platforms_or_in_two_forms_of_accents(tmp_path: Path) -> None:
    """The number tells students of one name apart, together with who gave it; an accent may come as one sign or two."""
    names = [unicodedata.normalize(form, "José") for form in ("NFC", "NFD")]
    files = [f"{name}_7_assignsubmission_file_/{name}.ipynb" for name in names] + ["José_7_99_lab.ipynb"]
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert len({submission.owner for submission in find_submissions(tmp_path)}) == 2
    with gradebook.opened(tmp_path / "grades") as store:
        for submission, grade in zip(sorted(find_submissions(tmp_path), key=lambda one: one.name), (ALL, MOST, NONE)):
            gradebook.keep(store, submission, "d", grade)
    entries = gradebook.book(gradebook.existing(tmp_path / "grades"), gradebook.Rules())
    assert sorted((entry["platform"], entry["attempts"]) for entry in entries) == [("Canvas", 1), ("Moodle", 2)]


def test_a_release_has_checksums(tmp_path: Path) -> None:
    paths, removed = release(tmp_path, ["01", "02"])
    assert not removed
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
    write = report.write_student
    monkeypatch.setattr(
        report, "write_student", lambda out, name, *rest: (write(out, name, *rest), written.append(name))
    )
    (tmp_path / "ada.ipynb").write_text(json.dumps(solved(LAB)))
    for regrade in (False, False, True):
        grader.grade(
            tmp_path / "ada.ipynb",
            tmp_path / "out",
            options=grader.Options(execute=False),
            wanted=grader.Wanted(regrade=regrade),
            quiet=True,
        )
    assert written == ["ada", "ada"]


def test_files_of_one_name_in_one_students_folders_have_pages_of_their_own(tmp_path: Path) -> None:
    with gradebook.opened(tmp_path / "grades") as store:
        for name in ("Eve_7_assignsubmission_file_/a/lab", "Eve_7_assignsubmission_file_/b/lab", "a", "b/a"):
            gradebook.keep(store, Submission(name, "Eve", "7"), name, MOST)
    pages, _ = report.write_feedback(gradebook.existing(tmp_path / "grades"), tmp_path / "out", gradebook.Rules())
    assert len(set(pages)) == 4 and all(page.exists() for page in pages)


def test_a_penalty_without_a_due_time_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gradebook.opened(tmp_path) as store:
        gradebook.keep(store, Submission("ada", "Ada", "1"), "ada", MOST)
    book = tmp_path / "book.csv"
    assert main(["gradebook", str(tmp_path), "--penalty", "10", "--out", str(book)]) == 2
    assert "--due" in capsys.readouterr().err and not book.exists()
    assert main(["gradebook", str(tmp_path), "--penalty", "10", "--due", "2026-12-01", "--out", str(book)]) == 2


def test_a_labs_median_lies_between_the_middle_two() -> None:
    about = {"number": "", "lab": "01", "max_score": 10, "received": 0, "late": 0, "problem": "", "left_out": 0}
    about |= {"grade": '{"exercises": []}', "gone": 0, "platform": ""}
    rows = [about | {"name": str(i), "student": str(i), "score": s} for i, s in enumerate([10, 5, 10, 0, 3, 10])]
    own = gradebook.attempts(rows, gradebook.BEST)
    assert report.summary("01", own)["median"] == pytest.approx(0.75)
