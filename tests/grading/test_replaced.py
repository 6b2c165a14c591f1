"""A class graded again: replaced and withdrawn files, one student graded anew, and one row per student everywhere."""

import csv
import json
import os
import re
import shutil
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from grading_labs import notebook_of, solved
from test_class import threads

from vqbet_course.cli import main
from vqbet_course.core.notebooks import source_of
from vqbet_course.grading import gradebook, grader, report
from vqbet_course.grading.editions import student_edition
from vqbet_course.grading.grades import Grade, Marked, Verdict
from vqbet_course.grading.handout import digest_of
from vqbet_course.grading.lessons import all_labs
from vqbet_course.grading.submissions import Submission, read_notebook_of

LAB = "01_tokens"
ADA, BOB = "Ada Lovelace_11_assignsubmission_file_", "Bob_12_assignsubmission_file_"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grades cost nothing: solved exercises pass, stubs do not; returns the names of what is graded."""
    written: list[str] = []

    def graded(data: bytes, options: grader.Options) -> Grade:
        lab = read_notebook_of(data).lab
        status = "passed" if b'"right": true' in data else "missing"
        marked = [Marked(e.id, e.points, Verdict(status, status)) for e in lab.exercises.values()]
        return Grade(lab.name, marked, digest=digest_of(data))

    write = report.write_student
    monkeypatch.setattr(grader, "grade_submission", graded)
    monkeypatch.setattr(grader, "executor", threads)
    monkeypatch.setattr(
        report, "write_student", lambda out, name, *rest: (write(out, name, *rest), written.append(name))
    )
    return written


def right(lab: str) -> str:
    """A notebook that passes here."""
    return json.dumps(solved(lab) | {"right": True})


RIGHT, STUB = right(LAB), json.dumps(notebook_of(LAB))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A class as Moodle gives it: Ada handed in a PDF, Bob the notebook as he got it."""
    place = tmp_path / "class"
    write(place, {f"{ADA}/lab.pdf": "%PDF", f"{BOB}/lab.ipynb": STUB})
    return place


def write(folder: Path, files: dict[str, str], hour: int = 0) -> None:
    """Put files into a folder, handed in at this hour."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        os.utime(folder / name, (1_800_000_000 + 3600 * hour,) * 2)


def grade(target: Path, *options: str) -> int:
    """What the command grade returns; the grades are beside the class."""
    return main(["grade", str(target), "--no-execute", "--out", str(target.parent / "grades"), *options])


def book(target: Path, *options: str) -> dict[str, dict[str, Any]]:
    """The grade book as JSON says it, by student."""
    out = target.parent / "book.json"
    assert main(["gradebook", str(target.parent / "grades"), "--format", "json", "--out", str(out), *options]) == 0
    return {entry["student"]: entry for entry in json.loads(out.read_text())["students"]}


def pages(target: Path) -> set[str]:
    """The pages to hand back, by the names of their files."""
    out = target.parent / "back"
    assert main(["feedback", str(target.parent / "grades"), "--out", str(out)]) == 0
    return {str(path.relative_to(out)) for path in out.rglob("*.html")}


def students_of(target: Path) -> list[str]:
    """The first cells of the rows of the class's page."""
    page = (target.parent / "grades" / "class.html").read_text()
    rows = [name for name in re.findall(r"<tr><th>([^<]*)</th>", page) if not re.fullmatch(r"[\d.]+", name)]
    return sorted(name for name in rows if name not in ("exercise", "student"))


def test_a_pdf_that_was_replaced_by_the_notebook_is_gone_everywhere(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert grade(folder) == 1
    assert book(folder)["Ada Lovelace"]["points"] is None and f"{ADA}/lab.pdf.html" in pages(folder)
    (folder / ADA / "lab.pdf").unlink()
    write(folder, {f"{ADA}/lab.ipynb": RIGHT}, hour=1)
    capsys.readouterr()
    assert grade(folder) == 0
    assert "lab.pdf" in capsys.readouterr().err
    ada = book(folder)["Ada Lovelace"]
    assert (ada["points"], ada["attempts"], ada["problems"]) == (10, 1, [])
    assert pages(folder) == {f"{ADA}/lab.html", f"{BOB}/lab.html"}
    assert "lab.pdf" not in (folder.parent / "grades" / "class.html").read_text()


def test_a_pdf_before_the_notebook_is_no_problem_and_one_after_it_is(folder: Path) -> None:
    write(folder, {f"{ADA}/lab.ipynb": RIGHT}, hour=1)
    grade(folder)
    assert book(folder)["Ada Lovelace"]["problems"] == []
    write(folder, {f"{ADA}/again.pdf": "%PDF"}, hour=2)
    grade(folder)
    ada = book(folder)["Ada Lovelace"]
    assert ada["points"] == 10 and len(ada["problems"]) == 1 and "again.pdf" in ada["problems"][0]


def test_who_withdrew_has_no_row_and_who_comes_back_has_the_grade(folder: Path, cheap: list[str]) -> None:
    write(folder, {f"{ADA}/lab.ipynb": RIGHT})
    grade(folder)
    shutil.move(folder / BOB, folder.parent / "aside")
    grade(folder)
    assert set(book(folder)) == {"Ada Lovelace"} == {*students_of(folder)}
    assert not any(BOB in page for page in pages(folder))
    shutil.move(folder.parent / "aside", folder / BOB)
    grade(folder)
    assert set(book(folder)) == {"Ada Lovelace", "Bob"} and len(cheap) == 2


@pytest.mark.parametrize("name", ["lab.ipynb", "lab 2.ipynb"])
def test_a_replaced_notebook_is_an_earlier_attempt(name: str, folder: Path) -> None:
    write(folder, {f"{ADA}/lab.ipynb": RIGHT})
    grade(folder)
    (folder / ADA / "lab.ipynb").unlink()
    write(folder, {f"{ADA}/{name}": STUB}, hour=1)
    grade(folder)
    best, last = (book(folder, "--keep", keep)["Ada Lovelace"] for keep in ("best", "last"))
    assert (best["points"], last["points"], best["attempts"]) == (10, 0, 2)
    assert len([page for page in pages(folder) if ADA in page and "pdf" not in page]) == 2


def test_a_notebook_of_another_lab_that_was_replaced_leaves_no_row(folder: Path) -> None:
    write(folder, {f"{ADA}/lab.ipynb": right("02_residual_vq")})
    grade(folder)
    (folder / ADA / "lab.ipynb").unlink()
    write(folder, {f"{ADA}/right.ipynb": RIGHT}, hour=1)
    grade(folder)
    assert book(folder)["Ada Lovelace"]["lab"] == LAB


@pytest.mark.parametrize("hour", [-1, 0, 1, 5])
def test_an_earlier_version_that_comes_back_is_the_last_attempt(hour: int, folder: Path, cheap: list[str]) -> None:
    """Whatever date it has then: that of before, an older one, or that of the moment in which it was put back."""
    write(folder, {f"{ADA}/lab.ipynb": RIGHT})
    grade(folder)
    write(folder, {f"{ADA}/lab.ipynb": STUB}, hour=1)
    grade(folder)
    assert book(folder, "--keep", "last")["Ada Lovelace"]["points"] == 0
    write(folder, {f"{ADA}/lab.ipynb": RIGHT}, hour=hour)
    grade(folder)
    ada = book(folder, "--keep", "last")["Ada Lovelace"]
    assert (ada["points"], ada["attempts"], ada["counted"]) == (10, 2, 2)
    when = datetime.fromtimestamp(1_800_000_000 + 3600 * (hour if hour > 1 else min(hour, 0)))
    assert ada["received"][1].startswith(f"{when:%Y-%m-%d %H:%M}")
    assert report_of(folder)["score"] == 10, "its page is that of the file that is there"
    back = (folder.parent / "back" / ADA / "lab.html") if pages(folder) else None
    assert back is not None and "10 of 10" in back.read_text()
    link = re.search(rf'<div title="{ADA}/lab">(.*?)attempt 2', (folder.parent / "grades/class.html").read_text())
    assert link and "as it was before" not in link[1].rpartition("<div")[2]


def report_of(target: Path) -> dict[str, Any]:
    """The report.json of Ada's notebook."""
    [path] = (target.parent / "grades" / "students").glob("Ada*lab ~*/report.json")
    return json.loads(path.read_text())


def test_a_page_has_no_executed_copy_of_another_version(folder: Path) -> None:
    write(folder, {f"{ADA}/lab.ipynb": RIGHT})
    grade(folder)
    [page] = (folder.parent / "grades" / "students").glob("Ada*lab ~*/report.html")
    (page.parent / "executed.ipynb").write_text("of this version")
    write(folder, {f"{ADA}/lab.ipynb": STUB}, hour=1)
    grade(folder)
    assert not (page.parent / "executed.ipynb").exists()


@pytest.fixture
def two_labs(tmp_path: Path) -> Path:
    """A folder for each of two labs: Ada is in both, Bob handed in a PDF for the second, before his first."""
    for lab, name in (("01", LAB), ("02", "02_residual_vq")):
        write(tmp_path / lab, {"ada.ipynb": right(name), "eve.ipynb": json.dumps(notebook_of(name))})
    write(tmp_path / "02", {"bob_5_6_second.pdf": "%PDF"})
    write(tmp_path / "01", {"bob_5_6_first.ipynb": RIGHT, "dan_7_6_first.ipynb": RIGHT}, hour=1)
    write(tmp_path / "02", {"dan_7_6_second.ipynb": right("02_residual_vq")}, hour=2)
    for _ in range(2):
        assert grade(tmp_path / "01") == 0
        assert grade(tmp_path / "02") == 1
    return tmp_path / "01"


def test_two_labs_with_files_of_one_name_have_pages_of_their_own(two_labs: Path, cheap: list[str]) -> None:
    assert sorted(cheap) == ["ada"] * 2 + ["bob_5_6_first", "dan_7_6_first", "dan_7_6_second"] + ["eve"] * 2
    reports = [json.loads(path.read_text()) for path in (two_labs.parent / "grades/students").glob("ada*/report.json")]
    assert sorted(said["lab"] for said in reports) == [LAB, "02_residual_vq"]
    page = (two_labs.parent / "grades" / "class.html").read_text()
    links = re.findall(r'<div title="ada"><a href="([^"]+)">', page)
    assert len(set(links)) == 2 and "as it was before" not in page
    assert all((two_labs.parent / "grades" / unquote(link)).is_file() for link in links)
    assert {"ada/ada.html"} < (own := {page for page in pages(two_labs) if page.startswith("ada")}) and len(own) == 2


def test_a_file_without_a_grade_of_another_lab_is_not_hidden(two_labs: Path) -> None:
    out = two_labs.parent / "book.json"
    for lab, problems in ((None, 1), ("01", 0), ("02", 1)):
        options = ["--lab", lab] if lab else []
        command = ["gradebook", str(two_labs.parent / "grades"), "--format", "json", "--out", str(out), *options]
        assert main(command) == 0
        bobs = [entry for entry in json.loads(out.read_text())["students"] if entry["student"] == "bob"]
        assert sum(len(entry["problems"]) for entry in bobs) == problems
        assert len(bobs) == (1 if lab else 2)
    page = (two_labs.parent / "grades" / "class.html").read_text()
    no_grade, first, second = re.split(r"<h2>(?:No grade|\d\d_)", page)[1:]
    assert "second.pdf" in no_grade and "second.pdf" not in first and "second.pdf" not in second


def test_a_batch_with_one_stray_lab_is_of_one_lab_and_a_folder_of_two_batches_of_two() -> None:
    def row(name: str, lab: str, received: float) -> dict[str, Any]:
        about = {"collection": "/class", "student": "Ada", "number": "1", "platform": "Moodle", "gone": 0, "late": 0}
        graded = {"grade": "{}", "problem": ""} if lab else {"grade": "", "problem": "a PDF"}
        points = {"score": 1, "max_score": 1, "graded": 0, "clock": ""}
        return about | graded | points | {"name": name, "lab": lab, "received": received, "left_out": 0}

    other = {"student": "Bob", "number": "2"}
    ada = "{}/Ada_1_assignsubmission_file_/a"
    rows = [row(ada.format("one"), "01", 5), row(ada.format("one") + ".pdf", "", 4)]
    rows += [row("one/Bob_2_assignsubmission_file_/b", "01", 5) | other for _ in range(9)]
    entries = gradebook.book([*rows, row("one/Bob_2_assignsubmission_file_/c", "02", 5) | other], gradebook.BEST)
    assert not any(entry["problems"] for entry in entries)
    rows += [row(ada.format("two") + ".pdf", "", 4), row("two/Bob_2_assignsubmission_file_/b", "02", 5) | other]
    [first, rest] = [entry for entry in gradebook.book(rows, gradebook.BEST) if entry["student"] == "Ada"]
    assert not first["problems"] and rest["problems"] == [f"{ada.format('two')}.pdf: a PDF"] and not rest["lab"]


def test_a_student_of_one_lab_who_withdrew_from_another_keeps_the_attempt_before_a_pdf(two_labs: Path) -> None:
    (two_labs.parent / "02" / "dan_7_6_second.ipynb").unlink()
    write(two_labs.parent / "02", {"dan_7_6_second.pdf": "%PDF"}, hour=3)
    grade(two_labs.parent / "02")
    dan = [
        e
        for e in gradebook.book(gradebook.existing(two_labs.parent / "grades"), gradebook.BEST)
        if e["student"] == "dan"
    ]
    assert [(one["lab"], len(one["problems"])) for one in dan] == [(LAB, 0), ("02_residual_vq", 1)]


def zipped(folder: Path, path: Path) -> Path:
    """A zip file of a folder."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder))
    return path


def test_a_new_download_of_another_name_replaces_the_first(folder: Path) -> None:
    grade(zipped(folder, folder.parent / "submissions.zip"))
    (folder / ADA / "lab.pdf").unlink()
    write(folder, {f"{ADA}/lab.ipynb": RIGHT}, hour=1)
    grade(zipped(folder, folder.parent / "submissions (1).zip"))
    assert book(folder)["Ada Lovelace"]["problems"] == [] and len(book(folder)) == 2


def test_other_submissions_at_the_same_path_take_nothing_away(folder: Path) -> None:
    grade(zipped(folder, folder.parent / "submissions.zip"))
    shutil.rmtree(folder)
    write(folder, {"Eve_31_assignsubmission_file_/lab.ipynb": right("02_residual_vq")})
    grade(zipped(folder, folder.parent / "submissions.zip"))
    assert set(book(folder)) == {"Ada Lovelace", "Bob", "Eve"}


# --- one student ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Bob", "bob", "12", f"{BOB}/lab", f"{BOB}/lab.ipynb"])
def test_one_student_is_graded_anew_and_the_rest_stays(name: str, folder: Path, cheap: list[str]) -> None:
    write(folder, {f"{ADA}/lab.ipynb": RIGHT})
    grade(folder)
    before = book(folder)
    os.utime(folder / BOB / "lab.ipynb", (2e9, 2e9))
    write(folder, {f"{ADA}/another.ipynb": STUB}, hour=3)
    del cheap[:]
    assert grade(folder, "--regrade", "--only", name) == 0
    assert cheap == [f"{BOB}/lab"]
    after = book(folder)
    assert after.keys() == before.keys() and students_of(folder) == ["Ada Lovelace", "Bob"]
    assert after["Bob"]["attempts"] == 1 and after["Bob"]["received"] == before["Bob"]["received"]
    assert after["Ada Lovelace"] == before["Ada Lovelace"]


def test_one_file_of_a_class_is_not_graded_into_it_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grade(folder)
    page, before = (folder.parent / "grades" / "class.html").read_text(), book(folder)
    out = folder.parent / "grades"
    for path in (folder / BOB / "lab.ipynb", folder.parent / "mailed.ipynb"):
        path.write_text(STUB)
        capsys.readouterr()
        assert main(["grade", str(path), "--regrade", "--no-execute", "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and ("--only" in said) == (path.parent.name == BOB)
    assert (out / "class.html").read_text() == page and book(folder) == before


def test_what_was_graded_alone_before_is_no_student_of_a_class(folder: Path) -> None:
    (folder.parent / "trial.ipynb").write_text(RIGHT)
    grade(folder.parent / "trial.ipynb")
    grade(folder)
    assert set(book(folder)) == {"Ada Lovelace", "Bob"}


def test_a_name_that_nobody_has_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, {"Bob_13_assignsubmission_file_/lab.ipynb": STUB})
    assert grade(folder, "--only", "Ada Lovelac") == 2
    assert "did you mean Ada Lovelace" in capsys.readouterr().err
    assert grade(folder, "--only", "Bob") == 2
    assert "12, 13" in capsys.readouterr().err
    assert not (folder.parent / "grades").exists()


# --- one row per student --------------------------------------------------------------------------------------


def test_the_class_page_has_one_row_per_student_by_the_rule_of_the_grade_book(folder: Path) -> None:
    write(folder, {f"{ADA}/one.ipynb": RIGHT, f"{BOB}/two.ipynb": RIGHT}, hour=1)
    write(folder, {f"{ADA}/two.ipynb": STUB}, hour=2)
    for keep, median in (("best", "100"), ("last", "50")):
        grade(folder, "--keep", keep)
        assert students_of(folder) == ["Ada Lovelace", "Bob"]
        page = (folder.parent / "grades" / "class.html").read_text()
        assert f"2 students, mean {median} %, median {median} %" in page and "attempt 2" in page
        points = dict(re.findall(r"<tr><th>(.*?)</th><td class=\"number\">(\d+) / 10", page))
        entries = book(folder, "--keep", keep)
        assert {name: float(n) for name, n in points.items()} == {n: e["points"] for n, e in entries.items()}
        assert len((folder.parent / "grades" / "grades.csv").read_text().splitlines()) == 6


def test_a_text_typed_into_moodle_is_left_out_beside_a_file_and_a_reason_without(folder: Path) -> None:
    online = "assignsubmission_onlinetext_/onlinetext.html"
    write(folder, {f"Bob_12_{online}": "<p>see file</p>", f"Eve_14_{online}": "<p>here</p>"}, hour=5)
    assert grade(folder) == 1
    entries = book(folder)
    assert entries["Bob"]["problems"] == [] and "typed into Moodle" in entries["Eve"]["problems"][0]
    page = (folder.parent / "grades" / "class.html").read_text()
    assert f"Bob_12_{online}: left out: a text typed into Moodle" in page


def test_grades_in_a_clone_are_no_untracked_files(folder: Path) -> None:
    grade(folder)
    pages(folder)
    assert (
        (folder.parent / "grades" / ".gitignore").read_text()
        == "*\n"
        == (folder.parent / "back/.gitignore").read_text()
    )
    (folder.parent / "mine").mkdir()
    assert main(["grade", str(folder), "--no-execute", "--out", str(folder.parent / "mine")]) == 1
    assert not (folder.parent / "mine" / ".gitignore").exists()


# --- what platforms ask for -----------------------------------------------------------------------------------

GERMAN = """\
ID,Vollständiger Name,E-Mail-Adresse,Status,Bewertung,Bestwertung,Bewertung kann geändert werden,\
Zuletzt geändert (Abgabe),Zuletzt geändert (Bewertung),Feedback als Kommentar
"Teilnehmer/in 12",Bob,bob@example.org,Zur Bewertung abgegeben,,"10,00",Ja,"Dienstag, 1. Dezember 2026, 12:00",-,
"Teilnehmer/in 11",Ada Lovelace,ada@example.org,Zur Bewertung abgegeben,,"10,00",Ja,-,-,Guter Anfang
"Teilnehmer/in 19",Dan,dan@example.org,Keine Abgabe,"3,00","10,00",Ja,-,-,
"""


def fill(target: Path, sheet: str, *options: str) -> tuple[int, str]:
    """What the grade book command returns for a worksheet, and the file that it wrote."""
    path, out = target.parent / "sheet.csv", target.parent / "filled.csv"
    path.write_text(sheet, encoding="utf-8-sig")
    grades = str(target.parent / "grades")
    status = main(["gradebook", grades, "--worksheet", str(path), "--out", str(out), *options])
    return status, out.read_text(encoding="utf-8-sig") if out.exists() else ""


def test_moodles_worksheet_is_filled_in_in_any_language_and_the_rest_stays(folder: Path) -> None:
    write(folder, {f"{ADA}/lab.ipynb": RIGHT})
    grade(folder)
    status, text = fill(folder, GERMAN)
    before, after = (list(csv.reader(sheet.splitlines())) for sheet in (GERMAN, text))
    assert status == 0 and [row[4] for row in after] == ["Bewertung", "0", "10", "3,00"]
    assert [row[:4] + row[5:] for row in after] == [row[:4] + row[5:] for row in before]


def test_a_worksheet_that_cannot_be_filled_in_is_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, {f"{ADA}/lab.ipynb": RIGHT})
    grade(folder)
    refused = {
        GERMAN.replace("Teilnehmer/in 11", "Teilnehmer/in 99"): "no row of Ada Lovelace",
        re.sub(r"Teilnehmer/in (\d)", r"Teilnehmer/in 8\1", GERMAN): "this assignment",
        GERMAN.replace('"10,00"', "-"): "--grade-column",
        GERMAN.replace(",", ";"): "commas",
    }
    for sheet, said in refused.items():
        capsys.readouterr()
        assert fill(folder, sheet) == (2, "")
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and said in line
    unclear = GERMAN.replace('"10,00"', "-")
    assert fill(folder, unclear, "--grade-column", "Note")[0] == 2
    assert "Bewertung" in fill(folder, unclear, "--grade-column", "Bewertung")[1]


def test_canvas_gets_no_empty_columns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Grades of Moodle's files have no student's number that Canvas knows."""
    grade(folder)
    command = ["gradebook", str(folder.parent / "grades"), "--format", "canvas", "--out", str(folder.parent / "b.csv")]
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Moodle's" in said and "--format moodle" in said
    assert not (folder.parent / "b.csv").exists()
    write(folder, {"lovelaceada_991_4711_lab.ipynb": RIGHT})
    grade(folder)
    capsys.readouterr()
    assert main(command) == 0
    assert "will not find, for want of its number: Ada Lovelace, Bob\n" in capsys.readouterr().err
    ids = {row["Student"]: row["ID"] for row in csv.DictReader((folder.parent / "b.csv").read_text().splitlines())}
    assert ids["lovelaceada"] == "991" and ids["Bob"] == ""


def test_the_penalty_is_of_the_points_that_were_earned(folder: Path) -> None:
    """One day late at 25 % a day: 8 of 10 points become 6, not 5.5."""
    exercises = all_labs()[LAB].exercises.values()
    marked = [Marked(e.id, e.points, Verdict("passed" if e.id != "1.2" else "wrong", "")) for e in exercises]
    with gradebook.opened(folder.parent / "grades") as store:
        late = Submission("bob", "Bob", "12", received=datetime(2026, 12, 1, 13).timestamp(), platform="Moodle")
        gradebook.keep(store, late, "d", Grade(LAB, marked))
    options = ["--due", "2026-12-01T12:00", "--penalty", "25"]
    assert book(folder, *options)["Bob"]["points"] == 6
    out = folder.parent / "back"
    assert main(["feedback", str(folder.parent / "grades"), "--out", str(out), *options]) == 0
    assert "25 % of the 8 points earned are taken off, so 6 are left" in (out / "bob" / "bob.html").read_text()


@pytest.mark.parametrize("command", ["gradebook", "feedback"])
def test_a_due_time_in_another_form_is_refused_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([command, str(tmp_path), "--due", "1.12.2026", "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert "YYYY-MM-DDTHH:MM" in said and "2026-12-01T23:59" in said and said.count("\n") == 1


def test_a_lab_may_be_named_with_one_digit(folder: Path) -> None:
    grade(folder)
    assert book(folder, "--lab", "1")["Bob"]["lab"] == LAB


# --- what is handed out ---------------------------------------------------------------------------------------


def links_of(notebook: dict[str, Any]) -> set[str]:
    """The places to which a notebook's prose links."""
    prose = "\n".join(source_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    return set(re.findall(r"\]\(([^)\s]+)\)", prose)) | set(re.findall(r"(?:src|href)=\"([^\"]+)\"", prose))


def test_links_of_a_release_lead_to_files_in_it(tmp_path: Path) -> None:
    assert main(["release", "--out", str(tmp_path / "all")]) == main(
        ["release", "--labs", "1, 5,6,08,5", "--out", str(tmp_path / "some")]
    )
    assert {path.name[:2] for path in (tmp_path / "some").glob("*.ipynb")} == {"01", "05", "06", "08"}
    seen = set()
    for path in tmp_path.rglob("*.ipynb"):
        for place in links_of(json.loads(path.read_text())):
            assert place.startswith("https://") or (path.parent / place).is_file(), f"{path}: {place}"
            seen.add(place)
    assert "06_policy.ipynb" in seen


@pytest.mark.parametrize("name", list(all_labs()))
def test_no_students_edition_leads_to_the_solutions(name: str) -> None:
    for edition in (notebook_of(name), json.loads(student_edition(all_labs()[name], beside=[name]))):
        assert not any("solutions/" in source_of(cell) for cell in edition["cells"])


@pytest.mark.parametrize(("labs", "said"), [("13", "no graded exercises"), ("1,99", "99"), ("", "(empty)")])
def test_a_release_of_what_is_no_lab_is_refused(
    labs: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release", "--labs", labs, "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert said in line and "01,02" in line and line.count("\n") == 1 and not (tmp_path / "out").exists()
