"""The recordings that lessons 08 and 10 show: a training at ten moments, and four policies from the same starts.

    python benchmarks/recordings.py training
    python benchmarks/recordings.py policies --minutes 1

`training`: the laptop's configuration on the embedded demonstrations; at each moment the chunks that all pairs of codes
decode to, how often demonstrations use each pair, the success of 8 rollouts, and one of them step by step.
`policies`: each policy trained for the same minutes of one core on the same 120 demonstrations, as in the panel of lesson 10, and
its rollouts step by step. Both go to vqbet_course/data/recorded.
"""

import copy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch

from vqbet_course.core.budget import Budget
from vqbet_course.core.hooks import Hook
from vqbet_course.core.recordings import RECORDED, write_recording
from vqbet_course.core.records import made_by
from vqbet_course.demos import Demos, load_demos
from vqbet_course.experiments.panel import build, config_for, learn_module
from vqbet_course.policy import VQBeT, VQBeTPolicy
from vqbet_course.rollout import rollout_metrics, rollouts
from vqbet_course.tasks import get_task, open_source
from vqbet_course.train import label_codes, policy_stage, run_randomness, run_stage, vqvae_stage
from vqbet_course.training.data import Setup, fitting, prepare
from vqbet_course.widgets import steps_of

FIRST_SEED = 100_000  # of the environments, as in every report
TOKENIZER, POLICY = (0, 30, 800), (50, 150, 300, 500, 800, 1200, 2000)  # optimizer steps of the moments
POLICIES = ("vqbet", "bet", "act", "diffusion")


class Moments(Hook):
    """Records the training at some steps of a stage."""

    def __init__(self, network: VQBeT, setup: Setup, at: Sequence[int], episodes: int):
        self.network, self.setup, self.at, self.episodes = network, setup, at, episodes
        self.seen: list[dict[str, Any]] = []

    def begin(self, stage: Any, start: int) -> None:
        """Record the moment before the first step, where it is asked for."""
        if 0 in self.at:
            self.record(stage, 0)

    def after(self, stage: Any, taken: int, metrics: dict[str, Any]) -> None:
        """Record the moment after a step, where it is asked for."""
        if taken in self.at:
            self.record(stage, taken)

    def record(self, stage: Any, taken: int) -> None:
        """Add what the network is now, as it acts."""
        network = copy.deepcopy(stage.acting() if stage.name == "policy" else self.network).eval()
        K = network.config.vqvae_n_embed
        codes = label_codes(network, self.setup.windows)
        pairs = torch.cartesian_prod(torch.arange(K), torch.arange(K))
        with torch.no_grad():
            decoded = network.vqvae.decode(pairs).unflatten(0, (K, K)) * self.setup.action_unit
            error = network.vqvae.decode(codes) - self.setup.windows.chunks
        seeds = range(FIRST_SEED, FIRST_SEED + self.episodes)
        episodes = rollouts(VQBeTPolicy(network), self.setup.normalizer, seeds)
        self.seen.append(
            {
                "stage": stage.name,
                "step": taken,
                "error": error.norm(dim=-1).mean().item() * self.setup.action_unit,
                **rollout_metrics(episodes),
                "decoded": decoded.numpy(),
                "counts": torch.bincount(codes[:, 0] * K + codes[:, 1], minlength=K * K).view(K, K).numpy(),
                "rollouts": [steps_of(episode) for episode in episodes],
            }
        )
        print(stage.name, taken, self.seen[-1]["success_rate"], self.seen[-1]["error"], flush=True)


def record_training(seed: int, episodes: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A training at ten moments: numbers of each, and {name: array}."""
    demos = load_demos(open_source("demo"))
    config = fitting(demos)
    setup = prepare(demos, config, augment=True)
    seen = []
    with run_randomness(seed):
        network = cast(VQBeT, build("vqbet", config))
        for make, at in ((vqvae_stage, TOKENIZER), (policy_stage, POLICY)):
            moments = Moments(network, setup, at, episodes)
            run_stage(make(network, setup.windows, at[-1]), seed, hooks=[moments])
            seen += moments.seen
    shown = max(range(episodes), key=lambda i: late_gain(seen, i))
    numbers = [{k: v for k, v in moment.items() if not isinstance(v, np.ndarray | list)} for moment in seen]
    arrays = {f"{name}_{i}": moment[name] for i, moment in enumerate(seen) for name in ("decoded", "counts")}
    arrays |= {f"rollout_{i}": moment["rollouts"][shown] for i, moment in enumerate(seen)}
    about = {"seed": seed, "environment_seed": FIRST_SEED + shown, "demos": len(demos), "moments": numbers}
    return about, arrays


def late_gain(seen: Sequence[dict[str, Any]], episode: int) -> float:
    """How much more of the goal the last moment covers than the others do on average, in one episode."""
    best = [moment["rollouts"][episode][:, -1].max() for moment in seen]
    return float(best[-1] - np.mean(best[:-1]))


def record_policies(seed: int, minutes: float, starts: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Rollouts of each policy from the same starts: numbers of each policy, and {policy-environment seed: (T, 8)}."""
    every = load_demos(open_source("demo"))
    chosen: Demos = every.select(np.sort(np.random.default_rng(seed).permutation(len(every))[:120]))
    numbers: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for name in POLICIES:
        config = config_for(name, chosen)
        setup = prepare(chosen, config, augment=get_task("pusht").augmentable(chosen.contract))
        with run_randomness(seed):  # the processor's time: what other processes take does not count
            learned = learn_module(build(name, config), setup, Budget(minutes=minutes), seed, now=time.process_time)
        seeds = range(FIRST_SEED, FIRST_SEED + starts)
        episodes = rollouts(learned.policy, learned.normalizer, seeds)
        metrics = rollout_metrics(episodes)
        numbers.append({"policy": name, "steps": learned.steps, **metrics})
        print(numbers[-1], flush=True)
        arrays |= {f"{name}-{episode.seed}": steps_of(episode) for episode in episodes}
    return {"seed": seed, "minutes": minutes, "demos": len(chosen), "policies": numbers}, arrays


@click.command()
@click.argument("what", type=click.Choice(["training", "policies"]))
@click.option("--seed", default=0, show_default=True, help="Of the training.")
@click.option("--episodes", default=8, show_default=True, help="Rollouts at each moment of the training.")
@click.option("--minutes", default=1.0, show_default=True, help="Of training, for each policy.")
@click.option("--starts", default=4, show_default=True, help="Rollouts of each policy that are kept.")
@click.option("--out", default=RECORDED, type=Path)
def main(what: str, seed: int, episodes: int, minutes: float, starts: int, out: Path) -> None:
    torch.set_num_threads(1)
    if what == "training":
        about, arrays = record_training(seed, episodes)
    else:
        about, arrays = record_policies(seed, minutes, starts)
    out.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python", *sys.argv])
    write_recording(out / f"{what}.npz", about | {"command": command, "made_by": made_by()}, arrays)


if __name__ == "__main__":
    main()
