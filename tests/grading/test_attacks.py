"""Submissions that try to cheat or to break the grader: each gets its honest score, and nothing of ours changes.

`attacks/NAME.py` is a cell of lab 01. Its first line names the exercise that it stands for, the expected status, and
what it tries; `# <solution>` stands for the released cell. Four attacks, one for each exercise, share a notebook.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import REPO
from grading_labs import notebook_of, solved, solved_with

from vqbet_course.core.executor import Workers
from vqbet_course.grading import grader, sandbox
from vqbet_course.grading.grades import Ungradable
from vqbet_course.grading.lessons import all_labs
from vqbet_course.grading.limits import Limits
from vqbet_course.grading.submissions import find_answers, read_file, read_notebook_of

ATTACKS = sorted((REPO / "tests" / "grading" / "attacks").glob("*.py"))
LAB = "01_tokens"
LIMITS = Limits(seconds=2, wall=8)
CLAIMED = b'"metadata": {"vqbet_course": {"lab": "01_tokens"}}}'

needs_bubblewrap = pytest.mark.skipif(not sandbox.bubblewrap_works(), reason="bubblewrap does not work here")


def about(attack: Path) -> tuple[str, list[str]]:
    """The exercise that an attack stands for, and the status that it should get, or those that it may get."""
    exercise, rest = attack.read_text().splitlines()[0].removeprefix("# ").split(" ", 1)
    return exercise, rest.split(":")[0].split(" or ")


def packed() -> list[dict[str, Path]]:
    """The attacks, in as few notebooks as possible: {exercise: attack} for each."""
    notebooks: list[dict[str, Path]] = []
    for attack in ATTACKS:
        exercise, _ = about(attack)
        free = next((notebook for notebook in notebooks if exercise not in notebook), None)
        if free is None:
            notebooks.append(free := {})
        free[exercise] = attack
    return notebooks


def fingerprint() -> str:
    """Of everything that grading builds on."""
    files = [
        path
        for folder in ("nbs", "labs", "vqbet_course")
        for path in sorted((REPO / folder).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all attacks were graded as: {attack: exercise of report.json}, and what happened around them."""
    folder, out = tmp_path_factory.mktemp("attacks"), tmp_path_factory.mktemp("grades")
    notebooks = {f"{number:02}": notebook for number, notebook in enumerate(packed())}
    for name, notebook in notebooks.items():
        (folder / f"{name}.ipynb").write_text(
            json.dumps(solved_with(LAB, {exercise: attack.read_text() for exercise, attack in notebook.items()}))
        )
    before = fingerprint()
    problems = grader.grade(folder, out, Workers(2), options=grader.Options(LIMITS, execute=False), quiet=True)
    attacked, bystanders, pages = {}, defaultdict(list), {}
    for name, notebook in notebooks.items():
        report = json.loads((out / "students" / name / "report.json").read_text())
        for exercise in report["exercises"]:
            if exercise["id"] in notebook:
                attacked[notebook[exercise["id"]].stem] = exercise
                pages[notebook[exercise["id"]].stem] = (out / "students" / name / "report.html").read_text()
            else:
                bystanders[name].append(exercise["status"])
    return {
        "problems": problems,
        "attacked": attacked,
        "bystanders": dict(bystanders),
        "pages": pages,
        "unchanged": fingerprint() == before,
    }


@needs_bubblewrap
@pytest.mark.timeout(400)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda path: path.stem)
def test_an_attack_gets_its_honest_score(attack: Path, results: dict[str, Any]) -> None:
    exercise, expected = about(attack)
    graded = results["attacked"][attack.stem]
    assert graded["id"] == exercise and graded["status"] in expected
    assert graded["awarded"] == (graded["points"] if expected == ["passed"] else 0)


@needs_bubblewrap
def test_attacks_spoil_nothing(results: dict[str, Any]) -> None:
    assert not results["problems"] and results["unchanged"]
    assert all(status == "passed" for said in results["bystanders"].values() for status in said)
    assert "Inputs" not in results["pages"]["loud_error"]
    assert "another shape" in results["pages"]["telling_shape"]
    assert not Path("/tmp/unpickled").exists()


@needs_bubblewrap
@pytest.mark.skipif(os.getuid() != 0, reason="the sandbox's user can be told apart only when root grades")
def test_no_process_is_left(results: dict[str, Any]) -> None:
    alive = [path.stat().st_uid for path in Path("/proc").glob("[0-9]*") if path.exists()]
    assert not [uid for uid in alive if uid >= 2_000_000]


def test_there_are_many_attacks() -> None:
    assert len(ATTACKS) >= 30
    assert {status for attack in ATTACKS for status in about(attack)[1]} == {"error", "stopped", "wrong", "passed"}


# --- attacks by the notebook itself; these need no sandbox ---------------------------------------------------


def read(notebook: dict[str, Any] | bytes) -> tuple[dict[str, str], list[str]]:
    data = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
    found, notes = find_answers(read_notebook_of(data))
    return {id: answers[0].source for id, answers in found.items()}, notes


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"cells": []}',
        b"{" * 100_000,
        b"\x80\x04pickle",
        b'{"cells": 3, "metadata": {}}',
        b'{"cells": [{"cell_type": "code", "source": [1], "metadata": {}}], ' + CLAIMED,
        b'{"cells": [{"cell_type": "code", "metadata": []}], ' + CLAIMED,
        b'{"cells": [], "metadata": {"vqbet_course": {"lab": "../../etc"}}}',
        b'{"cells": [], "metadata": {"vqbet_course": {"lab": ["01_tokens"]}}}',
    ],
    ids=range(12),
)
def test_what_is_no_lab_is_not_graded(data: bytes) -> None:
    with pytest.raises(Ungradable):
        read(data)


def test_an_empty_lab_has_no_answers() -> None:
    answers, notes = read({"cells": [], "metadata": {"vqbet_course": {"lab": LAB}}})
    assert answers == {} and any("not there as it was released" in note for note in notes)


def test_the_notebook_of_another_lab_has_no_answers() -> None:
    other = solved("02_residual_vq")
    other["metadata"]["vqbet_course"]["lab"] = LAB
    assert read(other)[0] == {}


def exercise_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if "exercise" in cell["metadata"]]


def duplicated(notebook: dict[str, Any]) -> None:
    copy = json.loads(json.dumps(exercise_cells(notebook)[0])) | {"source": "def squared_distances(a, b): return a"}
    notebook["cells"].insert(0, copy | {"id": "another"})
    notebook["cells"].append(copy)


def locked_cell_changed(notebook: dict[str, Any]) -> None:
    cell = next(cell for cell in notebook["cells"] if "import torch" in "".join(cell["source"]))
    cell["source"] = "import torch\ntorch.allclose = lambda *args: True"


def locked_cell_removed(notebook: dict[str, Any]) -> None:
    notebook["cells"] = [cell for cell in notebook["cells"] if "import torch" not in "".join(cell["source"])]


def ids_of_other_kinds(notebook: dict[str, Any]) -> None:
    for cell in notebook["cells"]:
        cell["id"] = {"a": [cell["id"]]}


@pytest.mark.parametrize(
    "change, note", [(duplicated, "2 answers"), (locked_cell_changed, "changed"), (locked_cell_removed, "removed")]
)
def test_a_changed_notebook_is_graded_as_released_and_said_so(
    change: Callable[[dict[str, Any]], None], note: str
) -> None:
    notebook = notebook_of(LAB)
    change(notebook)
    answers, notes = read(notebook)
    first = answers if change is not duplicated else answers | {"1.1": read(notebook_of(LAB))[0]["1.1"]}
    assert first == read(notebook_of(LAB))[0]
    assert any(note in said for said in notes), notes


def test_half_a_character_is_replaced() -> None:
    notebook = notebook_of(LAB)
    exercise_cells(notebook)[0]["source"] = "squared_distances = '\ud800'"
    assert read(notebook)[0]["1.1"] == "squared_distances = '?'"


def test_ids_of_other_kinds_are_no_ids() -> None:
    notebook = notebook_of(LAB)
    ids_of_other_kinds(notebook)
    assert read(notebook)[0].keys() == all_labs()[LAB].exercises.keys()


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "real.ipynb").write_text("{}")
    (tmp_path / "link.ipynb").symlink_to("real.ipynb")
    os.mkfifo(tmp_path / "pipe.ipynb")
    for name in ("link", "pipe"):
        with pytest.raises(Ungradable):
            read_file(tmp_path / f"{name}.ipynb")
