"""How fast does a device train, and after how many minutes does the policy solve 90 % of its episodes?

    python benchmarks/device.py --device auto --data pusht_human_lowdim.npz
    python benchmarks/device.py --device cpu --precision float32 --data demo --limit 15

First samples per second of both stages, in float32 and in bfloat16, with batches of 256 and of 1024. Then a training
whose moving average is evaluated on 50 environment seeds from 200000 on after every MINUTES; evaluation is not counted. It
ends when 90 % of the episodes are solved, or at --limit. Writes results/device_NAME.json.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from vqbet_course.core.budget import Budget, Clock
from vqbet_course.core.hooks import Hook, TrainingStage
from vqbet_course.core.io import write_json
from vqbet_course.core.records import made_by
from vqbet_course.demos import load_demos
from vqbet_course.experiments.panel import as_policy
from vqbet_course.rollout import rollout_metrics, rollouts
from vqbet_course.tasks import open_source
from vqbet_course.train import Stage, policy_stage, run_randomness, run_stage, split_steps, vqvae_stage
from vqbet_course.training.data import Setup, fitting, prepare
from vqbet_course.training.devices import DEVICES, PRECISIONS, Computing
from vqbet_course.training.factory import build_network
from vqbet_course.training.trainer import calibrated_steps

RESULTS = Path(__file__).parent / "results"

MINUTES = (1, 2, 3, 5, 7, 10, 15, 20, 30)
"""When a training is evaluated."""


class Solved(Hook):
    """Evaluates the policy when the clock shows each of MINUTES, and ends the stage when it solves enough."""

    def __init__(self, clock: Clock, setup: Setup, limit: float, goal: float):
        self.clock, self.setup, self.goal = clock, setup, goal
        self.due, self.rows = [m for m in MINUTES if m <= limit], list[dict[str, float]]()

    def before(self, stage: TrainingStage, step: int) -> bool:
        """Evaluate where it is due; False when the goal is reached or the time is over."""
        if self.due and self.clock.seconds() >= 60 * self.due[0]:
            with self.clock.pause():
                self.evaluate(stage, step)
        return bool(self.due)

    def end(self, stage: TrainingStage, taken: int) -> None:
        """Evaluate what the training ends with, where a time is still due."""
        if self.due:
            self.evaluate(stage, taken)

    def evaluate(self, stage: TrainingStage, step: int) -> None:
        """Note success and reward now."""
        minutes, acting = self.due.pop(0), stage.acting()
        metrics = rollout_metrics(rollouts(as_policy(acting), self.setup.normalizer, range(200_000, 200_050)))
        if acting is stage.module:
            stage.module.train()
        found = {"minutes": minutes, "step": step, **{k: metrics[k] for k in ("success_rate", "avg_max_reward")}}
        self.rows.append(found)
        click.echo(
            f"{minutes} minutes, {step} steps: {found['success_rate']:.0%}, reward {found['avg_max_reward']:.3f}"
        )
        if metrics["success_rate"] >= self.goal:
            self.due.clear()


def samples_per_second(stage: Stage, seconds: float) -> float:
    """Speed of a stage over some seconds, after ten steps that warm it up."""
    for step in range(10):
        stage.step(step, 0)["loss"].item()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(10):
            metrics: dict[str, Tensor] = stage.step(steps, 0)
            steps += 1
        metrics["loss"].item()  # waits for the device
    return steps * stage.batch_size / (time.perf_counter() - start)


def speeds(setup: Setup, config: Any, device: str, seconds: float) -> list[dict[str, Any]]:
    """Samples per second of both stages in each precision, with two sizes of batches."""
    rows = []
    for precision in ("float32", "bfloat16"):
        for batch_size in (256, 1024):
            at, own = Computing(device, precision), replace(config, batch_size=batch_size)
            windows = at.windows(setup.windows)
            network = at.place(build_network(own))
            row: dict[str, Any] = {"precision": precision, "batch_size": batch_size}
            for make in (vqvae_stage, policy_stage):
                stage = make(network, windows, 1000)
                row[stage.name] = samples_per_second(stage, seconds)
            rows.append(row)
            click.echo(", ".join(f"{k} {v:.0f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    return rows


def minutes_to(goal: float, setup: Setup, config: Any, limit: float, seed: int) -> Sequence[dict[str, float]]:
    """Success after some minutes of one training that is planned for `limit` minutes."""
    steps = calibrated_steps(Budget(minutes=limit), config, setup, seed)
    with run_randomness(seed):
        network, clock, taken = setup.computing.place(build_network(config)), Clock(), split_steps(steps, config)
        run_stage(vqvae_stage(network, setup.windows, taken), seed)
        solved = Solved(clock, setup, limit, goal)
        run_stage(policy_stage(network, setup.windows, steps - taken), seed, hooks=[solved])
    return solved.rows


@click.command()
@click.option("--data", default="demo", show_default=True, metavar="SOURCE")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True)
@click.option("--batch-size", type=int, help="Batches of the training.  [default: the configuration's]")
@click.option("--limit", default=15.0, show_default=True, help="Minutes that the training is planned for.")
@click.option("--goal", default=0.9, show_default=True, help="The share of episodes to solve.")
@click.option("--seed", default=0, show_default=True)
def main(data: str, device: str, precision: str, batch_size: int | None, limit: float, goal: float, seed: int) -> None:
    at, demos = Computing.asked(device, precision), load_demos(open_source(data))
    config = fitting(demos)
    config = replace(config, batch_size=batch_size or config.batch_size)
    setup = prepare(demos, config, augment=True)
    fast = speeds(setup, config, at.device, min(5.0, 10 * limit))
    rows = minutes_to(goal, setup.on(at), config, limit, seed)
    name = torch.cuda.get_device_name() if at.device == "cuda" else at.device
    result = {
        "command": " ".join(["python", "benchmarks/device.py", *sys.argv[1:]]).replace(data, Path(data).name),
        "computing": {"device": at.device, "precision": at.precision},
        "device_name": name,
        "samples_per_second": fast,
        "minutes": rows,
        "reached": next((row["minutes"] for row in rows if row["success_rate"] >= goal), None),
        "config": config.to_dict(),
        "seed": seed,
        "made_by": made_by(),
    }
    write_json(RESULTS / f"device_{at.device}.json", result)


if __name__ == "__main__":
    main()
