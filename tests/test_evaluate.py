"""The evaluator: what it writes, what it refuses."""
import json
from dataclasses import replace
from pathlib import Path

import pytest
from small import small_run

from vqbet_course.contract import PUSHT, BadInput
from vqbet_course.evaluate import evaluate
from vqbet_course.train import Run, load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(small_run(tmp_path_factory.mktemp("small"), steps=30))


def test_an_evaluation_is_written_down_and_repeats(run: Run, tmp_path: Path) -> None:
    result = evaluate(run, episodes=2, seed=30, out=tmp_path / "a", videos=1, quiet=True)
    written = json.loads((tmp_path / "a" / "run.json").read_text())
    assert written == result
    assert {"schema", "config", "data", "seed", "metrics", "episodes"} <= written.keys()
    assert {"episodes", "success_rate", "success_ci95", "avg_max_reward", "avg_max_coverage", "avg_final_coverage",
            "latency_ms"} <= written["metrics"].keys()
    assert written["metrics"]["latency_ms"].keys() == {"p50", "p95"}
    assert [e["seed"] for e in written["episodes"]] == [30, 31]
    assert all(e.keys() == {"seed", "success", "max_coverage", "final_coverage", "steps", "failure"} for e in written["episodes"])
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "run.json", "traces.parquet", "failures.json", "episode-30.mp4"}
    again = evaluate(run, episodes=2, seed=30, out=tmp_path / "b", videos=0, quiet=True)
    assert again["episodes"] == result["episodes"]


def test_without_a_folder_it_goes_below_the_run(run: Run) -> None:
    evaluate(run, episodes=1, seed=3, videos=0, quiet=True)
    assert (run.path / "eval" / "seed-3" / "run.json").exists()


@pytest.mark.parametrize("numbers", [{"episodes": 0}, {"episodes": -1}, {"seed": -1}, {"videos": -1}])
def test_numbers_out_of_range_are_refused(run: Run, numbers: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least"):
        evaluate(run, out=tmp_path / "out", quiet=True, **numbers)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_policy_of_another_rate_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fps: 5 against 10"):
        evaluate(replace(run, contract=replace(PUSHT, fps=5.0)), 1, out=tmp_path / "out", quiet=True)
