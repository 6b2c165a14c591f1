"""Exercises, their checks and the student editions: solutions pass, misconceptions are recognised."""

import json
import re
from typing import Any

import nbformat
import pytest
import torch

from vqbet_course.core.errors import BadInput
from vqbet_course.core.notebooks import source_of
from vqbet_course.grading import judging
from vqbet_course.grading.checks import Check, Misconception, all_checks
from vqbet_course.grading.diagnosis import outputs_of
from vqbet_course.grading.editions import LABS, blanked, pointing_home, student_edition
from vqbet_course.grading.explanations import EXPLANATIONS
from vqbet_course.grading.lessons import all_labs, lab_of
from vqbet_course.grading.runner import OTHER_ERROR, Outputs, ask, refuses

IDS = list(all_checks())
SEEDS = (0, 1)

every_exercise = pytest.mark.parametrize("exercise_id", IDS)
every_lab = pytest.mark.parametrize("name", list(all_labs()))


def test_every_exercise_has_a_check_and_every_check_an_exercise() -> None:
    marked = [exercise for lab in all_labs().values() for exercise in lab.exercises]
    assert sorted(marked) == sorted(IDS) and len(set(marked)) == len(marked) >= 25
    assert len({check.answer for check in all_checks().values()}) == len(IDS), "`check` finds an exercise by its name"
    assert sum(len(check.misconceptions) for check in all_checks().values()) >= 40


@every_lab
def test_a_lab_has_two_to_four_exercises_of_its_lesson(name: str) -> None:
    lab = all_labs()[name]
    assert 2 <= len(lab.exercises) <= 4
    assert all(id.split(".")[0].zfill(2) == name[:2] for id in lab.exercises)
    assert list(lab.exercises) == sorted(lab.exercises)
    assert all(e.points > 0 and e.minutes > 0 and e.difficulty in (1, 2, 3) for e in lab.exercises.values())


@every_exercise
@pytest.mark.parametrize("seed", SEEDS)
def test_the_solution_passes_and_every_misconception_is_recognised(
    exercise_id: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict asks all misconceptions; here those that are not under test are asked once for all verdicts."""
    asked, under_test = dict[tuple[str, int], Outputs](), ""

    def ask_once(source: str, check: type[Check], names: dict[str, Any], inputs: Outputs) -> Outputs:
        key = (source, len(inputs))
        if source == under_test or key not in asked:
            asked[key] = outputs_of(source, check, names, inputs)
        return asked[key]

    monkeypatch.setattr("vqbet_course.grading.diagnosis.outputs_of", ask_once)
    check, lab = all_checks()[exercise_id], lab_of(exercise_id)
    inputs = check.inputs(seed)
    names, solution = vars(judging.released_module(lab)), lab.exercises[exercise_id].solution
    expected = ask(check.probe, names[check.answer], inputs)
    assert not any(value.isnan().any() for value in expected.values() if value.is_floating_point())
    assert judging.verdict(check, lab, seed, expected).status == "passed"
    for misconception in check.misconceptions:
        under_test = misconception.source(solution)
        wrong = outputs_of(under_test, check, names, inputs)
        found = judging.verdict(check, lab, seed, wrong)
        assert (found.status, found.misconception) == ("wrong", misconception.name)
        assert found.hint == misconception.hint


def test_the_weights_of_a_configuration_are_named_where_an_exercise_asks_for_them() -> None:
    """A learner does not see the configuration's fields."""
    seen = set()
    for exercise_id, check in all_checks().items():
        solution = lab_of(exercise_id).exercises[exercise_id].solution
        weights = set(re.findall(r"\bc\.(\w+_weight)\b", solution))
        assert all(f"`{name}`" in blanked(solution, check.blanks()) for name in weights), exercise_id
        seen |= weights
    assert len(seen) == 3


@every_exercise
def test_inputs_are_drawn_anew(exercise_id: str) -> None:
    check = all_checks()[exercise_id]
    one, two = check.inputs(1), check.inputs(2)
    assert all(torch.equal(value, check.inputs(1)[name]) for name, value in one.items())
    assert any(name not in two or not torch.equal(value, two[name]) for name, value in one.items())


@every_exercise
def test_the_check_gives_no_solution_away(exercise_id: str) -> None:
    """What the sandbox gets to see: the probe, not what it compares with."""
    check, lab = all_checks()[exercise_id], lab_of(exercise_id)
    assert check.probe_source().count("def probe(") == 1
    assert "misconception" not in check.probe_source().lower()
    assert all(lab.exercises[exercise_id].solution not in source for source in lab.before(lab.exercises[exercise_id]))


def test_a_misconception_of_another_solution_is_refused() -> None:
    with pytest.raises(BadInput, match="0 times"):
        Misconception("none", {"argmin": "argmax"}, "").source("return 1")


def test_an_accident_is_no_refusal() -> None:
    assert refuses(lambda: int("x")) is True and refuses(lambda: [][1]) == OTHER_ERROR and not refuses(lambda: 1)


# --- student editions ---------------------------------------------------------------------------------------


@every_lab
def test_student_editions_are_in_step_with_the_lessons(name: str) -> None:
    assert (LABS / f"{name}.ipynb").read_text(encoding="utf-8") == student_edition(all_labs()[name]), "run make labs"


def test_there_is_an_edition_of_every_lab_and_no_other() -> None:
    assert sorted(path.stem for path in LABS.glob("*.ipynb")) == sorted(all_labs())


@every_lab
def test_an_edition_is_a_clean_notebook_without_solutions(name: str) -> None:
    notebook = json.loads((LABS / f"{name}.ipynb").read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook["cells"])
    for exercise in all_labs()[name].exercises.values():
        at = ids.index(exercise.cell_id)
        blank, checked, released = (source_of(notebook["cells"][at + i]) for i in range(3))
        assert "raise NotImplementedError" in blank and '"""' in blank
        assert checked == f"check({all_checks()[exercise.id].answer})" and released.startswith("from vqbet_course.")


def test_a_teachers_edition_has_every_solution_with_an_explanation() -> None:
    assert set(EXPLANATIONS) == set(IDS)
    for lab in all_labs().values():
        text = student_edition(lab, teacher=True)
        nbformat.validate(json.loads(text))
        cells = {cell["id"]: source_of(cell) for cell in json.loads(text)["cells"]}
        for exercise in lab.exercises.values():
            folded = cells[f"{exercise.cell_id}-solution"]
            assert EXPLANATIONS[exercise.id] in folded and exercise.solution.splitlines()[-1] in folded


@every_lab
def test_hints_render_as_markdown(name: str) -> None:
    """JupyterLab reads Markdown inside <details> only after an empty line."""
    for cell in json.loads((LABS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["id"].endswith("-task"):
            assert "</summary>\n\n" in source_of(cell)


def test_blanking_keeps_signature_and_docstring() -> None:
    source = (
        'class A:\n    @property\n    def b(self) -> int:\n        """Say b."""\n        return 1\n\n'
        "    def c(self): return 2\n"
    )
    assert blanked(source, ("b",)) == (
        'class A:\n    @property\n    def b(self) -> int:\n        """Say b."""\n        raise NotImplementedError\n\n'
        "    def c(self): return 2"
    )


def test_links_of_an_edition_lead_home() -> None:
    text = "[a](01_tokens.ipynb) [b](00_first_push.ipynb#x) ![c](images/c.png) [d](https://d.org/e.ipynb)"
    assert pointing_home(text, {"01_tokens"}) == (
        "[a](01_tokens.ipynb) [b](../nbs/00_first_push.ipynb#x) ![c](../nbs/images/c.png) [d](https://d.org/e.ipynb)"
    )
