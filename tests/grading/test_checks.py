"""Exercises, their checks and the student editions: solutions pass, misconceptions are recognised."""
import json
import linecache
from types import FunctionType

import nbformat
import pytest
import torch

from vqbet_course.core.errors import BadInput
from vqbet_course.core.notebooks import source_of
from vqbet_course.grading import check, judging
from vqbet_course.grading.checks import Misconception, all_checks
from vqbet_course.grading.editions import LABS, blanked, pointing_home, student_edition
from vqbet_course.grading.lessons import all_labs, lab_of
from vqbet_course.grading.runner import ask, refuses

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
def test_the_solution_passes_and_every_misconception_is_recognised(exercise_id: str, seed: int) -> None:
    check, lab = all_checks()[exercise_id], lab_of(exercise_id)
    inputs = check.inputs(seed)
    expected = ask(check.probe, getattr(judging.released_module(lab), check.answer), inputs)
    assert not any(value.isnan().any() for value in expected.values() if value.is_floating_point())
    assert judging.verdict(check, lab, seed, expected).status == "passed"
    for misconception in check.misconceptions:
        found = judging.verdict(check, lab, seed, judging.outputs_of(misconception, check, lab, inputs))
        assert (found.status, found.misconception) == ("wrong", misconception.name)
        assert found.hint == misconception.hint


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


# --- feedback in the notebook -------------------------------------------------------------------------------


def written(exercise_id: str, source: str | None = None) -> FunctionType:
    """A student's function, as a notebook would define it."""
    check, lab = all_checks()[exercise_id], lab_of(exercise_id)
    names = dict(vars(judging.released_module(lab))) | {"__name__": "__main__"}
    exec(lab.exercises[exercise_id].solution if source is None else source, names)
    return names[check.answer]


def said(capsys: pytest.CaptureFixture[str], answer: object) -> str:
    check(answer)  # type: ignore[arg-type]
    return capsys.readouterr().out


@pytest.mark.parametrize("exercise_id", ["1.2", "2.2", "7.1"])
def test_check_says_passed(exercise_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, written(exercise_id)).endswith("passed\n")


def test_check_names_the_misconception_and_gives_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = all_checks()["4.1"].misconceptions[0]
    told = said(capsys, written("4.1", wrong.source(lab_of("4.1").exercises["4.1"].solution)))
    assert wrong.name in told and wrong.hint in told


@pytest.mark.parametrize("body, words", [
    ("raise NotImplementedError", "not attempted"), ("raise SystemExit", "SystemExit"), ("return None", "raises"),
    ("return torch.zeros(3)", "shape"), ("return chunks[:, 0]", "type"), ("raise KeyboardInterrupt", "interrupted"),
    ("return (chunks.zero_().sum(1) > 1).long()", "changes its input"),
])
def test_check_reports_and_never_raises(body: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in said(capsys, written("1.2", f"def nearest_code(chunks, codebook):\n    {body}"))


def in_a_cell(exercise_id: str, source: str, **others: object) -> FunctionType:
    """A student's function, from a cell whose source is known, as in Jupyter, beside `others` of other cells."""
    linecache.cache["<cell>"] = (len(source), None, source.splitlines(keepends=True), "<cell>")
    names = dict(vars(judging.released_module(lab_of(exercise_id)))) | {"__name__": "__main__"} | others
    exec(compile(source, "<cell>", "exec"), names)
    return names[all_checks()[exercise_id].answer]


@pytest.mark.parametrize("exercise_id", ["4.2", "7.1", "8.1", "8.4"])
def test_check_runs_a_cell_alone_as_it_is_graded(exercise_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    solution = lab_of(exercise_id).exercises[exercise_id].solution
    assert said(capsys, in_a_cell(exercise_id, solution)).endswith("passed\n")


def test_check_tells_what_stands_in_another_cell(capsys: pytest.CaptureFixture[str]) -> None:
    taking = lab_of("4.2").exercises["4.2"].solution.replace("return x + self.mlp(", "return helper(x) + self.mlp(")
    told = said(capsys, in_a_cell("4.2", taking, helper=lambda x: x))
    assert "passed, but not alone" in told and f"NameError in line {len(taking.splitlines())}" in told


def test_no_gradient_and_no_number_are_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    detached = written("2.1", "def straight_through(x, quantized):\n    return quantized.detach()")
    assert "`gradient at x` is wrong" in said(capsys, detached)
    whole = lab_of("3.2").exercises["3.2"].solution.replace("self.vq(self.embed(chunks)).codes", "self.vq(self.embed(chunks))")
    assert "`encode` is a Quantized" in said(capsys, written("3.2", whole))


def test_an_accident_is_no_refusal() -> None:
    assert refuses(lambda: int("x")) and not refuses(lambda: [][1]) and not refuses(lambda: 1)


def test_check_tells_a_changed_input(capsys: pytest.CaptureFixture[str]) -> None:
    solution = lab_of("1.2").exercises["1.2"].solution
    changing = solution.replace(".argmin(dim=1)", ".argmin(dim=1) + 0 * chunks.mul_(2)[:, 0].long()")
    assert "changes its input `chunks`" in said(capsys, written("1.2", changing))


def test_check_knows_the_released_function_and_strangers(capsys: pytest.CaptureFixture[str]) -> None:
    from vqbet_course.tokens import nearest_code

    assert "released" in said(capsys, nearest_code)
    assert "no exercise" in said(capsys, said) and "no exercise" in said(capsys, 3)


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


def test_blanking_keeps_signature_and_docstring() -> None:
    source = ('class A:\n    @property\n    def b(self) -> int:\n        """Say b."""\n        return 1\n\n'
              "    def c(self): return 2\n")
    assert blanked(source, ("b",)) == (
        'class A:\n    @property\n    def b(self) -> int:\n        """Say b."""\n        raise NotImplementedError\n\n'
        "    def c(self): return 2")


def test_links_of_an_edition_lead_home() -> None:
    text = "[a](01_tokens.ipynb) [b](00_first_push.ipynb#x) ![c](images/c.png) [d](https://d.org/e.ipynb)"
    assert pointing_home(text, {"01_tokens"}) == (
        "[a](01_tokens.ipynb) [b](../nbs/00_first_push.ipynb#x) ![c](../nbs/images/c.png) [d](https://d.org/e.ipynb)")
