"""Is a correction worth more than one more demonstration? Three ways to extend the same data, three rounds, three seeds.

    nice -n 10 python benchmarks/corrections.py

Each training seed draws 60 of the embedded demonstrations and trains a policy on them. Then, three times, it gets more
data and trains further from its weights: `take-over`, the expert acts where the policy gets nowhere (HG-DAgger); `label`,
it says what it would do in states that the policy reaches (DAgger); `demonstrations`, as many steps of whole
demonstrations as it took over. Every policy is evaluated on the environment seeds 100000 to 100049; corrections and further
demonstrations come from 200000 on. Run directories are in _runs/corrections; what is finished is not done again, and
results/corrections.json is written after each part: stored are rounds 1 and 2 of takeovers and demonstrations, and round 1 of
labels. The same command goes on from there; without the run directories it first trains again what is stored.
"""

import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import LAPTOP
from vqbet_course.core.io import read_json, write_json
from vqbet_course.core.records import check_made_with, made_by
from vqbet_course.corrections import Columns
from vqbet_course.datasets.splits import Split
from vqbet_course.demos import Demos, make_windows
from vqbet_course.evaluation.held_out import training_demos
from vqbet_course.experiments.correct import Asked, Collected, corrections_by_expert, counts, one_round
from vqbet_course.rollout import metrics_in_words, rollout_metrics, rollouts
from vqbet_course.tasks import get_task
from vqbet_course.train import run_randomness, run_stage, vqvae_stage
from vqbet_course.training.data import Fitted, prepare
from vqbet_course.training.runs import Run, load_run
from vqbet_course.training.trainer import Selection, train

RESULT = Path(__file__).parent / "results" / "corrections.json"
ARMS = ("take-over", "demonstrations", "label")
DEMOS, EPISODES, ROUNDS, STARTS = 60, 12, 3, range(100_000, 100_050)
FIRST_STEPS, MORE_STEPS, TOKENIZER_STEPS = 2500, 800, 300
CHANGES = {"action_chunk_size": 4, "batch_size": 128, "n_action_steps": 2}
FIRST_SEED, SEEDS_EACH, FIRST_DEMONSTRATION = 200_000, 1000, 500
SCHEMA = "vqbet_course/corrections_benchmark/1"
Part = dict[str, Any]


def first_run(out: Path, seed: int) -> Run:
    """The policy that all three ways begin with."""
    if not (out / "model.safetensors").exists():
        chosen = np.sort(np.random.default_rng(seed).permutation(200)[:DEMOS])
        write_json(out.with_name("split.json"), Split("demo", 200, chosen.tolist()).to_dict())
        selection = Selection(data="demo", split=out.with_name("split.json"))
        train(selection, out, Budget(steps=FIRST_STEPS), Fitted(CHANGES), seed=seed)
    return load_run(out)


def more_demonstrations(run: Run, number: int, asked: Asked, steps: int) -> Collected:
    """Whole demonstrations of round `number`, from seeds of their own, until there are as many steps."""
    parts = list[Columns]()
    first = asked.seed + FIRST_DEMONSTRATION + 100 * (number - 1)
    for episode in get_task("pusht").demonstrations(99, first).sound_episodes():
        parts.append(episode.numbers)
        if sum(len(part["action"]) for part in parts) >= steps:
            break
    return parts, counts(parts, [], None)


def next_round(runs: Path, arm: str, number: int, run: Run, asked: Asked) -> Run:
    """Collect the data of a round and train further on all that is there so far."""
    folder = runs / arm / f"round-{number}"
    names = [*run.policy.network.config.observation_sizes]
    demos = training_demos(run, names)
    assert demos is not None
    if arm == "demonstrations":
        taken = read_json(runs / "take-over" / f"round-{number}" / "round.json", dict)
        collect: Any = partial(more_demonstrations, number=number, asked=asked, steps=taken["corrected_steps"])
    else:
        collect = partial(corrections_by_expert, number=number, task=get_task("pusht"), asked=asked)
    one_round(run, demos, folder, collect, asked, quiet=True)
    return load_run(folder)


def evaluated(run: Run, seed: int, arm: str, number: int, added: int, found: Part) -> Part:
    """The entry of a policy: what it was trained on, and how it does."""
    began = time.process_time()
    episodes = rollouts(run.policy, run.normalizer, STARTS, get_task("pusht"))
    return {
        "training": {"seed": seed, "steps": run.plan.steps, "data": run.plan.data},
        "arm": arm,
        "round": number,
        "added_steps": added,
        "counts": found,
        "seed": STARTS[0],
        "metrics": rollout_metrics(episodes),
        "episodes": [episode.summary() for episode in episodes],
        "cpu_seconds_of_evaluation": time.process_time() - began,
    }


def tokenizer_errors(run: Run) -> Part:
    """The error of a chunk's reconstruction in px, on the first demonstrations and on what was added: by the tokenizer
    as it is, and by one that was trained further on both."""
    config = run.policy.network.config
    demos = training_demos(run, [*config.observation_sizes])
    assert demos is not None
    setup = prepare(demos, config, True, normalizer=run.normalizer)
    network = run.policy.network

    def error(part: Demos) -> float:
        windows = make_windows(
            part, run.normalizer, config.n_obs_steps, config.n_queries, config.action_chunk_size, True
        )
        with torch.no_grad():
            back = network.vqvae.eval()(windows.chunks).reconstruction
        return (back - windows.chunks).norm(dim=-1).mean().item() * setup.action_unit

    parts = {"first": demos.select(list(range(DEMOS))), "added": demos.select(list(range(DEMOS, len(demos))))}
    frozen = {name: error(part) for name, part in parts.items()}
    network.vqvae.requires_grad_(True)
    with run_randomness(0):
        run_stage(vqvae_stage(network, setup.windows, TOKENIZER_STEPS), 0)
    return {"frozen_px": frozen, "trained_further_px": {name: error(part) for name, part in parts.items()}}


def missing_parts(seeds: Sequence[int], out: Path, done: set[tuple[int, str, int]]) -> Iterator[Part]:
    """The entries that are missing, as they come: all seeds of a round before the next round, and the labels last."""
    runs = {seed: out / f"seed-{seed}" for seed in seeds}
    last = {(seed, arm): first_run(runs[seed] / "first", seed) for seed in seeds for arm in ARMS}
    added = dict.fromkeys(last, 0)
    for seed in seeds:
        if (seed, "first", 0) not in done:
            yield evaluated(last[seed, ARMS[0]], seed, "first", 0, 0, {})
    jobs = itertools.product(range(1, ROUNDS + 1), seeds, ARMS)
    for number, seed, arm in sorted(jobs, key=lambda job: job[2] == ARMS[-1]):
        how = arm if arm == "label" else "take-over"
        asked = Asked("", how=how, episodes=EPISODES, steps=MORE_STEPS, seed=FIRST_SEED + SEEDS_EACH * seed)
        last[seed, arm] = run = next_round(runs[seed], arm, number, last[seed, arm], asked)
        found = read_json(run.path / "round.json", dict)
        added[seed, arm] += found["corrected_steps"]
        if (seed, arm, number) not in done:
            part = evaluated(run, seed, arm, number, added[seed, arm], found)
            yield part | ({"tokenizer": tokenizer_errors(load_run(run.path))} if arm == "take-over" else {})


def key(part: Part) -> tuple[int, str, int]:
    """Training seed, way and round of an entry."""
    return part["training"]["seed"], part["arm"], part["round"]


@click.command()
@click.option("--seeds", default="1,2,3", show_default=True, metavar="N,N")
@click.option("--out", type=click.Path(path_type=Path), default=Path("_runs/corrections"), show_default=True)
def main(seeds: str, out: Path) -> None:
    torch.set_num_threads(1)
    command = " ".join(["python", *sys.argv])
    settings = {
        "demos": DEMOS,
        "episodes": EPISODES,
        "steps": [FIRST_STEPS, MORE_STEPS],
        "config": json.loads(json.dumps(LAPTOP | CHANGES)),
    }
    kept = read_json(RESULT, dict) if RESULT.exists() else {"parts": [], "settings": settings}
    check_made_with(RESULT, kept["settings"], settings)
    parts = kept["parts"]
    numbers = [int(seed) for seed in seeds.split(",")]
    made = {"schema": SCHEMA, "command": command, "seeds": numbers, "settings": settings, "made_by": made_by()}
    for part in missing_parts(numbers, out, set(map(key, parts))):
        parts.append(part)
        write_json(RESULT, made | {"parts": parts})
        click.echo(f"{key(part)}, {part['added_steps']} steps more: {metrics_in_words(part['metrics'])}")


if __name__ == "__main__":
    main()
