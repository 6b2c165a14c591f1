"""The grade command: references and stubs, a class, its reports; what is refused, and what survives a kill."""

import ast
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from grading_labs import notebook_of, solved, solved_with

from vqbet_course.cli import main
from vqbet_course.core.errors import BadInput
from vqbet_course.core.executor import Workers
from vqbet_course.core.notebooks import source_of
from vqbet_course.grading import execution, grader, judging, report, sandbox
from vqbet_course.grading.answers import Answer
from vqbet_course.grading.checks import all_checks
from vqbet_course.grading.editions import blanked
from vqbet_course.grading.grades import Grade, Marked, Ungradable, Verdict
from vqbet_course.grading.handout import digest_of
from vqbet_course.grading.lessons import Lab, all_labs
from vqbet_course.grading.limits import Limits
from vqbet_course.grading.report import folder_of
from vqbet_course.grading.submissions import LARGEST, find_submissions, read_file, read_notebook_of

LAB = "01_tokens"
MISTAKE = all_checks()["1.2"].misconceptions[0]
EVE = "group/<b>eve"
SLOW_MACHINE = Limits(seconds=30, wall=60)
QUICK_OPTIONS = grader.Options(SLOW_MACHINE, execute=False)
NO_COPY = grader.Options(execute=False)


def stub_and_solution(lab: Lab) -> list[tuple[str, str]]:
    """Pairs of an exercise's id and a cell: the stub of each exercise, then the solution."""
    return [
        (exercise.id, source)
        for exercise in lab.exercises.values()
        for source in (blanked(exercise.solution, all_checks()[exercise.id].blanks()), exercise.solution)
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_reference_passes_and_the_stub_fails_in_every_labs_sandbox() -> None:
    """Both in one sandbox. What is quick asks the same without bubblewrap, in one process for all labs: see below."""

    def statuses(name: str) -> list[str]:
        found = []
        with sandbox.Sandbox(all_labs()[name]) as box:
            for exercise_id, source in stub_and_solution(all_labs()[name]):
                ended, answer = box.run(judging.make_job(exercise_id, 1, Answer(source)), SLOW_MACHINE)
                verdict = judging.judge_answer(exercise_id, 1, source, answer)
                found.append(verdict.status if ended == "finished" else ended)
        return found

    with ThreadPoolExecutor(2) as pool:
        for name, found in zip(all_labs(), pool.map(statuses, all_labs()), strict=True):
            assert found == ["not attempted", "passed"] * len(all_labs()[name].exercises), name


@pytest.fixture(scope="module")
def submissions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three students of one lab: all right, untouched, one misconception; and one whose file is damaged."""
    folder = tmp_path_factory.mktemp("class")
    mistaken = solved_with(LAB, {"1.2": MISTAKE.source(all_labs()[LAB].exercises["1.2"].solution)})
    for name, notebook in {"ada": solved(LAB), "=bob": notebook_of(LAB), EVE: mistaken}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook))
    (folder / "mallory.ipynb").write_text("{")
    return folder


@pytest.fixture(scope="module")
def graded(submissions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("grades")
    problems = grader.grade(submissions, out, workers=Workers(2), options=QUICK_OPTIONS, quiet=True)
    assert list(problems) == ["mallory"]
    return out


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_report_has_the_promised_form(graded: Path) -> None:
    ada, eve = read(folder_of(graded, "ada") / "report.json"), read(folder_of(graded, EVE) / "report.json")
    assert (ada["lab"], ada["score"], ada["max_score"]) == (LAB, 10, 10)
    assert read(folder_of(graded, "=bob") / "report.json")["score"] == 0
    assert eve["score"] == 8 and eve["exercises"][1] == {
        "id": "1.2",
        "points": 2,
        "awarded": 0,
        "status": "wrong",
        "misconception": MISTAKE.name,
    }


def test_a_students_page_says_what_is_wrong_and_escapes_names(graded: Path) -> None:
    page = (folder_of(graded, EVE) / "report.html").read_text()
    assert MISTAKE.name in page and "<b>eve" not in page and "&lt;b&gt;eve" in page


def test_the_class_is_summed_up(graded: Path) -> None:
    page = (graded / "class.html").read_text()
    assert "4 students" in page and MISTAKE.name in page and "mallory" in page and "<b>eve" not in page
    rows = list(csv.DictReader((graded / "grades.csv").read_text().splitlines()))
    assert {row["student"]: row["score"] for row in rows} == {"ada": "10", "'=bob": "0", EVE: "8", "mallory": ""}


def test_results_do_not_depend_on_the_number_of_jobs_or_on_dask(
    submissions: Path, graded: Path, tmp_path: Path
) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        grader.grade(submissions, tmp_path, Workers(dask=cluster.scheduler_address), options=QUICK_OPTIONS, quiet=True)
    for path in graded.rglob("report.json"):
        assert read(tmp_path / path.relative_to(graded)) == read(path)


# --- the class run, with grades that cost nothing -----------------------------------------------------------


def test_one_submission_on_which_the_grader_fails_costs_the_others_nothing(
    two: Path, cheap: list[str], tmp_path: Path
) -> None:
    (two / "bob.ipynb").write_text("poison")
    problems = grader.grade(two, tmp_path / "out", options=NO_COPY, quiet=True)
    assert cheap == ["ada"] and "ZeroDivisionError" in problems["bob"]


def passed(data: bytes, options: grader.Options) -> Grade:
    """Stands for grade_submission."""
    if b"interrupt" in data:
        raise KeyboardInterrupt
    if b"poison" in data:
        raise ZeroDivisionError
    lab = read_notebook_of(data).lab
    marked = [Marked(e.id, e.points, Verdict("passed", "passed")) for e in lab.exercises.values()]
    return Grade(lab.name, marked, digest=digest_of(data))


@contextmanager
def threads(workers: Workers) -> Iterator[Executor]:
    """Stands for core.executor.executor."""
    with ThreadPoolExecutor(workers.jobs) as pool:
        yield pool


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grades cost nothing; returns the names of the students whose reports are written, as they are."""
    written: list[str] = []
    monkeypatch.setattr(grader, "grade_submission", passed)
    monkeypatch.setattr(grader, "executor", threads)
    write = report.write_student
    monkeypatch.setattr(
        report, "write_student", lambda out, name, *rest: (write(out, name, *rest), written.append(name))
    )
    return written


@pytest.fixture
def two(tmp_path: Path) -> Path:
    folder = tmp_path / "submissions"
    folder.mkdir()
    for name in ("ada", "bob"):
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook_of(LAB)))
    return folder


def test_a_grade_is_given_once_and_anew_when_the_submission_changed(
    two: Path, cheap: list[str], tmp_path: Path
) -> None:
    grade: Callable[[], object] = lambda: grader.grade(two, tmp_path / "out", options=NO_COPY, quiet=True)
    grade()
    assert sorted(cheap) == ["ada", "bob"]
    grade()
    assert len(cheap) == 2
    (two / "bob.ipynb").write_text(json.dumps(solved(LAB)))
    grade()
    assert cheap[2:] == ["bob"]


def test_the_bar_ends_at_all_files_and_a_line_sums_up(
    two: Path, cheap: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (two / "mallory.ipynb").write_text("{")
    (two / "notes.pdf").write_text("%PDF")
    (two / ".DS_Store").write_text("")
    grader.grade(two, tmp_path / "out", options=NO_COPY)
    said = capsys.readouterr().err
    assert "5/5" in said
    assert said.endswith("\n5 files: 2 graded, 2 not graded, 1 left out, no submissions\n")
    grader.grade(two, tmp_path / "out", options=NO_COPY)
    again = capsys.readouterr().err
    assert "5/5" in again and again.endswith("0 graded, 2 had their grade, 2 not graded, 1 left out, no submissions\n")


def test_a_report_calls_the_student_by_name(two: Path, cheap: list[str], tmp_path: Path) -> None:
    moodle = two / "Ada Lovelace_12_assignsubmission_file_" / "lab 1.ipynb"
    moodle.parent.mkdir()
    (two / "ada.ipynb").rename(moodle)
    grader.grade(two, tmp_path / "out", options=NO_COPY, quiet=True)
    [page] = (tmp_path / "out").glob("students/Ada Lovelace_12_assignsubmission_file_ - lab 1*/report.html")
    assert "<h1>Ada Lovelace: " in page.read_text()


def test_an_interrupted_class_goes_on_where_it_stopped(two: Path, cheap: list[str], tmp_path: Path) -> None:
    (two / "bob.ipynb").write_text("interrupt")
    with pytest.raises(KeyboardInterrupt):
        grader.grade(two, tmp_path / "out", options=NO_COPY, quiet=True)
    (two / "bob.ipynb").write_text(json.dumps(notebook_of(LAB)))
    grader.grade(two, tmp_path / "out", options=NO_COPY, quiet=True)
    assert sorted(cheap) == ["ada", "bob"]


def test_a_report_cut_short_by_a_kill_is_written_again(two: Path, cheap: list[str], tmp_path: Path) -> None:
    folder_of(tmp_path / "out", "ada").mkdir(parents=True)
    (folder_of(tmp_path / "out", "ada") / "report.json").write_text('{"dig')
    grader.grade(two, tmp_path / "out", options=NO_COPY, quiet=True)
    assert sorted(cheap) == ["ada", "bob"]


def test_exit_statuses(two: Path, cheap: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["grade", str(two), "--out", str(tmp_path / "out"), "--no-execute"]
    assert main(command) == 0
    (two / "mallory.ipynb").write_text("{")
    assert main(command) == 1
    assert "mallory: not a notebook" in capsys.readouterr().err
    assert main(["grade", str(tmp_path / "nothing")]) == 2
    assert main([*command, "--jobs", "0"]) == 2


def test_a_submission_alone_that_has_no_grade_has_no_page_to_name(
    cheap: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ada.py").write_text("print(1)")
    assert main(["grade", str(tmp_path / "ada.py"), "--out", str(tmp_path / "out"), "--no-execute"]) == 1
    assert "written" not in capsys.readouterr().out
    (tmp_path / "ada.ipynb").write_text(json.dumps(notebook_of(LAB)))
    assert main(["grade", str(tmp_path / "ada.ipynb"), "--out", str(tmp_path / "out"), "--no-execute"]) == 0
    assert Path(capsys.readouterr().out.removeprefix("written: ").strip()).is_dir()


@pytest.mark.parametrize("name", ["missing.ipynb", "empty", "text.txt"])
def test_what_is_no_submission_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(BadInput, match=name):
        find_submissions(tmp_path / name)


def test_hidden_copies_of_jupyter_are_no_submissions(tmp_path: Path) -> None:
    for name in ("a.ipynb", ".ipynb_checkpoints/a-checkpoint.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [(s.name, s.left_out) for s in find_submissions(tmp_path)] == [
        (".ipynb_checkpoints/a-checkpoint", True),
        ("a", False),
    ]


def test_reports_of_any_name_have_a_folder_of_their_own(tmp_path: Path) -> None:
    names = [
        ".",
        "..",
        "...",
        "a/b",
        "a%2Fb",
        "é" * 120,
        "学" * 80 + "一",
        "学" * 80 + "二",
        "x" * 250,
        "group/" * 60 + "eve",
    ]
    folders = [folder_of(tmp_path, name) for name in names]
    assert len(set(folders)) == len(names)
    for folder in folders:
        folder.mkdir(parents=True)
        assert folder.resolve().parent == tmp_path / "students"


def test_a_file_name_that_is_no_text_or_steers_a_terminal_is_escaped(
    two: Path, cheap: list[str], tmp_path: Path
) -> None:
    os.rename(os.fsencode(two / "ada.ipynb"), os.fsencode(two) + b"/\xff\x1b[2J\n.ipynb")
    grader.grade(two, tmp_path / "out", options=NO_COPY, quiet=True)
    assert sorted(cheap) == [r"\xff\x1b[2J\n", "bob"]
    assert len((tmp_path / "out" / "grades.csv").read_text().splitlines()) == 3


def test_a_submission_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "large.ipynb", "wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(Ungradable, match="clear its outputs"):
        read_file(tmp_path / "large.ipynb")


def test_without_bubblewrap_it_says_what_is_not_enforced_or_refuses(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "sandbox_problem", lambda: "it is not installed")
    monkeypatch.setattr(grader, "sandbox_problem", lambda: "it is not installed")
    with pytest.raises(BadInput, match="bubblewrap"):
        grader.grade(two, tmp_path / "out", options=grader.Options(require_sandbox=True))
    data = json.dumps(solved_with(LAB, {"1.4": "while True: pass"})).encode()
    found = grader.grade_submission(data, grader.Options(Limits(seconds=4), execute=False))
    assert [e.verdict.status for e in found.exercises] == ["passed", "passed", "passed", "stopped"]
    assert any("network" in note for note in found.notes)


def test_a_sandbox_that_does_not_start_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sandbox.Sandbox, "command", lambda self, files: ([sys.executable, "-c", "raise SystemExit('no torch')"], [])
    )
    with pytest.raises(Ungradable, match="no torch"):
        grader.grade_submission(json.dumps(solved(LAB)).encode(), grader.Options(execute=False))


def test_the_time_of_a_notebook_is_shared_by_its_exercises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.Sandbox, "start", lambda self: None)
    monkeypatch.setattr(sandbox.Sandbox, "run", lambda self, job, limits: ("out of time", b""))
    lab = all_labs()[LAB]
    answers = {id: [Answer("")] for id in lab.exercises}
    verdicts = grader.score(lab, answers, grader.Options(seconds=0))
    assert all("all the time" in verdict.message for verdict in verdicts.values())


def test_the_command_loads_no_torch() -> None:
    code = "import sys, vqbet_course.grading.grader; sys.exit('torch' in sys.modules or 'lerobot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- the executed copy --------------------------------------------------------------------------------------


def small(*sources: str) -> bytes:
    """A notebook that claims to be the lab, with these cells."""
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for n, source in enumerate(sources)
    ]
    kernel = {"name": "python3", "display_name": "python3"}
    metadata = {"kernelspec": kernel, "vqbet_course": {"lab": LAB}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()


@pytest.mark.skipif(not sandbox.bubblewrap_works(), reason="bubblewrap does not work here")
def test_execution_happens_in_a_sandbox_and_leaves_slow_cells_out() -> None:
    home = "os.path.exists(os.path.expanduser('~root/.ssh'))"
    probe = f"import os, socket\nprint({home}, os.getuid() > 0, len(os.listdir('/proc')) < 100)"
    refused = "try:\n    socket.create_connection(('1.1.1.1', 53), 1)\nexcept OSError:\n    print('no network')"
    lessons = "from vqbet_course.grading.lessons import all_labs\nprint(len(all_labs()))"
    copy, problem = execution.execute(small(probe, refused, "#| slow\n1 / 0", lessons, "1 / 0"), all_labs()[LAB])
    cells = {cell["id"]: cell for cell in json.loads(copy)["cells"] if cell["id"].startswith("c")}
    assert not problem
    expected = f"False {os.getuid() == 0} True" if os.getuid() == 0 else "False True True"
    assert "".join(cells["c0"]["outputs"][0]["text"]).strip() == expected
    assert "no network" in "".join(cells["c1"]["outputs"][0]["text"])
    assert cells["c2"]["cell_type"] == "raw" and cells["c4"]["outputs"][0]["ename"] == "ZeroDivisionError"
    assert "".join(cells["c3"]["outputs"][0]["text"]).strip() == str(len(all_labs()))


@pytest.mark.skipif(not sandbox.bubblewrap_works(), reason="bubblewrap does not work here")
def test_a_notebook_that_takes_the_time_has_no_copy_and_its_score_stands() -> None:
    copy, problem = execution.execute(
        small("import time; time.sleep(100)"), all_labs()[LAB], Limits(wall=2, jupyter=True)
    )
    assert copy == b"" and "within 2 s" in problem


AS_SCRIPTS = {
    "marked": ("# %% [markdown]\n# words\n\n# %%\nx = 20\n\n# %%\n#| slow\n1 / 0\n\n# %%\nx + 1\n", ["21"]),
    "without marks": ('"""words"""\n\n!true\nx = 20\n\n\nx + 1\n', ["'words'", "21"]),
    "not all of it UTF-8": (b"# %%\nx = 20  # \xe9\n# %%\nx + 1\n".decode("latin-1"), ["21"]),
}


@pytest.mark.skipif(not sandbox.bubblewrap_works(), reason="bubblewrap does not work here")
@pytest.mark.parametrize("form", AS_SCRIPTS)
def test_a_script_is_executed_as_a_notebook_of_its_cells(form: str) -> None:
    script, expected = AS_SCRIPTS[form]
    copy, problem = execution.execute(script.encode("latin-1"), all_labs()[LAB])
    outputs = [output for cell in json.loads(copy)["cells"] for output in cell.get("outputs", [])]
    assert not problem
    assert ["".join(output["data"]["text/plain"]) for output in outputs if "data" in output] == expected
    assert not [output for output in outputs if output["output_type"] == "error"]


def test_slow_cells_of_a_script_are_told_by_their_code() -> None:
    """Where a script has no marks, each statement is a cell of its own."""
    slow = next(cell for cell in all_labs()[LAB].cells if "#| slow" in source_of(cell))
    [*_, last] = ast.parse(source_of(slow)).body
    script = f"x = 1\n\n{ast.unparse(last)}\n"
    cells = json.loads(execution.without_slow_cells(script.encode(), all_labs()[LAB]))["cells"]
    assert [cell["cell_type"] for cell in cells] == ["code", "raw"]


# --- what a sandbox holds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(all_labs()))
def test_a_sandbox_holds_all_that_its_modules_import_and_not_the_solution(name: str) -> None:
    lab = all_labs()[name]
    held = sandbox.earlier_modules(lab)
    assert f"{lab.module}.py" not in held
    for text in held.values():
        for module in sandbox.imported_modules(text):
            place = sandbox.PACKAGE / module.replace(".", "/")
            assert not place.with_suffix(".py").is_file() or str(place.relative_to(sandbox.PACKAGE)) + ".py" in held
    assert all(exercise.solution not in text for exercise in lab.exercises.values() for text in held.values())


@pytest.mark.skipif(not sandbox.bubblewrap_works(), reason="bubblewrap does not work here")
def test_what_a_sandbox_shows_may_lie_below_tmp() -> None:
    """A clone in /tmp, say; the empty /tmp of the sandbox must not hide it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        shown = Path(folder) / "shown"
        shown.write_text("here")
        command = sandbox.bubblewrap([*sandbox.interpreter(), *sandbox.bind(shown)], 1 << 20)
        read = [os.path.realpath(sys.executable), "-I", "-S", "-c", f"print(open({str(shown)!r}).read())"]
        assert subprocess.run([*command, *read], capture_output=True, text=True).stdout == "here\n"


@pytest.mark.timeout(600)
def test_with_what_a_sandbox_holds_the_reference_passes_and_the_stub_fails_in_every_lab(tmp_path: Path) -> None:
    """The cells of the lesson, the modules that they import, and all jobs with an exercise's limits, in a Python that has
    nothing else."""
    for lab in all_labs().values():
        sandbox.write_modules(lab, tmp_path / lab.name)
        (tmp_path / lab.name / "cells.json").write_text(json.dumps([source_of(cell) for cell in lab.exported]))
        for number, (exercise_id, source) in enumerate(stub_and_solution(lab)):
            job = judging.make_job(exercise_id, 1, Answer(source))
            (tmp_path / lab.name / f"{number:02}.job").write_bytes(job)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOADS_ALL, str(sandbox.RUNNER), *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for lab in all_labs().values():
        answers = [path.read_bytes() for path in sorted((tmp_path / lab.name).glob("*.answer"))]
        asked = stub_and_solution(lab)
        found = [judging.judge_answer(id, 1, source, said).status for (id, source), said in zip(asked, answers)]
        assert found == ["not attempted", "passed"] * len(lab.exercises), lab.name


LOADS_ALL = """
import glob, importlib, json, os, runpy, sys, traceback
failed = False
for number, lab in enumerate(sys.argv[2:]):
    if number == 0:
        sys.path += [lab + "/packages"]
        import torch, torchvision, torch._dynamo  # what sandboxes import ahead
        torch.set_num_threads(1)
    pid = os.fork()
    if pid == 0:
        sys.path += [lab + "/course"]
        try:
            from vqbet_course.grading.limits import Limits
            for folder, _, names in os.walk(lab + "/course/vqbet_course"):
                for name in [name for name in names if name.endswith(".py")]:
                    place = os.path.relpath(folder + "/" + name, lab + "/course")[:-3].replace("/", ".")
                    importlib.import_module(place.removesuffix(".__init__"))
            sys.argv[1:] = sys.argv[1:2]
            runner = runpy.run_path(sys.argv[1], run_name="runner")
            with open(lab + "/cells.json") as file:
                names, problem = runner["released"](json.load(file))
            if problem is not None:
                raise problem
            Limits(seconds=120).take()
            for job in sorted(glob.glob(lab + "/*.job")):
                with open(job, "rb") as file:
                    asked = file.read()
                with open(job.replace(".job", ".answer"), "wb") as file:
                    file.write(runner["save"](*runner["attempt"](asked, runner["metadata_of"](asked))))
        except BaseException:
            traceback.print_exc()
            print(lab, flush=True)
            os._exit(1)
        os._exit(0)
    failed |= os.waitpid(pid, 0)[1] != 0
sys.exit(failed)
"""
