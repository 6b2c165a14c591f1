"""Every stored figure can be traced: result file, command, seed, versions, machine."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import REPO

from vqbet_course.cli import cli
from vqbet_course.experiments.ablations import ABLATIONS, path_of

RESULTS = REPO / "benchmarks" / "results"
FILES = sorted(RESULTS.rglob("*.json"))
NOTEBOOKS = sorted((REPO / "nbs").glob("*.ipynb"))
NAMED = re.compile(r"results\b[^\n]{0,24}?[\"/]([\w{}*]+\.json)")
SCRIPT = re.compile(r"benchmarks/\w+\.py")
PLOTTED = re.compile(r"\bplot_ablations\(([^)]*)\)")

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def evaluations(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The evaluations in a result file: itself, the rows of a panel, or none in a measurement of another kind."""
    return [found for found in values.get("results", [values]) if "episodes" in found and "metrics" in found]


def commands(values: dict[str, Any]) -> list[str]:
    """The command lines that make a result file."""
    said = values.get("commands") or [values["command"]]
    return [line if isinstance(line, str) else " ".join(line) for line in said]


def code(path: Path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


@every_file
def test_a_result_says_by_which_command_and_seed_and_on_what_it_was_made(path: Path) -> None:
    values = json.loads(path.read_text())
    for line in commands(values):
        program, first = line.split()[:2]
        assert (
            (REPO / first).exists() if program == "python" else program == "vqbet-course" and first in cli.commands
        ), line
    for found in evaluations(values) or [values]:
        seeds = found.get("seed", found.get("seeds"))
        assert isinstance(seeds, int) or (seeds and all(isinstance(seed, int) for seed in seeds))
        assert {"machine", "python", "torch"} <= found.get("made_by", found).keys()


@every_file
def test_the_figures_of_an_evaluation_are_those_of_its_episodes(path: Path) -> None:
    for found in evaluations(json.loads(path.read_text())):
        episodes, metrics = found["episodes"], found["metrics"]
        assert found["training"]
        if found.get("variant", {}).get("tokenizer"):  # it is not rolled out
            assert episodes == [] and metrics["reconstruction_px"] > 0
            continue
        assert len(episodes) == metrics["episodes"] > 0
        assert sum(e["success"] for e in episodes) / len(episodes) == pytest.approx(metrics["success_rate"])
        assert sum(e["final_coverage"] for e in episodes) / len(episodes) == pytest.approx(
            metrics["avg_final_coverage"]
        )


@every_notebook
def test_the_result_files_that_a_lesson_names_are_there(path: Path) -> None:
    named = [re.sub(r"{\w+}", "*", name) for name in NAMED.findall(code(path))]
    assert not [name for name in named if not list(RESULTS.glob(name))]
    assert not [name for name in SCRIPT.findall(code(path)) if not (REPO / name).exists()]


@every_notebook
def test_the_ablations_that_a_lesson_plots_are_known(path: Path) -> None:
    plotted = [name.strip(' "\n') for names in PLOTTED.findall(code(path)) for name in names.split(",")]
    assert set(plotted) <= ABLATIONS.keys()


def test_every_stored_ablation_is_known_and_plotted_in_a_lesson() -> None:
    folder, text = RESULTS / "ablations", "\n".join(map(code, NOTEBOOKS))
    paths = {
        name: {path_of(v, seed, folder) for v in ablation.variants.values() for seed in range(1, 20)}
        for name, ablation in ABLATIONS.items()
    }
    stored = {path for path in FILES if path.parent == folder}
    assert stored <= {path for of_one in paths.values() for path in of_one}
    plotted = {path for name, of_one in paths.items() if f'"{name}"' in text for path in of_one}
    assert stored <= plotted


def test_lessons_name_result_files() -> None:
    text = "\n".join(map(code, NOTEBOOKS))
    assert {"panel.json", "shipped.json"} <= set(NAMED.findall(text))
