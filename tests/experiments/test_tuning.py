"""The search of benchmarks/tuning.py: what is drawn can be built, and what is there is not run again."""

import importlib.util
import json
import sys
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import REPO

from vqbet_course.core.errors import BadInput
from vqbet_course.demos import Demos, load_demos
from vqbet_course.experiments.panel import POLICIES, build, config_for
from vqbet_course.tasks import open_source
from vqbet_course.training.data import laptop_changes


@pytest.fixture(scope="module")
def tuning() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tuning", REPO / "benchmarks" / "tuning.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tuning"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("policy", POLICIES)
def test_trial_0_is_the_panels_policy_and_all_others_can_be_built(tuning: ModuleType, policy: str) -> None:
    demos = load_demos(open_source("demo"))
    first = tuning.draw_trial(policy, 0)
    config = config_for(policy, demos, **laptop_changes(demos))
    assert tuning.config_of(first, demos) == config
    with torch.device("meta"):
        assert str(tuning.build_trial(first, config)) == str(build(policy, config))
        for number in range(1, 12):
            trial = tuning.draw_trial(policy, number)
            assert trial == tuning.draw_trial(policy, number)
            config = tuning.config_of(trial, demos)
            tuning.build_trial(trial, config)
            assert tuning.ways_to_act(policy, config)
            assert max(n for n, _ in tuning.ways_to_act(policy, config)) <= config.action_chunk_size


def test_only_missing_trials_are_run_and_a_failed_one_stops_no_other(
    tuning: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def run_trial(trial: Any, demos: Demos, *_: Any) -> dict[str, Any]:
        ran.append(trial.path.stem)
        if trial.path.stem == "bc-01":
            raise RuntimeError("no memory")
        made = {"config": tuning.config_of(trial, demos).to_dict(), "augment": trial.augment}
        return made | {"policy": trial.policy, "acting": [{"success_rate": 0.5, "avg_max_reward": 0.9}]}

    class Here:
        def submit(self, function: Any, *arguments: Any) -> Future[Any]:
            future: Future[Any] = Future()
            try:
                future.set_result(function(*arguments))
            except RuntimeError as error:
                future.set_exception(error)
            return future

    @contextmanager
    def here(jobs: int) -> Any:
        yield Here()

    monkeypatch.setattr(tuning, "RESULTS", tmp_path)
    monkeypatch.setattr(tuning, "run_trial", run_trial)
    monkeypatch.setattr(tuning, "processes", here)
    first, demos = tuning.draw_trial("bet", 0), load_demos(open_source("demo"))
    made = {"config": tuning.config_of(first, demos).to_dict(), "augment": first.augment}
    (tmp_path / "bet-00.json").write_text(json.dumps(made))
    trials = [tuning.draw_trial(name, n) for n in range(2) for name in ("bc", "bet")]
    tuning.search(trials, "demo", jobs=1, seconds=300, episodes=50)
    assert ran == ["bc-00", "bc-01", "bet-01"]
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == ["bc-00", "bet-00", "bet-01"]
    assert "command" in json.loads((tmp_path / "bc-00.json").read_text())
    assert "bc-01 failed" in capsys.readouterr().err
    (tmp_path / "bet-00.json").write_text(json.dumps(made | {"augment": "none"}))
    with pytest.raises(BadInput, match="bet-00.json: made with another augment; move it away"):
        tuning.search(trials, "demo", jobs=1, seconds=300, episodes=50)
