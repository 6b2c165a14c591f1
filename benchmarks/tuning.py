"""A search for each policy of the panel: the same number of trials, of the same length, on the same demonstrations.

    python benchmarks/tuning.py --data pusht_human_lowdim.npz --trials 12 --jobs 2
    python benchmarks/tuning.py --table

Trial 0 of a policy is its configuration on the panel; every other is drawn from SPACES, as a function of the policy and
the trial's number. A trial trains on 120 demonstrations, those of the panel's training seed 1, for 300 seconds of CPU time
with one thread, and is then evaluated on environment seeds from 200000 on, in each way of ACTING that its chunks allow.
It writes tuning/results/POLICY-TRIAL.json. Trials that have a file are not run again, so a search that was interrupted is
continued by the same command. Trial 0 of all policies comes first, then trial 1, and so on.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch
from torch import nn

from vqbet_course.baselines import BeT
from vqbet_course.core.budget import Budget
from vqbet_course.core.chunk_policy import ChunkPolicy
from vqbet_course.core.configuration import ActingConfig, VQBeTConfig
from vqbet_course.core.executor import completed, processes
from vqbet_course.core.io import read_json, write_json
from vqbet_course.core.records import check_made_with, made_by
from vqbet_course.demos import Demos, load_demos
from vqbet_course.experiments.panel import (
    POLICIES,
    Settings,
    Trained,
    build,
    changes_for,
    config_for,
    first_action_error,
    jobs_of,
    learn_module,
)
from vqbet_course.policy import VQBeT, VQBeTPolicy
from vqbet_course.rollout import Policy, rollout_metrics, rollouts
from vqbet_course.tasks import open_source
from vqbet_course.tasks.pusht.augmentation import augment_pusht, mirror_pusht
from vqbet_course.train import run_randomness
from vqbet_course.training.data import prepare

RESULTS = Path(__file__).parent / "tuning" / "results"

SEED = 1
"""The training seed of all trials; it also chooses the demonstrations, as on the panel."""

FIRST_START, DEMOS = 200_000, 120

OPTIMIZER: dict[str, list[Any]] = {
    "optimizer_lr": [3e-4, 5e-4, 1e-3, 2e-3],
    "optimizer_weight_decay": [1e-3, 1e-2, 1e-1],
    "ema_decay": [0.99, 0.999],
}
"""What is drawn for every policy: fields of the configuration."""

AUGMENT = ["all", "all", "mirror", "none"]
"""Hindsight and mirror images (the panel's choice, so it is drawn twice as often), mirror images, or neither."""

FIELDS: dict[str, dict[str, list[Any]]] = {
    "bc": {"n_obs_steps": [1, 2, 3, 5], "action_chunk_size": [4, 8, 12, 16], "batch_size": [128, 256, 512]},
    "bet": {"n_obs_steps": [2, 3, 5, 8], "batch_size": [128, 256, 512]},
    "act": {"action_chunk_size": [8, 16, 24, 32], "batch_size": [64, 128, 256]},
    "diffusion": {"n_obs_steps": [1, 2, 3], "action_chunk_size": [8, 16, 24], "batch_size": [64, 128, 256]},
    "flow": {"n_obs_steps": [1, 2, 3, 5], "action_chunk_size": [4, 8, 12, 16], "batch_size": [128, 256, 512]},
    "vqbet": {
        "n_obs_steps": [1, 2, 3, 5],
        "action_chunk_size": [2, 4, 6, 8, 12],
        "batch_size": [128, 256, 512],
        "vqvae_n_embed": [8, 16, 32],
        "vqvae_n_layers": [1, 2],
        "gpt_n_layer": [2, 3, 4],
        "gpt_hidden_dim": [64, 96, 128],
        "dropout": [0.0, 0.05, 0.1, 0.2],
        "offset_code": ["ground_truth", "sampled"],
        "offset_loss_weight": [3.0, 10.0, 30.0, 100.0],
    },
}
"""Fields of the configuration that are drawn for one policy."""

SHAPES: dict[str, dict[str, list[Any]]] = {
    "bc": {"width": [256, 512, 1024]},
    "bet": {"n_bins": [16, 32, 64], "n_layer": [2, 3, 4], "width": [64, 96, 128]},
    "act": {"n_encoder_layers": [1, 2, 3], "dim_model": [64, 96, 128], "dropout": [0.0, 0.1], "kl_weight": [1.0, 10.0]},
    "diffusion": {"down_dims": [(32, 64, 128), (48, 96, 192), (64, 128, 256)]},
    "flow": {"width": [256, 512, 1024], "n_steps": [5, 10]},
    "vqbet": {},
}
"""Arguments of a policy's class that are drawn."""

ACTING: dict[str, list[tuple[int, float | None]]] = {
    "bc": [(n, None) for n in (1, 2, 4, 6, 8, 16)],
    "bet": [(1, temperature) for temperature in (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)],
    "act": [(n, None) for n in (1, 2, 4, 8, 12, 16)],
    "diffusion": [(n, None) for n in (2, 4, 6, 8, 12, 15)],
    "flow": [(n, None) for n in (1, 2, 4, 8, 12, 16)],
    "vqbet": [(n, temperature) for n in (1, 4) for temperature in (0.2, 0.4, 1.0)],
}
"""Six ways to act for each policy: actions executed per decision, and the temperature of those that draw codes."""


@dataclass(frozen=True)
class Trial:
    """One configuration of one policy: changed fields of the configuration, arguments of the policy's class, and how
    much the demonstrations are augmented."""

    policy: str
    number: int
    fields: dict[str, Any]
    shape: dict[str, Any]
    augment: str

    @property
    def path(self) -> Path:
        """The file of its result."""
        return RESULTS / f"{self.policy}-{self.number:02d}.json"


def draw_trial(policy: str, number: int) -> Trial:
    """The trial of this number: 0 is the panel's configuration, another is drawn from the spaces."""
    if number == 0:
        return Trial(policy, 0, {}, {}, "all")
    g = np.random.default_rng((POLICIES.index(policy), number))

    def drawn(space: dict[str, list[Any]]) -> dict[str, Any]:
        return {name: values[g.integers(len(values))] for name, values in space.items()}

    return Trial(policy, number, drawn(OPTIMIZER | FIELDS[policy]), drawn(SHAPES[policy]), drawn({"a": AUGMENT})["a"])


def config_of(trial: Trial, demos: Demos) -> VQBeTConfig:
    """The configuration of a trial on these demonstrations."""
    fields = changes_for(trial.policy, demos) | trial.fields
    if fields.get("vqvae_n_layers") == 1:
        fields["sequentially_select"] = False
    if "action_chunk_size" in fields:
        fields["n_action_steps"] = 1
    return config_for(trial.policy, demos, **fields)


def build_trial(trial: Trial, config: VQBeTConfig) -> nn.Module:
    """The untrained module of a trial."""
    return build(trial.policy, config, **trial.shape)


def ways_to_act(policy: str, config: VQBeTConfig) -> list[tuple[int, float | None]]:
    """The ways of ACTING that chunks of this configuration are long enough for."""
    longest = config.action_chunk_size - (config.n_obs_steps - 1 if policy == "diffusion" else 0)
    return [(n, temperature) for n, temperature in ACTING[policy] if n <= longest]


def acting_so(module: nn.Module, n: int, temperature: float | None) -> Policy:
    """The policy that acts with a module in one way."""
    if isinstance(module, VQBeT):
        return VQBeTPolicy(module, ActingConfig(cast(float, temperature), n))
    policy = cast(ChunkPolicy, module)
    policy.config = replace(policy.config, n_action_steps=n)
    if temperature is not None:
        cast(BeT, policy).temperature = temperature
    return cast(Policy, policy)


def evaluations(trial: Trial, trained: Trained, episodes: int) -> list[dict[str, Any]]:
    """The metrics of a trained trial, in each way to act."""
    rows, config = [], cast(VQBeTConfig, trained.module.config)
    for n, temperature in ways_to_act(trial.policy, config):
        starts = range(FIRST_START, FIRST_START + episodes)
        metrics = rollout_metrics(rollouts(acting_so(trained.module, n, temperature), trained.normalizer, starts))
        rows.append({"n_action_steps": n, "temperature": temperature, **metrics})
    return rows


def run_trial(trial: Trial, demos: Demos, held_out: Demos, seconds: float, episodes: int) -> dict[str, Any]:
    """Train and evaluate one trial. Returns what its file holds."""
    torch.set_num_threads(1)
    began, config = time.perf_counter(), config_of(trial, demos)
    more = {"all": lambda: augment_pusht(demos, config.action_chunk_size), "mirror": lambda: mirror_pusht(demos)}
    setup = prepare(more.get(trial.augment, lambda: demos)(), config, augment=False)
    with run_randomness(SEED):
        module = build_trial(trial, config)
        trained = learn_module(module, setup, Budget(minutes=seconds / 60), SEED, now=time.process_time)
    trained_at = time.process_time()
    error = first_action_error(trained.module, held_out, setup.normalizer)
    rows = evaluations(trial, trained, episodes)
    return {
        "schema": "vqbet_course/tuning/1",
        "policy": trial.policy,
        "trial": trial.number,
        "drawn": trial.fields | trial.shape,
        "augment": trial.augment,
        "config": config.to_dict(),
        "seed": SEED,
        "first_start": FIRST_START,
        "demos": len(demos),
        "budget_cpu_seconds": seconds,
        "training": {"steps": trained.steps, "cpu_seconds": trained.seconds},
        "evaluation_cpu_seconds": time.process_time() - trained_at,
        "wall_seconds": time.perf_counter() - began,
        "load_average": os.getloadavg()[0],
        "parameters": sum(p.numel() for p in trained.module.parameters()),
        "held_out_action_error": error,
        "acting": rows,
        "made_by": made_by(),
    }


def best_way(result: dict[str, Any]) -> dict[str, Any]:
    """The way to act with the highest success, and among equals with the highest reward."""
    return max(result["acting"], key=rank)


def rank(way: dict[str, Any]) -> tuple[float, float]:
    """What ways to act are ordered by."""
    return way["success_rate"], way["avg_max_reward"]


def table(policies: Sequence[str]) -> list[str]:
    """All results, policy by policy, the best trial first; one line each."""
    lines = []
    for policy in policies:
        found = [read_json(path, dict) for path in sorted(RESULTS.glob(f"{policy}-*.json"))]
        ranked = sorted(
            ((best_way(r), r) for r in found), key=lambda pair: (-pair[0]["success_rate"], -pair[0]["avg_max_reward"])
        )
        lines.append(f"{policy}: {len(found)} trials; success, average max reward, final coverage, steps")
        for way, result in ranked:
            heat = "" if way["temperature"] is None else f", temperature {way['temperature']:g}"
            drawn = ", ".join(f"{name} {value}" for name, value in result["drawn"].items()) or "as on the panel"
            lines.append(
                f"  {result['trial']:2d}: {way['success_rate']:.0%} {way['avg_max_reward']:.3f} "
                f"{way['avg_final_coverage']:.3f} {result['training']['steps']} steps; "
                f"{way['n_action_steps']} actions a decision{heat}; augment {result['augment']}, {drawn}"
            )
    return lines


@click.command()
@click.option("--data", metavar="SOURCE", help="Demonstrations of PushT.")
@click.option("--policy", "policies", default=",".join(POLICIES), show_default=True, metavar="NAME,NAME")
@click.option("--trials", default=12, show_default=True, help="Trials of each policy.")
@click.option("--jobs", default=1, show_default=True, help="Processes side by side.")
@click.option("--seconds", default=300.0, show_default=True, help="CPU seconds that a training takes.")
@click.option("--episodes", default=50, show_default=True, help="Episodes of each way to act.")
@click.option("--table", "only_table", is_flag=True, help="Only print what is there, the best first.")
def main(
    data: str | None, policies: str, trials: int, jobs: int, seconds: float, episodes: int, only_table: bool
) -> None:
    names = policies.split(",")
    if unknown := [name for name in names if name not in POLICIES]:
        raise click.UsageError(f"unknown policy {unknown[0]!r}; choose from {', '.join(POLICIES)}")
    if not only_table:
        if data is None:
            raise click.UsageError("give --data SOURCE, or --table")
        search([draw_trial(name, n) for n in range(trials) for name in names], data, jobs, seconds, episodes)
    for line in table(names):
        click.echo(line)


def search(trials: Sequence[Trial], data: str, jobs: int, seconds: float, episodes: int) -> None:
    """Run the trials that have no file, in this order, and write each as it ends. One that fails stops no other."""
    settings = Settings(data, DEMOS, episodes, Budget(minutes=seconds / 60))
    job = jobs_of(["vqbet"], [SEED], load_demos(open_source(data)), settings)[0]
    command = " ".join(["python", "benchmarks/tuning.py", *sys.argv[1:]]).replace(data, Path(data).name)
    with processes(jobs) as pool:
        for trial in (trial for trial in trials if trial.path.exists()):
            kept = read_json(trial.path, dict)
            check_made_with(
                trial.path, kept, {"config": config_of(trial, job.demos).to_dict(), "augment": trial.augment}
            )
        missing = [trial for trial in trials if not trial.path.exists()]
        calls = ((trial, (trial, job.demos, job.held_out, seconds, episodes)) for trial in missing)
        for trial, future in completed(pool, run_trial, calls):
            if error := future.exception():
                click.echo(f"{trial.path.stem} failed: {type(error).__name__}: {error}", err=True)
                continue
            result = future.result() | {"command": command}
            write_json(trial.path, result)
            best = best_way(result)
            click.echo(f"{trial.path.stem}: success {best['success_rate']:.0%}, reward {best['avg_max_reward']:.3f}")


if __name__ == "__main__":
    main()
