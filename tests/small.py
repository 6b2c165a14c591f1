"""Small data and a small policy, for tests that train in a second."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.training.trainer import Selection, train

KEYPOINTS = {"observation.environment_state": 16, "observation.state": 2}

CONFIG = VQBeTConfig.laptop(
    observation_sizes=KEYPOINTS,
    gpt_n_layer=1,
    gpt_n_head=2,
    gpt_hidden_dim=16,
    gpt_input_dim=16,
    gpt_output_dim=16,
    vqvae_embedding_dim=8,
    vqvae_enc_hidden_dim=32,
    n_vqvae_training_steps=40,
    batch_size=32,
    vqvae_batch_size=64,
    scheduler_warmup_steps=5,
    optimizer_lr=5e-3,
    optimizer_vqvae_lr=1e-2,
)


def arrays(lengths: tuple[int, ...] = (40, 30, 50)) -> dict[str, np.ndarray]:
    """A pusher that goes round the middle beside a T that lies somewhere, in the layout of an .npz of PushT states."""
    n, draw = sum(lengths), np.random.default_rng(0)
    phase = np.concatenate([draw.uniform(0, 6) + 0.1 * np.arange(length) for length in lengths])
    pusher, action = (256 + 180 * np.column_stack([np.cos(p), np.sin(p)]) for p in (phase, phase + 0.3))
    block = np.column_stack([draw.uniform(150, 350, (n, 2)), draw.uniform(-3, 3, n)])
    return {"state": np.column_stack([pusher, block]), "action": action, "episode_ends": np.cumsum(lengths)}


def write_npz(path: Path, **changes: np.ndarray) -> str:
    """The arrays in a file, some of them replaced; returns the path as a SOURCE."""
    np.savez(path, allow_pickle=True, **(arrays() | changes))
    return str(path)


def small_run(folder: Path, steps: int = 12, goal: str = "none", split: Path | None = None, **options: Any) -> Path:
    """A finished run directory `folder`/run of the small policy."""
    data = Selection(data=write_npz(folder / "data.npz"), goal=goal, split=split)
    train(data, folder / "run", Budget(steps=steps), **({"config": CONFIG} | options), quiet=True)
    return folder / "run"


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors agree to the last bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
