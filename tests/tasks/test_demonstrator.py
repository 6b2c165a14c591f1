"""The demonstrator: what ships is what it makes, it solves what it should, and it moves as it promises."""

from pathlib import Path

import numpy as np
import pytest

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.readers import DEMO_FOLDER
from vqbet_course.datasets.writer import write_dataset
from vqbet_course.demos import load_demos
from vqbet_course.tasks import get_task, open_source
from vqbet_course.tasks.pusht.demonstrator import (
    STYLES,
    Expert,
    columns_of,
    expert_source,
    make_episodes,
    solve,
)
from vqbet_course.tasks.pusht.geometry import GOAL_POSE, block_keypoints, mirror_keypoints, mirror_points, mirror_state


def test_the_embedded_demonstrations_are_the_experts() -> None:
    demos = load_demos(open_source("demo"))
    made = list(make_episodes(3, seed=0))
    for start, end, episode in zip(demos.episode_starts, demos.episode_ends, made, strict=False):
        np.testing.assert_array_equal(demos.action[start:end], episode.actions)
        np.testing.assert_array_equal(
            demos.observation["observation.state"][start:end], episode.states[:, :2].astype(np.float32)
        )
        np.testing.assert_array_equal(
            demos.observation["observation.environment_state"][start:end],
            block_keypoints(episode.states[:, 2:]).astype(np.float32),
        )


def test_what_ships_is_small_and_solved() -> None:
    assert sum(p.stat().st_size for p in DEMO_FOLDER.rglob("*") if p.is_file()) <= 2.5e6
    episodes = list(open_source("demo").sound_episodes())
    assert len(episodes) == 200
    for episode in episodes:
        for name in ("next.done", "next.success"):
            assert np.flatnonzero(episode.numbers[name]).tolist() == [len(episode) - 1]


def test_made_demonstrations_are_what_the_expert_did_and_say_how(tmp_path: Path) -> None:
    out = write_dataset(
        get_task("pusht").demonstrations(2, 0, style="right", noise=1.0), tmp_path / "demos", quiet=True
    )
    source, made = open_source(str(out)), list(make_episodes(2, 0, "right", 1.0))
    for read, episode in zip(source.sound_episodes(), made, strict=True):
        columns = columns_of(episode)
        assert read.numbers.keys() == columns.keys()
        assert all(np.array_equal(read.numbers[name], values) for name, values in columns.items())
        np.testing.assert_allclose(columns["next.reward"][:, 0], np.minimum(episode.coverage / 0.95, 1), rtol=1e-6)
    card = (out / "README.md").read_text()
    assert "style right, hand shaken by 1 px" in card and "2 of the 2 episodes end in success" in card
    assert (source.license, source.robot) == ("apache-2.0", "2d pointer") and "expert" in source.operator
    assert source.units == expert_source(1).units and source.names["action"] == ["target_x", "target_y"]


def test_the_same_seed_gives_the_same_episode_to_the_last_bit() -> None:
    one, other = solve(7), solve(7)
    np.testing.assert_array_equal(one.states, other.states)
    np.testing.assert_array_equal(one.actions, other.actions)


def test_it_solves_most_starts_and_says_when_it_does_not() -> None:
    episodes = [solve(seed) for seed in range(500, 512)]
    assert sum(e.success for e in episodes) >= 10
    for e in episodes:
        assert len(e.states) == len(e.actions) == len(e.coverage) <= 300
        assert e.success == (e.coverage[-1] > 0.95)


def test_it_moves_all_the_time_and_never_far_at_once() -> None:
    lead = np.concatenate([np.linalg.norm(e.actions - e.states[:, :2], axis=1) for e in make_episodes(4, seed=0)])
    assert lead.min() > 1.0  # standing still gets imitators stuck
    assert lead.max() < 40.0


def share_walked_right(style: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Of a few episodes: the share of the walking steps that go round with the block on the right hand."""
    walked: list[list[bool]] = []
    walk = Expert._walk

    def noted(self: Expert, *args: complex) -> complex:
        assert self.plan is not None
        walked[-1].append(self.plan.way == STYLES["right"])
        return walk(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Expert, "_walk", noted)
        for seed in range(6):
            walked.append([])
            solve(seed, style, noise=0.0, max_steps=120)
    return np.array([np.mean(steps) for steps in walked])


def test_there_is_one_way_round_or_there_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right, mixed = (share_walked_right(style, monkeypatch) for style in ("left", "right", "mixed"))
    assert left.mean() < 0.15 and right.mean() > 0.85
    assert 0.25 < mixed.mean() < 0.75


def test_a_frame_is_the_state_before_its_action() -> None:
    from gym_pusht.envs.pusht import PushTEnv

    episode = solve(3, noise=0.0)
    env = PushTEnv(obs_type="state")
    state, _ = env.reset(seed=3)
    for t, action in enumerate(episode.actions):
        np.testing.assert_array_equal(state, episode.states[t])
        state, _, _, _, info = env.step(action.astype(np.float64))
        assert abs(info["coverage"] - episode.coverage[t]) < 1e-9  # gym-pusht adds its polygons in any order


def test_what_is_recorded_is_what_was_wanted_where_the_shaken_hand_was() -> None:
    shaken, steady = solve(3, noise=3.0, max_steps=30), solve(3, noise=0.0, max_steps=30)
    np.testing.assert_array_equal(shaken.actions[0], steady.actions[0])
    assert np.abs(shaken.states[1:] - steady.states[1:])[:, :2].max() > 1.0


def test_two_workers_make_what_one_makes() -> None:
    for one, two in zip(make_episodes(2, workers=1), make_episodes(2, workers=2), strict=True):
        assert one.seed == two.seed
        np.testing.assert_array_equal(one.states, two.states)


@pytest.mark.parametrize("wrong", [{"style": "up"}, {"noise": -1.0}, {"noise": float("nan")}])
def test_bad_input(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        solve(0, **wrong)  # type: ignore[arg-type]


def test_the_mirror_is_an_involution_that_keeps_the_goal() -> None:
    states = np.array([[100.0, 200.0, *GOAL_POSE], [30.0, 40.0, 150.0, 300.0, 1.0]])
    np.testing.assert_allclose(mirror_state(mirror_state(states)), states)
    np.testing.assert_allclose(mirror_state(states)[0, 2:], GOAL_POSE)
    np.testing.assert_allclose(mirror_points(mirror_points(states[:, :2])), states[:, :2])
    np.testing.assert_allclose(
        mirror_keypoints(block_keypoints(states[:, 2:])), block_keypoints(mirror_state(states)[:, 2:])
    )
