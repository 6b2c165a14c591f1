import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqbet_course import pusht
from vqbet_course.contract import PUSHT, BadInput, Contract, Field

DEMO_FOLDER = Path(__file__).parent / "data" / "demos"


@dataclass(frozen=True)
class Demos:
    """Demonstrations, end to end: observation {name: (N, size)}, action (N, A), both float32 and in the source's
    units; episode_ends (E,), the frame after the last of each episode; fps, frames a second; source, where from."""

    observation: dict[str, np.ndarray]
    action: np.ndarray
    episode_ends: np.ndarray
    fps: float
    source: str

    def __post_init__(self) -> None:
        check_demos(self)

    @property
    def episode_starts(self) -> np.ndarray:
        return np.concatenate([[0], self.episode_ends[:-1]])

    @property
    def contract(self) -> Contract:
        """Sizes, units and rate. Units are known for PushT's schema and `unstated` otherwise."""
        sizes = {name: values.shape[1] for name, values in self.observation.items()}
        if sizes == {name: f.size for name, f in PUSHT.observation.items()} and self.action.shape[1] == 2:
            return replace(PUSHT, fps=self.fps)
        return Contract({n: Field(s) for n, s in sizes.items()}, Field(self.action.shape[1]), self.fps)

    def __len__(self) -> int:
        return len(self.episode_ends)

    def select(self, episodes: list[int] | np.ndarray) -> "Demos":
        """Only these episodes, in this order."""
        starts, ends = self.episode_starts, self.episode_ends
        rows = np.concatenate([np.arange(starts[e], ends[e]) for e in episodes])
        lengths = np.array([ends[e] - starts[e] for e in episodes])
        return replace(self, observation={k: v[rows] for k, v in self.observation.items()},
                       action=self.action[rows], episode_ends=np.cumsum(lengths))


def check_demos(demos: Demos) -> None:
    """Raise BadInput, naming the first episode and row, unless the demonstrations are usable."""
    n, ends = len(demos.action), demos.episode_ends
    if len(ends) == 0 or n == 0:
        raise BadInput(f"{demos.source}: no episodes; give at least one demonstration")
    if ends[-1] != n or (np.diff(np.concatenate([[0], ends])) <= 0).any():
        raise BadInput(f"{demos.source}: episode_ends must rise and end at the number of frames {n}; "
                       "an episode is empty or cut off")
    for name, values in (demos.observation | {"action": demos.action}).items():
        if values.ndim != 2 or len(values) != n:
            raise BadInput(f"{demos.source}: {name} has shape {values.shape}, expected ({n}, size)")
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            episode = int(np.searchsorted(ends, bad[0], side="right"))
            row = int(bad[0] - demos.episode_starts[episode])
            raise BadInput(f"{demos.source}: {name} is not finite in episode {episode}, row {row}; "
                           "repair or drop that episode")


def load_demos(source: str) -> Demos:
    """Demonstrations from a SOURCE: `demo` (ships with the course), an .npz, a LeRobotDataset folder, a hub id."""
    if source == "demo":
        return replace(read_lerobot(DEMO_FOLDER), source="demo")
    path = Path(source)
    if path.suffix == ".npz" and path.is_file():
        return read_npz(path)
    if path.is_dir():
        return read_lerobot(path)
    if path.suffix or source.count("/") != 1 or source.startswith((".", "/")):
        raise BadInput(f"{source}: no such file or folder")
    return read_lerobot(download(source))


def read_npz(path: Path) -> Demos:
    """PushT states in an .npz: state (N, 5) pusher x, y, block x, y, angle; action (N, 2); episode_ends (E,)."""
    try:
        with np.load(path) as archive:
            state, action, ends = (np.asarray(archive[k]) for k in ("state", "action", "episode_ends"))
    except KeyError as error:
        raise BadInput(f"{path}: no array {error.args[0]!r}; expected state, action and episode_ends") from None
    except Exception as error:  # zipfile, zlib and numpy each have their own for a damaged file
        raise BadInput(f"{path}: not a readable .npz ({error}); copy it again") from None
    if state.ndim != 2 or state.shape[1] != 5:
        raise BadInput(f"{path}: state has shape {state.shape}, expected (N, 5): pusher x, y, block x, y, angle")
    keypoints = pusht.block_keypoints(state[:, 2:].astype(np.float64))
    observation = {"observation.environment_state": keypoints.astype(np.float32),
                   "observation.state": state[:, :2].astype(np.float32)}
    return Demos(observation, action.astype(np.float32), ends.astype(np.int64), 10.0, str(path))


def read_lerobot(folder: Path) -> Demos:
    """A LeRobotDataset v3 folder, low-dimensional features only, read straight from its parquet files."""
    import pyarrow.parquet as pq

    try:
        info = json.loads((folder / "meta" / "info.json").read_text())
    except FileNotFoundError:
        raise BadInput(f"{folder}: not a LeRobotDataset (no meta/info.json)") from None
    except json.JSONDecodeError as error:
        raise BadInput(f"{folder}/meta/info.json: not valid JSON ({error})") from None
    names = [n for n, f in info["features"].items()
             if n.startswith("observation.") and f["dtype"] in ("float32", "float64")]
    files = sorted((folder / "data").glob("*/*.parquet"))
    columns: dict[str, list[np.ndarray]] = {n: [] for n in [*names, "action", "episode_index"]}
    for file in files:
        try:
            table = pq.read_table(file, columns=list(columns))
        except Exception as error:  # pyarrow raises many kinds for a damaged file
            raise BadInput(f"{file}: not readable ({str(error).splitlines()[0]}); copy it again") from None
        for name, parts in columns.items():
            parts.append(as_array(table[name]))
    if not files:
        raise BadInput(f"{folder}: no parquet file under data/")
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    episode = joined.pop("episode_index")
    ends = np.append(np.flatnonzero(np.diff(episode)) + 1, len(episode)).astype(np.int64)
    if info.get("total_frames", len(episode)) != len(episode):
        raise BadInput(f"{folder}: {len(episode)} frames found, meta/info.json promises {info['total_frames']}; "
                       "copy the dataset again")
    action = joined.pop("action").astype(np.float32)
    return Demos({k: v.astype(np.float32) for k, v in joined.items()}, action, ends, float(info["fps"]), str(folder))


def as_array(column: Any) -> np.ndarray:
    """A parquet column, of numbers or of equally long lists, as (N,) or (N, size)."""
    flat = column.combine_chunks()
    if not hasattr(flat, "flatten") or flat.type.num_fields == 0:
        return flat.to_numpy(zero_copy_only=False)
    return flat.flatten().to_numpy(zero_copy_only=False).reshape(len(flat), -1)


def download(repo_id: str) -> Path:
    """A dataset of the LeRobot hub, without its videos; cached by huggingface_hub."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo_id, repo_type="dataset", ignore_patterns=["videos/*"]))
    except Exception as error:  # offline, unknown, private: the library has a class for each
        raise BadInput(f"{repo_id}: no such file, and the hub did not give it "
                       f"({type(error).__name__}); check the name and the network") from None


def mirror_pusht(demos: Demos) -> Demos:
    """The demonstrations and their mirror images: PushT's goal is symmetric under reflection across x + y = 512."""
    points = demos.observation["observation.environment_state"].reshape(-1, 8, 2)
    keypoints = pusht.mirror_points(points.reshape(-1, 2)).reshape(points.shape)[:, pusht.MIRROR_KEYPOINTS]
    mirrored = {"observation.environment_state": keypoints.reshape(len(points), 16),
                "observation.state": pusht.mirror_points(demos.observation["observation.state"])}
    return Demos(
        {k: np.concatenate([v, mirrored[k]]).astype(np.float32) for k, v in demos.observation.items()},
        np.concatenate([demos.action, pusht.mirror_points(demos.action)]).astype(np.float32),
        np.concatenate([demos.episode_ends, demos.episode_ends + len(demos.action)]),
        demos.fps, demos.source)


@dataclass(frozen=True)
class Normalizer:
    """Min-max to -1..1 per number, as LeRobot does it: {name: (lowest (size,), highest (size,))}."""

    bounds: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def fit(cls, demos: Demos, relative: bool = False) -> "Normalizer":
        """Bounds of the demonstrations. `relative`: actions and `observation.state` share theirs, so that their
        difference means the same before and after."""
        arrays = demos.observation | {"action": demos.action}
        if relative:
            both = np.concatenate([demos.action, demos.observation["observation.state"]])
            arrays |= {"action": both, "observation.state": both}
        return cls({k: (torch.from_numpy(v.min(0)), torch.from_numpy(v.max(0))) for k, v in arrays.items()})

    def normalize(self, name: str, values: Tensor) -> Tensor:
        """values (..., size) in the source's units -> (..., size), in -1..1 on the demonstrations."""
        low, high = self.bounds[name]
        return 2 * (values - low) / (high - low).clamp(min=1e-8) - 1

    def unnormalize(self, name: str, values: Tensor) -> Tensor:
        low, high = self.bounds[name]
        return (values + 1) / 2 * (high - low) + low

    def unit(self, name: str) -> float:
        """How much of the source's unit one normalised unit is, on average over the numbers of `name`."""
        low, high = self.bounds[name]
        return ((high - low) / 2).mean().item()

    def to_dict(self) -> dict[str, Any]:
        return {k: {"min": low.tolist(), "max": high.tolist()} for k, (low, high) in self.bounds.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Normalizer":
        return cls({k: (torch.tensor(v["min"]), torch.tensor(v["max"])) for k, v in values.items()})


@dataclass(frozen=True)
class Windows:
    """Every training window, precomputed: N frames, each the last of a window of n_obs_steps observations.

    observation {name: (N, size)} normalised; observation_index (N, T) rows of it, clamped to the episode;
    chunks (M, W, A) normalised, each distinct chunk once; chunk_index (N, Q) the chunk of each action query.
    """

    observation: dict[str, Tensor]
    observation_index: Tensor
    chunks: Tensor
    chunk_index: Tensor


def make_windows(demos: Demos, normalizer: Normalizer, n_obs_steps: int, n_queries: int, chunk_size: int,
                 relative: bool = False) -> Windows:
    """Windows never cross an episode. Before its start the first frame repeats; a frame whose chunks would run past
    its end is left out, because what comes after the end was never demonstrated, least of all standing still.

    `relative`: each chunk is told from the `observation.state` of its first frame. Raises BadInput, naming the
    episode, when one is too short for a single window.
    """
    to_observation = np.arange(1 - n_obs_steps, 1)
    to_query = np.arange(1 - n_obs_steps, 1 - n_obs_steps + n_queries)
    reach = int(to_query[-1]) + chunk_size  # frames that a window needs from its own onwards
    observation_index, chunk_rows, chunk_index, n_chunks = [], [], [], 0
    for episode, (start, end) in enumerate(zip(demos.episode_starts, demos.episode_ends, strict=True)):
        if end - start < reach:
            raise BadInput(f"{demos.source}: episode {episode} has {end - start} frames, a window needs {reach}; "
                           "drop it or choose a shorter action_chunk_size")
        frames = np.arange(start, end - reach + 1)
        observation_index.append(np.maximum(frames[:, None] + to_observation, start))
        chunk_starts = np.arange(frames[0] + to_query[0], frames[-1] + to_query[-1] + 1)
        chunk_rows.append(np.maximum(chunk_starts[:, None] + np.arange(chunk_size), start))
        chunk_index.append(frames[:, None] + to_query - chunk_starts[0] + n_chunks)
        n_chunks += len(chunk_starts)
    rows = np.concatenate(chunk_rows)
    observation = {k: normalizer.normalize(k, torch.from_numpy(v)) for k, v in demos.observation.items()}
    chunks = normalizer.normalize("action", torch.from_numpy(demos.action))[rows]
    if relative:
        chunks = chunks - observation["observation.state"][rows[:, :1]]
    return Windows(observation, torch.from_numpy(np.concatenate(observation_index)), chunks,
                   torch.from_numpy(np.concatenate(chunk_index)))
