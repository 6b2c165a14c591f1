"""The contract between data, policy and environment."""
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqbet_course.contract import PUSHT, BadInput, Contract, Field

a_size = st.integers(1, 99) | st.tuples(st.integers(1, 99), st.integers(1, 99), st.just(3))
a_field = st.builds(Field, a_size, st.sampled_from(["px", "rad", "unstated"]), st.none() | st.floats(-9, 9))
a_contract = st.builds(Contract, st.dictionaries(st.text(min_size=1, max_size=5), a_field, max_size=3), a_field,
                       st.floats(0.1, 1000))


def test_bad_input_is_a_value_error() -> None:
    assert issubclass(BadInput, ValueError)


@settings(max_examples=25, deadline=None)
@given(a_contract)
def test_a_contract_survives_json_and_agrees_with_itself(contract: Contract) -> None:
    again = Contract.from_dict(json.loads(json.dumps(contract.to_dict())))
    assert again == contract
    assert contract.difference(again) is None


@pytest.mark.parametrize(("other", "said"), [
    (Contract(PUSHT.observation, Field(2, "rad"), 10.0), "action: 2 numbers in px against 2 numbers in rad"),
    (Contract(PUSHT.observation, PUSHT.action, 30.0), "fps: 10 against 30"),
    (Contract({"observation.state": Field(2, "px")}, PUSHT.action, 10.0),
     "observation.environment_state: 16 numbers in px against absent"),
    (Contract(PUSHT.observation | {"observation.image": Field((96, 96, 3))}, PUSHT.action, 10.0),
     "observation.image: absent against an image of 96 x 96 x 3"),
])
def test_a_difference_names_the_field_and_both_sides(other: Contract, said: str) -> None:
    assert PUSHT.difference(other) == said


def test_a_range_travels_but_makes_no_difference() -> None:
    narrow = Contract(PUSHT.observation, Field(2, "px", 100.0, 200.0), 10.0)
    assert narrow == PUSHT and PUSHT.difference(narrow) is None
    again = Contract.from_dict(json.loads(json.dumps(narrow.to_dict())))
    assert (again.action.low, again.action.high) == (100.0, 200.0)


@pytest.mark.parametrize("values", [
    {}, {"observation": {}, "action": {"size": 2}}, {"observation": {}, "action": {"width": 2}, "fps": 10},
    {"observation": {}, "action": {"size": 2}, "fps": "fast"}, {"observation": {"x": 3}, "action": {"size": 2}, "fps": 1},
    {"observation": [1], "action": {"size": 2}, "fps": 10}, []])
def test_a_malformed_contract_is_refused_in_one_line(values: object) -> None:
    with pytest.raises(BadInput) as caught:
        Contract.from_dict(values)  # type: ignore[arg-type]
    assert "contract" in str(caught.value) and "\n" not in str(caught.value)
