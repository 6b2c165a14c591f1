"""The panel: it continues after a kill, refuses what does not belong together, and runs anywhere alike."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from dask import config as dask_config
from small import arrays, write_npz
from test_verdicts import result

from vqbet_course import tasks
from vqbet_course.cli import main
from vqbet_course.core.budget import Budget
from vqbet_course.core.errors import BadInput
from vqbet_course.core.executor import Workers
from vqbet_course.demos import load_demos
from vqbet_course.experiments import panel, report
from vqbet_course.experiments.panel import Job, Settings, jobs_of, run_job, run_panel
from vqbet_course.tasks import get_task, navigation, open_source
from vqbet_course.tasks.navigation import GOAL_RADIUS
from vqbet_course.tasks.pusht.contract import PUSHT_TASK
from vqbet_course.tasks.task import Task
from vqbet_course.training.data import prepare

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(write_npz(tmp_path / "d.npz"), demos=2, episodes=2, budget=Budget(steps=6), videos=1)


def test_a_number_that_never_moves_does_not_break_lerobots_baselines() -> None:
    pytest.importorskip("lerobot")
    from vqbet_course.experiments.lerobot_baselines import LeRobotBaseline

    demos = load_demos(open_source("demo")).select([0])
    for policy in panel.LEROBOTS:
        config = panel.config_for(policy, demos)
        module = cast(LeRobotBaseline, panel.build(policy, config))
        chunks = torch.rand(6, config.action_chunk_size, 2)
        chunks[..., 1] = 0.5
        module.learn_scales(chunks)
        assert (module.scale > 0).all() and module.scale[1] == 1


def test_a_task_changes_the_baselines_chunks_but_not_what_makes_them_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    """VQ-BeT's averaging of chunks is not theirs, and BeT's bins are of single actions. What is asked for by hand is done."""
    demos, laptop = load_demos(open_source("demo")).select([0]), get_task("aloha-transfer").laptop
    monkeypatch.setattr(panel, "laptop_changes", lambda demos: dict(laptop))
    for policy in panel.HYPERPARAMETERS:
        changes = panel.changes_for(policy, demos)
        config = panel.config_for(policy, demos, **changes)
        chunk = {"bet": 1, "diffusion": 24}.get(policy, laptop["action_chunk_size"])  # a U-Net halves 24 three times
        assert (config.action_chunk_size, config.average_chunks) == (chunk, False)
        by_hand = panel.config_for(policy, demos, **changes | {"optimizer_weight_decay": 0.5})
        assert by_hand.optimizer_weight_decay == 0.5


def canned(job: Job) -> list[dict[str, Any]]:
    """What a job returns, without its work."""
    names = panel.SAMPLERS if job.policy == "diffusion" else [job.policy]
    figures = {
        "latency_ms": {"p50": 1.0, "p95": 2.0},
        "avg_max_reward": 0.5,
        "timing_violations": 0.0,
        "behaviour": {"token_switches": None, "jerk": 1.0, "offset_outweighs": None, "mode_entropy": None},
    }
    training = {"steps": 6, "seconds": 1.0, "curve": [{"seconds": 0.0, "step": 0, "error": 9.0}]}
    lost = {"label": "control", "evidence": "the action turns round", "person": None}
    rows = [
        result(name, [0.5, 0.96], job.seed, metrics=figures)
        | {
            "schema": panel.SCHEMA,
            "job": job.name,
            "settings": job.settings.to_dict(),
            "contract": PUSHT_TASK.to_dict(),
            "config": job.config.to_dict(),
            "chunk": {"n_obs_steps": 2, "action_chunk_size": 8, "n_action_steps": 4},
            "training": training,
            "made_by": {"torch": "2"},
            "videos": {f"{name}-seed{job.seed}-0.mp4": b"video"},
        }
        for name in names
    ]
    for row in rows:
        for episode in row["episodes"]:
            episode["failure"] = None if episode["success"] else dict(lost)
    return rows


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs return canned results, in this process; the names of those that ran."""
    names: list[str] = []

    @contextmanager
    def here(workers: Workers) -> Iterator[Executor]:
        with ThreadPoolExecutor(1) as pool:
            yield pool

    monkeypatch.setattr(panel, "executor", here)
    monkeypatch.setattr(panel, "run_job", lambda job: (names.append(job.name), canned(job))[1])
    return names


# --- jobs ---------------------------------------------------------------------------------------------------------


def test_a_seed_chooses_the_same_demonstrations_for_every_policy(tmp_path: Path) -> None:
    lengths = tuple(20 + i for i in range(12))
    demos = load_demos(open_source(write_npz(tmp_path / "d.npz", **arrays(lengths))))
    jobs = jobs_of(["bc", "act"], [1, 2], demos, Settings("d", 5, 1, Budget(steps=3)))
    chosen = {job.name: {int(n) for n in torch.diff(torch.tensor([0, *job.demos.episode_ends]))} for job in jobs}
    assert chosen["bc-seed1"] == chosen["act-seed1"] != chosen["bc-seed2"]
    for job in jobs:
        assert job.held_out is not None
        kept_back = {int(n) for n in torch.diff(torch.tensor([0, *job.held_out.episode_ends]))}
        assert len(job.demos) == 5 and not kept_back & chosen[job.name]
    assert jobs_of(["bc"], [1], demos, Settings("d", 12, 1, Budget(steps=3)))[0].held_out is None


def test_dask_gives_what_this_process_gives(settings: Settings, tmp_path: Path) -> None:
    from distributed import LocalCluster

    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None)
    with cluster:
        made = run_panel(["bc"], [2], settings, tmp_path / "p", Workers(dask=cluster.scheduler_address), quiet=True)
    here = run_job(jobs_of(["bc"], [2], load_demos(open_source(settings.data)), settings)[0])[0]
    (there,) = made["results"]
    assert [e["max_coverage"] for e in there["episodes"]] == [e["max_coverage"] for e in here["episodes"]]
    assert there["two_routes"] == here["two_routes"]
    assert (tmp_path / "p" / there["videos"][0]).read_bytes()[4:8] == b"ftyp"
    page = (tmp_path / "p" / "report.html").read_text()
    assert "data:video/mp4" in page and page.count("data:image/png") == 3 and "http" not in page


def test_a_cluster_without_workers_is_refused_and_one_that_is_lost_is_told(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(panel, "run_job", dies)
    with (
        dask_config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
    ):
        address = cluster.scheduler_address
        with pytest.raises(BadInput, match=f"has no worker.*dask worker {address} --nthreads 1"):
            run_panel(["bc"], [1], settings, tmp_path / "p", Workers(dask=address), quiet=True)
        cluster.scale(1)
        cluster.wait_for_workers(1)
        with pytest.raises(BadInput, match="the cluster was lost .KilledWorker.*run the same command"):
            run_panel(["bc"], [1], settings, tmp_path / "p", Workers(dask=address), quiet=True)
    assert not [*(tmp_path / "p" / "jobs").iterdir()]


def dies(job: Job) -> list[dict[str, Any]]:
    """A process that the system kills in the middle of its work."""
    os._exit(9)


@pytest.mark.parametrize("policy", panel.POLICIES)
def test_every_policy_learns_the_toys_way_up_to_the_goal(policy: str) -> None:
    demos = navigation.walking_on(navigation.make_demos(3, seed=0))
    config = panel.config_for(policy, demos, use_relative_actions=False)
    setup = prepare(demos, config, augment=False)
    now = demos.observation["observation.state"][setup.windows.observation_index[:, -1]]
    assert now[:, 0].max() > 1 - GOAL_RADIUS
    move = demos.action[-1]
    assert np.allclose(np.diff(demos.observation["observation.state"][-5:], axis=0), move, atol=1e-6)


# --- the panel ----------------------------------------------------------------------------------------------------


def test_a_panel_that_was_killed_continues(
    settings: Settings, tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(job: Job) -> list[dict[str, Any]]:
        if job.name == "act-seed1":
            raise KeyboardInterrupt
        return canned(job)

    with monkeypatch.context() as patch:
        patch.setattr(panel, "run_job", killed)
        with pytest.raises(KeyboardInterrupt):
            run_panel(["bc", "act"], [1, 2], settings, tmp_path / "p", quiet=True)
    before = {path.name for path in (tmp_path / "p" / "jobs").iterdir()}
    made = run_panel(["bc", "act"], [1, 2], settings, tmp_path / "p", quiet=True)
    wanted = {f"{policy}-seed{seed}.json" for policy in ("bc", "act") for seed in (1, 2)}
    assert before and {f"{name}.json" for name in ran} == wanted - before
    assert [(r["policy"], r["seed"]) for r in made["results"]] == [("bc", 1), ("bc", 2), ("act", 1), ("act", 2)]


def test_the_report_says_how_much_each_policy_was_tried(settings: Settings, tmp_path: Path, ran: list[str]) -> None:
    run_panel(["bc"], [1, 2], settings, tmp_path / "p", quiet=True)
    run_panel(["act"], [2], settings, tmp_path / "p", quiet=True)
    page = (tmp_path / "p" / "report.html").read_text()
    assert "<td>bc<td>2<td>4<td>50%" in page and "<td>act<td>1<td>2<td>50%" in page
    assert "color-scheme: light dark" in page and "inconclusive" in page


def test_the_report_has_the_unit_and_the_time_budget_of_its_task(
    settings: Settings, tmp_path: Path, ran: list[str]
) -> None:
    made = run_panel(["bc"], [1], settings, tmp_path / "p", quiet=True)
    made["contract"]["data"]["action"]["unit"] = "deg"
    made["contract"]["timing_budget_ms"] = 20.0
    for row in made["results"]:
        row["contract"] = made["contract"]
    assert report.learning_curves(made["results"]).axes[0].get_ylabel().endswith("(deg)")
    budget = report.speed_and_quality(made["results"]).axes[0].lines[-1]
    assert np.asarray(budget.get_xdata())[0] == 20.0
    page = report.report(made, tmp_path / "p")
    assert "jerk (deg a step" in page and "px a step" not in page


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_learned(
    settings: Settings, tmp_path: Path, ran: list[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="file: cannot be written"):
        run_panel(["bc"], [1], settings, tmp_path / "file", quiet=True)
    assert ran == []


def test_a_job_that_fails_does_not_stop_the_others(
    settings: Settings, tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(job: Job) -> list[dict[str, Any]]:
        if job.policy == "bc":
            raise RuntimeError("a bug in this policy")
        return canned(job)

    monkeypatch.setattr(panel, "run_job", fails)
    with pytest.raises(RuntimeError, match="a bug"):
        run_panel(["bc", "act"], [1], settings, tmp_path / "p", quiet=True)
    assert [path.name for path in (tmp_path / "p" / "jobs").iterdir()] == ["act-seed1.json"]


def test_a_panel_grows_by_policies_and_seeds(settings: Settings, tmp_path: Path, ran: list[str]) -> None:
    run_panel(["bc"], [1], settings, tmp_path / "p", quiet=True)
    made = run_panel(["diffusion"], [1], settings, tmp_path / "p", quiet=True)
    assert ran == ["bc-seed1", "diffusion-seed1"]
    assert [r["policy"] for r in made["results"]] == ["bc", "diffusion-ddpm100", "diffusion-ddim10"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"demos": 3}, "made with demos 2, not 3"),
        ({"episodes": 9}, "made with episodes 2, not 9"),
        ({"budget": Budget(steps=7)}, "made with budget"),
        ({"first_seed": 5}, "made with first_seed"),
    ],
)
def test_other_settings_are_refused(
    change: dict[str, Any], why: str, settings: Settings, tmp_path: Path, ran: list[str]
) -> None:
    run_panel(["bc"], [1], settings, tmp_path / "p", quiet=True)
    with pytest.raises(BadInput, match=why):
        run_panel(["bc"], [1], replace(settings, **change), tmp_path / "p", quiet=True)


def test_a_job_of_another_configuration_is_refused(settings: Settings, tmp_path: Path, ran: list[str]) -> None:
    run_panel(["bc"], [1], settings, tmp_path / "p", quiet=True)
    file = tmp_path / "p" / "jobs" / "bc-seed1.json"
    made = json.loads(file.read_text())
    made["results"][0]["config"]["dropout"] = 0.77
    file.write_text(json.dumps(made))
    with pytest.raises(BadInput, match="made with another dropout"):
        run_panel(["bc"], [1], settings, tmp_path / "p", quiet=True)
    assert ran == ["bc-seed1"]


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("contract", PUSHT_TASK.to_dict() | {"horizon": 200}, "horizon: 200 against 300"),
        ("contract", PUSHT_TASK.to_dict() | {"success": "at the end"}, "success: at the end against"),
        ("contract", {}, "task contract"),
    ],
)
def test_results_of_another_task_are_refused(
    field: str, value: Any, why: str, settings: Settings, tmp_path: Path, ran: list[str]
) -> None:
    run_panel(["bc"], [1], settings, tmp_path / "p", quiet=True)
    path = tmp_path / "p" / "jobs" / "bc-seed1.json"
    written = json.loads(path.read_text())
    written["results"][0][field] = value
    path.write_text(json.dumps(written))
    with pytest.raises(BadInput, match=why):
        run_panel(["act"], [1], settings, tmp_path / "p", quiet=True)
    assert ran == ["bc-seed1"]


@pytest.mark.parametrize(
    ("content", "why"), [('{"schema": "vqbet_course/panel/0"}', "reads vqbet_course/panel/2"), ("{", "damaged")]
)
def test_a_job_of_another_schema_is_refused(
    content: str, why: str, settings: Settings, tmp_path: Path, ran: list[str]
) -> None:
    (tmp_path / "p" / "jobs").mkdir(parents=True)
    (tmp_path / "p" / "jobs" / "bc-seed1.json").write_text(content)
    with pytest.raises(BadInput, match=why):
        run_panel(["bc"], [1], settings, tmp_path / "p", quiet=True)


def test_a_person_overrules_a_label_and_the_report_keeps_both(
    settings: Settings, tmp_path: Path, ran: list[str]
) -> None:
    run_panel(["bc"], [1], settings, tmp_path / "p", quiet=True)
    path = tmp_path / "p" / "failures" / "bc-seed1.json"
    labels = json.loads(path.read_text())
    labels["0"]["person"] = "planning"
    path.write_text(json.dumps(labels))
    made = run_panel(["bc"], [1], settings, tmp_path / "p", quiet=True)
    failure = made["results"][0]["episodes"][0]["failure"]
    assert (failure["label"], failure["person"]) == ("control", "planning")
    assert '<td class="left">control\n<td class="left">planning' in (tmp_path / "p" / "report.html").read_text()
    assert ran == ["bc-seed1"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--policies", "bc,rt2"], "unknown policy 'rt2'; choose from bc, bet, act, diffusion, flow, vqbet"),
        (["--policies", "bc,bc"], "each policy and each seed once"),
        (["--seeds", "1,1"], "each policy and each seed once"),
        (["--seeds=-1"], "at least 0"),
        (["--demos", "4"], "holds 3 demonstrations, --demos asks for 4"),
        (["--demos", "0"], "at least 1"),
        (["--episodes", "0"], "at least 1"),
        (["--jobs", "0"], "at least 1"),
        (["--minutes", "0"], "above 0"),
        (["--minutes", "1", "--steps", "9"], "either"),
        (["--seeds", "one"], "whole numbers"),
        (["--task", "navigation"], "not demonstrations of navigation"),
        (["--dask", "tcp://127.0.0.1:9"], "no scheduler answers"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_status_2(
    arguments: list[str], why: str, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ["--data", settings.data, "--demos", "2", "--out", str(tmp_path / "p"), "--policies", "bc", "--seeds", "1"]
    assert main(["compare", *plain, *arguments]) == 2
    error = capsys.readouterr().err
    assert why in error and "Traceback" not in error
    assert not (tmp_path / "p").exists()


def test_the_task_that_is_named_is_whose_demonstrations_they_are(
    tmp_path: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """States over a part of the board do not show that they are PushT's; only a person can say so."""
    state = arrays()["state"] * [0.1, 0.1, 0.1, 0.1, 1]
    data = write_npz(tmp_path / "corner.npz", state=state, action=0.1 * arrays()["action"])
    asked = [
        "compare",
        "--data",
        data,
        "--policies",
        "bc",
        "--demos",
        "2",
        "--seeds",
        "1",
        "--out",
        str(tmp_path / "p"),
    ]
    assert main(asked) == 2 and ran == []
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {data}: ")
    assert main([*asked, "--task", "pusht"]) == 0 and ran == ["bc-seed1"]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["observation.joints"], "observation.joints would be left out"),
        (["observation.state", "observation.effort"], "observation.effort would be left out"),
        (["observation.environment_state"], "there is no observation.state"),
    ],
)
def test_what_lerobots_baselines_cannot_observe_is_told_before_anything_is_learned(
    names: list[str], why: str, tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    demos = load_demos(get_task("navigation").demonstrations(2, 0))
    observed = dict.fromkeys(names, demos.observation["observation.state"])
    other = replace(demos, observation=observed, units=dict.fromkeys(names, "m") | {"action": demos.units["action"]})
    task = Task()
    task.name, task.contract = "other", replace(get_task("navigation").contract, data=other.contract)
    monkeypatch.setitem(tasks.TASKS, "other", task)
    monkeypatch.setattr(panel, "load_demos", lambda _: other)
    settings = Settings("navigation", demos=2, episodes=1, budget=Budget(steps=3), task="other")
    monkeypatch.setattr(panel, "open_source", lambda *_, **__: None)
    with pytest.raises(BadInput, match=f"{why}; leave act out of --policies"):
        run_panel(["bc", "act"], [1], settings, tmp_path / "p", quiet=True)
    assert ran == [] and not (tmp_path / "p").exists()
    with pytest.raises(BadInput, match=why):
        panel.build("diffusion", panel.config_for("diffusion", other, use_relative_actions=False))


def test_another_task_goes_through_a_job() -> None:
    settings = Settings("navigation", demos=4, episodes=2, budget=Budget(steps=3), videos=0, task="navigation")
    demos = load_demos(get_task("navigation").demonstrations(4, 0))
    (row,) = run_job(Job("bc", 0, demos, None, settings))
    assert row["contract"]["robot"] == get_task("navigation").contract.robot and len(row["episodes"]) == 2
    assert row["ways_round"] is None and row["videos"] == {}
