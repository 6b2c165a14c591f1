"""A label is given where the trace can tell, with evidence; a person may overrule it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small import write_npz

from vqbet_course.core.errors import BadInput
from vqbet_course.demos import Normalizer, load_demos
from vqbet_course.evaluation.behaviour import behaviour, jerk, offset_outweighs, switches
from vqbet_course.evaluation.failures import Known, failure_of, failures_of, keep_persons_word
from vqbet_course.rollout import Rollout
from vqbet_course.tasks import open_source
from vqbet_course.tasks.pusht.contract import PUSHT_TASK

pytestmark = pytest.mark.fast

N = 300


def trace(**changes: object) -> Rollout:
    """An episode that fails for no reason that a rule knows: it goes round slowly and touches nothing."""
    phase = np.linspace(0, 6, N)
    seen = [np.append(np.full(16, 200.0), [250 + 100 * np.cos(p), 250 + 100 * np.sin(p)]) for p in phase]
    actions = [s[-2:] for s in seen]
    plain = Rollout(
        7,
        coverage=[0.3] * N,
        observations=seen,
        truth=seen,
        actions=actions,
        tokens=[(1, 0)] * N,
        codes=actions,
        offsets=[np.zeros(2)] * N,
        decided=[True, False, False, False] * (N // 4),
        latency_ms=[2.0] * N,
        intervention=[""] * N,
        contact=[0] * N,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def label(episode: Rollout, known: Known | None = None) -> str:
    return failure_of(episode, PUSHT_TASK, known).label


def test_rules_of_a_task_come_first_also_under_the_name_of_a_general_one() -> None:
    off = [o + 9 for o in trace().truth]  # by the general rules: state estimation
    mine = {"fell over": lambda *_: None, "planning": lambda *_: "by the rule of the task"}
    found = failures_of([trace(observations=off)], PUSHT_TASK, None, mine)
    assert found["7"] == {"label": "planning", "evidence": "by the rule of the task", "person": None}


def test_where_no_rule_applies_it_says_so() -> None:
    assert label(trace()) == "unlabelled"


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ("evaluation", {"coverage": [0.3] * (N - 20) + list(np.linspace(0.4, 0.9, 20))}),
        ("evaluation", {"coverage": [0.3] * (N - 1) + [float("nan")]}),
        ("perception", {"observations": [trace().truth[i - i % 4] for i in range(N)]}),
        ("state estimation", {"observations": [o + 9 for o in trace().truth]}),
        ("timing", {"latency_ms": [2.0, 2.0, 2.0, 150.0] * (N // 4)}),
        ("control", {"actions": [np.array([0.0, 100.0])] * N}),
        ("control", {"actions": [np.array([100.0 + 50 * (i % 2), 100.0]) for i in range(N)]}),
        ("planning", {"contact": [i // 10 % 2 for i in range(N)]}),
    ],
)
def test_each_rule_finds_its_fault(expected: str, changes: dict[str, object]) -> None:
    found = failure_of(trace(**changes), PUSHT_TASK)
    assert found.label == expected and len(found.evidence) > 10


@pytest.mark.parametrize(
    "changes",
    [
        {"latency_ms": [150.0] * N, "batch": 20},  # the clock of a batch says nothing about one robot
        {"latency_ms": [2.0] * (N - 10) + [150.0] * 10},
        {"contact": [None] * N},  # the environment does not tell
        {"contact": [i // 10 % 2 for i in range(N)], "coverage": list(np.linspace(0.1, 0.4, N))},  # it makes progress
        {"observations": [o + 3 for o in trace().truth]},
    ],
)
def test_no_rule_speaks_where_the_trace_cannot_tell(changes: dict[str, object]) -> None:
    assert label(trace(**changes)) == "unlabelled"


def test_states_far_from_all_demonstrations(tmp_path: Path) -> None:
    demos = load_demos(open_source(write_npz(tmp_path / "d.npz")))
    known = Known.of(demos, Normalizer.fit(demos))
    rows = [
        np.append(demos.observation["observation.environment_state"][i], demos.observation["observation.state"][i])
        for i in range(100)
    ]
    near = trace(truth=rows, observations=rows)
    assert label(near, known) == "unlabelled"
    away = [row + 400 for row in rows]
    assert label(trace(truth=away, observations=away), known) == "data coverage"


def test_only_failed_episodes_have_a_label() -> None:
    found = failures_of([trace(), replace(trace(), seed=8, success=True)], PUSHT_TASK, None)
    assert found.keys() == {"7"} and found["7"]["person"] is None


def test_a_persons_word_stays_beside_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "failures.json"
    found = failures_of([trace()], PUSHT_TASK, None)
    keep_persons_word(path, found)
    edited = json.loads(path.read_text())
    edited["7"]["person"] = "control"
    path.write_text(json.dumps(edited))
    kept = keep_persons_word(path, found)
    assert kept == json.loads(path.read_text())
    assert (kept["7"]["label"], kept["7"]["person"]) == ("unlabelled", "control")
    assert keep_persons_word(path, {}) == {}  # fewer episodes this time
    assert keep_persons_word(path, found) == kept


@pytest.mark.parametrize(
    ("content", "why"),
    [('{"7": {"person": "bad luck"}}', "'bad luck' is not a label"), ("{", "not readable"), ("[1]", "not readable")],
)
def test_a_file_of_labels_that_is_none_is_left_alone(content: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "failures.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=why):
        keep_persons_word(path, failures_of([trace()], PUSHT_TASK, None))
    assert path.read_text() == content


# --- behaviour ----------------------------------------------------------------------------------------------------


def test_switches_are_between_decisions() -> None:
    said: list[tuple[int, ...]] = [(1, 0), (1, 9), (1, 3), (2, 3), (2, 3), (1, 3)]
    assert switches(Rollout(0, tokens=said, decided=[True] * 6)) == 2
    assert switches(Rollout(0, tokens=said, decided=[True, False, False, True, False, False])) == 1


def test_jerk_is_the_third_difference() -> None:
    t = np.arange(10.0)
    assert jerk(Rollout(0, actions=[np.array([x**2, 5.0]) for x in t])) == pytest.approx(0)
    assert jerk(Rollout(0, actions=[np.array([x**3, x**3]) for x in t])) == pytest.approx(6 * np.sqrt(2))
    assert jerk(Rollout(0, actions=[np.zeros(2)])) == 0


def test_an_offset_outweighs_a_code_that_asks_for_a_shorter_move() -> None:
    here, code = np.array([0.0, 0.0, 100.0, 100.0]), np.array([103.0, 104.0])  # a move of 5
    episode = Rollout(
        0,
        observations=[here, here + 50],
        codes=[code, code],
        offsets=[np.array([4.0, 0.0]), np.array([6.0, 0.0])],
        decided=[True, False],
    )
    assert offset_outweighs(episode) == 0.5  # told from where it was decided, not from where it is by then


def test_a_policy_without_codes_has_no_figures_of_codes() -> None:
    figures = behaviour([trace(tokens=[()] * N)])
    assert figures["token_switches"] is None and figures["offset_outweighs"] is None and figures["jerk"] is not None
