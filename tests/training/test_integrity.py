"""A run that was spoiled is refused in one line; one that is sound is loaded; only one process trains into a folder."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small import small_run

from vqbet_course import cli
from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.readers import DEMO_FOLDER
from vqbet_course.training.integrity import locked
from vqbet_course.training.log import read_log
from vqbet_course.training.runs import Run, load_run
from vqbet_course.training.trainer import Selection, resume

FILES = ("config.json", "normalizer.json", "contract.json", "train_state.json", "checksums.json")
JUNK: list[Any] = [None, 0, -1, 7, 1e9, 10**9, 0.5, float("nan"), "", "x", [], [3], {}, True]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory after a few steps."""
    return small_run(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(sound, tmp_path / "run"))


def complaint(run: Path) -> str:
    with pytest.raises(BadInput) as caught:
        load_run(run)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nudge(run: Path, value: float) -> None:
    """Change one weight of a run."""
    tensors = load_file(run / "model.safetensors")
    name = next(name for name, values in tensors.items() if values.is_floating_point() and values.numel() > 1)
    tensors[name].view(-1)[1] = value
    save_file(tensors, run / "model.safetensors")


def test_weights_and_normalizer_are_those_that_were_written(run: Path, sound: Path) -> None:
    load_run(run)
    nudge(run, 0.123)
    assert "model.safetensors: is not the file that this run wrote" in complaint(run)
    shutil.copy(sound / "model.safetensors", run / "model.safetensors")
    values = json.loads((run / "normalizer.json").read_text())
    values["action"]["max"][0] += 1
    (run / "normalizer.json").write_text(json.dumps(values))
    assert "normalizer.json: is not the file that this run wrote" in complaint(run)
    assert cli.main(["export", str(run), "--out", str(run / "out")]) == 2 and not (run / "out").exists()
    assert cli.main(["train", "--resume", str(run)]) == 2
    (run / "checksums.json").unlink()  # a run from before there were any
    load_run(run)


@pytest.mark.parametrize(("name", "value"), [("threads", 0), ("threads", -2), ("device", "warp")])
def test_a_plan_that_cannot_be_followed_is_one_line(
    run: Path, name: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = json.loads((run / "train_state.json").read_text())
    (run / "train_state.json").write_text(json.dumps(plan | {name: value}))
    assert cli.main(["train", "--resume", str(run)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and str(value) in said


def test_weights_that_are_not_finite(run: Path) -> None:
    nudge(run, float("nan"))
    assert "is not finite" in complaint(run)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vqvae_n_layers": 10**9}, "vqvae_n_layers must be at most 1000"),
        ({"gpt_n_layer": 10**25}, "gpt_n_layer must be at most 1000"),
        ({"action_chunk_size": 10**9}, "action_chunk_size must be at most 1000000"),
        ({"image_shapes": {"observation.image": [3, 10**9, 96]}}, "observation.image must be at most 1000000"),
        ({"optimizer_betas": [0, 0.999]}, "optimizer_betas must be two numbers"),
        ({"vqvae_enc_hidden_dim": 10**6}, "a network of these sizes does not fit into memory"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_network_that_cannot_be_built_is_one_line(run: Path, changes: dict[str, Any], said: str) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | changes))
    assert said in complaint(run) and str(run / "config.json") in complaint(run)
    assert cli.main(["train", "--resume", str(run)]) == 2


@pytest.mark.parametrize(
    "name", ["config.json", "normalizer.json", "model.safetensors", "train_state.json", "train_state.safetensors"]
)
def test_a_folder_in_place_of_a_file_is_one_line(run: Path, name: str) -> None:
    (run / name).unlink()
    (run / name).mkdir()
    assert cli.main(["train", "--resume", str(run)]) == 2
    if name != "train_state.safetensors":  # of which only a training that goes on knows
        assert name in complaint(run)


def spoil_checkpoint(run: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> None:
    """Change the tensors or the metadata of a checkpoint."""
    path = run / "train_state.safetensors"
    with safe_open(path, framework="pt") as file:
        tensors, at = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    change(tensors, at)
    save_file(tensors, path, metadata=at)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, at: at.update(stage="-1"),
        lambda tensors, at: at.update(stage="2"),
        lambda tensors, at: at.update(step="-1"),
        lambda tensors, at: at.update(step="100000"),  # else it ends at once, as if it were trained
        lambda tensors, at: tensors.update({"optimizer.x.exp_avg": torch.zeros(2)}),
        lambda tensors, at: tensors.update({"optimizer.9999.exp_avg": torch.zeros(2)}),
        lambda tensors, at: tensors.update({"optimizer.0.exp_avg": torch.zeros(3, 5)}),
        lambda tensors, at: tensors["optimizer.0.exp_avg"].fill_(float("nan")),
        lambda tensors, at: tensors.pop("optimizer.0.exp_avg"),
        lambda tensors, at: tensors.pop(next(name for name in tensors if name.startswith("policy."))),
    ],
)
def test_a_checkpoint_that_is_not_of_the_run_is_one_line(run: Path, change: Callable[..., object]) -> None:
    spoil_checkpoint(run, change)
    with pytest.raises(BadInput, match="train_state.safetensors"):
        resume(run, quiet=True)


def test_a_log_that_is_broken_ends_where_it_breaks(tmp_path: Path) -> None:
    good = [{"stage": "policy", "step": 0}, {"stage": "policy", "step": 10}]
    for bad in ("[1]", "3", '{"stage": "policy"}', '{"step": "x"}', "\udcff{", '{"step": 1', "[" * 100_000):
        text = "\n".join([*map(json.dumps, good), bad, json.dumps(good[0])])
        (tmp_path / "log.jsonl").write_bytes(text.encode(errors="surrogateescape"))
        assert read_log(tmp_path / "log.jsonl") == good
    assert read_log(tmp_path) == []  # a folder, which writing the log then refuses


def test_only_one_process_trains_into_a_folder(run: Path) -> None:
    code = (
        f"from vqbet_course.training.integrity import locked\nfrom pathlib import Path\nwith locked(Path({str(run)!r})):"
        "\n    print('locked', flush=True)\n    input()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "locked\n"
    assert cli.main(["train", "--resume", str(run)]) == 2
    with pytest.raises(BadInput, match="another process trains into it"), locked(run):
        pass
    other.kill()  # the system frees its lock
    other.wait()
    with locked(run), pytest.raises(BadInput, match="another process"), locked(run):
        pass
    with locked(run):
        pass
    assert not (run / ".lock").exists()


def test_one_task_of_many_is_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    dataset = Path(shutil.copytree(DEMO_FOLDER, tmp_path / "dataset"))
    file = sorted(dataset.glob("data/*/*.parquet"))[0]
    table = pq.read_table(file)
    index = (table["episode_index"].to_numpy() % 2).astype(np.int64)
    for path in sorted(dataset.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        index = pa.array((table["episode_index"].to_numpy() % 2).astype(np.int64))
        pq.write_table(table.set_column(table.column_names.index("task_index"), "task_index", index), path)
    pq.write_table(pa.table({"task_index": [0, 1], "task": ["even", "odd"]}), dataset / "meta" / "tasks.parquet")
    asked = ["train", "--data", str(dataset), "--steps", "3", "--out", str(tmp_path / "run"), "--only-task"]
    assert cli.main([*asked, "neither"]) == 2 and "'even', 'odd'" in capsys.readouterr().err
    assert cli.main([*asked, "odd"]) == 0
    assert "learned as one" not in capsys.readouterr().err
    Selection(data=str(dataset)).load(tmp_path, quiet=False)
    assert "'even', 'odd' are learned as one" in capsys.readouterr().err
    trained = json.loads((tmp_path / "run" / "split.json").read_text())["train"]
    assert trained and all(number % 2 for number in trained)


def places(values: object, path: tuple = ()) -> Iterator[tuple]:
    """The paths of everything in a JSON value."""
    if isinstance(values, dict | list):
        for key, inner in values.items() if isinstance(values, dict) else enumerate(values):
            yield (*path, key)
            yield from places(inner, (*path, key))


def spoil(file: Path, choice: int, junk: object, remove: bool) -> None:
    """Put junk somewhere into a JSON file, or take something away."""
    whole = place = json.loads(file.read_text())
    path = (found := list(places(whole)))[choice % len(found)]
    for key in path[:-1]:
        place = place[key]
    if remove:
        del place[path[-1]]
    else:
        place[path[-1]] = junk
    file.write_text(json.dumps(whole))


def answer(run: Run) -> torch.Tensor:
    """What the policy of a run does at first, in the unit of its actions."""
    shown = {
        name: torch.zeros(1, run.policy.config.n_obs_steps, size)
        for name, size in run.policy.config.observation_sizes.items()
    }
    return run.normalizer.unnormalize("action", run.policy.network.features(shown).mean().reshape(1, 1))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FILES), st.integers(0, 200), st.sampled_from(JUNK), st.booleans())
def test_any_edit_of_a_run_is_one_line_or_does_no_harm(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, name: str, choice: int, junk: object, remove: bool
) -> None:
    run = Path(shutil.copytree(sound, tmp_path_factory.mktemp("fuzz") / "run"))
    spoil(run / name, choice, junk, remove)
    try:
        loaded = load_run(run)
    except BadInput as refusal:
        assert "\n" not in str(refusal) and str(run) in str(refusal)
    else:
        assert torch.isfinite(answer(loaded)).all()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["model.safetensors", "normalizer.json"]), st.floats(0, 0.999), st.integers(0, 7))
def test_a_flipped_bit_is_found(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, name: str, where: float, bit: int
) -> None:
    run = Path(shutil.copytree(sound, tmp_path_factory.mktemp("flip") / "run"))
    data = bytearray((run / name).read_bytes())
    data[int(where * len(data))] ^= 1 << bit
    (run / name).write_bytes(data)
    complaint(run)
