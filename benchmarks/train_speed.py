"""How much faster do both stages train than the same model trained the plain way?

    python benchmarks/train_speed.py [--data demo] [--rounds 5] [--steps 30]

Plain: a DataLoader shuffles a Dataset that cuts each window out of its demonstration when it is asked for, and the
frozen tokenizer labels every batch with its codes. Ours: all windows and code labels computed once, batches made from
indices. Model, loss, batch size, optimizer and moving average are the same objects. The two take turns in one
process, `--rounds` times, and the median round counts. Writes results/train_speed.json.

    python benchmarks/train_speed.py --against 3455620 [--rounds 5] [--steps 30]

How much faster does the policy's stage train than at an earlier commit? Its package is checked out into a folder of its
own, and two processes, one for each package, take turns: each way to train of WAYS, with one thread and with two. The
ratios are those of neighbouring turns. Writes results/train_speed_against.json.

    python benchmarks/train_speed.py --busy [--rounds 5] [--steps 30]

Is training slowed more than fairly when another process is busy? One process trains, some steps at a time: alone and with a
busy process beside it, with one thread and with one for each core. The fair share is what is left of the machine when the
busy process has one core: the speed of one thread alone, or that of all threads alone times (cores - 1) / cores, whichever
is higher. It is measured twice: with threads that sleep while they wait for each other, as the package sets it (PASSIVE),
and with threads that spin (ACTIVE). Writes results/busy.json.
"""

import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
        self.frames = np.concatenate(
            [np.arange(start, end - config.window_reach + 1) for start, end in zip(self.starts, self.ends, strict=True)]
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


WAYS = (("float32", 256), ("bfloat16", 256), ("bfloat16", 512))
"""Precision and batch size of the ways to train that are compared with the earlier commit's, float32 and 256."""

WORKER = Path(__file__).parent / "train_speed_worker.py"


class Worker:
    """A process that trains with the package in a folder, as many steps as it is asked for."""

    def __init__(self, package: Path, data: str, variables: dict[str, str] | None = None):
        environment = os.environ | {"PYTHONPATH": str(package)} | (variables or {})
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, str(WORKER), data]
        self.process = subprocess.Popen(command, env=environment, cwd=package, text=True, **pipes)

    def speed(self, precision: str, batch_size: int, threads: int, steps: int) -> dict[str, float]:
        """Samples per second of some steps, by the clock and by the time on the CPU."""
        asked = {"precision": precision, "batch_size": batch_size, "threads": threads, "steps": steps}
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("a process that trains has ended; what it printed says why")
        spent = json.loads(answer)
        return {clock: steps * batch_size / seconds for clock, seconds in spent.items()}


@contextmanager
def package_of(commit: str) -> Iterator[Path]:
    """A folder with the files of a commit."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=WORKER.parent.parent, check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


def compare_with(commit: str, data: str, rounds: int, steps: int, threads: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
    """Rounds of turns: the earlier commit, then each way of now, with each number of threads."""
    turns: dict[str, list[dict[str, float]]] = {}
    with package_of(commit) as before:
        old, new = Worker(before, data), Worker(WORKER.parent.parent, data)
        for turn in range(rounds):
            for n in threads:
                was = old.speed("float32", 256, n, steps)
                turns.setdefault(f"before, {n} threads", []).append(was)
                for precision, batch_size in WAYS:
                    now = new.speed(precision, batch_size, n, steps)
                    ratios = {f"{clock}_ratio": now[clock] / was[clock] for clock in was}
                    turns.setdefault(f"{precision}, batches of {batch_size}, {n} threads", []).append(now | ratios)
            click.echo(f"round {turn + 1} of {rounds}")
        for worker in (old, new):
            worker.process.communicate()
    return {name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in turns.items()}


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def busy_process() -> Iterator[None]:
    """A process that computes without end beside what is inside."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def rounds_of(worker: Worker, rounds: int, steps: int) -> dict[str, list[float]]:
    """Samples per second in each round: {`alone, N threads`, `beside, N threads`: one number for each round}."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for threads in dict.fromkeys((1, CORES)):
            found.setdefault(f"alone, {threads} threads", []).append(speed(worker, threads, steps))
            with busy_process():
                found.setdefault(f"beside, {threads} threads", []).append(speed(worker, threads, steps))
    return found


def speed(worker: Worker, threads: int, steps: int) -> float:
    """Samples per second by the clock."""
    return worker.speed("float32", 256, threads, steps)["wall"]


def slowdowns(found: dict[str, list[float]]) -> dict[str, Any]:
    """Median speeds, and how many times slower than the fair share training is beside a busy process: the median of the
    rounds, with one thread and with one for each core."""
    fair = [
        max(one, every * (CORES - 1) / CORES)
        for one, every in zip(found["alone, 1 threads"], found[f"alone, {CORES} threads"], strict=True)
    ]
    slower = {
        str(threads): statistics.median(f / s for f, s in zip(fair, found[f"beside, {threads} threads"], strict=True))
        for threads in (1, CORES)
    }
    return {"samples_per_second": {k: statistics.median(v) for k, v in found.items()}, "times_slower": slower}


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
@click.option("--against", metavar="COMMIT", help="Compare with the package of this commit instead.")
@click.option("--busy", is_flag=True, help="Compare with and without a busy process instead.")
def main(data: str, rounds: int, steps: int, seed: int, against: str | None, busy: bool) -> None:
    if busy:
        record_busy(data, rounds, steps)
    elif against:
        record_against(against, data, rounds, steps)
    else:
        record_plain(data, rounds, steps, seed)


def record_against(commit: str, data: str, rounds: int, steps: int) -> None:
    """Compare with an earlier commit, and write results/train_speed_against.json."""
    ways = compare_with(commit, data, rounds, steps)
    for name, row in ways.items():
        ratio = (
            f", {row['wall_ratio']:.2f} times as many ({row['cpu_ratio']:.2f} by CPU time)"
            if "wall_ratio" in row
            else ""
        )
        click.echo(f"{name}: {row['wall']:.0f} samples a second{ratio}")
    result = {"against": commit, "ways": ways, "data": data, "rounds": rounds, "steps": steps, **made_here()}
    write_text(RESULTS / "train_speed_against.json", json.dumps(result, indent=2) + "\n")


def record_busy(data: str, rounds: int, steps: int) -> None:
    """Compare training alone and beside a busy process, and write results/busy.json."""
    result: dict[str, Any] = {}
    for policy in ("PASSIVE", "ACTIVE"):
        worker = Worker(WORKER.parent.parent, data, {"OMP_WAIT_POLICY": policy})
        result[policy] = slowdowns(rounds_of(worker, rounds, steps))
        worker.process.communicate()
        click.echo(f"{policy}: {json.dumps(result[policy])}")
    found = {"waiting": result, "data": data, "rounds": rounds, "steps": steps, **made_here()}
    write_text(RESULTS / "busy.json", json.dumps(found, indent=2) + "\n")


def made_here() -> dict[str, Any]:
    """The command, and what the results depend on."""
    return {
        "command": ["python", "benchmarks/train_speed.py", *sys.argv[1:]],
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def record_plain(data: str, rounds: int, steps: int, seed: int) -> None:
    """Compare with training the plain way, and write results/train_speed.json."""
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
        "data": data,
        "seed": seed,
        "rounds": rounds,
        "steps": steps,
        "config": config.to_dict(),
        **made_here(),
    }
    write_text(RESULTS / "train_speed.json", json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
