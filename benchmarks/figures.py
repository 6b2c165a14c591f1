"""Write the measured figures of benchmarks/results into the pages that show them, or check that they are there.

    python benchmarks/figures.py            rewrites nbs/index.ipynb and nbs/results.ipynb; then: make readme
    python benchmarks/figures.py --check    exit status 1 if a page differs from the result files

The result files are made by benchmarks/pusht.py, one for each set of demonstrations and training seed, by
benchmarks/shipped.py and by benchmarks/panel.py.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import nbformat

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_text

RESULTS = Path(__file__).parent / "results"
NBS = Path(__file__).parent.parent / "nbs"
DATA = {"human": "206 human demonstrations", "demo": "the 200 embedded demonstrations"}
SEEDS, EPISODES = (0, 1, 2), 200
PANEL = "panel_human.json"
BLOCK = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)
"""What stands between the marks of a page's figures."""


def read_runs(name: str, results: Path) -> list[dict[str, Any]]:
    """The evaluations of a set of demonstrations, one for each training seed that was measured.

    Raises BadInput for a file that is not one, or that was not measured as the front page says.
    """
    runs = []
    for path in (results / f"pusht_{name}_seed{seed}.json" for seed in SEEDS):
        if not path.exists():
            continue
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            as_said = (run["seed"], run["metrics"]["episodes"]) == (100_000, EPISODES)
        except (json.JSONDecodeError, KeyError, TypeError):
            raise BadInput(f"{path}: not the result of an evaluation; measure it again") from None
        if not as_said:
            raise BadInput(f"{path}: must hold {EPISODES} episodes from environment seed 100000; measure it again")
        runs.append(run)
    return runs


def spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    """The mean, and between which values it lies."""
    mean = show(sum(values) / len(values))
    return mean if min(values) == max(values) else f"{mean} ({show(min(values))} to {show(max(values))})"


def row(name: str, runs: Sequence[dict[str, Any]]) -> str:
    """One line of the table."""
    if not runs:
        return f"| {DATA[name]} | not measured yet | | | | |"
    metrics = [run["metrics"] for run in runs]
    cells = [
        spread([m[key] for m in metrics], show)
        for key, show in (
            ("success_rate", "{:.0%}".format),
            ("avg_max_reward", "{:.3f}".format),
            ("avg_final_coverage", "{:.3f}".format),
        )
    ]
    steps = spread([run["training"]["steps"] for run in runs], "{:,.0f}".format)
    return f"| {DATA[name]} | {len(runs)} of {len(SEEDS)} | {steps} | " + " | ".join(cells) + " |"


def measured_on(runs: Sequence[dict[str, Any]]) -> str:
    """What the figures depend on, in a sentence; empty without figures."""
    if not runs:
        return ""
    made = sorted({"{cores} {machine} cores and torch {torch}".format(**run["made_by"]) for run in runs})
    threads = sorted({run["training"]["threads"] for run in runs})
    latency = [run["metrics"]["latency_ms"]["p50"] for run in runs]
    return (
        f"\nMeasured on a machine with {'; '.join(made)}, training on {' or '.join(map(str, threads))} thread(s). "
        f"A decision of the policy takes {spread(latency, '{:.1f}'.format)} ms (p50).\n"
    )


def table(results: Path = RESULTS) -> str:
    """The figures as markdown."""
    runs = {name: read_runs(name, results) for name in DATA}
    lines = [
        "| trained on | training seeds | steps | success | average max reward | average final coverage |",
        "|---|---|---|---|---|---|",
        *(row(name, runs[name]) for name in DATA),
    ]
    return "\n".join(lines) + "\n" + measured_on([run for name in DATA for run in runs[name]]) + shipped_line(results)


def shipped_line(results: Path) -> str:
    """How good the policy is that comes with the course, and how it was trained; empty where it was not measured."""
    path = results / "shipped.json"
    if not path.exists():
        return ""
    run = json.loads(path.read_text(encoding="utf-8"))
    metrics, (low, high) = run["metrics"], run["metrics"]["success_ci95"]
    return (
        f"\nThe policy that comes with the course solves {metrics['success_rate']:.0%} ({low:.0%} to {high:.0%}) of "
        f"{metrics['episodes']} such starts, at an average final coverage of {metrics['avg_final_coverage']:.2f}. "
        f"{run['trained_on']}\n"
    )


def panel_table(results: Path = RESULTS) -> str:
    """The policies of the 15-minute panel, best reward first, and which differences are significant; empty where it was
    not measured."""
    path = results / PANEL
    if not path.exists():
        return ""
    panel = json.loads(path.read_text(encoding="utf-8"))
    budget = "{demos} of the human demonstrations, {episodes} starts".format(**panel["settings"])
    lines = [
        f"{panel['settings']['budget']['minutes']:g} minutes of training each, on {budget}.\n",
        "| policy | average max reward | success, 95 % interval | ms a decision |",
        "|---|---|---|---|",
    ]
    for run in sorted(panel["results"], key=lambda run: -run["metrics"]["avg_max_reward"]):
        metrics, (low, high) = run["metrics"], run["metrics"]["success_ci95"]
        lines.append(
            f"| {run['policy']} | {metrics['avg_max_reward']:.3f} | {metrics['success_rate']:.0%} "
            f"({low:.0%} to {high:.0%}) | {metrics['latency_ms']['p50']:.1f} |"
        )
    different = significantly_different(panel["tests"])
    lines += [
        "",
        f"Significantly different from vqbet on shared starts, by max coverage: {different}. The others may "
        "differ by chance.",
    ]
    return "\n".join(lines) + "\n"


def significantly_different(tests: list[dict[str, Any]]) -> str:
    """The policies whose difference to VQ-BeT is significant."""
    pairs = [{test["first"], test["second"]} for test in tests if test["coverage"]["significant"]]
    return ", ".join(name for pair in pairs if "vqbet" in pair for name in pair - {"vqbet"}) or "none"


def updated(source: str, figures: str) -> str:
    """A markdown cell with the figures between its two marks; any other cell as it is."""
    return BLOCK.sub(lambda _: figures, source)


def figures_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cell that holds the figures. Raises BadInput unless there is exactly one."""
    cells = [cell for cell in notebook.cells if BLOCK.search(cell.source)]
    if len(cells) != 1:
        raise BadInput(f"{len(cells)} cells hold <!-- figures --> ... <!-- /figures -->; there must be one")
    return cells[0]


PAGES: dict[str, Callable[[Path], str]] = {"index.ipynb": table, "results.ipynb": panel_table}
"""The pages with figures, and what makes them."""


def update(page: Path, results: Path = RESULTS, check: bool = False) -> bool:
    """Bring the figures of a page in step with the result files; returns whether they were.

    With `check` nothing is written.
    """
    notebook = nbformat.read(page, as_version=4)
    cell = figures_cell(notebook)
    wanted = updated(cell.source, PAGES[page.name](results))
    in_step = wanted == cell.source
    if not in_step and not check:
        cell.source = wanted
        write_text(page, nbformat.writes(notebook) + "\n")
    return in_step


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit status 1 if the figures differ.")
def main(check: bool) -> None:
    try:
        changed = [name for name in PAGES if not update(NBS / name, check=check)]
    except BadInput as problem:
        sys.exit(f"error: {problem}")
    if check and changed:
        sys.exit(f"{', '.join(changed)}: differs from benchmarks/results; run benchmarks/figures.py, make readme")
    click.echo(f"rewritten: {', '.join(changed)}; now: make readme" if changed else "the figures are in step")


if __name__ == "__main__":
    main()
