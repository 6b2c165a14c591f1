"""What a training says before it begins."""

from pathlib import Path

import numpy as np
import pytest
from small import CONFIG, write_npz

from vqbet_course.demos import Demos
from vqbet_course.training import trainer
from vqbet_course.training.announce import announce_units
from vqbet_course.training.data import RELATIVE, fitting, stated_changes

NUMBERS = np.linspace(0, 1, 40, dtype=np.float32).reshape(20, 2)
POSITIONS = ["pan.pos", "lift.pos"]
STATE = "observation.state"


def demos(units: dict[str, str] | None = None, names: dict[str, list[str]] | None = None) -> Demos:
    return Demos({STATE: NUMBERS}, NUMBERS, np.array([20]), 10.0, "there", units or {}, names or {})


@pytest.mark.parametrize(
    ("units", "names", "relative"),
    [
        ({}, {}, False),
        ({STATE: "deg", "action": "deg"}, {}, True),
        ({STATE: "deg,%", "action": "deg,%"}, {}, True),
        ({STATE: "deg", "action": "rad"}, dict.fromkeys((STATE, "action"), POSITIONS), False),
        ({}, dict.fromkeys((STATE, "action"), POSITIONS), True),
        ({}, {STATE: POSITIONS, "action": POSITIONS[::-1]}, False),
        ({}, {STATE: ["x", "y"], "action": ["x", "y"]}, False),
    ],
)
def test_actions_are_relative_where_they_are_the_same_quantities(
    units: dict[str, str], names: dict[str, list[str]], relative: bool
) -> None:
    assert stated_changes(demos(units, names).contract).get(RELATIVE, True) is relative


def test_absolute_actions_for_want_of_units_are_said_with_what_changes_it(capsys: pytest.CaptureFixture[str]) -> None:
    config = fitting(demos())
    announce_units(demos(), config, {}, quiet=False)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--unit action=UNIT" in said and "--set use_relative_actions=true" in said
    announce_units(demos(), config, {"use_relative_actions": False}, quiet=False)
    announce_units(demos({STATE: "deg", "action": "rad"}), config, {}, quiet=False)
    announce_units(demos(), config, {}, quiet=True)
    assert capsys.readouterr().err == ""


def test_the_first_line_comes_before_the_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, read = write_npz(tmp_path / "data.npz"), trainer.load_demos

    def late(*arguments: object) -> Demos:
        assert capsys.readouterr().err.startswith(f"training on {data} into {tmp_path / 'run'}: 3 steps\n")
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "load_demos", late)
    trainer.train(data, tmp_path / "run", CONFIG, steps=3)
    said = capsys.readouterr().err.splitlines()
    assert (
        said[0].startswith("3 episodes, 120 frames; sees ")
        and said[1] == "3 steps: 1 of the tokenizer, 2 of the policy"
    )
