"""The camera: keypoints, crops, several cameras, and weights that are fetched only when asked for."""

from typing import Any
from unittest.mock import patch
from urllib.error import URLError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import KEYPOINTS
from torch.testing import assert_close

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.policy import StateEncoder
from vqbet_course.training.factory import build_policy
from vqbet_course.vision import CameraEncoder, ImageEncoder, SpatialSoftmax, load_pretrained, pixel_grid, resnet

pytestmark = pytest.mark.fast

few = settings(max_examples=20, deadline=None)
WEIGHTS = "ResNet18_Weights.IMAGENET1K_V1"


@few
@given(height=st.integers(1, 6), width=st.integers(1, 6), row=st.integers(0, 5), column=st.integers(0, 5))
def test_a_single_bright_pixel_is_found(height: int, width: int, row: int, column: int) -> None:
    row, column = row % height, column % width
    layer, features = SpatialSoftmax(1, 1), torch.zeros(1, 1, height, width)
    torch.nn.init.ones_(layer.mix.weight)
    features[0, 0, row, column] = 80.0
    x = -1.0 if width == 1 else 2 * column / (width - 1) - 1
    y = -1.0 if height == 1 else 2 * row / (height - 1) - 1
    assert_close(layer(features)[0, 0], torch.tensor([x, y]), atol=1e-5, rtol=0)


@few
@given(height=st.integers(2, 7), width=st.integers(2, 7))
def test_the_grid_is_lerobots(height: int, width: int) -> None:
    theirs = pytest.importorskip("lerobot.policies.vqbet.modeling_vqbet").SpatialSoftmax((3, height, width))
    assert_close(pixel_grid(height, width), theirs.pos_grid, atol=1e-7, rtol=0)


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048)])
def test_a_backbone_keeps_places(name: str, channels: int) -> None:
    backbone, said = resnet(name, group_norm=True)
    assert said == channels and backbone(torch.zeros(1, 3, 64, 96)).shape == (1, channels, 2, 3)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())


@pytest.mark.parametrize("name", ["resnet19", "vgg11", ""])
def test_an_unknown_backbone_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="vision_backbone"):
        resnet(name)


def test_crops_are_random_in_training_and_central_in_acting() -> None:
    encoder, seen = ImageEncoder(crop_shape=(32, 32), group_norm=True), []
    encoder.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ramp = torch.arange(48.0).expand(2, 3, 48, 48)
    encoder.eval()(ramp)
    assert torch.equal(seen[0][..., 0], torch.full((2, 3, 32), 8.0))
    encoder.train()
    for _ in range(8):
        encoder(ramp)
    lefts = {crop[0, 0, 0, 0].item() for crop in seen[1:]}
    assert len(lefts) > 2 and all(crop.shape == (2, 3, 32, 32) for crop in seen)
    assert all(torch.equal(crop[0], crop[1]) for crop in seen)  # one place for the whole batch


def test_cameras_come_in_order_and_the_numbers_last() -> None:
    encoder = CameraEncoder(ImageEncoder(group_norm=True), ["b", "a"], 12, StateEncoder({"s": 2}, 12)).eval()
    seen = {"a": torch.rand(2, 3, 3, 32, 32), "b": torch.rand(2, 3, 3, 32, 32), "s": torch.rand(2, 3, 2)}
    tokens = encoder(seen)
    assert tokens.shape == (2, 3, 3, 12)
    assert_close(tokens[:, 1, 1], encoder.project(encoder.images(seen["a"][:, 1])), atol=1e-5, rtol=1e-4)
    assert torch.equal(tokens[:, :, 2:], encoder.state(seen))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({}, 2),
        ({"observation_sizes": {}, "use_relative_actions": False}, 1),
        ({"image_shapes": {}}, 1),
        ({"image_shapes": {"a": (3, 96, 96), "b": (3, 96, 96)}}, 3),
    ],
)
def test_build_chooses_the_encoder(changes: dict[str, Any], tokens: int) -> None:
    config = VQBeTConfig.laptop(**{"observation_sizes": KEYPOINTS, "image_shapes": {"a": (3, 96, 96)}} | changes)
    policy = build_policy(config)
    assert config.tokens_per_step == tokens and isinstance(policy.network.encoder, CameraEncoder) == bool(
        config.image_shapes
    )
    shapes = config.image_shapes | {name: (size,) for name, size in config.observation_sizes.items()}
    assert policy.select_action({name: torch.rand(1, *shape) for name, shape in shapes.items()}).shape == (1, 2)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_shapes": {"a": (3, 80, 96)}}, "crop_shape"),
        ({"image_shapes": {"a": (96, 96, 3)}}, "image_shapes"),
        ({"image_shapes": {"a": (96, 96)}}, "image_shapes"),
        ({"image_shapes": {}, "observation_sizes": {}}, "nothing is observed"),
        ({"image_shapes": {"a": (3, 96, 96)}, "pretrained_backbone_weights": WEIGHTS}, "use_group_norm"),
        ({"image_shapes": {"a": (3, 96, 96)}, "gpt_block_size": 3}, "4 tokens"),
    ],
)
def test_cameras_that_do_not_fit_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        VQBeTConfig.laptop(**{"observation_sizes": KEYPOINTS} | changes)


def test_building_fetches_nothing() -> None:
    with patch("torchvision.models._api.load_state_dict_from_url", side_effect=AssertionError("fetched")):
        build_policy(VQBeTConfig(observation_sizes={}, image_shapes={"a": (3, 96, 96)}))


@pytest.mark.parametrize("problem", [URLError("no network"), ConnectionError("reset")])
def test_weights_that_cannot_be_fetched_are_one_line(problem: Exception) -> None:
    with patch("torchvision.models._api.load_state_dict_from_url", side_effect=problem):
        with pytest.raises(BadInput, match=f"{WEIGHTS} is not on this machine") as caught:
            load_pretrained(ImageEncoder(), WEIGHTS)
    assert "\n" not in str(caught.value)


def test_weights_go_into_the_backbone_or_are_refused() -> None:
    import torchvision

    encoder, donor = ImageEncoder(), torchvision.models.resnet18()
    with patch("torchvision.models._api.load_state_dict_from_url", return_value=donor.state_dict()):
        load_pretrained(encoder, WEIGHTS)
        assert torch.equal(encoder.backbone.get_parameter("layer4.1.conv2.weight"), donor.layer4[1].conv2.weight)
        with pytest.raises(BadInput, match="does not fit"):
            load_pretrained(ImageEncoder("resnet34"), WEIGHTS)
    with pytest.raises(BadInput, match="unknown to torchvision"):
        load_pretrained(encoder, "ResNet18_Weights.BEST")
