"""The T's geometry against gym-pusht, and demonstrations written as a LeRobotDataset and read back by LeRobot."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vqbet_course.contract import BadInput
from vqbet_course.convert.lerobot_dataset import FEATURES, write_lerobot_dataset
from vqbet_course.expert import Episode
from vqbet_course.pusht import (
    GOAL_POSE,
    block_keypoints,
    mirror_keypoints,
    mirror_points,
    mirror_state,
)


def some_states(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(0, 512, (n, 4)), rng.uniform(0, 2 * np.pi, n)])


def some_episode(seed: int, length: int) -> Episode:
    states = some_states(length, seed)
    actions = np.random.default_rng(seed).uniform(0, 512, (length, 2)).astype(np.float32)
    return Episode(seed, states, actions, np.linspace(0, 0.96, length), success=True)


def test_keypoints_are_those_of_gym_pusht() -> None:
    from gym_pusht.envs.pusht import PushTEnv

    env = PushTEnv(obs_type="environment_state_agent_pos")
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        ours = block_keypoints(info["block_pose"][None])[0]
        np.testing.assert_allclose(ours, observation["environment_state"], rtol=0, atol=1e-9)


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


@pytest.mark.parametrize("function", [block_keypoints, mirror_points, mirror_state, mirror_keypoints])
def test_geometry_refuses_another_shape(function) -> None:
    with pytest.raises(BadInput, match="must have shape"):
        function(np.zeros(7))


LOAD = """
import sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
d = LeRobotDataset(repo_id="local/test", root=sys.argv[1])
assert (d.num_episodes, d.num_frames, d.fps) == (2, 11, 10), (d.num_episodes, d.num_frames, d.fps)
names = [k for k in d.features if k.startswith(("observation.", "action", "next."))]
np.savez(sys.argv[2], **{k: np.stack([np.asarray(d[i][k]) for i in range(len(d))]) for k in names})
"""


def test_lerobot_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("lerobot")
    episodes = [some_episode(0, 5), some_episode(1, 6)]
    out = write_lerobot_dataset(iter(episodes), tmp_path / "demos")
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    subprocess.run([sys.executable, "-c", LOAD, out, tmp_path / "read.npz"], env=offline, check=True)
    read = np.load(tmp_path / "read.npz")
    states = np.concatenate([e.states for e in episodes])
    assert set(read) == set(FEATURES)
    np.testing.assert_array_equal(read["observation.state"], states[:, :2].astype(np.float32))
    np.testing.assert_array_equal(
        read["observation.environment_state"], block_keypoints(states[:, 2:]).astype(np.float32)
    )
    np.testing.assert_array_equal(read["action"], np.concatenate([e.actions for e in episodes]))
    assert read["next.done"].ravel().nonzero()[0].tolist() == [4, 10]
    assert read["next.success"].ravel().nonzero()[0].tolist() == [4, 10]
    coverage = np.concatenate([e.coverage for e in episodes])
    np.testing.assert_allclose(read["next.reward"].ravel(), np.minimum(coverage / 0.95, 1), rtol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir() if "demos" in p.name) == ["demos"]


def test_an_occupied_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(BadInput, match="not an empty folder"):
        write_lerobot_dataset([some_episode(0, 5)], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["keep.txt"]


def test_a_failure_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("lerobot")
    good = some_episode(0, 5)
    with pytest.raises(BadInput, match="block_pose"):
        write_lerobot_dataset([good, replace(good, states=good.states[:, :4])], tmp_path / "demos")
    with pytest.raises(BadInput, match="no episodes"):
        write_lerobot_dataset([], tmp_path / "demos")
    assert not list(tmp_path.iterdir())


def test_the_embedded_demonstrations(demo_folder: Path) -> None:
    import pyarrow.parquet as pq

    files = [p for p in demo_folder.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 2.5e6
    info = json.loads((demo_folder / "meta" / "info.json").read_text())
    assert info["total_episodes"] == 200 and info["fps"] == 10 and set(FEATURES) <= set(info["features"])
    table = pq.read_table(demo_folder / "data")
    assert np.count_nonzero(table["next.success"]) == np.count_nonzero(table["next.done"]) == 200


@pytest.fixture
def demo_folder() -> Path:
    import vqbet_course

    return Path(vqbet_course.__file__).parent / "data" / "demos"
