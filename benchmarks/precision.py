"""Does the result hold in bfloat16? VQ-BeT with equal steps in float32 and in bfloat16, on the same demonstrations.

    python benchmarks/precision.py --data pusht_human_lowdim.npz [--steps 2000] [--seeds 1,2]

For each training seed and precision: the loss at the end, the error of the first action on held-out demonstrations, and
success and reward on environment seeds from 200000 on, in four ways to act. Writes results/precision.json after each
training; what is there is not trained again.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import ActingConfig
from vqbet_course.core.hooks import Hook, TrainingStage
from vqbet_course.core.io import read_json, write_json
from vqbet_course.core.records import made_by
from vqbet_course.demos import load_demos
from vqbet_course.experiments.panel import Settings, build, config_for, first_action_error, jobs_of, learn_module
from vqbet_course.policy import VQBeT, VQBeTPolicy
from vqbet_course.rollout import rollout_metrics, rollouts
from vqbet_course.tasks import open_source
from vqbet_course.train import run_randomness
from vqbet_course.training.data import Setup, laptop_changes, prepare
from vqbet_course.training.devices import Computing

RESULT = Path(__file__).parent / "results" / "precision.json"

ACTING = [(n, temperature) for n in (1, 2) for temperature in (0.3, 1.0)]


class MeanLoss(Hook):
    """The mean loss of the last fifth of a stage's steps."""

    def begin(self, stage: TrainingStage, start: int) -> None:
        """Forget what was before."""
        self.losses: list[float] = []

    def after(self, stage: TrainingStage, taken: int, metrics: dict[str, Tensor]) -> None:
        """Note the loss of a late step."""
        if taken > 0.8 * stage.steps:
            self.losses.append(metrics["loss"].item())


def trained(setup: Setup, config: Any, steps: int, seed: int) -> tuple[VQBeT, dict[str, float]]:
    """A network trained for so many steps, and its loss and CPU seconds."""
    mean, budget = MeanLoss(), Budget(steps=steps)
    with run_randomness(seed):
        learned = learn_module(build("vqbet", config), setup, budget, seed, now=time.process_time, hooks=[mean])
    assert isinstance(learned.module, VQBeT)
    return learned.module, {"loss": sum(mean.losses) / len(mean.losses), "cpu_seconds": learned.seconds}


def evaluated(network: VQBeT, setup: Setup, episodes: int) -> Iterator[dict[str, Any]]:
    """The metrics of a network in each way to act."""
    for n, temperature in ACTING:
        policy = VQBeTPolicy(network, ActingConfig(temperature, n))
        metrics = rollout_metrics(rollouts(policy, setup.normalizer, range(200_000, 200_000 + episodes)))
        yield {"n_action_steps": n, "temperature": temperature, **metrics}


@click.command()
@click.option("--data", required=True, metavar="SOURCE")
@click.option("--steps", default=2000, show_default=True)
@click.option("--seeds", default="1,2", show_default=True, help="Training seeds.")
@click.option("--episodes", default=50, show_default=True)
def main(data: str, steps: int, seeds: str, episodes: int) -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = read_json(RESULT, dict)["trainings"] if RESULT.exists() else []
    demos, settings = load_demos(open_source(data)), Settings(data, 120, episodes, Budget(steps=steps))
    numbers = [int(seed) for seed in seeds.split(",")]
    for seed in numbers:
        job = jobs_of(["vqbet"], [seed], demos, settings)[0]
        config = config_for("vqbet", job.demos, **laptop_changes(job.demos))
        as_json = json.loads(json.dumps(config.to_dict()))
        for precision in ("float32", "bfloat16"):
            key = {"seed": seed, "precision": precision, "steps": steps, "episodes": episodes, "config": as_json}
            if any(row.items() >= key.items() for row in rows):
                continue
            setup = prepare(job.demos, config, augment=True).on(Computing("cpu", precision))
            network, metrics = trained(setup, config, steps, seed)
            assert job.held_out is not None
            error = first_action_error(network, job.held_out, setup.normalizer)
            acting = list(evaluated(network, setup, episodes))
            rows.append(key | metrics | {"held_out_action_error": error, "acting": acting})
            command = " ".join(["python", "benchmarks/precision.py", *sys.argv[1:]]).replace(data, Path(data).name)
            write_json(
                RESULT,
                {
                    "command": command,
                    "seeds": numbers,
                    "data": Path(data).name,
                    "trainings": rows,
                    "made_by": made_by(),
                },
            )
            found = ", ".join(f"{way['success_rate']:.0%} {way['avg_max_reward']:.3f}" for way in acting)
            click.echo(f"seed {seed}, {precision}: loss {metrics['loss']:.3f}, error {error:.1f} px; {found}")


if __name__ == "__main__":
    main()
