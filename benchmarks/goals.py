"""Does a goal-conditioned VQ-BeT push the T to its goal? Four policies, 50 goal poses that occur in no demonstration.

    python benchmarks/goals.py --steps 3000

Each arm and seed trains on the embedded demonstrations with about the same computing (a step of behaviour cloning
costs a quarter of one of VQ-BeT, so it takes four times as many) and is evaluated on the environment seeds 400000 to
400049, each of which draws its own start and its own goal. Policies with goals observe them in the frame of the T; the one
without goals is the usual policy. All execute whole chunks of four actions. What is finished is skipped.
"""

import json
import time
from pathlib import Path
from typing import Any, cast

import click
import torch
from tqdm.auto import tqdm

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.io import read_json, write_json
from vqbet_course.core.records import check_made_with, made_by
from vqbet_course.core.specs import TaskContract
from vqbet_course.demos import Demos, load_demos
from vqbet_course.evaluation.behaviour import behaviour
from vqbet_course.experiments.panel import Budget, config_for, learn
from vqbet_course.goals import goal_shape, with_shown_goal
from vqbet_course.rollout import metrics_in_words, rollout_metrics, rollouts
from vqbet_course.tasks import get_task, open_source
from vqbet_course.training.data import prepare

RESULTS = Path(__file__).parent / "results"
FIRST_START = 400_000
ARMS = {
    "vqbet-future": ("vqbet", "future", 1),
    "vqbet-none": ("vqbet", "none", 1),
    "bc-future": ("bc", "future", 4),
    "vqbet-final": ("vqbet", "final", 1),
}
"""Policy, goals that it is trained with, steps for one of VQ-BeT's."""


def config_of(arm: str, demos: Demos) -> VQBeTConfig:
    """The configuration of an arm's policy."""
    policy, goal, _ = ARMS[arm]
    shape = None if goal == "none" else goal_shape(goal, {k: v.shape[1] for k, v in demos.observation.items()})
    return config_for(policy, demos, goal_shape=shape, batch_size=128, action_chunk_size=4, n_action_steps=4)


def run(arm: str, demos: Demos, seed: int, steps: int, episodes: int) -> dict[str, Any]:
    """Train one policy and evaluate it on unseen goals."""
    (policy, goal, more), config = ARMS[arm], config_of(arm, demos)
    began = time.process_time()
    learned = learn(policy, prepare(demos, config, True, goal), config, Budget(steps=more * steps), seed)
    spent = time.process_time() - began

    task = get_task("pusht").at_goal("random")
    task = task if config.goal_shape is None else with_shown_goal(task)
    starts = range(FIRST_START, FIRST_START + episodes)
    ended = rollouts(learned.policy, learned.normalizer, starts, task)
    contract = cast(TaskContract, task.make_env().get_wrapper_attr("contract"))
    return {
        "schema": "vqbet_course/goals/1",
        "arm": arm,
        "seed": FIRST_START,
        "contract": contract.to_dict(),
        "config": config.to_dict(),
        "success_progress": task.success_progress,
        "training": {"seed": seed, "steps": learned.steps, "seconds": learned.seconds, "cpu_seconds": spent},
        "metrics": rollout_metrics(ended, task) | {"behaviour": behaviour(ended)},
        "episodes": [e.summary() for e in ended],
        "made_by": made_by(),
    }


@click.command()
@click.option("--steps", type=int, default=3000, show_default=True, help="Training of each, in steps of VQ-BeT's.")
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option("--episodes", type=int, default=50, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(steps: int, seeds: str, episodes: int, out: Path) -> None:
    torch.set_num_threads(1)
    demos = load_demos(open_source("demo"))
    for seed, arm in tqdm([(int(seed), arm) for seed in seeds.split(",") for arm in ARMS], desc="goals", unit="run"):
        path = out / f"goals_{arm}_seed{seed}.json"
        if path.exists():
            check_made_with(path, read_json(path, dict), {"config": config_of(arm, demos).to_dict()})
        else:
            command = f"python benchmarks/goals.py --steps {steps} --seeds {seed} --episodes {episodes}"
            write_json(path, run(arm, demos, seed, steps, episodes) | {"command": command})
        click.echo(f"{path.name}: {metrics_in_words(json.loads(path.read_text())['metrics'])}")


if __name__ == "__main__":
    main()
