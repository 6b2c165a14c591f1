"""The figures of the pages are those of the result files."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from conftest import REPO

from vqbet_course.core.errors import BadInput

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", REPO / "benchmarks" / "figures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(seed: int, success: float) -> dict[str, Any]:
    return {
        "seed": 100_000,
        "training": {"steps": 6000, "seed": seed, "threads": 1},
        "metrics": {
            "episodes": 200,
            "success_rate": success,
            "avg_max_reward": 0.9 + seed / 100,
            "avg_final_coverage": 0.8,
            "latency_ms": {"p50": 2.0, "p95": 3.0},
        },
        "made_by": {"cores": 2, "machine": "x86_64", "torch": "2.11.0"},
    }


def write(folder: Path, name: str, *runs: dict[str, Any]) -> Path:
    for seed, run in enumerate(runs):
        (folder / f"pusht_{name}_seed{seed}.json").write_text(json.dumps(run))
    return folder


def front_page(path: Path, text: str = "before\n<!-- figures -->\nold\n<!-- /figures -->\nafter") -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)]), path)
    return path


def test_the_pages_say_what_the_result_files_say() -> None:
    command = [sys.executable, REPO / "benchmarks" / "figures.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr


def test_the_readme_says_what_the_result_files_say(figures: ModuleType) -> None:
    assert figures.table() in (REPO / "README.md").read_text(), "run make readme"


def test_nothing_measured_is_said_so(figures: ModuleType, tmp_path: Path) -> None:
    assert figures.table(tmp_path).count("not measured yet") == len(figures.DATA)


def test_mean_and_spread_over_the_seeds(figures: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "demo", result(0, 0.70), result(1, 0.80), result(2, 0.96))
    line = next(line for line in figures.table(tmp_path).splitlines() if "embedded" in line)
    assert "| 3 of 3 | 6,000 | 82% (70% to 96%) | 0.910 (0.900 to 0.920) | 0.800 |" in line


def test_a_seed_that_is_missing_is_said_so(figures: ModuleType, tmp_path: Path) -> None:
    assert "| 1 of 3 | 6,000 | 70% | 0.900 | 0.800 |" in figures.table(write(tmp_path, "human", result(0, 0.7)))


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps(result(0, 0.7) | {"seed": 0})])
def test_a_file_that_is_no_such_result_is_refused(figures: ModuleType, tmp_path: Path, content: str) -> None:
    (tmp_path / "pusht_demo_seed0.json").write_text(content)
    with pytest.raises(BadInput, match="pusht_demo_seed0.json.*measure it again"):
        figures.table(tmp_path)


def test_updating_changes_the_block_and_nothing_else(figures: ModuleType, tmp_path: Path) -> None:
    index = front_page(tmp_path / "index.ipynb")
    assert not figures.update(index, tmp_path, check=True)
    assert "old" in index.read_text()
    assert not figures.update(index, tmp_path)
    source = nbformat.read(index, as_version=4).cells[0].source
    assert source == f"before\n<!-- figures -->\n{figures.table(tmp_path)}<!-- /figures -->\nafter"
    assert figures.update(index, tmp_path, check=True)


def test_a_new_result_puts_the_front_page_out_of_step(figures: ModuleType, tmp_path: Path) -> None:
    index = front_page(tmp_path / "index.ipynb")
    figures.update(index, tmp_path)
    write(tmp_path, "demo", result(0, 0.7))
    assert not figures.update(index, tmp_path, check=True)


def test_a_front_page_without_the_marks_is_refused(figures: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there must be one"):
        figures.update(front_page(tmp_path / "index.ipynb", "nothing here"), tmp_path)
