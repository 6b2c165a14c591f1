"""How long do 50 episodes take? All together, as the evaluator steps them, against one after the other.

    python benchmarks/evaluation.py

The policy is the shipped one, the baseline is the plain loop that steps one environment at a time. One thread. Times are
those on the CPU, so that a busy machine counts for little. `rollouts` is the episodes alone, `assessment` adds latency
and behaviour, and `whole_command` is all that `vqbet-course eval` does for it without videos, importing included.
Writes results/evaluation.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

from vqbet_course.core.records import made_by
from vqbet_course.evaluation.evaluate import assess
from vqbet_course.rollout import rollouts
from vqbet_course.tasks.pusht.environment import make_pusht
from vqbet_course.training.runs import load_run

RESULT = Path(__file__).parent / "results" / "evaluation.json"


def seconds(call: Callable[[], Any]) -> float:
    """What a call costs on the CPU."""
    start = time.process_time()
    call()
    return time.process_time() - start


def command_seconds(*arguments: str) -> float:
    """What a command line costs on the CPU."""
    before = os.times()
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([sys.executable, "-m", "vqbet_course.cli", *arguments, "--out", out], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@click.command()
@click.option("--episodes", default=50, show_default=True)
@click.option("--seed", default=100_000, show_default=True, help="The first environment seed.")
def main(episodes: int, seed: int) -> None:
    torch.set_num_threads(1)
    run, seeds = load_run("shipped"), range(seed, seed + episodes)
    rollouts(run.policy, run.normalizer, seeds[:1], steps=20)  # warms the caches
    spent = {
        "rollouts": seconds(lambda: rollouts(run.policy, run.normalizer, seeds)),
        "one_by_one": seconds(lambda: [rollouts(run.policy, run.normalizer, [s]) for s in seeds]),
        "assessment": seconds(lambda: assess(run.policy, run.normalizer, make_pusht, seeds)),
    }
    asked = ["--episodes", str(episodes), "--seed", str(seed), "--videos", "0"]
    spent["whole_command"] = command_seconds("eval", "shipped", *asked)
    times = spent["one_by_one"] / spent["rollouts"]
    print(
        f"{episodes} episodes: {spent['rollouts']:.1f} s, one after the other {spent['one_by_one']:.1f} s: "
        f"{times:.1f} times; with latency and behaviour {spent['assessment']:.1f} s, "
        f"the whole command {spent['whole_command']:.1f} s"
    )
    RESULT.write_text(
        json.dumps(
            {
                "command": " ".join(["python", *sys.argv]),
                "seed": seed,
                "episodes": episodes,
                "cpu_seconds": spent,
                "times": times,
                "made_by": made_by(),
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
