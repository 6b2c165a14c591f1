"""The T's geometry against gym-pusht."""

from typing import Any

import numpy as np
import pytest

from vqbet_course.core.errors import BadInput
from vqbet_course.tasks.pusht.geometry import (
    GOAL_POSE,
    block_keypoints,
    block_pose,
    mirror_keypoints,
    mirror_points,
    mirror_state,
)

pytestmark = pytest.mark.fast


def some_states(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(0, 512, (n, 4)), rng.uniform(0, 2 * np.pi, n)])


def test_keypoints_are_those_of_gym_pusht() -> None:
    from gym_pusht.envs.pusht import PushTEnv

    env = PushTEnv(obs_type="environment_state_agent_pos")
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        ours = block_keypoints(info["block_pose"][None])[0]
        np.testing.assert_allclose(ours, observation["environment_state"], rtol=0, atol=1e-9)


def test_a_pose_comes_back_from_its_keypoints() -> None:
    poses = some_states(100)[:, 2:]
    poses[:, 2] -= np.pi
    np.testing.assert_allclose(block_pose(block_keypoints(poses)), poses, rtol=0, atol=1e-9)


def test_mirror_leaves_the_goal_and_is_its_own_inverse() -> None:
    states = some_states(100)
    np.testing.assert_allclose(mirror_state(mirror_state(states)), states, rtol=0, atol=1e-9)
    goal = np.concatenate([[10.0, 20.0], GOAL_POSE])[None]
    np.testing.assert_allclose(mirror_state(goal)[0], [492, 502, *GOAL_POSE], rtol=0, atol=1e-9)
    assert np.ptp(np.abs(mirror_points(states[:, :2]) - states[:, :2])) > 1


def test_mirrored_keypoints_are_the_keypoints_of_the_mirrored_block() -> None:
    states = some_states(100)
    mirrored = mirror_keypoints(block_keypoints(states[:, 2:]))
    np.testing.assert_allclose(mirrored, block_keypoints(mirror_state(states)[:, 2:]), rtol=0, atol=1e-9)


def test_the_mirrored_scene_obeys_the_same_physics() -> None:
    from gym_pusht.envs.pusht import PushTEnv

    def push(state: np.ndarray, action: np.ndarray) -> np.ndarray:
        env = PushTEnv(obs_type="state")
        env.reset(seed=0)
        env.agent.position = tuple(state[:2])
        env.block.angle = state[4]
        env.block.position = tuple(state[2:4])
        env.space.reindex_shapes_for_body(env.block)
        for _ in range(5):
            seen, *_ = env.step(action)
        return seen

    state, action = np.array([200.0, 200.0, 256.0, 256.0, 1.0]), np.array([300.0, 290.0])
    after = push(state, action)
    mirrored = push(mirror_state(state[None])[0], mirror_points(action[None])[0])
    assert np.abs(after - state)[2:].max() > 1  # the block was pushed
    np.testing.assert_allclose(mirrored, mirror_state(after[None])[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("function", [block_keypoints, block_pose, mirror_points, mirror_state, mirror_keypoints])
def test_geometry_refuses_another_shape(function: Any) -> None:
    with pytest.raises(BadInput, match="must have shape"):
        function(np.zeros(7))


def test_a_changed_robot_executes_the_changed_move() -> None:
    from vqbet_course.tasks.pusht.environment import make_changed_pusht, make_pusht

    plain, halved = make_pusht(), make_changed_pusht(lambda relative: relative / 2)
    start = plain.reset(seed=3)[0]["agent_pos"]
    halved.reset(seed=3)
    plainly, halving = (env.step(start + move)[0]["agent_pos"] for env, move in ((plain, 10.0), (halved, 20.0)))
    np.testing.assert_allclose(plainly, halving, atol=1e-4)


def test_our_environment_gives_gym_pushts_keypoints_and_coverage() -> None:
    from gym_pusht.envs.pusht import PushTEnv as Original

    from vqbet_course.tasks.pusht.environment import make_pusht
    from vqbet_course.tasks.pusht.geometry import place

    env, draw, covered = make_pusht(), np.random.default_rng(0), 0
    for seed in range(8):
        env.reset(seed=seed)
        env.goal_pose = GOAL_POSE if seed % 2 else np.array([200.0, 300.0, 2.0])
        place(env, np.array([60.0, 60.0]), env.goal_pose + draw.normal(size=3) * [20, 20, 0.3])
        for _ in range(20):
            observation, _, _, _, info = env.step(np.array(env.block.position) + draw.normal(size=2) * 30)
            expected = Original.get_keypoints(env._block_shapes).flatten()
            assert np.array_equal(observation["environment_state"], expected)
            assert info["coverage"] == pytest.approx(Original._get_coverage(env), abs=1e-9)
            covered += 0 < info["coverage"] < 1
    assert covered > 20
