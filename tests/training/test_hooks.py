"""One training loop, and the hooks that look on."""

from pathlib import Path

import pytest
import torch

from vqbet_course.core.budget import Clock
from vqbet_course.core.errors import BadInput
from vqbet_course.train import Stage, run_stage
from vqbet_course.training import checkpoints
from vqbet_course.training.calibration import steps_within
from vqbet_course.training.checkpoints import SaveCheckpoints, load_tensors, read_checkpoint, write_checkpoint
from vqbet_course.training.hooks import Deadline, Measurement
from vqbet_course.training.log import TrainingLog, read_log


def toy_stage(steps: int, metrics: dict[str, torch.Tensor] | None = None) -> Stage:
    module = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    return Stage(
        "toy",
        module,
        lambda rows: (module(torch.ones(4, 1)).pow(2).mean(), metrics or {}),
        64,
        4,
        steps,
        1.0,
        optimizer,
    )


def test_a_number_of_steps_is_kept_to_the_step_and_measured_from_begin_to_end() -> None:
    stage, rates = toy_stage(10), list[float]()

    def measure(module: torch.nn.Module) -> float:
        rates.append(stage.optimizer.param_groups[0]["lr"])
        return 0.0

    measurement = Measurement(Clock(), measure, points=8)
    assert run_stage(stage, 0, hooks=[measurement]) == 10
    assert measurement.curve[0]["step"] == 0 and measurement.curve[-1]["step"] == 10 and len(measurement.curve) == 9
    assert rates[-1] < 0.1 < rates[1]


def test_a_deadline_ends_in_time_with_a_small_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now, stage, rates = [0.0], toy_stage(10**9), list[float]()
    plain = stage.step

    def slow_step(step: int, seed: int) -> dict[str, torch.Tensor]:
        now[0] += 0.1
        metrics = plain(step, seed)
        rates.append(stage.optimizer.param_groups[0]["lr"])
        return metrics

    monkeypatch.setattr(stage, "step", slow_step)
    assert run_stage(stage, 0, hooks=[Deadline(Clock(lambda: now[0]), 10.0)]) in (100, 101)  # a tenth of a second each
    assert rates[0] > 0.99 and rates[50] == pytest.approx(0.5, abs=0.1) and rates[-1] < 0.01


def test_the_log_has_every_tenth_step_and_the_last_in_pixels_and_forgets_what_is_done_again(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, action_unit=250.0, unit="px", quiet=True)
    run_stage(toy_stage(30, {"reconstruction": torch.tensor(0.1)}), 0, hooks=[log])
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [0, 10, 20, 29]
    assert read_log(tmp_path / "log.jsonl")[0]["reconstruction_px"] == 25.0
    log.begin(toy_stage(30), start=15)
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [0, 10]


def test_checkpoints_are_written_now_and_then_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[int]()
    monkeypatch.setattr(checkpoints, "write_checkpoint", lambda *a: written.append(a[-1]))
    stage = toy_stage(5)
    run_stage(stage, 0, hooks=[SaveCheckpoints(tmp_path, stage.module, 0)])
    assert written == [5]
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", -1.0)
    run_stage(stage, 0, start=2, hooks=[SaveCheckpoints(tmp_path, stage.module, 0)])
    assert written == [5, 3, 4, 5]


def test_a_distance_is_logged_with_the_name_of_its_unit(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, action_unit=180.0, unit="deg", quiet=True)
    run_stage(toy_stage(1, {"offset_loss": torch.tensor(0.5)}), 0, hooks=[log])
    assert read_log(tmp_path / "log.jsonl")[0]["offset_loss_deg"] == 90.0


def test_a_damaged_checkpoint_is_noticed(tmp_path: Path) -> None:
    stage = toy_stage(5)
    write_checkpoint(tmp_path, stage.module, stage, 0, 1)
    path = tmp_path / "train_state.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BadInput, match="damaged"):
        read_checkpoint(tmp_path)
    with pytest.raises(BadInput, match="does not fit"):
        load_tensors(stage.module, torch.nn.Linear(3, 2).state_dict(), path)


@pytest.mark.parametrize(
    ("seconds", "first", "second", "expected"), [(60, 0.01, 0.1, 40 + 596), (60, 1.0, 1.0, 60), (0.001, 1.0, 1.0, 3)]
)
def test_minutes_are_divided_between_the_stages(seconds: float, first: float, second: float, expected: int) -> None:
    assert steps_within(seconds, first, second, most=40) == expected
