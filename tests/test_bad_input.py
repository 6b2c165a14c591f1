"""What comes from outside and cannot be used: one line, exit status 2, and nothing lost."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPO
from small import CONFIG, arrays, small_run, write_npz

from vqbet_course import cli
from vqbet_course.core import io as files
from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.training import trainer

Say = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command line, assert that it says no as it should, and return the line in which it does."""

    def run(*arguments: object) -> str:
        assert cli.main([str(argument) for argument in arguments]) == 2
        said = capsys.readouterr().err.rstrip("\n").split("\n")
        assert said[-1].startswith("error: ") and "Traceback" not in "".join(said)
        assert not any("error" in line.lower() for line in said[:-1])
        return said[-1]

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; copy it before you break it."""
    return small_run(tmp_path_factory.mktemp("finished"), steps=12)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- demonstrations ---------------------------------------------------------------------------------------------


def with_nan(name: str, row: int) -> dict[str, np.ndarray]:
    values = arrays()[name].copy()
    values[row] = np.nan
    return {name: values}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (with_nan("state", 45), "episode 1, row 5"),
        (with_nan("action", 0), "episode 0, row 0"),
        ({"state": np.zeros((120, 4))}, "frames a second"),
        ({"action": np.zeros((119, 2))}, "119"),
        ({"action": np.zeros(120)}, "frames a second"),
        ({"action": np.zeros((120, 3))}, "frames a second"),
        ({"episode_ends": np.array([40, 40, 120])}, "empty"),
        ({"episode_ends": np.array([], int)}, "no episodes"),
        ({"episode_ends": np.array([40, 70, 130])}, "120"),
        ({"episode_ends": np.array([40, 117, 120])}, "too short for a training window: episodes 2"),
    ],
)
def test_demonstrations_that_cannot_be_used(
    changes: dict[str, np.ndarray], said: str, refused: Say, tmp_path: Path
) -> None:
    data = write_npz(tmp_path / "bad.npz", **changes)
    line = refused("train", "--data", data, "--steps", 3, "--out", tmp_path / "run")
    assert said in line and data in line
    assert not (tmp_path / "run").exists()


def test_a_truncated_npz(refused: Say, tmp_path: Path) -> None:
    data = Path(write_npz(tmp_path / "bad.npz"))
    data.write_bytes(data.read_bytes()[:300])
    assert str(data) in refused("train", "--data", data, "--steps", 3, "--out", tmp_path / "run")


def test_an_npz_without_its_arrays(refused: Say, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", state=np.zeros((3, 5)))
    assert "no array `episode_ends`" in refused(
        "train", "--data", tmp_path / "bad.npz", "--steps", 3, "--out", tmp_path / "run"
    )


@pytest.mark.parametrize("source", ["nowhere.npz", "./no/such/folder", "nowhere"])
def test_data_that_is_not_there(source: str, refused: Say, tmp_path: Path) -> None:
    assert source in refused("train", "--data", source, "--steps", 3, "--out", tmp_path / "run")


def test_a_folder_that_is_no_dataset(refused: Say, tmp_path: Path) -> None:
    assert "info.json" in refused("train", "--data", tmp_path, "--steps", 3, "--out", tmp_path / "run")


def test_an_unknown_hub_id_without_network(refused: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    line = refused("train", "--data", "nobody/nothing", "--steps", 3, "--out", tmp_path / "run")
    assert "nobody/nothing" in line and "network" in line


# --- where to and for how long ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget",
    [
        [],
        ["--steps", 0],
        ["--steps", 2],
        ["--steps", 5, "--minutes", 1],
        ["--minutes", 0],
        ["--minutes", "nan"],
        ["--steps", 3, "--seed", -1],
    ],
)
def test_a_budget_that_is_none(budget: list[object], refused: Say, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "data.npz")
    refused("train", "--data", data, *budget, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run(refused: Say, run: Path) -> None:
    before = contents(run)
    line = refused("train", "--data", run.parent / "data.npz", "--steps", 3, "--out", run)
    assert "--resume" in line
    assert contents(run) == before


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_an_out_that_cannot_be_a_folder(where: str, refused: Say, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    data = write_npz(tmp_path / "data.npz")
    refused("train", "--data", data, "--steps", 3, "--out", tmp_path / where)
    assert (tmp_path / "file").read_text() == "precious"


# --- runs -------------------------------------------------------------------------------------------------------


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path: Path, keep: float = 0.7) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "not there": (shutil.rmtree, "no such run directory"),
    "empty folder": (lambda run: [path.unlink() for path in run.iterdir()], "train_state.json: missing"),
    "unfinished": (lambda run: (run / "model.safetensors").unlink(), "--resume"),
    "weights truncated": (lambda run: cut(run / "model.safetensors"), "model.safetensors: damaged"),
    "weights cut in the header": (lambda run: cut(run / "model.safetensors", 0.01), "model.safetensors: damaged"),
    "weights empty": (lambda run: cut(run / "model.safetensors", 0), "model.safetensors: damaged"),
    "weights of another shape": (lambda run: edit(run / "config.json", vqvae_embedding_dim=12), "does not fit"),
    "weights of other layers": (lambda run: edit(run / "config.json", gpt_n_layer=2), "does not fit"),
    "config garbage": (lambda run: (run / "config.json").write_text("{not json"), "config.json: damaged"),
    "config of bytes": (lambda run: (run / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json: damaged"),
    "config no object": (lambda run: (run / "config.json").write_text("[1, 2]"), "config.json: configuration"),
    "config missing": (lambda run: (run / "config.json").unlink(), "config.json: missing"),
    "config unknown field": (lambda run: edit(run / "config.json", wings=2), "wings"),
    "config does not fit together": (lambda run: edit(run / "config.json", gpt_n_head=3), "multiple of gpt_n_head"),
    "config wrong type": (lambda run: edit(run / "config.json", n_obs_steps="two"), "config.json"),
    "plan unknown field": (lambda run: edit(run / "train_state.json", wings=2), "train_state.json: damaged"),
    "normalizer garbage": (lambda run: (run / "normalizer.json").write_text('{"action": 3}'), "normalizer.json"),
    "contract garbage": (lambda run: (run / "contract.json").write_text("{}"), "contract.json"),
    "contract of another rate": (lambda run: edit(run / "contract.json", fps=5.0), "fps"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_evaluating_a_run_that_is_not_sound(damage: str, refused: Say, run: Path) -> None:
    break_it, said = DAMAGE[damage]
    break_it(run)
    before = contents(run)
    line = refused("eval", run, "--episodes", 1, "--videos", 0)
    assert said in line and str(run) in line
    assert contents(run) == before


def test_evaluating_no_episodes(refused: Say, run: Path) -> None:
    assert "at least 1" in refused("eval", run, "--episodes", 0)
    assert "at least 0" in refused("eval", run, "--seed", -1)


@pytest.mark.parametrize(
    "option",
    ["--episodes=5", "--seed=1", "--videos=0", "--task=pusht", "--perturb=observation-noise=1", "--goal-pose=random"],
)
def test_an_evaluation_without_an_environment_takes_nothing_that_is_for_one(
    option: str, refused: Say, run: Path
) -> None:
    before = contents(run)
    name = option.partition("=")[0]
    assert f"leave {name} out" in refused("eval", run, "--offline", run.parent / "data.npz", option)
    assert contents(run) == before


def test_a_part_of_no_split(refused: Say, run: Path) -> None:
    assert "give --split FILE" in refused("eval", run, "--part", "stress")
    assert "give --split FILE" in refused("eval", run, "--offline", "demo", "--part", "val")


def test_evaluating_into_a_file(refused: Say, run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    refused("eval", run, "--episodes", 1, "--videos", 0, "--out", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda run: cut(run / "train_state.safetensors"), "train_state.safetensors: damaged"),
        (lambda run: cut(run / "train_state.safetensors", 0), "train_state.safetensors: damaged"),
        (
            lambda run: shutil.copy(run / "model.safetensors", run / "train_state.safetensors"),
            "train_state.safetensors",
        ),
        (lambda run: edit(run / "config.json", vqvae_embedding_dim=12), "does not fit"),
        (lambda run: edit(run / "config.json", gpt_n_head=3), "multiple of gpt_n_head"),
        (lambda run: (run / "train_state.json").write_text("{"), "train_state.json: damaged"),
        (lambda run: (run / "train_state.json").unlink(), "train_state.json: missing"),
        (lambda run: edit(run / "train_state.json", data="gone.npz"), "gone.npz"),
    ],
)
def test_resuming_a_run_that_is_not_sound(
    break_it: Callable[[Path], object], said: str, refused: Say, run: Path
) -> None:
    break_it(run)
    before = contents(run)
    assert said in refused("train", "--resume", run)
    assert contents(run) == before


def test_resuming_nowhere(refused: Say, tmp_path: Path) -> None:
    assert "missing" in refused("train", "--resume", tmp_path / "nowhere")
    assert "leave --steps, --observe out" in refused("train", "--resume", tmp_path, "--steps", "9", "--observe", "a")
    assert "leave --only-task out" in refused("train", "--resume", tmp_path, "--only-task", "push")
    assert not (tmp_path / "nowhere").exists()


def test_from_outside_it_is_one_line_and_status_2(run: Path) -> None:
    cut(run / "model.safetensors")
    done = subprocess.run(
        [sys.executable, "-m", "vqbet_course.cli", "eval", str(run)], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ") and "model.safetensors" in done.stderr


# --- a full disk ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train_state.safetensors", "model.safetensors", "log.jsonl", "config.json"])
def test_a_disk_that_fills_up_while_training(
    name: str, refused: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write of one file fails; earlier files stay, and the run can be resumed once there is room."""
    data, out, whole = write_npz(tmp_path / "data.npz"), tmp_path / "run", tmp_path / "whole"
    monkeypatch.setattr(VQBeTConfig, "laptop", lambda **_: CONFIG)
    trainer.train(data, whole, Budget(steps=12), CONFIG, quiet=True)
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "replace", full)
        line = refused("train", "--data", data, "--steps", 12, "--out", out)
    assert "no space left" in line and name in line
    assert not (out / name).exists() and not list(out.glob(".*"))
    if name != "config.json":
        trainer.resume(out, quiet=True)
        assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_safetensors_tells_a_full_disk_in_its_own_way(tmp_path: Path) -> None:
    from safetensors import SafetensorError

    def write(path: Path) -> None:
        path.write_text("half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    (tmp_path / "file").write_text("old")
    with pytest.raises(BadInput, match="no space left"):
        files.write_atomically(tmp_path / "file", write)
    assert contents(tmp_path) == {"file": b"old"}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_really_full(
    tiny_disk: Path, refused: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_npz(tmp_path / "data.npz")
    monkeypatch.setattr(VQBeTConfig, "laptop", lambda **_: CONFIG)
    line = refused("train", "--data", data, "--steps", 12, "--out", tiny_disk / "run")
    assert "no space left" in line
    assert not list((tiny_disk / "run").glob("*.safetensors")) and not list((tiny_disk / "run").glob(".*"))


@pytest.mark.usefixtures("short_evaluations")
def test_a_video_for_which_there_is_no_room_leaves_the_metrics(tiny_disk: Path, refused: Say, run: Path) -> None:
    (tiny_disk / "filler").write_bytes(bytes(48 * 1024))
    assert "no space left" in refused("eval", run, "--episodes", 1, "--videos", 1, "--out", tiny_disk / "eval")
    assert json.loads((tiny_disk / "eval" / "run.json").read_text())["metrics"]["episodes"] == 1
    assert not list((tiny_disk / "eval").glob("*.mp4"))


def test_episodes_too_short_for_a_window_are_named_as_in_the_source(refused: Say, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "data.npz", **arrays((40, 3, 50, 2, 30)))
    (tmp_path / "split.json").write_text(json.dumps({"source": data, "n_episodes": 5, "train": [2, 3], "val": [0]}))
    line = refused("train", "--data", data, "--steps", 3, "--no-augment", "--out", tmp_path / "run")
    assert "episodes 1,3" in line and "--drop-episodes 1,3" in line
    asked = ["--split", tmp_path / "split.json", "--no-augment", "--out", tmp_path / "run"]
    assert "episodes 3; take them out of" in refused("train", "--data", data, "--steps", 3, *asked)
    assert not (tmp_path / "run").exists()
