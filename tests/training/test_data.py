"""What is made of demonstrations before training: relative or absolute actions, and which episodes can be used."""

import json
from pathlib import Path

import numpy as np
import pytest
from small import arrays, write_npz

from vqbet_course.cli import main
from vqbet_course.core.budget import Budget
from vqbet_course.core.errors import BadInput
from vqbet_course.demos import Demos, load_demos
from vqbet_course.experiments.panel import Settings, run_panel
from vqbet_course.tasks import open_source
from vqbet_course.training.data import are_positions, fitting, laptop_changes, stated_changes
from vqbet_course.training.runs import load_run, read_plan
from vqbet_course.training.trainer import train_further

STATE = "observation.state"


def line(gain: float, offset: float = 0.0, unit: str = "m") -> Demos:
    """Two episodes of a point that goes to 0 by at most 5 cm a step; actions are `gain` x its displacement, added to
    `offset` x where it is."""
    places, actions, ends = [], [], []
    for place in (0.8, -0.7):
        for _ in range(30):
            move = np.clip(-place, -0.05, 0.05)
            places.append([place])
            actions.append([gain * move + offset * place])
            place += move
        ends.append(len(places))
    state, action = np.array(places, np.float32), np.array(actions, np.float32)
    return Demos({STATE: state}, action, np.array(ends), 10.0, "line", {STATE: unit, "action": unit})


@pytest.mark.fast
@pytest.mark.parametrize(
    ("demos", "positions"),
    [
        (line(gain=1), False),  # displacements
        (line(gain=10), False),  # velocities, in m/s
        (line(gain=1, offset=1), True),  # where it is to be next
        (line(gain=4, offset=1), True),  # a target ahead of it, as a controller that lags behind needs
        (line(gain=0, offset=1), True),  # where it is
    ],
)
def test_actions_are_relative_where_they_are_positions(demos: Demos, positions: bool) -> None:
    assert are_positions(demos) is positions
    assert laptop_changes(demos) == {"use_relative_actions": positions}
    assert fitting(demos).use_relative_actions is positions


@pytest.mark.fast
def test_what_a_contract_or_a_task_states_is_not_guessed() -> None:
    unknown = line(gain=1, offset=1, unit="unstated")
    assert laptop_changes(unknown) == {"use_relative_actions": False}
    assert "use_relative_actions" not in stated_changes(line(gain=1).contract)
    pusht = load_demos(open_source("demo"))
    assert stated_changes(pusht.contract)["use_relative_actions"] and are_positions(pusht)


REACH = """
import gymnasium as gym, numpy as np
from vqbet_course.core.specs import Contract, Field, TaskContract

class Reach(gym.Env):
    contract = TaskContract("a point", Contract({"observation.state": Field(1, "m")}, Field(1, "m"), 10.0),
                            (-0.05, 0.05), 100.0, 60, "a place", "near the origin")
"""


def test_training_says_how_it_reads_actions_and_how_to_say_it_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "displaced.py").write_text(REACH)
    demos = line(gain=1)
    np.savez("line.npz", state=demos.observation[STATE], action=demos.action, episode_ends=demos.episode_ends)
    asked = ["train", "--task", "displaced:Reach", "--data", "line.npz", "--steps", "3"]
    for out, setting in (("found", []), ("told", ["--set", "use_relative_actions=true"])):
        assert main([*asked, "--out", out, *setting]) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if "displacements" in line]
        relative = json.loads((tmp_path / out / "config.json").read_text())["use_relative_actions"]
        assert (relative, len(said)) == ((True, 0) if setting else (False, 1))
        assert setting or "--set use_relative_actions=" in said[0]


def short(tmp_path: Path) -> str:
    """Five episodes; 1 and 3 are too short for a window."""
    return write_npz(tmp_path / "d.npz", **arrays((40, 3, 30, 2, 50)))


def test_episodes_that_are_too_short_are_named_with_a_remedy_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "--data", short(tmp_path), "--steps", "3", "--out", str(tmp_path / "run")]
    small = ["--set", "gpt_n_layer=1", "--no-augment"]
    assert main([*asked, *small]) == 2
    assert "--drop-episodes 1,3" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert main([*asked, *small, "--drop-episodes", "1"]) == 2
    assert "episodes 3;" in (said := capsys.readouterr().err) and "--drop-episodes 1,3" in said
    assert main([*asked, *small, "--drop-episodes", "1,3"]) == 0
    run = load_run(tmp_path / "run")
    assert len(load_demos(run.plan.open())) == 3 < len(load_demos(run.plan.open("demo")))
    assert read_plan(tmp_path / "run")[0].drop_episodes == "1,3"
    assert json.loads((tmp_path / "run" / "split.json").read_text())["n_episodes"] == 3
    other = write_npz(tmp_path / "other.npz", **arrays((40, 30)))  # the same numbers name other episodes there
    train_further(run, other, tmp_path / "further", steps=2, quiet=True)
    assert len(load_demos(read_plan(tmp_path / "further")[0].open())) == 2


def test_a_split_and_dropped_episodes_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, split = short(tmp_path), str(tmp_path / "split.json")
    assert main(["demos", "split", data, "--train", "3", "--val", "1", "--out", split]) == 0
    asked = ["train", "--data", data, "--steps", "3", "--out", str(tmp_path / "run"), "--split", split]
    assert main([*asked, "--drop-episodes", "1"]) == 2
    assert "leave --drop-episodes out" in capsys.readouterr().err


def test_a_panel_names_the_episodes_that_are_too_short(tmp_path: Path) -> None:
    settings = Settings(short(tmp_path), demos=2, episodes=1, budget=Budget(steps=3))
    with pytest.raises(BadInput, match="episodes 1,3; .* demos convert .* --drop-episodes 1,3"):
        run_panel(["bc"], [1], settings, tmp_path / "p", quiet=True)
    assert not (tmp_path / "p").exists()
