"""What a wrong answer is told: most get the right kind of mistake, none a wrong one, and the rest an example."""

from typing import Any

import pytest
import torch
from wrong_answers import WRONG

from vqbet_course.grading import judging
from vqbet_course.grading.checks import Misconception, all_checks
from vqbet_course.grading.diagnosis import known_relation, outputs_of, smallest_example
from vqbet_course.grading.grades import Verdict
from vqbet_course.grading.lessons import lab_of
from vqbet_course.grading.mutation import DETACHED, OFF_BY_ONE, SIGN, TRANSPOSE


def diagnosed(exercise_id: str, edits: dict[str, str], seed: int) -> Verdict:
    """The verdict on the solution with these edits."""
    check, lab = all_checks()[exercise_id], lab_of(exercise_id)
    source = Misconception("", edits, "").source(lab.exercises[exercise_id].solution)
    try:
        outputs = outputs_of(source, check, vars(judging.released_module(lab)), check.inputs(seed))
    except Exception as error:
        return Verdict("error", repr(error)[:80])
    return judging.verdict(check, lab, seed, outputs)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_most_wrong_answers_get_the_right_diagnosis_and_none_a_wrong_one() -> None:
    right, wrong, silent = list[tuple[Any, ...]](), list[tuple[Any, ...]](), list[tuple[Any, ...]]()
    for seed, (exercise_id, edits, kinds) in enumerate(WRONG):
        found = diagnosed(exercise_id, edits, seed)
        if found.status == "error":  # a student is told the line
            silent.append((exercise_id, edits, found.message))
            continue
        said = found.misconception
        own = {known.name for known in all_checks()[exercise_id].misconceptions if known.edits == edits}
        known = said in own or any(said.startswith(kind) for kind in kinds)
        known = known or (DETACHED in kinds and said.startswith("the values are right"))
        (right if said and known else wrong if said else silent).append((exercise_id, edits, said or found.example))
    print(len(right), len(wrong), len(silent), *silent, *wrong, sep="\n")
    assert not wrong
    assert len(right) >= 0.6 * len(WRONG)


@pytest.mark.parametrize(
    "exercise_id, edits, kind",
    [
        ("1.2", {".argmin(dim=1)": ".argmin(dim=1) + 1"}, OFF_BY_ONE),
        ("6.3", {"for i in range(n)": "for i in range(1, n + 1)"}, OFF_BY_ONE),
        ("3.3", {"out.recon_loss + commit_weight": "out.recon_loss - commit_weight"}, SIGN),
        ("5.1", {".mean()": ".mean().detach()"}, "the values are right, but no gradient arrives"),
    ],
)
def test_a_kind_of_mistake_is_named(exercise_id: str, edits: dict[str, str], kind: str) -> None:
    assert diagnosed(exercise_id, edits, 1).misconception.startswith(kind)


def test_what_has_no_name_gets_the_smallest_example() -> None:
    found = diagnosed("8.2", {"math.cos(math.pi": "math.sin(math.pi"}, 1)
    assert (
        not found.misconception
        and "expected" in found.example
        and "got" in found.example
        and "steps = " in found.example
    )


def test_relations_hold_for_all_outputs_or_are_not_told() -> None:
    right = {"0.a": torch.arange(12.0).view(3, 4) + 1, "0.b": torch.arange(5)}
    assert known_relation(right, right | {"0.a": right["0.a"].T})[0] == TRANSPOSE
    assert known_relation(right, {"0.a": right["0.a"].T, "0.b": right["0.b"] + 1})[0] == ""
    assert known_relation(right, right | {"0.a": 3 * right["0.a"]})[0].endswith("3 times what is expected")
    assert known_relation(right, right | {"0.b": torch.arange(6)})[0].startswith(OFF_BY_ONE)


def test_an_example_is_of_numbers_and_says_no_shape_twice() -> None:
    right = {"0.tokens": torch.arange(27), "0.count": torch.tensor(3), "0.is refused": torch.tensor(True)}
    wrong = {"0.tokens": torch.ones(27, 4), "0.count": torch.tensor(4), "0.is refused": torch.tensor(False)}
    differ = lambda one, other: one.shape != other.shape or not torch.equal(one.double(), other.double())
    assert smallest_example({}, right, wrong, differ) == "`count`: expected 3, got 4"
    del right["0.count"]
    assert smallest_example({}, right, wrong, differ) == ""
    del right["0.tokens"]
    assert smallest_example({}, right, wrong, differ) == "`is refused`: expected True, got False"


def test_an_example_is_of_values_where_they_are_wrong_and_not_of_their_gradients() -> None:
    right = {"0.tokens": torch.arange(9.0), "0.gradient at the parameters": torch.tensor([1.0])}
    wrong = {"0.tokens": torch.ones(9), "0.gradient at the parameters": torch.tensor([2.0])}
    differ = lambda one, other: not torch.equal(one, other)
    assert smallest_example({}, right, wrong, differ).startswith("`tokens`[0]: expected 0, got 1")
    assert "gradient" in smallest_example({}, right, wrong | {"0.tokens": right["0.tokens"]}, differ)
