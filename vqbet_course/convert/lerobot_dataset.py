"""PushT episodes -> a LeRobotDataset v3 folder with the schema of `lerobot/pusht_keypoints`."""

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.contract import BadInput
from vqbet_course.pusht import block_keypoints

if TYPE_CHECKING:
    from vqbet_course.expert import Episode

FPS = 10
TASK = "Push the T-shaped block onto the T-shaped target."
SUCCESS_COVERAGE = 0.95

FEATURES: dict[str, dict[str, Any]] = {
    "observation.environment_state": {
        "dtype": "float32",
        "shape": (16,),
        "names": [f"keypoint_{i}_{axis}" for i in range(8) for axis in "xy"],
    },
    "observation.state": {"dtype": "float32", "shape": (2,), "names": ["pusher_x", "pusher_y"]},
    "action": {"dtype": "float32", "shape": (2,), "names": ["target_x", "target_y"]},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": ["coverage_over_0.95"]},
    "next.done": {"dtype": "bool", "shape": (1,), "names": ["done"]},
    "next.success": {"dtype": "bool", "shape": (1,), "names": ["success"]},
}
"""Positions in pixels; `next.*` is what the step brought. LeRobot adds timestamps and indices."""


def write_lerobot_dataset(
    episodes: Iterable["Episode"], out_dir: str | Path, repo_id: str = "local/pusht_demos"
) -> Path:
    """Write episodes as a LeRobotDataset v3 into `out_dir`, which appears complete or not at all.

    Raises `BadInput` if `out_dir` exists and is not empty, or if there are no episodes.
    """
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    out = Path(out_dir)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise BadInput(f"{out} exists and is not an empty folder: name another one or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        root = Path(scratch) / "dataset"
        dataset = LeRobotDataset.create(
            repo_id, FPS, FEATURES, root=root, robot_type="2d pointer", use_videos=False
        )
        try:
            for episode in episodes:
                for frame in _frames(episode):
                    dataset.add_frame(frame)
                dataset.save_episode()
            if not dataset.num_episodes:
                raise BadInput("no episodes to write: ask for at least one")
        finally:
            dataset.finalize()  # also after a failure: left to its destructor, it would write to a folder that is gone
        shutil.rmtree(root / "images", ignore_errors=True)
        _repack(root)
        if out.exists():
            out.rmdir()
        os.replace(root, out)
    return out


def _frames(episode: "Episode") -> Iterable[dict[str, Any]]:
    keypoints = block_keypoints(episode.states[:, 2:]).astype(np.float32)
    pusher = episode.states[:, :2].astype(np.float32)
    reward = np.clip(episode.coverage / SUCCESS_COVERAGE, 0, 1).astype(np.float32)
    last = len(pusher) - 1
    for t in range(len(pusher)):
        yield {
            "observation.environment_state": keypoints[t],
            "observation.state": pusher[t],
            "action": episode.actions[t],
            "next.reward": reward[t : t + 1],
            "next.done": np.array([t == last]),
            "next.success": np.array([episode.coverage[t] > SUCCESS_COVERAGE]),
            "task": TASK,
        }


def _repack(root: Path) -> None:
    """Rewrite every parquet file of the dataset as one row group, compressed with zstd: half the size."""
    import pyarrow.parquet as pq

    for file in root.glob("**/*.parquet"):
        table = pq.read_table(file, partitioning=None)
        pq.write_table(table, file, compression="zstd", compression_level=19, row_group_size=len(table))
