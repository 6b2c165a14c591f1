"""The evaluator: what it writes, what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small import small_run

from vqbet_course.cli import main
from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import TaskContract
from vqbet_course.demos import Demos, Normalizer
from vqbet_course.evaluation.evaluate import Conditions, evaluate, summary_lines, written_lines
from vqbet_course.experiments.panel import config_for
from vqbet_course.rollout import rollouts
from vqbet_course.tasks import get_task, navigation
from vqbet_course.tasks.pusht.contract import PUSHT, PUSHT_TASK
from vqbet_course.training.factory import build_policy
from vqbet_course.training.runs import Run, load_run

pytestmark = pytest.mark.usefixtures("short_evaluations")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(small_run(tmp_path_factory.mktemp("small"), steps=30))


def test_an_evaluation_is_written_down_and_repeats(run: Run, tmp_path: Path) -> None:
    result = evaluate(run, episodes=2, seed=30, out=tmp_path / "a", videos=1, quiet=True)
    written = json.loads((tmp_path / "a" / "run.json").read_text())
    assert written == result
    assert {"schema", "config", "data", "seed", "metrics", "episodes"} <= written.keys()
    assert {
        "episodes",
        "success_rate",
        "success_ci95",
        "avg_max_reward",
        "avg_max_coverage",
        "avg_final_coverage",
        "latency_ms",
    } <= written["metrics"].keys()
    assert written["metrics"]["latency_ms"].keys() == {"p50", "p95"}
    assert [e["seed"] for e in written["episodes"]] == [30, 31]
    fields = {"seed", "success", "max_coverage", "final_coverage", "steps", "failure"}
    assert all(e.keys() == fields for e in written["episodes"])
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "run.json",
        "traces.parquet",
        "failures.json",
        "episode-30.mp4",
    }
    again = evaluate(run, episodes=2, seed=30, out=tmp_path / "b", videos=0, quiet=True)
    assert again["episodes"] == result["episodes"]


def test_without_a_folder_it_goes_below_the_run(run: Run) -> None:
    evaluate(run, episodes=1, seed=3, videos=0, quiet=True)
    assert (run.path / "eval" / "seed-3" / "run.json").exists()


def test_what_is_disturbed_or_told_another_goal_is_another_evaluation() -> None:
    assert Conditions().name(3) == "seed-3"
    disturbed = Conditions(split=Path("split.json"), perturb=["shove=60", "friction"])
    assert disturbed.name(3) == "val-shove=60-friction"
    assert Conditions(goal_pose="random").name(3) == "seed-3-goal=random"


def test_what_is_told_of_an_evaluation() -> None:
    lost = {"label": "planning", "evidence": "none", "person": None}
    result = {
        "contract": PUSHT_TASK.to_dict(),
        "metrics": {
            "episodes": 3,
            "success_rate": 1 / 3,
            "success_ci95": [0.06, 0.79],
            "avg_max_reward": 0.5,
            "avg_max_coverage": 0.5,
            "avg_final_coverage": 0.5,
            "latency_ms": {"p50": 1.26, "p95": 2.0},
            "timing_violations": 0.25,
            "recovery": {"shoved": 3, "recovered": 2, "steps_p50": 41.5},
        },
        "episodes": [{"failure": None}, {"failure": lost}, {"failure": lost | {"person": "control"}}],
    }
    assert summary_lines(result)[1:] == [
        "a decision takes 1.3 ms (p50), 2.0 ms (p95); 25% of the steps take longer than 100 ms",
        "a shove cost coverage in 3 episodes: 2 recovered it, half of them within 41.5 steps",
        "2 failed: planning 1, control 1",
    ]


def test_it_is_told_where_the_videos_are(tmp_path: Path) -> None:
    result = {"episodes": [{"seed": seed} for seed in (5, 6, 7)]}
    assert written_lines(tmp_path, result, 2) == [f"written: {tmp_path / 'run.json'}"]  # a task that nobody draws
    for seed in (5, 6, 7):
        (tmp_path / f"episode-{seed}.mp4").touch()
    assert f"{tmp_path / 'episode-5.mp4'} and 1 more" in written_lines(tmp_path, result, 2)[1]
    assert written_lines(tmp_path, result, 1)[1].endswith("episode-5.mp4")


@pytest.mark.parametrize("numbers", [{"episodes": 0}, {"episodes": -1}, {"seed": -1}, {"videos": -1}])
def test_numbers_out_of_range_are_refused(run: Run, numbers: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least"):
        evaluate(run, out=tmp_path / "out", quiet=True, **numbers)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_policy_of_another_rate_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fps: 5 against 10"):
        evaluate(replace(run, contract=replace(PUSHT, fps=5.0)), 1, out=tmp_path / "out", quiet=True)


def test_a_trace_holds_every_step(run: Run, tmp_path: Path) -> None:
    evaluate(run, episodes=2, seed=30, out=tmp_path, videos=0, quiet=True)
    trace = pq.read_table(tmp_path / "traces.parquet").to_pydict()
    episode = rollouts(run.policy, run.normalizer, [30, 31])[1]
    own = [i for i, seed in enumerate(trace["seed"]) if seed == 31]
    assert [trace["time"][i] for i in own] == [step / 10 for step in range(len(episode.coverage))]
    assert [trace["coverage"][i] for i in own] == episode.coverage
    assert [tuple(trace["tokens"][i]) for i in own] == episode.tokens
    assert [trace["action"][i] for i in own] == [list(action) for action in episode.actions]
    assert len(trace["observation"][0]) == 18 and trace["observation"] == trace["truth"]
    units = json.loads(pq.read_schema(tmp_path / "traces.parquet").metadata[b"units"])
    assert (units["time"], units["latency_ms"], units["action"]) == ("s", "ms", "2 numbers in px")
    assert list(units["observation"].items()) == [
        ("observation.environment_state", "16 numbers in px"),
        ("observation.state", "2 numbers in px"),
    ]
    assert set(trace["intervention"]) == {""} and set(trace["batch"]) == {2}


def test_a_result_says_of_which_task_it_is(run: Run, tmp_path: Path, short_evaluations: TaskContract) -> None:
    written = evaluate(run, episodes=1, seed=30, out=tmp_path, videos=0, quiet=True)
    assert TaskContract.from_dict(written["contract"]) == short_evaluations
    assert written["perturb"] == [] and 0 <= written["metrics"]["timing_violations"] <= 1
    behaviour = written["metrics"]["behaviour"]
    assert (
        behaviour["token_switches"] >= 0 and 0 <= behaviour["mode_entropy"] and 0 <= behaviour["offset_outweighs"] <= 1
    )


@pytest.fixture
def navigator(tmp_path: Path, run: Run) -> Run:
    """An untrained policy for the navigation toy."""
    toy = navigation.make_demos(4)
    demos = Demos({"observation.state": toy.observation}, toy.action, toy.episode_ends, 10.0, "navigation")
    policy = build_policy(config_for("vqbet", demos, use_relative_actions=False)).eval()
    return Run(
        tmp_path / "nav",
        policy,
        Normalizer.fit(demos),
        navigation.NavigationEnv().contract.data,
        replace(run.plan, data="no longer on this machine"),
    )


def test_the_navigation_toy_is_evaluated_like_pusht(navigator: Run) -> None:
    written = evaluate(navigator, 3, seed=5, conditions=Conditions(task="navigation"), videos=1, quiet=True)
    assert TaskContract.from_dict(written["contract"]).horizon == 50
    assert {p.name for p in (navigator.path / "eval" / "seed-5").iterdir()} == {
        "run.json",
        "traces.parquet",
        "failures.json",
    }  # nobody draws it
    assert all(e["max_coverage"] == e["success"] for e in written["episodes"])
    with pytest.raises(BadInput, match="action: 2 numbers in m against 2 numbers in px"):
        evaluate(navigator, 3, conditions=Conditions(task="pusht"), quiet=True)


REACH = """
import gymnasium as gym, numpy as np
from vqbet_course.core.specs import Contract, Field, TaskContract

class Reach(gym.Env):
    contract = TaskContract("a point", Contract({"observation.state": Field(2, "m")}, Field(2, "m"), 10.0),
                            (-0.05, 0.05), 100.0, 7, "a place", "near the origin")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 2)
        return self.place.astype(np.float32), {}

    def step(self, action):
        self.place = self.place + action
        near = bool(np.linalg.norm(self.place) < 0.02)
        return self.place.astype(np.float32), 0.0, near, False, {"is_success": near}
"""


def test_an_environment_of_ones_own_needs_a_contract_and_a_file(
    navigator: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    (tmp_path / "reach_in_a_test.py").write_text(REACH)
    written = evaluate(navigator, 2, conditions=Conditions(task="reach_in_a_test:Reach"), videos=0, quiet=True)
    assert [e["steps"] for e in written["episodes"]] == [7, 7]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("kitchen", "unknown task 'kitchen'"),
        ("no_module:Reach", "No module"),
        ("json:loads", "not an environment with a contract"),
    ],
)
def test_an_environment_that_is_none(name: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        get_task(name)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--perturb", "wind"], "unknown perturbation 'wind'"),
        (["--task", "kitchen"], "unknown task 'kitchen'"),
        (["--task", "navigation"], "trained on other data"),
        (["--temperature", "-1"], "bet_softmax_temperature must be"),
        (["--temperature", "inf"], "bet_softmax_temperature must be"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line_and_status_2(
    arguments: list[str], why: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run.path), "--out", str(tmp_path / "e"), *arguments]) == 2
    error = capsys.readouterr().err
    assert why in error and error.count("\n") == 1
    assert not (tmp_path / "e").exists()


def test_another_temperature_is_recorded_and_leaves_the_run_as_it_is(run: Run, tmp_path: Path) -> None:
    hot = run.at_temperature(3.0)
    found = evaluate(hot, episodes=1, out=tmp_path, videos=0, quiet=True)
    usual = json.loads(json.dumps(run.policy.config.to_dict()))
    assert found["config"] == usual | {"bet_softmax_temperature": 3.0}
    assert hot.policy.network is run.policy.network and run.policy.acting.temperature != 3.0


def test_labels_that_a_person_set_survive_another_evaluation(run: Run, tmp_path: Path) -> None:
    first = evaluate(run, episodes=1, seed=30, out=tmp_path, videos=0, quiet=True)
    if first["episodes"][0]["success"]:
        pytest.skip("this small policy solved it")
    labels = json.loads((tmp_path / "failures.json").read_text())
    labels["30"]["person"] = "control"
    (tmp_path / "failures.json").write_text(json.dumps(labels))
    again = evaluate(run, episodes=1, seed=30, out=tmp_path, videos=0, quiet=True)
    assert again["episodes"][0]["failure"] == labels["30"]
