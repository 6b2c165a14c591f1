"""What `check` says: in the notebook an answer is run as it is graded."""

import linecache
from collections.abc import Iterator
from types import FunctionType

import pytest

from vqbet_course.grading import check, feedback, judging
from vqbet_course.grading.checks import all_checks
from vqbet_course.grading.lessons import lab_of
from vqbet_course.grading.sandbox import Sandbox, end_kept

SOLUTION = lab_of("1.2").exercises["1.2"].solution


@pytest.fixture(scope="module", autouse=True)
def one_sandbox() -> Iterator[None]:
    """All tests of this file share a sandbox of lab 01."""
    yield
    end_kept()


def in_a_cell(exercise_id: str, source: str) -> FunctionType:
    """A student's function, from a cell whose source is known, as in Jupyter."""
    linecache.cache["<cell>"] = (len(source), None, source.splitlines(keepends=True), "<cell>")
    names = dict(vars(judging.released_module(lab_of(exercise_id)))) | {"__name__": "__main__"}
    exec(compile(source, "<cell>", "exec"), names)
    return names[all_checks()[exercise_id].answer]


def said(capsys: pytest.CaptureFixture[str], answer: object) -> str:
    check(answer)  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_check_says_passed_and_counts_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert "1.2 nearest_code: passed" in said(capsys, in_a_cell("1.2", SOLUTION))
    card = feedback.card_of(in_a_cell("1.2", SOLUTION))
    assert card.points.endswith("of 10 points") and int(card.points.split()[0]) >= 2
    assert "1.2 nearest_code" in card.html() and "passed" in card.html()


def test_check_names_the_misconception_and_gives_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = all_checks()["1.2"].misconceptions[1]
    answer = in_a_cell("1.2", wrong.source(SOLUTION))
    told = said(capsys, answer)
    assert wrong.name in told and wrong.hint in told
    assert wrong.name in feedback.card_of(answer).html()


@pytest.mark.parametrize(
    "body, words",
    [
        ("raise NotImplementedError", "not attempted"),
        ("raise SystemExit", "SystemExit"),
        ("return None", "returns nothing"),
        ("return torch.zeros(3).long()", "shape"),
        ("return chunks[:, 0]", "type"),
        ("return absent", "`absent` is missing in line 2"),
        ("raise KeyError('<b>words')", "<b>words"),
        ("return (chunks.zero_().sum(1) > 1).long()", "changes its input `chunks`"),
    ],
)
def test_check_reports_and_never_raises(body: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = in_a_cell("1.2", f"def nearest_code(chunks, codebook):\n    {body}")
    assert words in said(capsys, answer)
    assert "<b>" not in feedback.card_of(answer).html().replace("<b>✗", "").replace("<b>○", "")


def test_an_interrupt_is_told_and_the_next_check_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Sandbox, "run", interrupted)
        assert "interrupted" in said(capsys, in_a_cell("1.2", SOLUTION))
    assert "passed" in said(capsys, in_a_cell("1.2", SOLUTION))


def test_helpers_of_other_cells_come_along(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    taking = SOLUTION.replace("return squared_distances(", "return mine(")
    helper = "%matplotlib inline\ndef mine(a, b):\n    return torch.cdist(a, b)"
    monkeypatch.setattr(feedback, "executed_cells", lambda: [helper, taking])
    assert "passed" in said(capsys, in_a_cell("1.2", taking))


def test_a_constant_of_another_cell_counts_though_the_lesson_says_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taking = SOLUTION.replace("squared_distances(chunks", "squared_distances(far * chunks / far")
    monkeypatch.setattr(feedback, "executed_cells", lambda: ["far = 10000.0", taking])
    assert taking != SOLUTION and "passed" in said(capsys, in_a_cell("1.2", taking))


def test_an_odd_character_takes_no_line_of_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    source = 'def nearest_code(chunks, codebook):\n    """\x0c\u2028"""\n    return absent'
    monkeypatch.setattr(feedback, "executed_cells", lambda: [source])
    answer = in_a_cell("1.2", source)
    linecache.cache["<cell>"] = (1, None, [line + "\n" for line in source.splitlines()], "<cell>")  # as IPython does
    assert "missing in line 3" in feedback.card_of(answer).verdict.message


def test_a_syntax_error_is_told_with_the_verdict_on_the_version_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "executed_cells", lambda: [SOLUTION, "def nearest_code(:\n    pass"])
    assert "passed" in (told := said(capsys, in_a_cell("1.2", SOLUTION))) and "syntax error" in told


def test_check_knows_the_released_function_and_strangers(capsys: pytest.CaptureFixture[str]) -> None:
    from vqbet_course.tokens import nearest_code

    assert "released" in said(capsys, nearest_code)
    assert "no exercise" in said(capsys, said) and "no exercise" in said(capsys, 3)
