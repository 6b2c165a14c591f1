"""How good is VQ-BeT after 15 minutes on a laptop? Train on a SOURCE with several seeds, evaluate each, keep run.json.

    python benchmarks/pusht.py --data demo --name demo --seeds 0,1,2 --minutes 15
    python benchmarks/pusht.py --data human.npz --name human --seeds 0,1,2 --minutes 15 --jobs 2

Each seed is two commands that anyone can type, `vqbet-course train` and `vqbet-course eval` (50 episodes from
environment seed 100000); the results go to benchmarks/results/pusht_NAME_seedK.json. A seed whose result is there
is skipped. `--jobs 2` trains two seeds side by side, one thread each, in the same wall-clock budget.
"""
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

RESULTS = Path(__file__).parent / "results"


def one_seed(data: str, name: str, seed: int, minutes: float, threads: int) -> Path:
    """Train and evaluate one seed, unless that was done."""
    result, run = RESULTS / f"pusht_{name}_seed{seed}.json", Path("_runs/pusht") / f"{name}_seed{seed}"
    if result.exists():
        return result
    command = [sys.executable, "-m", "vqbet_course.cli"]
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    budget = ["--resume", str(run)] if (run / "train_state.json").exists() else [
        "--data", data, "--minutes", str(minutes), "--seed", str(seed), "--out", str(run)]
    subprocess.run([*command, "train", *budget], env=env, check=True)
    subprocess.run([*command, "eval", str(run), "--videos", "0"], env=env, check=True)
    shutil.copy(run / "eval" / "seed-100000" / "run.json", result)
    return result


@click.command()
@click.option("--data", required=True, metavar="SOURCE")
@click.option("--name", required=True, help="What the data is called in the file names.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--minutes", default=15.0, show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Seeds trained side by side.")
def main(data: str, name: str, seeds: str, minutes: float, jobs: int) -> None:
    RESULTS.mkdir(exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        done = pool.map(lambda seed: one_seed(data, name, int(seed), minutes, threads), seeds.split(","))
        for path in done:
            metrics = json.loads(path.read_text())["metrics"]
            click.echo(f"{path.name}: success {metrics['success_rate']:.0%}, "
                       f"average max reward {metrics['avg_max_reward']:.3f}")


if __name__ == "__main__":
    main()
