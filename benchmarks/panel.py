"""All policies on one panel, in its quick form: 2 minutes of training each, one seed, 20 starts.

    python benchmarks/panel.py
    python benchmarks/panel.py --data pusht_human_lowdim.npz --name panel_human --minutes 15 --episodes 50 --jobs 2

One command that anyone can type, `vqbet-course compare`; its panel.json, with the command, goes to
results/NAME.json. Lesson 10 draws results/panel.json. A panel that was interrupted is continued.
"""

import json
import subprocess
import sys
from pathlib import Path

import click

RESULTS = Path(__file__).parent / "results"


@click.command()
@click.option("--data", default="demo", show_default=True, metavar="SOURCE")
@click.option("--name", default="panel", show_default=True, help="What the result is called.")
@click.option("--minutes", default=2.0, show_default=True)
@click.option("--seeds", default="1", show_default=True)
@click.option("--episodes", default=20, show_default=True)
@click.option("--demos", default=120, show_default=True)
@click.option("--jobs", default=1, show_default=True)
def main(data: str, name: str, minutes: float, seeds: str, episodes: int, demos: int, jobs: int) -> None:
    out = Path("_runs") / name
    command = [
        "compare",
        "--data",
        data,
        "--demos",
        str(demos),
        "--episodes",
        str(episodes),
        "--seeds",
        seeds,
        "--minutes",
        f"{minutes:g}",
        "--jobs",
        str(jobs),
        "--out",
        str(out),
    ]
    subprocess.run([sys.executable, "-m", "vqbet_course.cli", *command], check=True)
    panel = json.loads((out / "panel.json").read_text())
    panel |= {"command": " ".join(["vqbet-course", *command])}
    (RESULTS / f"{name}.json").write_text(json.dumps(panel, indent=1) + "\n")


if __name__ == "__main__":
    main()
