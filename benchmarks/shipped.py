"""How good is the policy that comes with the course? 200 episodes from environment seed 100000.

    python benchmarks/shipped.py

The result, with the commands that make it, goes to results/shipped.json. The policy was trained once, by the first two of
them, before later codes were taught with the true first one. Then `bet_softmax_temperature` was set to 0.5 in its
config.json: of 0.3, 0.4 and 0.5 the best on starts from 201000.
"""

import json
import subprocess
import sys
from pathlib import Path

from vqbet_course.core.io import write_json
from vqbet_course.training.runs import load_run

RESULT = Path(__file__).parent / "results" / "shipped.json"
DEMOS = 1000
CHANGES = ["teacher_forcing=false", "bet_softmax_temperature=0.3", "average_chunks=false"]
OUT = Path("_runs/shipped/eval/seed-100000")


def main() -> None:
    plan = load_run("shipped").plan
    make = ["demos", "make", "--episodes", str(DEMOS), "--out", plan.data]
    train = ["train", "--data", plan.data, "--steps", str(plan.steps), "--seed", str(plan.seed)]
    train += [word for change in CHANGES for word in ("--set", change)]
    evaluate = ["eval", "shipped", "--episodes", "200", "--seed", "100000", "--videos", "0", "--out", str(OUT)]
    subprocess.run([sys.executable, "-m", "vqbet_course.cli", *evaluate], check=True)
    kept = json.loads((OUT / "run.json").read_text())
    commands = [make, [*train, "--out", "_runs/shipped"], evaluate]
    trained_on = f"It was trained for {plan.steps:,} steps on {DEMOS:,} demonstrations by the same expert."
    write_json(
        RESULT,
        kept | {"trained_on": trained_on, "commands": [" ".join(["vqbet-course", *command]) for command in commands]},
    )


if __name__ == "__main__":
    main()
