"""Two stages that repeat and resume to the last bit."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from conftest import REPO
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from small import CONFIG, arrays, same, write_npz
from torch import nn

from vqbet_course.cli import main
from vqbet_course.core.budget import Budget
from vqbet_course.core.errors import BadInput
from vqbet_course.core.hooks import Hook, TrainingStage
from vqbet_course.demos import load_demos
from vqbet_course.tasks import get_task, open_source
from vqbet_course.tasks.pusht.contract import PUSHT
from vqbet_course.train import Stage, batch_rows, ema_update, lr_factor
from vqbet_course.training import checkpoints, trainer
from vqbet_course.training.checkpoints import read_checkpoint
from vqbet_course.training.data import prepare
from vqbet_course.training.devices import Computing
from vqbet_course.training.log import read_log
from vqbet_course.training.runs import SHIPPED, load_run, read_plan
from vqbet_course.training.trainer import resume, train

STEPS = 60  # 20 of the tokenizer, 40 of the policy


@pytest.fixture(autouse=True)
def one_thread():  # type: ignore[no-untyped-def]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_npz(tmp_path_factory.mktemp("data") / "demos.npz")


@pytest.fixture(scope="module")
def straight(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("straight") / "run"
    train(data, out, Budget(steps=STEPS), CONFIG, quiet=True)
    return out


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


# --- randomness without a memory --------------------------------------------------------------------------------


@given(n=st.integers(1, 60), batch=st.integers(1, 20), seed=st.integers(0, 5), epoch=st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_an_epoch_shows_each_row_at_most_once_and_whole_batches_only(n: int, batch: int, seed: int, epoch: int) -> None:
    batch = min(batch, n)
    per_epoch = n // batch
    steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    rows = torch.cat([batch_rows(n, batch, seed, step) for step in reversed(steps)])  # asked in any order
    assert len(rows) == per_epoch * batch == len(rows.unique())
    assert rows.min() >= 0 and rows.max() < n


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = [tuple(batch_rows(50, 50, seed, step).tolist()) for seed in (0, 1) for step in (0, 1)]
    assert len(set(orders)) == 4


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [lr_factor(step, 100, warmup=10) for step in range(100)]
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 <= rates[-1] < 0.01 and max(rates) <= 1


def test_ema_update_is_the_moving_average() -> None:
    learner, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    expected = 0.0
    for step in range(50):
        learner.weight.data.fill_(float(step))
        ema_update(average, learner, step, decay=0.9)
        keep = min(0.9, (1 + step) / (10 + step))
        expected = average.weight.item() if step == 0 else keep * expected + (1 - keep) * step
    assert average.weight.item() == pytest.approx(expected, rel=1e-5)


def test_ema_update_forgets_where_it_started_in_a_short_run() -> None:
    learner, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    learner.weight.data.fill_(1.0)
    average.weight.data.fill_(100.0)
    for step in range(100):
        ema_update(average, learner, step, decay=0.999)
    assert average.weight.item() == pytest.approx(1.0, abs=0.01)


def test_ema_update_copies_buffers() -> None:
    learner, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    learner.running_mean.fill_(3.0)  # type: ignore[union-attr]
    ema_update(average, learner, 0, decay=0.9)
    assert torch.equal(average.running_mean, learner.running_mean)  # type: ignore[arg-type]


# --- what a run does --------------------------------------------------------------------------------------------


def test_the_same_plan_twice_gives_the_same_weights(data: str, straight: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)  # whatever the caller did before
    policy = train(data, tmp_path / "again", Budget(steps=STEPS), CONFIG, quiet=True)
    assert same(weights(tmp_path / "again"), weights(straight))
    assert same(dict(policy.network.state_dict()), weights(straight))
    assert (tmp_path / "again" / "log.jsonl").read_text() == (straight / "log.jsonl").read_text()


def test_another_seed_gives_other_weights(data: str, straight: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "run", Budget(steps=STEPS), CONFIG, seed=1, quiet=True)
    assert not same(weights(tmp_path / "run"), weights(straight))


def test_training_leaves_the_callers_draws_alone(data: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(data, tmp_path / "run", Budget(steps=6), CONFIG, quiet=True)
    assert torch.equal(torch.rand(3), expected)


def test_a_run_directory_holds_what_acting_needs(straight: Path, data: str) -> None:
    files = {path.name for path in straight.iterdir()}
    assert files == {
        "checksums.json",
        "config.json",
        "model.safetensors",
        "normalizer.json",
        "train_state.safetensors",
        "train_state.json",
        "contract.json",
        "split.json",
        "log.jsonl",
    }
    run = load_run(straight)
    assert (run.policy.config, run.contract, run.plan.data, run.plan.steps) == (CONFIG, PUSHT, data, STEPS)
    assert not run.policy.network.training
    assert json.loads((straight / "split.json").read_text()) == {
        "source": data,
        "n_episodes": 3,
        "train": [0, 1, 2],
        "val": [],
        "stress": [],
        "seed": None,
    }


def test_the_moving_average_acts_not_the_weights_that_learn(straight: Path) -> None:
    saved = read_checkpoint(straight)
    assert saved is not None
    assert same(saved.part("average"), weights(straight))
    assert not same(saved.part("policy"), weights(straight))


def test_stage_2_leaves_the_tokenizer_as_stage_1_made_it(data: str, straight: Path, tmp_path: Path) -> None:
    with unplugged("policy", 0), pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", Budget(steps=STEPS), CONFIG, quiet=True)
    saved = read_checkpoint(tmp_path / "run")
    assert saved is not None and (saved.stage, saved.step) == (0, 20)
    after = weights(straight)
    tokenizer = {name: value for name, value in saved.part("policy").items() if name.startswith("vqvae.")}
    assert same(tokenizer, {name: after[name] for name in tokenizer})


def test_both_stages_learn(data: str, tmp_path: Path) -> None:
    train(data, tmp_path, Budget(steps=160), replace(CONFIG, n_vqvae_training_steps=100), quiet=True)
    log = read_log(tmp_path / "log.jsonl")
    reconstruction = [line["reconstruction_px"] for line in log if line["stage"] == "tokenizer"]
    error = [line["offset_loss_px"] for line in log if line["stage"] == "policy"]
    assert reconstruction[-1] < 0.7 * reconstruction[0]
    assert error[-1] < 0.7 * error[0]
    assert all(1 <= line["code_pairs"] <= CONFIG.vqvae_batch_size for line in log if line["stage"] == "tokenizer")


def test_augmenting_adds_windows_and_is_the_default_for_pusht(data: str, tmp_path: Path) -> None:
    demos = load_demos(open_source(data))
    plain, more = (prepare(demos, CONFIG, augment) for augment in (False, True))
    assert len(more.windows.chunk_index) >= 2 * len(plain.windows.chunk_index)  # hindsight finds pushes only in pushes
    train(data, tmp_path / "run", Budget(steps=3), CONFIG, quiet=True)
    assert load_run(tmp_path / "run").plan.augment


def test_minutes_become_steps_that_repeat_the_run(data: str, tmp_path: Path) -> None:
    train(data, tmp_path / "timed", Budget(minutes=0.01), CONFIG, quiet=True)
    plan = load_run(tmp_path / "timed").plan
    assert plan.steps >= 3
    train(data, tmp_path / "again", Budget(steps=plan.steps), CONFIG, quiet=True)
    assert same(weights(tmp_path / "again"), weights(tmp_path / "timed"))


def test_an_episode_is_long_enough_when_it_has_a_window(tmp_path: Path) -> None:
    """A window begins with a repeated first frame, so that an episode of one chunk has one."""
    chunk = CONFIG.action_chunk_size
    lengths = np.array([40, chunk, 30])
    short = {name: values[: lengths.sum()] for name, values in arrays().items() if name != "episode_ends"}
    data = write_npz(tmp_path / "short.npz", **short, episode_ends=np.cumsum(lengths))
    assert CONFIG.n_obs_steps > 1 and prepare(load_demos(open_source(data)), CONFIG, augment=True).windows
    too_short = write_npz(tmp_path / "too_short.npz", **short, episode_ends=np.array([40, 39 + chunk, lengths.sum()]))
    with pytest.raises(BadInput, match=f"episode 1 has {chunk - 1} frames"):
        prepare(load_demos(open_source(too_short)), CONFIG, augment=True)


@pytest.mark.parametrize(("seconds", "expected"), [((0.01, 0.1), 40 + 596), ((1.0, 1.0), 60)])
def test_calibration_divides_the_time(seconds: tuple[float, float], expected: int, data: str) -> None:
    setup = prepare(load_demos(open_source(data)), CONFIG, augment=False)
    with patch.object(trainer, "seconds_per_step", side_effect=seconds):
        assert trainer.calibrated_steps(Budget(1.0), CONFIG, setup, seed=0) == expected


@pytest.mark.parametrize(("seconds", "chosen"), [((1.0, 0.9), 1), ((1.0, 5.0), 1), ((1.0, 0.6), 2)])
def test_more_threads_are_taken_only_where_they_help(seconds: tuple[float, float], chosen: int, data: str) -> None:
    setup, before = prepare(load_demos(open_source(data)), CONFIG, augment=False), torch.random.get_rng_state()
    with (
        patch.object(trainer, "seconds_per_step", side_effect=seconds),
        patch.object(trainer.torch, "get_num_threads", return_value=2),
        patch.object(trainer.torch, "set_num_threads"),
    ):
        assert trainer.calibrated_threads(CONFIG, setup, seed=0) == chosen
    assert torch.equal(before, torch.random.get_rng_state())


# --- interrupted ------------------------------------------------------------------------------------------------


def unplugged(stage_name: str, at: int):  # type: ignore[no-untyped-def]
    """A patch under which training dies before step `at` of a stage."""
    step_as_usual = Stage.step

    def step(self: Stage, step: int, seed: int) -> dict[str, torch.Tensor]:
        if (self.name, step) == (stage_name, at):
            raise KeyboardInterrupt
        return step_as_usual(self, step, seed)

    return patch.object(Stage, "step", step)


@pytest.mark.parametrize("every", [0.0, 1e9], ids=["saved every step", "saved at the end of a stage"])
@pytest.mark.parametrize(
    "stops", [[("tokenizer", 0)], [("tokenizer", 7), ("policy", 0)], [("policy", 1), ("policy", 33)]]
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    stops: list[tuple[str, int]], every: float, data: str, straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with patch.object(checkpoints, "SECONDS_BETWEEN", every):
        for number, stop in enumerate(stops):
            with unplugged(*stop), pytest.raises(KeyboardInterrupt):
                resume(out, quiet=True) if number else train(data, out, Budget(steps=STEPS), CONFIG, quiet=True)
    resume(out, quiet=True)
    assert same(weights(out), weights(straight))
    assert (out / "log.jsonl").read_text() == (straight / "log.jsonl").read_text()


def test_a_terminated_command_names_the_one_that_continues(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, step_as_usual = tmp_path / "run", Stage.step

    def step(self: Stage, step: int, seed: int) -> dict[str, torch.Tensor]:
        if self.name == "policy":
            os.kill(os.getpid(), signal.SIGTERM)
        return step_as_usual(self, step, seed)

    before = signal.getsignal(signal.SIGTERM)
    with patch.object(Stage, "step", step):
        assert main(["train", "--data", data, "--steps", "20", "--out", str(out)]) == 130
    assert f"vqbet-course train --resume {out}" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_resuming_a_finished_run_changes_nothing(data: str, straight: Path) -> None:
    before, log = weights(straight), (straight / "log.jsonl").read_text()
    resume(straight, quiet=True)
    assert same(weights(straight), before)
    assert (straight / "log.jsonl").read_text() == log


class Threads(Hook):
    """Notes with how many threads each stage trains."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def begin(self, stage: TrainingStage, start: int) -> None:
        self.found.append(torch.get_num_threads())


@pytest.mark.parametrize("asked", [None, 1, 2])
def test_a_plans_threads_train_and_the_callers_are_left_alone(asked: int | None, data: str, tmp_path: Path) -> None:
    """Without a number, steps are trained with one thread, so that they give the same weights again."""
    torch.set_num_threads(3)
    begun, continued = Threads(), Threads()
    computing = Computing(threads=asked)
    train(data, tmp_path / "run", Budget(steps=3), CONFIG, quiet=True, computing=computing, hooks=[begun])
    resume(tmp_path / "run", quiet=True, hooks=[continued])
    assert {*begun.found, *continued.found} == {asked or 1}
    assert torch.get_num_threads() == 3 and read_plan(tmp_path / "run")[0].threads == (asked or 1)


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from small import CONFIG
from vqbet_course.training import trainer
from vqbet_course.core.budget import Budget

from vqbet_course.training import checkpoints
from vqbet_course.training.log import read_log

checkpoints.SECONDS_BETWEEN = 0.02
data, out, steps, draw = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), random.Random(int(sys.argv[4]))


def work():
    if (out / "train_state.json").exists():
        trainer.resume(out, quiet=True)
    else:
        trainer.train(data, out, Budget(steps=steps), CONFIG, quiet=True)


def reached(stage, step):
    return any((line["stage"], line["step"] >= step) == (stage, True) for line in read_log(out / "log.jsonl"))


for stage, step in [("tokenizer", 10), ("tokenizer", 30), ("policy", 20), ("policy", 90)]:
    child = os.fork()  # one import of torch for all
    if child == 0:
        work()
        os._exit(0)
    while not reached(stage, step):
        time.sleep(0.002)
    time.sleep(draw.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    print(stage if killed else "ended before the kill", read_log(out / "log.jsonl")[-1]["stage"])
work()
"""


def test_killed_at_random_moments_it_ends_with_the_same_weights(data: str, tmp_path: Path) -> None:
    steps = 240
    train(data, tmp_path / "straight", Budget(steps=steps), CONFIG, quiet=True)
    seed = str(time.time_ns() % 10_000)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "tests")])}
    done = subprocess.run(
        [sys.executable, "-c", KILLS, data, str(tmp_path / "killed"), str(steps), seed],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert {"tokenizer tokenizer", "policy policy"} <= set(done.stdout.splitlines()), (seed, done.stdout)
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "straight")), f"seed of the kills: {seed}"
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("killed", "straight")]
    assert logs[0] == logs[1], f"seed of the kills: {seed}"
    assert not list((tmp_path / "killed").glob(".*.partial"))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vqbet_course.cli", *(str(argument) for argument in arguments)]


def test_the_command_line_resumes_a_killed_run(data: str, tmp_path: Path) -> None:
    out, one_thread = tmp_path / "killed", os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        command("train", "--data", data, "--steps", 400, "--out", out),
        cwd=REPO,
        env=one_thread,
        stderr=subprocess.DEVNULL,
    )
    while not (out / "train_state.safetensors").exists():  # written at the end of stage 1
        assert child.poll() is None
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (out / "model.safetensors").exists()
    done = subprocess.run(command("train", "--resume", out), cwd=REPO, env=one_thread, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "trained" in done.stdout
    train(data, tmp_path / "straight", Budget(steps=400), quiet=True)
    assert same(weights(out), weights(tmp_path / "straight"))


# --- budgets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget",
    [
        {},
        {"steps": 3, "minutes": 1.0},
        {"steps": 0},
        {"steps": 2},
        {"steps": -5},
        {"minutes": 0.0},
        {"minutes": -1.0},
        {"minutes": float("nan")},
        {"minutes": float("inf")},
        {"steps": 3, "seed": -1},
        {"steps": 3, "seed": 2**40},
    ],
)
def test_a_budget_that_is_none_is_refused(budget: dict[str, Any], data: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        seed = budget.pop("seed", 0)
        train(data, tmp_path / "run", Budget(**budget), CONFIG, seed=seed, quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", sorted(SHIPPED.parent.glob("shipped*")), ids=lambda path: path.name)
def test_a_policy_that_comes_with_the_course_loads_and_nothing_is_written_beside_it(path: Path) -> None:
    run = load_run(path.name)
    assert run.path == path and run.output == Path("_runs") / path.name
    task = "pusht" if path.name == "shipped" else path.name.removeprefix("shipped-")
    assert run.contract == get_task(task).contract.data
    assert not Path(run.plan.data).is_absolute()  # no path of the machine on which it was trained


def test_the_policies_that_come_with_the_course_are_small() -> None:
    sizes = {
        path.name: sum(file.stat().st_size for file in path.rglob("*")) for path in SHIPPED.parent.glob("shipped*")
    }
    assert sizes.pop("shipped") < 4_000_000
    assert sum(sizes.values()) < 3_000_000
