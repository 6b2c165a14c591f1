"""From a data set with images to a policy that sees: loading, training, resuming, evaluating, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.error import URLError

import gymnasium as gym
import numpy as np
import pytest
import torch
from small import CONFIG, arrays, same, write_npz

from vqbet_course import cli
from vqbet_course.core.budget import Budget
from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Field
from vqbet_course.datasets.writer import write_dataset
from vqbet_course.demos import load_demos
from vqbet_course.evaluation import evaluate
from vqbet_course.rollout import observe, rollouts
from vqbet_course.tasks import get_task, open_source, with_drawings
from vqbet_course.tasks.pusht.contract import PUSHT, PUSHT_TASK
from vqbet_course.tasks.pusht.environment import make_pusht
from vqbet_course.tasks.pusht.observation_wrappers import WithCamera
from vqbet_course.tasks.task import IMAGE
from vqbet_course.training import checkpoints, trainer
from vqbet_course.training.data import Fitted, fitting, prepare
from vqbet_course.training.factory import for_cameras
from vqbet_course.training.runs import Run, load_run
from vqbet_course.vision import ImageEncoder

STATE = "observation.state"
SEES = [IMAGE, STATE]
SEEING = dataclasses.replace(
    CONFIG,
    observation_sizes={STATE: 2},
    image_shapes={IMAGE: (3, 96, 96)},
    crop_shape=(32, 32),
    batch_size=8,
    dropout=0.2,
)
WEIGHTS = "ResNet18_Weights.IMAGENET1K_V1"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two short episodes of PushT with a image for each of their 36 frames."""
    folder = tmp_path_factory.mktemp("images")
    data = write_npz(folder / "data.npz", **arrays((20, 16)))
    return str(write_dataset(with_drawings(open_source(data)), folder / "dataset", quiet=True))


@pytest.fixture(scope="module")
def run(images: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A policy that sees, trained for a moment."""
    out = tmp_path_factory.mktemp("seeing") / "run"
    trainer.train(trainer.Selection(data=images, observe=SEES), out, Budget(steps=6), SEEING, quiet=True)
    return load_run(out)


def test_images_are_loaded_when_they_are_asked_for(images: str) -> None:
    assert IMAGE not in load_demos(open_source(images)).observation
    demos = load_demos(open_source(images), [STATE, IMAGE])
    drawn = [frame for e in open_source(images).episodes() for frame in e.images[IMAGE]()]
    assert [*demos.observation] == [STATE, IMAGE]
    assert np.array_equal(demos.observation[IMAGE], np.transpose(drawn, (0, 3, 1, 2)))
    assert demos.contract.observation == {STATE: PUSHT.observation[STATE], IMAGE: Field((96, 96, 3))}
    assert np.array_equal(demos.select([1]).observation[IMAGE], demos.observation[IMAGE][20:])


@pytest.mark.parametrize("name", ["observation.images.wrist", "", "action"])
def test_an_observation_that_is_not_there_is_refused_by_name(images: str, name: str) -> None:
    with pytest.raises(BadInput, match=f"has no '{name}', but .*{IMAGE}"):
        load_demos(open_source(images), [STATE, name])


def test_where_images_come_from_is_said() -> None:
    with pytest.raises(BadInput, match="--render"):
        load_demos(open_source("demo"), [IMAGE])


def test_windows_show_images_of_their_own_frames_from_0_to_1(images: str) -> None:
    demos = load_demos(open_source(images), SEES)
    windows = prepare(demos, SEEING, augment=False).windows
    rows = torch.tensor([0, 11, len(windows.chunk_index) - 1])
    seen = windows.seen(rows)
    wanted = torch.from_numpy(np.asarray(demos.observation[IMAGE]))[windows.observation_index[rows]].float() / 255
    assert torch.equal(seen[IMAGE], wanted) and 0.5 < seen[IMAGE].max() <= 1
    assert seen[STATE].min() >= -1 and seen[STATE].shape == (3, 2, 2)


def test_the_configuration_fits_the_cameras(images: str) -> None:
    config = fitting(load_demos(open_source(images), SEES))
    assert config.image_shapes == {IMAGE: (3, 96, 96)} and config.crop_shape == (84, 84)
    assert config.use_group_norm and config.pretrained_backbone_weights is None and config.use_relative_actions
    alone = fitting(load_demos(open_source(images), [IMAGE]))
    assert alone.observation_sizes == {} and not alone.use_relative_actions
    started = for_cameras({IMAGE: (3, 48, 64)}, "ResNet34_Weights.IMAGENET1K_V1")
    assert started["crop_shape"] == (42, 56) and started["vision_backbone"] == "resnet34"
    assert not started["use_group_norm"] and started["ema_decay"] == 0


def test_a_run_that_sees_resumes_to_the_last_bit(images: str, run: Run, tmp_path: Path) -> None:
    """Killed in the second stage, with dropout and random crops: the weights are those of a run that was not."""
    out, write = tmp_path / "run", checkpoints.write_checkpoint

    def killed(*arguments: Any) -> None:
        write(*arguments)
        if arguments[3:] == (1, 2):
            raise KeyboardInterrupt

    with patch.object(checkpoints, "write_checkpoint", killed), patch.object(checkpoints, "SECONDS_BETWEEN", -1.0):
        with pytest.raises(KeyboardInterrupt):
            trainer.train(trainer.Selection(data=images, observe=SEES), out, Budget(steps=6), SEEING, quiet=True)
    assert not (out / "model.safetensors").exists()
    trainer.resume(out, quiet=True)
    assert same(dict(load_run(out).policy.network.state_dict()), dict(run.policy.network.state_dict()))


def test_the_camera_shows_what_lerobots_environment_shows() -> None:
    theirs = gym.make("gym_pusht/PushT-v0", obs_type="pixels_agent_pos").unwrapped
    ours = WithCamera(make_pusht())
    shown, _ = theirs.reset(seed=3)
    seen, _ = ours.reset(seed=3)
    for action in ([200.0, 300.0], [100.0, 400.0]):
        assert np.array_equal((seen["image"] * 255).round(), shown["pixels"].transpose(2, 0, 1))
        assert np.array_equal(seen["agent_pos"], shown["agent_pos"])
        shown, seen = theirs.step(np.array(action))[0], ours.step(np.array(action))[0]
    assert observe([seen])[IMAGE].shape == (1, 3, 96, 96)
    assert ours.contract.data.observation == {IMAGE: Field((96, 96, 3))} | PUSHT.observation


@pytest.mark.usefixtures("short_evaluations")
def test_it_is_evaluated_before_a_camera(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = dataclasses.replace(PUSHT_TASK, horizon=4)
    monkeypatch.setattr("vqbet_course.tasks.pusht.environment.PUSHT_TASK", short)
    monkeypatch.setattr("vqbet_course.evaluation.evaluate.latency", lambda *_: {"latency_ms": {}})
    result = evaluate.evaluate(
        run, 2, 7, tmp_path, videos=0, conditions=evaluate.Conditions(perturb=["frozen-frames"]), quiet=True
    )
    assert [*result["contract"]["data"]["observation"]] == SEES
    assert len(result["episodes"]) == 2 and json.loads((tmp_path / "run.json").read_text()) == result
    played = rollouts(run.policy, run.normalizer, [7], lambda: WithCamera(make_pusht()), steps=3)
    assert played[0].observations[0].shape == played[0].truth[0].shape == (18,)


def test_a_task_without_a_camera_says_so() -> None:
    with pytest.raises(BadInput, match="navigation has no camera"):
        get_task("navigation").with_cameras([IMAGE])


def test_weights_that_are_not_to_be_had_are_found_out_before_anything_is_written(
    images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--data", images, "--observe", IMAGE, "--steps", "3", "--out", str(tmp_path / "run")]
    with patch("torchvision.models._api.load_state_dict_from_url", side_effect=URLError("no network")):
        assert cli.main([*command, "--weights", WEIGHTS]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {WEIGHTS} is not on this machine")
    assert not (tmp_path / "run").exists()
    with patch("torchvision.models._api.load_state_dict_from_url", side_effect=AssertionError("fetched")):
        with pytest.raises(BadInput, match="a policy that observes images"):
            trainer.train(images, tmp_path / "run", Budget(steps=3), Fitted(weights=WEIGHTS), quiet=True)


def test_weights_that_are_asked_for_are_where_training_starts(images: str) -> None:
    import torchvision

    donor = torchvision.models.resnet18()
    config = dataclasses.replace(SEEING, pretrained_backbone_weights=WEIGHTS, use_group_norm=False)
    with patch("torchvision.models._api.load_state_dict_from_url", return_value=donor.state_dict()):
        encoder = trainer.start_network(config).encoder.get_submodule("images")
    assert isinstance(encoder, ImageEncoder)
    assert torch.equal(encoder.backbone.get_parameter("layer1.0.conv1.weight"), donor.layer1[0].conv1.weight)
