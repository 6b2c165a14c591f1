"""What TensorBoard is given: the metrics of the log, step for step, also of a run that was interrupted."""

import sys
from pathlib import Path
from typing import Any

import pytest
from small import CONFIG, write_npz

from vqbet_course.cli import main
from vqbet_course.core.budget import Budget
from vqbet_course.train import Stage
from vqbet_course.training import tensorboard
from vqbet_course.training.log import read_log
from vqbet_course.training.tensorboard import TensorBoard
from vqbet_course.training.trainer import resume, train

Scalars = dict[tuple[str, str, int], float]
"""{(stage, metric, step): value}"""


def of_log(run: Path) -> Scalars:
    """The metrics of a run's log."""
    lines = read_log(run / "log.jsonl")
    return {
        (line["stage"], name, line["step"]): value
        for line in lines
        for name, value in line.items()
        if name not in ("stage", "step")
    }


def interrupted(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for TensorBoard, stop in the middle of the policy's stage, and resume."""
    data, as_usual = write_npz(run.parent / "data.npz"), Stage.step

    def step(self: Stage, step: int, seed: int) -> dict[str, Any]:
        if (self.name, step) == ("policy", 25):
            raise KeyboardInterrupt
        return as_usual(self, step, seed)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Stage, "step", step)
        train(data, run, Budget(steps=60), CONFIG, quiet=True, hooks=[TensorBoard(run)])
    resume(run, quiet=True, hooks=[TensorBoard(run)])


def test_the_hook_writes_what_the_log_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: Scalars = {}

    class Writer:
        def __init__(self, folder: str, purge_step: int):
            self.stage = Path(folder).name
            for key in [key for key in written if key[0] == self.stage and key[2] >= purge_step]:
                del written[key]

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written[self.stage, name, step] = value

        def close(self) -> None:
            pass

    monkeypatch.setattr(tensorboard, "writer_class", lambda: Writer)
    interrupted(tmp_path / "run", monkeypatch)
    assert written == of_log(tmp_path / "run")
    assert ("tokenizer", "reconstruction_px", 0) in written and ("policy", "loss", 39) in written


def test_tensorboard_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the package tensorboard is not installed"
    )
    interrupted(tmp_path / "run", monkeypatch)
    read: Scalars = {}
    for stage in ("tokenizer", "policy"):
        events = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard" / stage)).Reload()
        for name in events.Tags()["scalars"]:
            steps = [event.step for event in events.Scalars(name)]
            assert steps == sorted(set(steps))
            read |= {(stage, name, event.step): event.value for event in events.Scalars(name)}
    assert read == pytest.approx(of_log(tmp_path / "run"), rel=1e-6)


def test_without_the_package_it_is_one_line_and_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    asked = ["train", "--data", write_npz(tmp_path / "d.npz"), "--steps", "3", "--out", str(tmp_path / "run")]
    assert main([*asked, "--tensorboard"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pip install 'vqbet_course[tensorboard]'" in said
    assert not (tmp_path / "run").exists()
