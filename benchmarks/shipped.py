"""How good is the policy that comes with the course? 100 episodes from environment seed 100000.

    python benchmarks/shipped.py

The result, with the commands that make it, goes to results/shipped.json. The policy was trained by the first of them;
then `n_action_steps` was set to 3 in its config.json. That, and which of the training seeds 0, 1, 2 ships, was chosen on
environment seeds 200700 to 200999.
"""

import json
import subprocess
import sys
from pathlib import Path

from vqbet_course.core.io import write_json
from vqbet_course.training.runs import load_run

RESULT = Path(__file__).parent / "results" / "shipped.json"
OUT = Path("_runs/shipped/eval/seed-100000")


def main() -> None:
    plan = load_run("shipped").plan
    train = f"vqbet-course train --data {plan.data} --steps {plan.steps} --seed {plan.seed} --out _runs/shipped"
    evaluate = ["eval", "shipped", "--episodes", "100", "--seed", "100000", "--videos", "0", "--out", str(OUT)]
    subprocess.run([sys.executable, "-m", "vqbet_course.cli", *evaluate], check=True)
    kept = json.loads((OUT / "run.json").read_text())
    write_json(RESULT, kept | {"commands": [train, " ".join(["vqbet-course", *evaluate])]})


if __name__ == "__main__":
    main()
