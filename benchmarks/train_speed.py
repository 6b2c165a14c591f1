"""How much faster do both stages train than the same model trained the plain way?

    python benchmarks/train_speed.py [--data demo] [--rounds 5] [--steps 30]

Plain: a DataLoader shuffles a Dataset that cuts each window out of its demonstration when it is asked for, and the
frozen tokenizer labels every batch with its codes. Ours: all windows and code labels computed once, batches made from
indices. Model, loss, batch size, optimizer and moving average are the same objects. The two take turns in one
process, `--rounds` times, and the median round counts. Writes results/train_speed.json.
"""

import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.io import write_text
from vqbet_course.demos import Demos, Normalizer, Windows, load_demos
from vqbet_course.policy import VQBeT
from vqbet_course.tasks import augmented, open_source
from vqbet_course.train import Stage, policy_stage, run_randomness, vqvae_stage
from vqbet_course.training.data import fitting, prepare
from vqbet_course.training.factory import build_network
from vqbet_course.vqvae import vqvae_loss

RESULTS = Path(__file__).parent / "results"


class PlainWindows(Dataset):
    """Window i of normalised demonstrations, cut out when asked for: {name: (T, size)} and chunks (Q, W, A)."""

    def __init__(self, demos: Demos, normalizer: Normalizer, config: VQBeTConfig):
        self.observation = {k: normalizer.normalize(k, torch.from_numpy(v)) for k, v in demos.observation.items()}
        self.action = normalizer.normalize("action", torch.from_numpy(demos.action))
        self.episode = np.repeat(np.arange(len(demos)), np.diff(demos.episode_ends, prepend=0))
        self.starts, self.ends, self.config = demos.episode_starts, demos.episode_ends, config
        reach = max(1, config.n_queries - config.n_obs_steps + config.action_chunk_size)
        self.frames = np.concatenate(
            [np.arange(start, end - reach + 1) for start, end in zip(self.starts, self.ends, strict=True)]
        )

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, window: int) -> tuple[dict[str, Tensor], Tensor]:
        i = self.frames[window]
        start, end = self.starts[self.episode[i]], self.ends[self.episode[i]]
        first = i - self.config.n_obs_steps + 1
        rows = np.arange(first, i + 1).clip(start, end - 1)
        observation = {name: values[rows] for name, values in self.observation.items()}
        return observation, torch.stack(
            [self.chunk(q, start, end) for q in range(first, first + self.config.n_queries)]
        )

    def chunk(self, i: int, start: int, end: int) -> Tensor:
        chunk = self.action[np.arange(i, i + self.config.action_chunk_size).clip(start, end - 1)]
        if self.config.use_relative_actions:
            chunk = chunk - self.observation["observation.state"][min(max(i, start), end - 1)]
        return chunk


class PlainChunks(PlainWindows):
    """The chunk that begins at the last frame of a window, (W, A)."""

    def __getitem__(self, window: int) -> Tensor:  # type: ignore[override]
        i = self.frames[window]
        return self.chunk(i, self.starts[self.episode[i]], self.ends[self.episode[i]])


def check_same(plain: PlainWindows, windows: Windows) -> None:
    """The two ways must see the same data."""
    for i in range(0, len(plain), 97):
        observation, chunks = plain[i]
        assert torch.equal(chunks, windows.chunks[windows.chunk_index[i]])
        for name, values in observation.items():
            assert torch.equal(values, windows.observation[name][windows.observation_index[i]])


def endless(dataset: Dataset, batch_size: int) -> Iterator:
    """Shuffled batches, epoch after epoch."""
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=True)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def plain_policy(network: VQBeT, demos: Demos, normalizer: Normalizer) -> Callable:
    """Stage 2's loss on the next batch of windows, its codes computed for it."""
    batches = endless(PlainWindows(demos, normalizer, network.config), network.config.batch_size)

    def loss(_: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        observation, chunks = next(batches)
        with torch.no_grad():
            codes = network.vqvae.encode(chunks.flatten(0, 1)).unflatten(0, chunks.shape[:2])
        return network.loss(observation, chunks, codes)

    return loss


def plain_vqvae(network: VQBeT, demos: Demos, normalizer: Normalizer) -> Callable:
    """Stage 1's loss on the next batch of chunks."""
    batches = endless(PlainChunks(demos, normalizer, network.config), network.config.vqvae_batch_size)

    def loss(_: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        out = network.vqvae(next(batches))
        used = torch.tensor(float(len(torch.unique(out.codes, dim=0))))
        return vqvae_loss(out), {"reconstruction": out.recon_loss.detach(), "code_pairs": used}

    return loss


def samples_per_second(stage: Stage, loss: Callable, steps: int, batch_size: int) -> float:
    """Speed of some steps of a stage with this loss, after two that warm up."""
    stage.loss = loss
    for step in range(2):
        stage.step(step, 0)
    start = time.perf_counter()
    for step in range(steps):
        stage.step(step, 0)
    return steps * batch_size / (time.perf_counter() - start)


def compare(stage: Stage, plain: Callable, rounds: int, steps: int) -> dict[str, float]:
    """Take turns; medians of the samples a second, and of the ratios of neighbouring turns."""
    ours, both = stage.loss, []
    for turn in range(rounds):
        pair = [samples_per_second(stage, loss, steps, stage.batch_size) for loss in (ours, plain)]
        both.append(pair)
        click.echo(f"{stage.name:>9}, round {turn + 1}: {pair[0]:8.0f} against {pair[1]:8.0f} samples a second")
    ratios = [a / b for a, b in both]
    return {
        "ours": statistics.median(a for a, _ in both),
        "plain": statistics.median(b for _, b in both),
        "ratio": statistics.median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "batch_size": stage.batch_size,
    }


@click.command()
@click.option("--data", default="demo", show_default=True, metavar="SOURCE")
@click.option("--rounds", default=5, show_default=True)
@click.option("--steps", default=30, show_default=True, help="Steps in each turn.")
@click.option("--seed", default=0, show_default=True)
def main(data: str, rounds: int, steps: int, seed: int) -> None:
    demos = load_demos(open_source(data))
    config = fitting(demos)
    setup = prepare(demos, config, augment=True)
    both = augmented(demos, config.action_chunk_size)
    check_same(PlainWindows(both, setup.normalizer, config), setup.windows)
    stages: dict[str, dict[str, float]] = {}
    with run_randomness(seed):
        network = build_network(config)
        stage = vqvae_stage(network, setup.windows, 1000)
        stages["tokenizer"] = compare(stage, plain_vqvae(network, both, setup.normalizer), rounds, steps)
        stage = policy_stage(network, setup.windows, 1000)
        stages["policy"] = compare(stage, plain_policy(network, both, setup.normalizer), rounds, steps)
    for name, figures in stages.items():
        click.echo(
            f"{name}: {figures['ratio']:.2f} times the plain way's samples a second "
            f"({figures['lowest_ratio']:.2f} to {figures['highest_ratio']:.2f})"
        )
    result = {
        "stages": stages,
        "command": ["python", "benchmarks/train_speed.py", *sys.argv[1:]],
        "data": data,
        "seed": seed,
        "rounds": rounds,
        "steps": steps,
        "config": config.to_dict(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": version("torch"),
    }
    write_text(RESULTS / "train_speed.json", json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
