"""Does a goal-conditioned VQ-BeT push the T where it is told? Four policies, 50 goal poses that none was shown.

    python benchmarks/goals.py --minutes 3

Each arm and seed trains on the embedded demonstrations for the same time and is evaluated on the environment seeds
100000 to 100049, each of which draws its own goal. What is finished is skipped.
"""
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import click
import torch

from vqbet_course.compare import Budget, learn, made_by, shapes
from vqbet_course.contract import TaskContract
from vqbet_course.demos import load_demos
from vqbet_course.evaluate import assess
from vqbet_course.files import write_json
from vqbet_course.goals import PushTGoal, goal_shape
from vqbet_course.rollout import Policy, describe, make_pusht
from vqbet_course.train import prepare

RESULTS = Path(__file__).parent / "results"
ARMS = {"vqbet-future": ("vqbet", "future"), "vqbet-final": ("vqbet", "final"), "vqbet-none": ("vqbet", "none"),
        "bc-future": ("bc", "future")}


def run(arm: str, seed: int, budget: Budget, episodes: int) -> dict[str, Any]:
    """Train one policy and evaluate it on unseen goals."""
    policy, goal = ARMS[arm]
    demos = load_demos("demo")
    shape = None if goal == "none" else goal_shape(goal, {k: v.shape[1] for k, v in demos.observation.items()})
    config = shapes(policy, demos, use_relative_actions=True, goal_shape=shape)
    learned = learn(policy, prepare(demos, config, True, goal), config, budget, seed)

    def make() -> PushTGoal:
        return PushTGoal(make_pusht(), None, shown=shape is not None)

    played, figures = assess(cast(Policy, learned.policy), learned.normalizer, make,
                             range(100_000, 100_000 + episodes))
    task = cast(TaskContract, make().contract)
    return {"schema": "vqbet_course/goals/1", "arm": arm, "seed": 100_000, "contract": task.to_dict(),
            "training": {"seed": seed, "steps": learned.steps, "seconds": learned.seconds, **asdict(budget)},
            "metrics": figures, "episodes": [e.summary() for e in played], "made_by": made_by()}


@click.command()
@click.option("--minutes", type=float, default=3.0, show_default=True, help="Training of each.")
@click.option("--steps", type=int, help="Train each for this many steps instead.")
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option("--episodes", type=int, default=50, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(minutes: float, steps: int | None, seeds: str, episodes: int, out: Path) -> None:
    torch.set_num_threads(1)
    budget = Budget(None if steps else minutes, steps)
    for seed in map(int, seeds.split(",")):
        for arm in ARMS:
            path = out / f"goals_{arm}_seed{seed}.json"
            if not path.exists():
                asked = f"--steps {steps}" if steps else f"--minutes {minutes:g}"
                command = f"python benchmarks/goals.py {asked} --seeds {seed} --episodes {episodes}"
                write_json(path, run(arm, seed, budget, episodes) | {"command": command})
            click.echo(f"{path.name}: {describe(json.loads(path.read_text())['metrics'])}")


if __name__ == "__main__":
    main()
