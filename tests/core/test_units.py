"""Units: one spelling for each, refused where unknown, of a whole feature or of one number."""

import pytest

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract, Field
from vqbet_course.core.units import known_unit, of_each, short, spelled, with_stated

SIZES = {"observation.state": 3, "action": 3}
NAMES = {name: ["pan.pos", "lift.pos", "gripper.pos"] for name in SIZES}


@pytest.mark.parametrize(
    ("written", "unit"),
    [("degrees", "deg"), ("Degree", "deg"), ("radian", "rad"), ("metres", "m"), ("percent", "%"), ("nm", "Nm")],
)
def test_usual_synonyms_have_one_spelling(written: str, unit: str) -> None:
    assert known_unit("--unit", written) == unit == known_unit("--unit", unit)
    assert Field.from_dict({"size": 2, "unit": written}).unit == unit


def test_an_unknown_unit_is_refused_with_the_known_ones() -> None:
    for text in ("furlong", "unstated", "deg,deg", ""):
        with pytest.raises(BadInput, match="known are deg, rad, m, "):
            known_unit("--unit action=x", text)
    assert spelled("furlong") == "furlong"  # a contract that somebody wrote stays readable


def test_units_are_those_of_features_and_of_single_numbers() -> None:
    stated = ["gripper.pos=percent", "observation.state=degrees", "action=deg"]
    assert with_stated({}, SIZES, NAMES, stated) == dict.fromkeys(SIZES, "deg,deg,%")
    assert with_stated({"action": "rad"}, SIZES, {}, []) == {"action": "rad"}
    assert with_stated({"action": "unstated,unstated,%"}, SIZES, {}, ["action=deg"]) == {"action": "deg,deg,%"}
    assert with_stated({}, SIZES, {"action": ["pan"]}, ["pan=deg"]) == {"action": "deg,unstated,unstated"}
    with pytest.raises(BadInput, match="--unit action=rad: .* of action is in deg already"):
        with_stated({"action": "deg"}, SIZES, NAMES, ["action=rad"])
    again = dict.fromkeys(SIZES, "deg,deg,%")
    assert with_stated(again, SIZES, NAMES, stated) == again  # the same said twice is no conflict
    assert spelled("degrees,deg") == "deg"
    assert of_each("deg,deg,%", 3) == ["deg", "deg", "%"] and of_each("deg", 2) == ["deg", "deg"]
    assert (short("deg"), short("deg,deg,%")) == ("deg", "mixed_units")
    with pytest.raises(BadInput, match=r"a feature out of observation.state, action, or a number out of gripper.pos"):
        with_stated({}, SIZES, NAMES, ["wrist=deg"])


def test_a_contract_keeps_the_names_and_units_of_its_numbers() -> None:
    field = Field(3, "deg,deg,%", names=("pan", "lift", "gripper"))
    contract = Contract.from_dict(Contract({"observation.state": field}, field, 30.0).to_dict())
    assert contract.action.names == field.names and contract.action.unit_of_each == ["deg", "deg", "%"]
    assert Field(2).name_of_each("action") == ["action_0", "action_1"]
    assert contract.difference(Contract({"observation.state": Field(3, "deg")}, field, 30.0)) is not None
