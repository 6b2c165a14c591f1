"""The contract between data, policy and environment."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract, Field, TaskContract
from vqbet_course.tasks.pusht.contract import PUSHT, PUSHT_TASK

pytestmark = pytest.mark.fast

a_size = st.integers(1, 99) | st.tuples(st.integers(1, 99), st.integers(1, 99), st.just(3))
a_field = st.builds(Field, a_size, st.sampled_from(["px", "rad", "unstated"]), st.none() | st.floats(-9, 9))
a_contract = st.builds(
    Contract, st.dictionaries(st.text(min_size=1, max_size=5), a_field, max_size=3), a_field, st.floats(0.1, 1000)
)


def test_bad_input_is_a_value_error() -> None:
    assert issubclass(BadInput, ValueError)


@settings(max_examples=25, deadline=None)
@given(a_contract)
def test_a_contract_survives_json_and_agrees_with_itself(contract: Contract) -> None:
    again = Contract.from_dict(json.loads(json.dumps(contract.to_dict())))
    assert again == contract
    assert contract.difference(again) is None


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Contract(PUSHT.observation, Field(2, "rad"), 10.0), "action: 2 numbers in px against 2 numbers in rad"),
        (Contract(PUSHT.observation, PUSHT.action, 30.0), "fps: 10 against 30"),
        (
            Contract({"observation.state": Field(2, "px")}, PUSHT.action, 10.0),
            "observation.environment_state: 16 numbers in px against absent",
        ),
        (
            Contract(PUSHT.observation | {"observation.image": Field((96, 96, 3))}, PUSHT.action, 10.0),
            "observation.image: absent against an image of 96 x 96 x 3",
        ),
    ],
)
def test_a_difference_names_the_field_and_both_sides(other: Contract, said: str) -> None:
    assert PUSHT.difference(other) == said


def test_a_range_travels_but_makes_no_difference() -> None:
    narrow = Contract(PUSHT.observation, Field(2, "px", 100.0, 200.0), 10.0)
    assert narrow == PUSHT and PUSHT.difference(narrow) is None
    again = Contract.from_dict(json.loads(json.dumps(narrow.to_dict())))
    assert (again.action.low, again.action.high) == (100.0, 200.0)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"observation": {}, "action": {"size": 2}},
        {"observation": {}, "action": {"width": 2}, "fps": 10},
        {"observation": {}, "action": {"size": 2, "unit": ["px"]}, "fps": 10},
        {"observation": {}, "action": {"size": 2}, "fps": "fast"},
        {"observation": {"x": 3}, "action": {"size": 2}, "fps": 1},
        {"observation": [1], "action": {"size": 2}, "fps": 10},
        [],
    ],
)
def test_a_malformed_contract_is_refused_in_one_line(values: object) -> None:
    with pytest.raises(BadInput) as caught:
        Contract.from_dict(values)  # type: ignore[arg-type]
    assert "contract" in str(caught.value) and "\n" not in str(caught.value)


# --- the task -----------------------------------------------------------------------------------------------------


def test_a_task_contract_survives_json() -> None:
    assert TaskContract.from_dict(json.loads(json.dumps(PUSHT_TASK.to_dict()))) == PUSHT_TASK


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"horizon": 200}, "horizon: 300 against 200"),
        ({"robot": "an arm"}, "robot: .* against an arm"),
        ({"timing_budget_ms": 20.0}, "timing_budget_ms: 100.0 against 20.0"),
        ({"seeding": "none"}, "seeding: "),
        ({"action_bounds": (0.0, 96.0)}, "action_bounds: "),
        ({"success": "at the end"}, "success: "),
        ({"resets": "anywhere"}, "resets: "),
        ({"data": replace(PUSHT_TASK.data, fps=5.0)}, "fps: 10 against 5"),
    ],
)
def test_two_tasks_differ_in_a_field_that_is_named(change: dict[str, Any], said: str) -> None:
    assert PUSHT_TASK.difference(PUSHT_TASK) is None
    assert re.match(said, PUSHT_TASK.difference(replace(PUSHT_TASK, **change)) or "")


@pytest.mark.parametrize("damage", [{"action_bounds": None}, {"data": {}}, {"surprise": 1}])
def test_a_task_contract_that_is_none(damage: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="contract"):
        TaskContract.from_dict(PUSHT_TASK.to_dict() | damage)
