"""Driving by hand: what is recorded, where it goes, and what counts as taken over."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from vqbet_course.cli import cli
from vqbet_course.core.errors import BadInput
from vqbet_course.demos import load_demos
from vqbet_course.tasks import open_source
from vqbet_course.tasks.pusht.contract import PUSHT_TASK
from vqbet_course.training.runs import load_run
from vqbet_course.widgets import Drive, drive_explorer, plot_drive, save_driven, write_driven


def driven(drive: Drive, steps: int = 5) -> Drive:
    """Drag the pusher to the right for some steps."""
    for step in range(steps):
        drive.target = (200.0 + 10 * step, 300.0)
        drive.step()
    return drive


def parts_of(box: Any) -> tuple[Any, Any]:
    """The canvas of an explorer, and the line of words below it."""
    _, board, words = box.children
    return board.children[1], words


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
    demos = load_demos(open_source(str(out)))
    assert np.diff(demos.episode_ends, prepend=0).tolist() == [5, 7] and demos.fps == 10
    assert json.loads((out / "meta" / "contract.json").read_text())["operator"] == "human, mouse"
    assert open_source(str(out)).all_tasks == open_source("demo").all_tasks
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_the_policy_does_alone_is_counted_and_not_kept() -> None:
    drive = Drive(load_run("shipped"), seed=100_000)
    for _ in range(3):
        drive.step()
    drive.start(100_001)
    assert not drive.solved and not drive.unsolved
    [result] = drive.results
    assert result["seed"] == 100_000 and result["steps"] == 3 and result["interventions"] == 0


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
    assert drive.results[0]["interventions"] == 3 and "taken over: 3 of 12 steps" in drive.describe()


def test_interventions_join_the_training_data(tmp_path: Path) -> None:
    drive = Drive(load_run("shipped"), seed=100_000)
    for step in range(16):
        drive.target = (256.0, 400.0) if step < 4 else None
        drive.step()
    drive.finish(success=True)
    save_driven(drive, tmp_path / "mine")
    contract = json.loads((tmp_path / "mine" / "meta" / "contract.json").read_text())
    assert contract["operator"] == "a policy, and where `intervention` is 1: human, mouse"
    done = CliRunner().invoke(
        cli, ["demos", "convert", "demo", str(tmp_path / "mine"), "--out", str(tmp_path / "both")]
    )
    assert done.exit_code == 0, done.output
    both, ours = load_demos(open_source(str(tmp_path / "both"))), load_demos(open_source("demo"))
    assert len(both) == len(ours) + 1 and replace(both.contract, fps=ours.fps).fields() == ours.contract.fields()
    assert (both.action[: len(ours.action)] == ours.action).all()
    assert (both.action[len(ours.action) :][:4] == [256, 400]).all()


def test_what_is_saved_goes_where_it_belongs(tmp_path: Path) -> None:
    drive = driven(Drive(seed=1))
    drive.finish(success=True)
    driven(drive, 6).start(2)
    save_driven(drive, tmp_path / "mine")
    assert len(load_demos(open_source(str(tmp_path / "mine"))).action) == 5
    assert len(load_demos(open_source(str(tmp_path / "mine-unsolved"))).action) == 6
    results = json.loads((tmp_path / "mine-results.json").read_text())["episodes"]
    assert [result["success"] for result in results] == [True, False]
    assert not drive.solved and not drive.unsolved


def test_what_a_killed_process_had_moved_aside_is_found_again(tmp_path: Path) -> None:
    drive = driven(Drive(seed=1))
    drive.start(2)
    out = write_driven(drive.unsolved, tmp_path / "mine")
    out.rename(tmp_path / ".mine.old")
    write_driven(drive.unsolved, out)
    assert len(load_demos(open_source(str(out)))) == 2


def test_the_explorer_drives_in_time_and_saves(tmp_path: Path) -> None:
    """The events that a browser sends, with nobody in between."""
    drive = Drive(seed=3)
    canvas, words = parts_of(drive_explorer(drive, tmp_path / "mine"))

    async def drag() -> None:
        await asyncio.sleep(0.25)
        assert not drive.rows, "time stands still while nobody drives"
        canvas._mouse_down_callbacks(96, 192)
        await asyncio.sleep(0.15)
        canvas._mouse_move_callbacks(108, 192)
        while len(drive.rows) < 4:
            await asyncio.sleep(0.02)
        canvas._mouse_up_callbacks(108, 192)
        await asyncio.sleep(0.25)
        stopped = len(drive.rows)
        await asyncio.sleep(0.25)
        assert len(drive.rows) == stopped

    asyncio.run(drag())
    assert drive.rows[0][2].tolist() == [128, 256] and drive.rows[-1][2].tolist() == [144, 256]
    assert f"step {len(drive.rows)}" in words.value


def test_arrow_keys_drive_and_escape_lets_go(tmp_path: Path) -> None:
    drive = Drive(seed=3)
    start = drive.seen["agent_pos"].copy()
    canvas, _ = parts_of(drive_explorer(drive, tmp_path / "mine"))

    async def press() -> None:
        canvas._key_down_callbacks("ArrowRight", False, False, False)
        canvas._key_down_callbacks("ArrowRight", False, False, False)
        while not drive.rows:
            await asyncio.sleep(0.02)
        canvas._key_down_callbacks("Escape", False, False, False)

    asyncio.run(press())
    assert drive.rows[0][2] == pytest.approx(start + [24, 0]) and drive.target is None


def test_a_solved_episode_is_saved_and_time_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = driven(Drive(seed=3), 2)
    canvas, words = parts_of(drive_explorer(drive, tmp_path / "mine"))
    step = drive.env.step
    monkeypatch.setattr(drive.env, "step", lambda action: (*step(action)[:2], True, False, {"coverage": 0.96}))

    async def drag() -> None:
        canvas._mouse_down_callbacks(96, 192)
        while "saved to" not in words.value:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.15)

    asyncio.run(drag())
    assert "Solved, saved to" in words.value and (tmp_path / "mine").exists()
    assert drive.seed == 3 and len(drive.steps) == 3 and drive.target is None, "the solved board stays"
    asyncio.run(drag_once(canvas))
    assert drive.seed == 4 and len(drive.results) >= 1, "who drives on begins the next start"


async def drag_once(canvas: Any) -> None:
    canvas._mouse_down_callbacks(96, 192)
    await asyncio.sleep(0.05)
    canvas._mouse_up_callbacks(96, 192)
    await asyncio.sleep(0.15)


def test_the_grip_is_kept_where_the_mouse_leaves_the_board(tmp_path: Path) -> None:
    drive = Drive(seed=3)
    canvas, _ = parts_of(drive_explorer(drive, tmp_path / "mine"))

    async def leave() -> None:
        canvas._mouse_down_callbacks(96, 192)
        canvas._mouse_out_callbacks(400, 192)
        assert drive.target == (128, 256)
        canvas._mouse_up_callbacks(96, 192)

    asyncio.run(leave())


def test_the_static_picture_shows_the_way_so_far() -> None:
    drive = driven(Drive(seed=5))
    [ax] = plot_drive(drive).axes
    assert np.size(ax.lines[0].get_xdata()) == 5 and "step 5" in ax.get_title()


def test_nothing_to_write_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no episode"):
        write_driven([], tmp_path / "mine")


def test_what_each_step_brought_is_recorded_and_older_episodes_without_it_stay(tmp_path: Path) -> None:
    drive = driven(Drive(seed=1))
    coverage = [row[4] for row in drive.rows]
    drive.start(2)
    [episode] = drive.unsolved
    assert episode["next.reward"][:, 0] == pytest.approx(np.array(coverage) / 0.95)
    older = {name: values for name, values in episode.items() if name != "next.reward"}
    out = write_driven([older], tmp_path / "mine")
    write_driven(drive.unsolved, out)
    assert [len(found) for found in open_source(str(out)).sound_episodes()] == [5, 5]
