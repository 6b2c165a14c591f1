"""What a training says before it begins."""

from pathlib import Path

import numpy as np
import pytest
from small import CONFIG, write_npz

from vqbet_course.cli import main
from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.demos import Demos
from vqbet_course.training import trainer
from vqbet_course.training.announce import relative_note
from vqbet_course.training.data import RELATIVE, Fitted, stated_changes
from vqbet_course.training.runs import load_run

NUMBERS = np.linspace(0, 1, 40, dtype=np.float32).reshape(20, 2)
POSITIONS = ["pan.pos", "lift.pos"]
STATE = "observation.state"


def demos(units: dict[str, str] | None = None, names: dict[str, list[str]] | None = None) -> Demos:
    return Demos({STATE: NUMBERS}, NUMBERS, np.array([20]), 10.0, "there", units or {}, names or {})


@pytest.mark.parametrize(
    ("units", "names", "relative"),
    [
        ({}, {}, False),
        ({STATE: "deg", "action": "deg"}, {}, None),
        ({STATE: "deg,%", "action": "deg,%"}, {}, None),
        ({STATE: "unstated,%", "action": "unstated,%"}, {}, False),
        ({STATE: "deg", "action": "rad"}, dict.fromkeys((STATE, "action"), POSITIONS), False),
        ({}, dict.fromkeys((STATE, "action"), POSITIONS), True),
        ({}, {STATE: POSITIONS, "action": POSITIONS[::-1]}, False),
        ({}, {STATE: ["x", "y"], "action": ["x", "y"]}, False),
    ],
)
def test_actions_are_relative_where_they_are_the_same_quantities(
    units: dict[str, str], names: dict[str, list[str]], relative: bool | None
) -> None:
    assert stated_changes(demos(units, names).contract).get(RELATIVE) is relative


@pytest.mark.parametrize(
    ("units", "names", "said"),
    [
        ({}, {}, "--unit action=UNIT"),
        ({STATE: "unstated,%", "action": "unstated,%"}, {}, "--unit action=UNIT"),
        ({STATE: "deg", "action": "rad"}, {}, None),
        ({STATE: "deg", "action": "deg"}, {}, "positions of observation.state"),
        ({}, dict.fromkeys((STATE, "action"), POSITIONS), None),
    ],
)
def test_a_note_says_why_where_nothing_states_it(
    units: dict[str, str], names: dict[str, list[str]], said: str | None
) -> None:
    note = relative_note(demos(units, names), "--set it")
    assert note is None if said is None else note is not None and said in note and note.endswith("--set it")


def test_what_is_set_by_hand_has_no_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "raw.npz", state=NUMBERS, action=NUMBERS, episode_ends=[20])
    data = str(tmp_path / "data")
    assert main(["demos", "convert", str(tmp_path / "raw.npz"), "--fps", "10", "--out", data]) == 0

    def noted(out: str, config: VQBeTConfig | Fitted) -> bool:
        trainer.train(data, tmp_path / out, Budget(steps=3), config)
        return "note: " in capsys.readouterr().err

    assert noted("found", Fitted({"gpt_n_layer": 1}))
    assert not noted("told", Fitted({"gpt_n_layer": 1, RELATIVE: False}))
    assert not noted("whole", load_run(tmp_path / "found").policy.config)


def test_the_first_line_comes_before_the_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, read = write_npz(tmp_path / "data.npz"), trainer.load_demos

    def late(*arguments: object) -> Demos:
        assert capsys.readouterr().err.startswith(f"training on {data} into {tmp_path / 'run'}: 3 steps\n")
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "load_demos", late)
    trainer.train(data, tmp_path / "run", Budget(steps=3), CONFIG)
    said = capsys.readouterr().err.splitlines()
    assert (
        said[0].startswith("3 episodes, 120 frames; sees ")
        and said[1] == "3 steps: 1 of the tokenizer, 2 of the policy"
    )
