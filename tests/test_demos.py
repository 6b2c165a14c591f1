"""Demonstrations: reading them, normalising them, windows of them, their mirror images, and bad ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from vqbet_course import cli
from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.datasets import writer
from vqbet_course.datasets.readers import DEMO_FOLDER
from vqbet_course.datasets.splits import read_split, split_demos
from vqbet_course.demos import (
    Demos,
    Normalizer,
    load_demos,
    make_windows,
)
from vqbet_course.tasks import open_source
from vqbet_course.tasks.pusht import geometry as pusht
from vqbet_course.tasks.pusht.augmentation import mirror_pusht
from vqbet_course.tasks.pusht.contract import PUSHT
from vqbet_course.training.data import fitting
from vqbet_course.training.trainer import Selection, resume, train

KEYPOINTS, PUSHER = "observation.environment_state", "observation.state"
fewer = settings(max_examples=40, deadline=None)


def make_demos(lengths: list[int], seed: int = 0, size: int = 2) -> Demos:
    """Random walks of `size` numbers, of these lengths."""
    draw, n = np.random.default_rng(seed), sum(lengths)
    places = draw.normal(size=(n, size)).astype(np.float32)
    return Demos(
        {PUSHER: places}, places + draw.normal(size=(n, size)).astype(np.float32), np.cumsum(lengths), 10.0, "made up"
    )


@pytest.mark.parametrize(("fixed", "wobble"), [(0.25, 0.0), (0.25, 1e-7), (0.0, 1e-9), (-7.5, 0.0), (1e6, 0.5)])
def test_a_number_that_hardly_changes_cannot_blow_up(fixed: float, wobble: float) -> None:
    demos = make_demos([30], size=3)
    demos.observation[PUSHER][:, 1] = fixed + wobble * np.sin(np.arange(30))
    demos.action[:, 2] = fixed
    normalizer = Normalizer.fit(demos)
    moved = torch.from_numpy(demos.observation[PUSHER] + np.float32(0.001))
    assert normalizer.normalize(PUSHER, moved).abs().max() < 3
    back = normalizer.unnormalize("action", normalizer.normalize("action", torch.from_numpy(demos.action)))
    assert_close(back, torch.from_numpy(demos.action))


def pusht_state(n: int, seed: int = 0) -> np.ndarray:
    """Random states (n, 5) of PushT."""
    draw = np.random.default_rng(seed)
    return np.column_stack([draw.uniform(50, 450, (n, 4)), draw.uniform(0, 2 * np.pi, n)])


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    """Write a sound .npz of two episodes with 6 and 4 frames, some of its arrays replaced or (None) left out."""

    def write(**changes: object) -> Path:
        state = pusht_state(10)
        arrays = {"state": state, "action": state[:, :2] + 5, "episode_ends": np.array([6, 10])} | changes
        kept: dict[str, Any] = {k: v for k, v in arrays.items() if v is not None}
        np.savez(tmp_path / "demos.npz", **kept)
        return tmp_path / "demos.npz"

    return write


def complaint(f: Callable[..., object], *args: object, **kwargs: object) -> str:
    """The one line of the BadInput that f raises."""
    with pytest.raises(BadInput) as caught:
        f(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# reading


def test_an_npz_becomes_keypoints_pusher_and_actions(npz: Callable[..., Path]) -> None:
    demos, state = load_demos(open_source(str(npz()))), pusht_state(10)
    assert len(demos) == 2 and demos.episode_ends.tolist() == [6, 10] and demos.contract == PUSHT
    assert_close(demos.observation[PUSHER], state[:, :2].astype(np.float32))
    assert_close(demos.observation[KEYPOINTS], pusht.block_keypoints(state[:, 2:]).astype(np.float32))
    assert_close(demos.action, (state[:, :2] + 5).astype(np.float32))


def test_the_demonstrations_of_the_course() -> None:
    demos = load_demos(open_source("demo"))
    assert demos.source == "demo" and demos.contract == PUSHT
    assert len(demos) == json.loads((DEMO_FOLDER / "meta" / "info.json").read_text())["total_episodes"]
    assert demos.action.min() >= 0 and demos.action.max() <= 512


def test_lerobot_itself_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    theirs = pytest.importorskip("lerobot.datasets.lerobot_dataset").LeRobotDataset("local/demo", root=DEMO_FOLDER)
    table = theirs.hf_dataset.with_format("arrow")[:]  # row by row, it takes ten times as long
    demos = load_demos(open_source("demo"))
    for name, values in (demos.observation | {"action": demos.action}).items():
        assert np.array_equal(table[name].combine_chunks().flatten().to_numpy().reshape(len(table), -1), values)
    assert np.array_equal(np.cumsum(np.bincount(table["episode_index"].to_numpy())), demos.episode_ends)


def test_select_takes_episodes_in_the_order_asked_for() -> None:
    demos = make_demos([3, 1, 4])
    picked = demos.select([2, 0])
    assert picked.episode_ends.tolist() == [4, 7]
    assert np.array_equal(picked.action, np.concatenate([demos.action[4:8], demos.action[:3]]))
    assert "no episodes" in complaint(demos.select, [])


# normalising


@fewer
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.booleans(), st.integers(0, 99))
def test_normalising_maps_to_minus_one_to_one_and_back(lengths: list[int], relative: bool, seed: int) -> None:
    demos = make_demos(lengths, seed)
    normalizer = Normalizer.fit(demos, relative=relative)
    for name, values in (demos.observation | {"action": demos.action}).items():
        there = normalizer.normalize(name, torch.from_numpy(values))
        assert there.isfinite().all() and there.min() >= -1.00001 and there.max() <= 1.00001
        assert_close(normalizer.unnormalize(name, there), torch.from_numpy(values), atol=1e-5, rtol=1e-5)
    if sum(lengths) > 1:
        assert_close(normalizer.normalize("action", normalizer.bounds["action"][1]), torch.ones(2))


def test_a_number_that_never_changes_stays_finite_and_comes_back() -> None:
    demos = Demos(
        {PUSHER: np.full((3, 2), 7, np.float32)}, np.full((3, 2), 5, np.float32), np.array([3]), 10.0, "still"
    )
    normalizer = Normalizer.fit(demos)
    there = normalizer.normalize(PUSHER, torch.from_numpy(demos.observation[PUSHER]))
    assert (there == -1).all()
    assert (normalizer.unnormalize(PUSHER, there) == 7).all()


def test_relative_bounds_make_a_difference_mean_the_same_everywhere() -> None:
    demos = make_demos([5, 5])
    shared, own = Normalizer.fit(demos, relative=True), Normalizer.fit(demos)
    here = torch.from_numpy(demos.observation[PUSHER])
    assert torch.equal(shared.normalize("action", here), shared.normalize(PUSHER, here))
    assert not torch.allclose(own.normalize("action", here), own.normalize(PUSHER, here), atol=1e-3)


def test_a_normalizer_survives_json_and_knows_its_unit() -> None:
    normalizer = Normalizer.fit(make_demos([8]))
    again = Normalizer.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    for name, (low, high) in normalizer.bounds.items():
        assert torch.equal(again.bounds[name][0], low) and torch.equal(again.bounds[name][1], high)
        assert normalizer.unit(name) == pytest.approx(((high - low) / 2).mean().item())


# windows


def windows_by_hand(demos: Demos, T: int, Q: int, W: int) -> list[tuple[list[int], list[list[int]]]]:
    """Of every window the rows of its observations and, for each query, the rows of its chunk."""
    found = []
    for start, end in zip(demos.episode_starts.tolist(), demos.episode_ends.tolist(), strict=True):
        for now in range(start, end):
            seen = [max(start, now - back) for back in reversed(range(T))]
            asked = [[now - (T - 1) + q + w for w in range(W)] for q in range(Q)]
            if max(max(chunk) for chunk in asked) < end:  # nothing is made up about what came after the end
                found.append((seen, [[max(start, row) for row in chunk] for chunk in asked]))
    return found


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    T=st.integers(1, 4),
    Q=st.integers(1, 6),
    W=st.integers(1, 5),
    relative=st.booleans(),
)
def test_windows_are_those_of_the_plain_loop(lengths: list[int], T: int, Q: int, W: int, relative: bool) -> None:
    demos = make_demos(lengths)
    normalizer = Normalizer.fit(demos, relative)
    expected = windows_by_hand(demos, T, Q, W)
    too_short = [length for length in lengths if length < Q - T + W]
    if too_short:
        message = complaint(make_windows, demos, normalizer, T, Q, W, relative)
        assert f"episode {lengths.index(too_short[0])} has {too_short[0]} frames" in message
        return
    windows = make_windows(demos, normalizer, T, Q, W, relative)
    assert windows.observation_index.tolist() == [seen for seen, _ in expected]
    rows = torch.tensor([asked for _, asked in expected])  # (V, Q, W)
    chunks = normalizer.normalize("action", torch.from_numpy(demos.action))[rows]
    if relative:
        chunks = chunks - windows.observation[PUSHER][rows[:, :, :1]]
    assert torch.equal(windows.chunks[windows.chunk_index], chunks)
    assert windows.chunk_index.unique().tolist() == list(range(len(windows.chunks)))  # each is kept because it is used
    assert_close(windows.observation[PUSHER], normalizer.normalize(PUSHER, torch.from_numpy(demos.observation[PUSHER])))


def test_no_window_of_the_demonstrations_crosses_an_episode() -> None:
    demos = load_demos(open_source("demo")).select(list(range(20)))
    frames = np.arange(len(demos.action), dtype=np.float32)
    marked = Demos({PUSHER: frames[:, None]}, frames[:, None], demos.episode_ends, 10.0, "frame numbers")
    identity = Normalizer({name: (torch.tensor([-1.0]), torch.tensor([1.0])) for name in (PUSHER, "action")})
    windows = make_windows(marked, identity, 3, 5, 8)
    episode = np.searchsorted(demos.episode_ends, np.arange(len(frames)), side="right")
    rows = torch.cat([windows.chunks[windows.chunk_index].flatten(1), windows.observation_index.float()], dim=1)
    of = episode[rows.long().numpy()]
    assert (of == of[:, :1]).all()


# the mirror image


def environment() -> Any:
    pytest.importorskip("gym_pusht")
    from vqbet_course.tasks.pusht.environment import make_pusht

    env = make_pusht()
    env.reset(seed=0)
    return env


def put(env: Any, state: np.ndarray) -> dict[str, np.ndarray]:
    """Set pusher and block exactly, at rest; returns the observation."""
    pusht.place(env, state[:2], state[2:])
    return env.get_obs()


def test_keypoints_of_an_npz_are_those_that_the_environment_shows(npz: Callable[..., Path]) -> None:
    env, demos = environment(), load_demos(open_source(str(npz())))
    for state, keypoints, pusher in zip(
        pusht_state(10), demos.observation[KEYPOINTS], demos.observation[PUSHER], strict=True
    ):
        seen = put(env, state)
        assert_close(keypoints, seen["environment_state"].astype(np.float32), atol=1e-4, rtol=0)
        assert_close(pusher, np.asarray(seen["agent_pos"], dtype=np.float32), atol=1e-4, rtol=0)


def test_the_mirror_image_of_the_mirror_image_is_the_demonstration(npz: Callable[..., Path]) -> None:
    demos = load_demos(open_source(str(npz())))
    both = mirror_pusht(demos)
    assert len(both) == 4 and both.episode_ends.tolist() == [6, 10, 16, 20]
    again = mirror_pusht(both.select([2, 3])).select([2, 3])
    assert_close(again.action, demos.action, atol=1e-3, rtol=0)
    for name, values in demos.observation.items():
        assert_close(both.observation[name][:10], values)
        assert_close(again.observation[name], values, atol=1e-3, rtol=0)
        assert np.abs(both.observation[name][10:] - values).mean() > 10


def test_the_mirror_image_shows_the_keypoints_of_the_mirrored_pose(npz: Callable[..., Path]) -> None:
    mirrored = mirror_pusht(load_demos(open_source(str(npz())))).select([2, 3])
    state = pusht.mirror_state(pusht_state(10))
    assert_close(
        mirrored.observation[KEYPOINTS], pusht.block_keypoints(state[:, 2:]).astype(np.float32), atol=1e-3, rtol=0
    )
    assert_close(mirrored.observation[PUSHER], state[:, :2].astype(np.float32), atol=1e-3, rtol=0)


def test_the_mirrored_world_obeys_the_same_physics() -> None:
    env, moved = environment(), 0.0
    for seed in range(5):
        draw = np.random.default_rng(seed)
        block = np.array([*draw.uniform(200, 310, 2), draw.uniform(0, 6)])
        state = np.array([*(block[:2] + draw.choice([-130, 130], 2)), *block])
        seen = []
        for start, towards in [
            (state, block[:2]),
            (pusht.mirror_state(state[None])[0], pusht.mirror_points(block[None, :2])[0]),
        ]:
            put(env, start)
            for _ in range(12):
                env.step(towards)
            seen.append(env.get_obs()["environment_state"])
        moved = max(moved, np.abs(seen[0] - pusht.block_keypoints(block[None])[0]).max())
        assert_close(pusht.mirror_keypoints(seen[0][None])[0], seen[1], atol=2.0, rtol=0)
    assert moved > 20  # it was pushed


def test_only_pusht_can_be_mirrored() -> None:
    assert "cannot be mirrored" in complaint(mirror_pusht, make_demos([3]))


# splits


@fewer
@given(st.integers(1, 8), st.integers(0, 4), st.integers(0, 99))
def test_a_split_puts_every_episode_in_one_part_at_most(n_train: int, n_val: int, seed: int) -> None:
    demos = make_demos([3, 1, 4, 1, 5, 9, 2, 6])
    if n_train + n_val > len(demos):
        assert "do not fit 8 episodes" in complaint(split_demos, demos, n_train, n_val, seed)
        return
    split = split_demos(demos, n_train, n_val, seed)
    assert (len(split.train), len(split.val)) == (n_train, n_val)
    assert len(split.stress) == min(n_val, len(demos) - n_train - n_val)
    assert len({*split.train, *split.val, *split.stress}) == len(split.train) + len(split.val) + len(split.stress)
    assert split == split_demos(demos, n_train, n_val, seed)
    assert np.array_equal(split.training(demos).action, demos.select(split.train).action)


def test_the_stress_part_starts_far_from_what_is_trained_on() -> None:
    demos = load_demos(open_source("demo"))
    split = split_demos(demos, 120, 30)
    starts = np.concatenate([values[demos.episode_starts] for values in demos.observation.values()], axis=1)
    trained = demos.select(split.train).observation.values()
    width = np.concatenate([np.ptp(values, axis=0) for values in trained]) / 2
    nearest = np.linalg.norm((starts[:, None] - starts[split.train]) / width, axis=-1).min(1)
    left = sorted(set(range(200)) - set(split.train) - set(split.val) - set(split.stress))
    assert len(left) == 20 and nearest[split.stress].min() >= nearest[left].max() - 1e-4
    assert nearest[split.stress].mean() > nearest[split.val].mean()
    assert split_demos(demos, 120, 30, seed=1).train != split.train


@pytest.mark.parametrize(
    "changes",
    [
        {"train": []},
        {"val": [3]},
        {"val": [0, 0]},
        {"train": [9]},
        {"train": [0.0]},
        {"train": ["0"]},
        {"train": [True]},
        {"val": 3},
        {"extra": 1},
        {"train": [[0]]},
        {"source": 7},
        {"source": None},
    ],
)
def test_a_split_that_is_none_is_refused(changes: dict, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"source": "x", "n_episodes": 4, "train": [0, 3], "val": [1]} | changes))
    assert str(path) in complaint(read_split, path)


def test_a_split_of_other_demonstrations_is_refused(tmp_path: Path) -> None:
    split = split_demos(make_demos([3, 3, 3]), 2, 1)
    assert "has 2 episodes, the split was made of 3" in complaint(split.training, make_demos([3, 3]))
    assert "no such split" in complaint(read_split, tmp_path / "nowhere.json")


def test_a_split_reaches_training_and_stays_with_the_run(tmp_path: Path) -> None:
    from small import CONFIG, arrays, write_npz

    data, file, run = write_npz(tmp_path / "data.npz"), tmp_path / "split.json", tmp_path / "run"
    assert cli.main(["demos", "split", data, "--train", "2", "--val", "1", "--out", str(file)]) == 0
    split = read_split(file)
    train(Selection(data=data, split=file), run, Budget(steps=6), CONFIG, quiet=True)
    assert read_split(run / "split.json") == split
    ends = np.cumsum([0, 40, 30, 50])
    action = np.concatenate([arrays()["action"][ends[e] : ends[e + 1]] for e in split.train])
    contract = json.loads((run / "contract.json").read_text())
    assert contract["action"]["high"] == pytest.approx(action.max()) and contract["action"]["unit"] == "px"
    before = (run / "model.safetensors").read_bytes()
    resume(run, quiet=True)
    assert (run / "model.safetensors").read_bytes() == before


def test_demonstrations_of_another_robot_can_be_trained_on(tmp_path: Path) -> None:
    from sources import some_numbers

    state = np.tile(some_numbers(4, 0), (5, 1))
    np.savez(tmp_path / "arm.npz", state=state, action=state[:, :3], episode_ends=[20, 50])
    source = writer.write_dataset(open_source(str(tmp_path / "arm.npz"), fps=20), tmp_path / "arm", quiet=True)
    assert fitting(load_demos(open_source(str(source)))).action_dim == 3
    train(str(source), tmp_path / "run", Budget(steps=3), quiet=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["observation_sizes"] == {"observation.state": 4} and not config["use_relative_actions"]
    assert fitting(load_demos(open_source("demo"))) == VQBeTConfig.laptop(observation_sizes={KEYPOINTS: 16, PUSHER: 2})
    assert cli.main(["eval", str(tmp_path / "run"), "--episodes", "1", "--out", str(tmp_path / "eval")]) == 2
