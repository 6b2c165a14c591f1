"""Which policy on which body: panels of block_push, ALOHA and MetaWorld, each from demonstrations made here.

    nice -n 10 python benchmarks/bodies.py                       all panels, hours on one core
    python benchmarks/bodies.py --only block_push --minutes 5    one of them
    python benchmarks/bodies.py --only block_push --steps 6000 --policies bc,vqbet --seeds 1    a part of it

For each task the scripted demonstrator's episodes go to _runs/bodies/TASK-demos, and `vqbet-course compare` trains the
policies on them and evaluates them on environment seeds from 100000 on. block_push and ALOHA's transfer have six
policies and three training seeds, the others three policies and one. The panel of a task goes to
results/bodies_TASK.json as soon as it is finished; jobs that are finished are not done again, so a panel can grow policy by
policy. With --steps, trainings do not depend on what else the machine does. A task that is not installed is left out with a
line.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import click

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_json
from vqbet_course.tasks import get_task

RESULTS, RUNS = Path(__file__).parent / "results", Path("_runs") / "bodies"
FIRST_DEMONSTRATION = 300_000
"""The environment seed of the first demonstration: no policy is tuned or evaluated from there."""


class Plan(NamedTuple):
    """What a panel compares: how many demonstrations are made and trained on, which policies, which training seeds."""

    episodes: int
    trained_on: int
    policies: str
    seeds: str


ALL, FEW = "bc,bet,act,diffusion,flow,vqbet", "bc,bet,vqbet"
PANELS = {
    "block_push": Plan(210, 200, ALL, "1,2,3"),
    "metaworld-pick-place": Plan(110, 100, FEW, "1"),
    "metaworld-drawer-open": Plan(110, 100, FEW, "1"),
    "metaworld-peg-insert-side": Plan(110, 100, FEW, "1"),
    "aloha-transfer": Plan(110, 100, ALL, "1,2,3"),
    "aloha-insertion": Plan(110, 100, FEW, "1"),
}
"""{task: plan}; ten demonstrations of each are held out."""


def command(*arguments: str) -> None:
    """Run a command of the course. Raises CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "vqbet_course.cli", *arguments], check=True)


def make_demonstrations(task: str, episodes: int) -> Path:
    """The folder with the task's demonstrations, which are made where they are not there yet."""
    folder = RUNS / f"{task}-demos"
    if not folder.exists():
        many = ["--episodes", str(episodes), "--seed", str(FIRST_DEMONSTRATION)]
        command("demos", "make", "--task", task, *many, "--out", str(folder))
    return folder


def run_panel_of(task: str, plan: Plan, budget: list[str], episodes: int, jobs: int) -> None:
    """Run what is missing of a task's panel, and write its result. `budget`: the option that bounds each training."""
    start = time.perf_counter()
    data, out = make_demonstrations(task, plan.episodes), RUNS / task
    asked = ["compare", "--task", task, "--data", str(data), "--demos", str(plan.trained_on)]
    asked += ["--policies", plan.policies, "--seeds", plan.seeds, "--episodes", str(episodes)]
    asked += [*budget, "--jobs", str(jobs), "--videos", "0", "--out", str(out)]
    command(*asked)
    panel = json.loads((out / "panel.json").read_text())
    spent = {"command": " ".join(["vqbet-course", *asked]), "wall_seconds": time.perf_counter() - start}
    write_json(RESULTS / f"bodies_{task}.json", panel | spent)


@click.command()
@click.option("--only", type=click.Choice([*PANELS]), multiple=True, help="Only these tasks.")
@click.option("--minutes", default=8.0, show_default=True, help="Of each training.")
@click.option("--steps", type=int, help="Of each training, instead of minutes.")
@click.option("--policies", metavar="NAME,NAME", help="Only these policies.")
@click.option("--seeds", metavar="N,N", help="Only these training seeds.")
@click.option("--episodes", default=30, show_default=True, help="Starts of each evaluation.")
@click.option("--jobs", default=1, show_default=True)
def main(
    only: tuple[str, ...],
    minutes: float,
    steps: int | None,
    policies: str | None,
    seeds: str | None,
    episodes: int,
    jobs: int,
) -> None:
    """Run the panels."""
    budget = ["--minutes", f"{minutes:g}"] if steps is None else ["--steps", str(steps)]
    for task in only or PANELS:
        try:
            get_task(task)
        except BadInput as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        plan = PANELS[task]
        part = plan._replace(policies=policies or plan.policies, seeds=seeds or plan.seeds)
        run_panel_of(task, part, budget, episodes, jobs)


if __name__ == "__main__":
    main()
