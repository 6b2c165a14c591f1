"""Driving by hand: what is recorded, where it goes, and what counts as taken over."""
import json
from pathlib import Path

import numpy as np
import pytest

from vqbet_course.contract import PUSHT_TASK, BadInput
from vqbet_course.demos import load_demos
from vqbet_course.train import load_run
from vqbet_course.widgets import Drive, plot_drive, write_driven


def driven(drive: Drive, steps: int = 5) -> Drive:
    """Drag the pusher to the right for some steps."""
    for step in range(steps):
        drive.target = (200.0 + 10 * step, 300.0)
        drive.step()
    return drive


def test_nothing_moves_and_nothing_is_recorded_while_nobody_acts() -> None:
    drive = Drive()
    before = drive.seen["agent_pos"].copy()
    assert not drive.step() and not drive.rows
    assert (drive.seen["agent_pos"] == before).all()


def test_what_is_dragged_is_what_is_recorded() -> None:
    drive = driven(Drive(seed=3))
    start = drive.rows[0][1]
    drive.start(4)
    [episode] = drive.unsolved
    assert episode["action"].tolist() == [[200.0 + 10 * step, 300.0] for step in range(5)]
    assert episode["observation.state"][0] == pytest.approx(start)
    assert episode["observation.environment_state"].shape == (5, 16)
    assert not episode["intervention"].any(), "there is no policy to take over from"
    assert not drive.solved and not drive.rows


def test_an_episode_that_ends_in_success_is_kept_apart_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    drive = driven(Drive(), 3)
    step = drive.env.step
    monkeypatch.setattr(drive.env, "step", lambda action: (*step(action)[:2], True, False, {"coverage": 0.96}))
    assert drive.step() and len(drive.solved) == 1 and not drive.unsolved
    assert len(drive.solved[0]["action"]) == 4


def test_the_horizon_ends_an_episode_unsolved() -> None:
    drive = Drive()
    drive.target = (10.0, 10.0)
    assert [drive.step() for _ in range(PUSHT_TASK.horizon)][-1]
    assert len(drive.unsolved) == 1 and not drive.solved


def test_episodes_are_appended_to_a_dataset_that_can_be_trained_on(tmp_path: Path) -> None:
    drive = driven(Drive(seed=1))
    drive.start(2)
    out = write_driven(drive.unsolved, tmp_path / "mine")
    driven(drive, 7).start(3)
    write_driven(drive.unsolved[1:], out)
    demos = load_demos(str(out))
    assert np.diff(demos.episode_ends, prepend=0).tolist() == [5, 7] and demos.fps == 10
    assert json.loads((out / "meta" / "contract.json").read_text())["operator"] == "human, mouse"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_hand_takes_over_from_a_policy_and_lets_go() -> None:
    drive = Drive(load_run("shipped"), seed=100_000)
    for step in range(12):
        drive.target = (256.0, 400.0) if 4 <= step < 7 else None
        drive.step()
    assert drive.interventions == 3
    drive.start(0)
    episode = drive.unsolved[0]
    assert episode["intervention"][:, 0].tolist() == [0] * 4 + [1] * 3 + [0] * 5
    assert (episode["action"][4:7] == [256, 400]).all() and not (episode["action"][7] == [256, 400]).all()


def test_the_static_picture_shows_the_way_so_far() -> None:
    drive = driven(Drive(seed=5))
    [ax] = plot_drive(drive).axes
    assert len(ax.lines[0].get_xdata()) == 5 and "step 5" in ax.get_title()


def test_nothing_to_write_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no episode"):
        write_driven([], tmp_path / "mine")
