"""What is said of an answer that returns another thing than was asked for, or that is written in part; in this process."""

import pytest
from test_honest import run

from vqbet_course.grading.answers import Answer
from vqbet_course.grading.checks import Misconception, all_checks
from vqbet_course.grading.editions import blanked
from vqbet_course.grading.feedback import card_of
from vqbet_course.grading.grades import Verdict
from vqbet_course.grading.lessons import lab_of
from vqbet_course.grading.runner import OTHER_ERROR, refuses


def edited(exercise_id: str, edits: dict[str, str]) -> Verdict:
    """The verdict on the solution with some of its text replaced."""
    solution = lab_of(exercise_id).exercises[exercise_id].solution
    return run(exercise_id, Answer(Misconception("", edits, "").source(solution)))


RETURN_OF_STACK = "return Quantized(values, torch.stack(codes, dim=1), torch.stack(losses))"


@pytest.mark.parametrize(
    "exercise_id, edits, words",
    [
        ("2.3", {RETURN_OF_STACK: "pass"}, "it returns nothing"),
        ("2.3", {RETURN_OF_STACK: "return values, codes, losses"}, "`values` is missing in what it returns"),
        ("2.1", {"return x + (quantized - x).detach()": "return x, quantized"}, "cannot be used as the docstring says"),
        ("1.2", {"return squared_distances(": "return 3, squared_distances("}, "it returns a tuple where"),
        ("6.2", {'"primary_accuracy"': '"accuracy"'}, "`primary_accuracy` is missing in what it returns"),
        ("6.2", {"return loss, {": "return loss\n    {"}, "it returns one thing, two are asked for"),
    ],
)
def test_a_wrong_return_is_called_so(exercise_id: str, edits: dict[str, str], words: str) -> None:
    found = edited(exercise_id, edits)
    assert found.status == "error" and words in found.message and "raises" not in found.message


def test_a_tensor_is_not_taken_apart_where_two_things_are_asked_for() -> None:
    alone = "def interleave(tokens, query, n_future):\n    return tokens.flatten(1, 2)"
    assert run("6.1", Answer(alone)).message == "it returns one thing, two are asked for"


@pytest.mark.parametrize("source", ["def straight_through(x):\n    return x", "straight_through = 3"])
def test_how_an_answer_can_be_called_is_nothing_that_it_returns(source: str) -> None:
    assert "return" not in run("2.1", Answer(source)).message


def test_a_method_that_was_removed_is_named() -> None:
    assert edited("2.3", {"def lookup(": "def look_up("}).message == "the class has no `lookup`"


@pytest.mark.parametrize(
    "exercise_id, left, words",
    [
        ("2.2", ("revive",), "`revive` is still to be written"),
        ("2.2", ("ema_update", "revive"), "`ema_update` and `revive` are still to be written"),
        ("5.3", ("append_later",), "`append_later` is still to be written"),
    ],
)
def test_what_is_written_in_part_is_unfinished(exercise_id: str, left: tuple[str, ...], words: str) -> None:
    found = run(exercise_id, Answer(blanked(lab_of(exercise_id).exercises[exercise_id].solution, left)))
    assert (found.status, found.message) == ("unfinished", words)


def test_code_above_what_the_edition_raises_is_an_attempt() -> None:
    found = run("2.1", Answer("def straight_through(x, quantized):\n    y = x\n    raise NotImplementedError"))
    assert found.status == "unfinished" and "still in `straight_through`, in line 3" in found.message
    untouched = blanked(lab_of("2.2").exercises["2.2"].solution, all_checks()["2.2"].blanks())
    assert run("2.2", Answer(untouched)).status == "not attempted"


def test_an_error_of_the_course_is_called_by_its_name_and_one_of_a_learner_is_not() -> None:
    head = "def straight_through(x, quantized):\n    "
    assert "it raises BadInput: no in line" in (
        run("2.1", Answer(head + "raise BadInput('no')")).message.replace(
            " in line 2 of its cell: no", ": no in line 2"
        )
    )
    own = run("2.1", Answer("class Secret(Exception): 0\n\n" + head + "raise Secret")).message
    assert "an error of its own" in own and "Secret" not in own


def test_what_refuses_with_another_error_is_told_which_is_asked_for() -> None:
    assert refuses(lambda: [][1]) == OTHER_ERROR
    found = edited("2.2", {'raise BadInput(f"vectors': 'raise AssertionError(f"vectors'})
    assert (
        "`another width is refused` is wrong: an error is raised, but not one of the class ValueError" in found.message
    )
    assert not found.example


def test_the_name_of_an_answer_in_quotes_is_no_answer() -> None:
    assert "without quotes" in card_of("straight_through").verdict.message  # type: ignore[arg-type]


def test_codes_subtracted_after_they_moved_are_seen_in_training() -> None:
    found = edited("2.3", {"residual - step.values.detach()": "residual - layer.codebook[step.codes]"})
    assert found.misconception == "subtracts the codes after they moved"


@pytest.mark.parametrize(
    "instead",
    [
        "torch.searchsorted(cumulative, uniform.unsqueeze(-1)).squeeze(-1).clamp(max=logits.shape[-1] - 1)",
        "(cumulative < uniform.unsqueeze(-1)).sum(dim=-1)",
    ],
)
def test_a_draw_on_a_border_has_a_misconception_of_its_own(instead: str) -> None:
    found = edited("5.2", {"(cumulative <= uniform.unsqueeze(-1)).sum(dim=-1)": instead})
    assert found.misconception == "a draw on a border finds the code below it"


def test_rows_drawn_twice_are_not_called_off_by_one() -> None:
    rows = "torch.randperm(len(x), generator=generator)[:len(dead)]"
    other = "(torch.rand(len(dead), generator=generator) * len(x)).long()"
    same = "torch.randint(0, len(x), (len(dead),), generator=generator)"
    assert edited("2.2", {rows: same}).misconception == "the same row can be drawn twice"
    assert edited("2.2", {rows: other}).misconception in ("", "the same row can be drawn twice")
