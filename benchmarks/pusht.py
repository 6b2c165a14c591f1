"""How good is VQ-BeT after some minutes on a laptop? Train on a SOURCE with several seeds, evaluate, keep run.json.

    python benchmarks/pusht.py --data demo --name demo --steps 28000
    python benchmarks/pusht.py --data pusht_human_lowdim.npz --name human --steps 28000

Each seed is two commands that anyone can type, `vqbet-course train` and `vqbet-course eval` (200 episodes from
environment seed 100000); what the second writes, with both commands, goes to results/pusht_NAME_seedK.json. A seed
whose result is there is skipped, a training that was interrupted is continued.
"""

import json
import subprocess
import sys
from pathlib import Path

import click

RESULTS = Path(__file__).parent / "results"


def vqbet_course(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "vqbet_course.cli", *arguments], check=True)


def one_seed(data: str, name: str, seed: int, budget: list[str]) -> Path:
    """Train and evaluate one seed, unless that was done."""
    result, run = RESULTS / f"pusht_{name}_seed{seed}.json", Path("_runs/pusht") / f"{name}_seed{seed}"
    if result.exists():
        return result
    train = ["train", "--data", data, *budget, "--seed", str(seed), "--out", str(run)]
    evaluate = ["eval", str(run), "--episodes", "200", "--seed", "100000", "--videos", "0"]
    started = (run / "train_state.json").exists()
    vqbet_course(*(["train", "--resume", str(run)] if started else train))
    vqbet_course(*evaluate)
    kept = json.loads((run / "eval" / "seed-100000" / "run.json").read_text())
    kept["commands"] = [" ".join(["vqbet-course", *command]) for command in (train, evaluate)]
    result.write_text(json.dumps(kept, indent=2) + "\n")
    return result


@click.command()
@click.option("--data", required=True, metavar="SOURCE")
@click.option("--name", required=True, help="What the data is called in the file names.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--minutes", type=float)
@click.option("--steps", type=int)
def main(data: str, name: str, seeds: str, minutes: float | None, steps: int | None) -> None:
    if (minutes is None) == (steps is None):
        raise click.UsageError("give --minutes or --steps")
    budget = ["--minutes", f"{minutes:g}"] if minutes is not None else ["--steps", str(steps)]
    RESULTS.mkdir(exist_ok=True)
    for seed in seeds.split(","):
        path = one_seed(data, name, int(seed), budget)
        metrics = json.loads(path.read_text())["metrics"]
        click.echo(
            f"{path.name}: success {metrics['success_rate']:.0%}, average max reward {metrics['avg_max_reward']:.3f}"
        )


if __name__ == "__main__":
    main()
