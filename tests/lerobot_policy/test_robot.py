"""From a recorded folder to a robot: the commands of the page "From recordings to a robot", on a generated dataset and
an arm without hardware."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.datasets import LeRobotDataset
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.scripts import lerobot_record, lerobot_rollout, lerobot_train
from mock_arm import HEIGHT, JOINTS, POSITIONS, WIDTH, MockArm, view
from safetensors.torch import load_file

from vqbet_course import cli
from vqbet_course.datasets.choice import resized_frame
from vqbet_course.datasets.inspection import inspect_source
from vqbet_course.demos import load_demos
from vqbet_course.lerobot_policy import export_run
from vqbet_course.tasks import open_source
from vqbet_course.training.runs import load_run

CAMERA, STATE = "observation.images.front", "observation.state"


def record(folder: Path, episodes: int = 4, frames: int = 30) -> None:
    """A dataset as `lerobot-record` writes it: the arm swings to a place and back, degrees at 30 frames a second."""
    numbers = {"dtype": "float32", "shape": (len(JOINTS),), "names": POSITIONS}
    image = {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    features = {STATE: numbers, "action": numbers, CAMERA: image}
    dataset = LeRobotDataset.create("local/arm", 30, features, root=folder, robot_type="so101_follower")
    draw = np.random.default_rng(0)
    for _ in range(episodes):
        far, position = draw.uniform(20, 60, len(JOINTS)) * [1, -1, 1, -1, 1, 0.5], np.zeros(len(JOINTS))
        for t in range(frames):
            command = far * np.sin(np.pi * t / frames)
            frame: dict[str, Any] = {STATE: position.astype(np.float32), "action": command.astype(np.float32)}
            dataset.add_frame(frame | {CAMERA: view(position), "task": "swing"})
            position = position + (command - position) / 10
        dataset.save_episode()
    dataset.finalize()


def course(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


def run_lerobot(module: Any, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lerobot", *arguments])
        module.main()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recorded dataset, a trained run of it, and its checkpoint."""
    folder = tmp_path_factory.mktemp("arm")
    record(folder / "recorded")
    units = ["--unit", f"{STATE}=degrees", "--unit", "action=degrees", "--unit", "gripper.pos=%"]
    course("demos", "convert", folder / "recorded", *units, "--resize", "32x32", "--out", folder / "data")
    course("demos", "split", folder / "data", "--train", 2, "--val", 1, "--out", folder / "split.json")
    observe = ["--observe", f"{CAMERA},{STATE}"]
    split = ["--split", folder / "split.json"]
    course("train", "--data", folder / "data", *split, *observe, "--steps", 6, "--out", folder / "run")
    course("export", folder / "run", "--out", folder / "checkpoint")
    return folder


def commanded(checkpoint: Path, *more: str) -> np.ndarray:
    """The commands (n, joints) that an arm got in a second of `lerobot-rollout` with a checkpoint."""
    given = ["--robot.type=mock_arm", "--fps=30", "--duration=1", "--device=cpu", "--play_sounds=false"]
    run_lerobot(lerobot_rollout, f"--policy.path={checkpoint}", *given, "--return_to_initial_position=false", *more)
    return np.array(MockArm.commands)


def trained_range(work: Path) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest of each joint among the positions and commands that were trained on."""
    actions, states = (
        np.concatenate([np.stack([row[name] for row in LeRobotDataset("local/arm", root=work / "data").hf_dataset])])
        for name in ("action", STATE)
    )
    both = np.concatenate([actions, states])
    return both.min(0), both.max(0)


def test_what_lerobot_records_is_read(tmp_path: Path) -> None:
    """The first command of the page, with a leader and an arm without hardware."""
    run_lerobot(
        lerobot_record,
        "--robot.type=mock_arm",
        "--teleop.type=mock_leader",
        "--dataset.repo_id=local/recorded",
        f"--dataset.root={tmp_path / 'recorded'}",
        "--dataset.single_task=swing",
        "--dataset.num_episodes=2",
        "--dataset.episode_time_s=1",
        "--dataset.reset_time_s=0",
        "--dataset.push_to_hub=false",
        "--dataset.streaming_encoding=false",
        "--play_sounds=false",
    )
    source = open_source(str(tmp_path / "recorded"))
    assert source.names["action"] == source.names[STATE] == POSITIONS and source.fps == 30
    report = inspect_source(source, quiet=True).report
    assert report["episodes"] == 2 and report["tasks"] == {"swing": 2} and report["cameras"] == [CAMERA]
    assert report["features"]["action"]["high"] > 10 and not report["features"]["action"]["missing"]
    assert load_demos(source, [CAMERA, STATE]).observation[CAMERA].shape[1:] == (3, HEIGHT, WIDTH)


def test_an_exported_policy_drives_a_robot_within_the_range_of_the_demonstrations(work: Path) -> None:
    low, high = trained_range(work)
    commands = commanded(work / "checkpoint", "--robot.start=500")
    assert len(commands) > 3 and np.isfinite(commands).all()
    assert (commands >= low - 1e-3).all() and (commands <= high + 1e-3).all()
    assert np.ptp(low) > 10  # each joint has a range of its own
    course("export", work / "run", "--no-clip", "--out", work / "free")
    free = commanded(work / "free", "--robot.start=500")
    assert (free > high + 1).any()  # relative actions follow the arm to wherever it is


def test_a_run_is_checked_without_a_simulator_in_the_units_of_its_joints(work: Path) -> None:
    course("eval", work / "run", "--offline", work / "data")
    found = json.loads((work / "run" / "eval" / "offline" / "offline.json").read_text())
    assert found["units"] == 5 * ["deg"] + ["%"] and found["joints"] == POSITIONS
    assert len(found["errors"]["1"]["policy"]) == len(JOINTS)


def test_an_export_says_the_range_of_every_joint_in_its_unit(work: Path, tmp_path: Path) -> None:
    said = export_run(load_run(work / "run"), tmp_path / "checkpoint")
    (low, high), joints = load_run(work / "run").normalizer.bounds["action"], [line.split() for line in said[1:]]
    assert [(words[0], words[-1]) for words in joints] == list(zip(POSITIONS, 5 * ["deg"] + ["%"], strict=True))
    assert [float(words[1]) for words in joints] == pytest.approx(low.tolist(), rel=1e-3, abs=1e-3)
    assert [float(words[3]) for words in joints] == pytest.approx(high.tolist(), rel=1e-3, abs=1e-3)


def test_recordings_without_units_are_relative_by_the_names_of_their_positions(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train --resize` on what was recorded decides as the plugin does, and says what it decides."""
    asked = ["train", "--data", work / "recorded", "--resize", "32x32", "--observe", STATE, "--steps", 3]
    course(*asked, "--out", tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["use_relative_actions"] is True
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("training on ") and "relative to observation.state" in said[1]
    course(
        *asked, "--unit", "gripper.pos=%", "--unit", "action=deg", "--unit", f"{STATE}=deg", "--out", tmp_path / "unit"
    )
    contract = json.loads((tmp_path / "unit" / "contract.json").read_text())
    assert contract["action"]["unit"] == "deg,deg,deg,deg,deg,%" and contract["action"]["names"] == POSITIONS
    course("eval", tmp_path / "unit", "--offline", work / "data")  # the same units, so the data are alike


def test_frames_of_another_size_are_resized_as_the_training_data_were(work: Path) -> None:
    path = str(work / "checkpoint")
    config = PreTrainedConfig.from_pretrained(path)
    policy = get_policy_class(config.type).from_pretrained(path)
    before, after = make_pre_post_processors(config, pretrained_path=path)
    large = view(np.full(6, 30.0))
    images = {"large": large, "small": resized_frame(large, 32, 32)}
    actions = {}
    for name, image in images.items():
        torch.manual_seed(0)
        policy.reset()
        seen = {CAMERA: torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255, STATE: torch.zeros(1, 6)}
        actions[name] = after(policy.select_action(before(seen)))
    assert torch.equal(actions["large"], actions["small"])


def test_rollouts_are_recorded(work: Path) -> None:
    """What `lerobot-record` did with a policy in older versions."""
    commanded(
        work / "checkpoint",
        "--strategy.type=episodic",
        "--dataset.repo_id=local/rollout_arm",
        f"--dataset.root={work / 'rollout'}",
        "--dataset.single_task=swing",
        "--dataset.num_episodes=1",
        "--dataset.episode_time_s=1",
        "--dataset.reset_time_s=0",
        "--dataset.push_to_hub=false",
        "--dataset.streaming_encoding=false",
    )
    info = json.loads((work / "rollout" / "meta" / "info.json").read_text())
    assert info["total_episodes"] == 1 and info["features"]["action"]["names"] == POSITIONS


def test_the_plugins_defaults_fit_the_robot(work: Path) -> None:
    """State and action have the same names of positions, so chunks are relative; the crop is of the camera's size."""
    out = work / "trained"
    small = ["gpt_n_layer=1", "gpt_n_head=2", "gpt_hidden_dim=16", "n_vqvae_training_steps=1", "device=cpu"]
    run_lerobot(
        lerobot_train,
        "--policy.type=vqbet_course",
        *(f"--policy.{setting}" for setting in small),
        "--policy.push_to_hub=false",
        "--dataset.repo_id=local/arm",
        f"--dataset.root={work / 'recorded'}",
        "--num_workers=0",
        "--batch_size=4",
        "--steps=2",
        f"--output_dir={out}",
    )
    checkpoint = out / "checkpoints" / "last" / "pretrained_model"
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["relative_chunks"] is True and config["crop_shape"] == [HEIGHT * 7 // 8, WIDTH * 7 // 8]
    stats = load_file(next(checkpoint.glob("policy_preprocessor*.safetensors")))
    assert torch.equal(stats["action.min"], stats[f"{STATE}.min"])
    _, after = make_pre_post_processors(PreTrainedConfig.from_pretrained(checkpoint), pretrained_path=str(checkpoint))
    for far, end in ((-50.0, stats["action.min"]), (50.0, stats["action.max"])):
        torch.testing.assert_close(after(torch.full((1, len(JOINTS)), far))[0], end, atol=1e-3, rtol=0)
    low, high = trained_range(work)
    assert (stats["action.min"].numpy() >= low - 1e-3).all() and (stats["action.max"].numpy() <= high + 1e-3).all()
    assert len(commanded(checkpoint)) > 3
