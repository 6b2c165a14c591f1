"""Every stored figure can be traced: result file, command, seed, versions, machine."""
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import REPO

RESULTS = REPO / "benchmarks" / "results"
FILES = sorted(RESULTS.rglob("*.json"))
NAMED = re.compile(r"results[^\n]{0,24}?[\"/](\w+\.json)")


def evaluations(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The evaluations in a result file: itself, or the rows of a panel."""
    return values["results"] if "results" in values else [values]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_result_says_how_it_was_made(path: Path) -> None:
    values = json.loads(path.read_text())
    if "metrics" not in evaluations(values)[0]:
        pytest.skip("a measurement of another kind, which its own script describes")
    assert values.get("command") or values.get("commands"), "no command"
    for found in evaluations(values):
        assert {"machine", "python", "torch"} <= found["made_by"].keys()
        assert isinstance(found["seed"], int) and found["training"]
        if found.get("variant", {}).get("tokenizer"):
            continue  # a tokenizer is not rolled out
        assert found["episodes"] and len(found["episodes"]) == found["metrics"]["episodes"]
        wins = sum(episode["success"] for episode in found["episodes"])
        assert wins / len(found["episodes"]) == pytest.approx(found["metrics"]["success_rate"])


@pytest.mark.parametrize("path", sorted((REPO / "nbs").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_result_files_that_a_lesson_names_are_there(path: Path) -> None:
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    text = "\n".join(source for source in cells if "exists()" not in source)  # those cope with what is not measured yet
    missing = [name for name in NAMED.findall(text) if not (RESULTS / name).exists()]
    assert not missing


def test_lessons_name_result_files() -> None:
    text = "\n".join(path.read_text() for path in (REPO / "nbs").glob("*.ipynb"))
    assert {"panel.json", "shipped.json"} <= set(re.findall(r"\w+\.json", text))
