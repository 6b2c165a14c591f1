"""Parity with LeRobot's VQ-BeT on equal weights, over random configurations, and what cannot cross the bridge."""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lerobot.configs import PreTrainedConfig
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig as LeRobotConfig
from lerobot.policies.vqbet.modeling_vqbet import VQBeTModel
from lerobot.policies.vqbet.modeling_vqbet import VQBeTPolicy as LeRobotPolicy
from torch import Tensor
from torch.testing import assert_close

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.heads import sample_codes
from vqbet_course.lerobot_policy import from_lerobot, to_lerobot, to_lerobot_model
from vqbet_course.lerobot_policy.bridge import SHARED, lerobot_name
from vqbet_course.policy import VQBeT, VQBeTPolicy
from vqbet_course.training.factory import build_policy
from vqbet_course.vqvae import vqvae_loss

CAMERA, STATE, B = "observation.image", "observation.state", 3

configs = st.fixed_dictionaries(
    {
        "n_obs_steps": st.integers(1, 3),
        "n_action_pred_token": st.integers(1, 4),
        "action_chunk_size": st.integers(1, 4),
        "vqvae_n_embed": st.integers(2, 9),
        "sequentially_select": st.booleans(),
        "use_group_norm": st.booleans(),
        "crop_shape": st.sampled_from([None, (32, 40)]),
        "spatial_softmax_num_keypoints": st.integers(1, 5),
        "gpt_n_layer": st.integers(1, 2),
        "bet_softmax_temperature": st.sampled_from([0.1, 1.0]),
        "vision_backbone": st.sampled_from(["resnet18", "resnet18", "resnet34", "resnet50"]),
        "action_dim": st.integers(1, 3),
        "cameras": st.integers(1, 2),
        "dropout": st.sampled_from([0.0, 0.2]),
    }
)
few = settings(
    max_examples=int(os.environ.get("PARITY_EXAMPLES", 6)), deadline=None, phases=[Phase.explicit, Phase.generate]
)  # a ResNet each: few, and no shrinking


def make_config(cameras: int = 1, **changes: Any) -> VQBeTConfig:
    small: dict[str, Any] = dict(
        gpt_input_dim=12,
        gpt_output_dim=10,
        gpt_hidden_dim=8,
        gpt_n_layer=1,
        gpt_n_head=2,
        gpt_block_size=40,
        vqvae_embedding_dim=6,
        vqvae_enc_hidden_dim=7,
        pretrained_backbone_weights=None,
        offset_loss_weight=10.0,
        crop_shape=(32, 40),
        spatial_softmax_num_keypoints=4,
    )
    shapes = {f"{CAMERA}s.{i}" if cameras > 1 else CAMERA: (3, 40, 48) for i in range(cameras)}
    return VQBeTConfig(**small | {"observation_sizes": {STATE: 2}, "image_shapes": shapes} | changes)


def make_policy(seed: int = 0, **changes: Any) -> VQBeTPolicy:
    """A policy of random weights large enough to matter, with a codebook in which codes differ."""
    torch.manual_seed(seed)
    policy = build_policy(make_config(**changes))
    for parameter in policy.network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for layer in policy.network.vqvae.vq.layers:
        layer.place(torch.randn_like(layer.codebook))  # type: ignore[arg-type]
    return policy.eval()


def make_batch(c: VQBeTConfig, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """A window {name: (B, T, ...)} and its actions (B, Q + W - 1, A)."""
    torch.manual_seed(seed)
    seen = {name: torch.rand(B, c.n_obs_steps, *shape) for name, shape in c.image_shapes.items()}
    actions = torch.rand(B, c.n_queries + c.action_chunk_size - 1, c.action_dim) * 2 - 1
    return seen | {name: torch.rand(B, c.n_obs_steps, size) for name, size in c.observation_sizes.items()}, actions


def for_lerobot(c: VQBeTConfig, seen: dict[str, Tensor]) -> dict[str, Tensor]:
    """A window as LeRobot's network wants it: all cameras in one tensor."""
    return {STATE: seen[STATE], "observation.images": torch.stack([seen[name] for name in c.image_shapes], dim=2)}


@contextmanager
def shared_draws(uniform: Tensor, sequential: bool) -> Iterator[None]:
    """Codes are drawn by `uniform` (B, G) on both sides, for each query of a row the same."""
    calls = 0

    def multinomial(probabilities: Tensor, num_samples: int) -> Tensor:
        nonlocal calls
        columns = uniform[:, calls % 2, None] if sequential else uniform  # sequential: a call per layer
        calls += 1
        rows = columns.repeat_interleave(len(probabilities) // columns.numel(), 0).flatten()
        return sample_codes(probabilities.log(), 1.0, rows).unsqueeze(1)

    def rand(rows: Any, *_: Any, **__: Any) -> Tensor:
        n = rows[0] if isinstance(rows, torch.Size) else rows
        return uniform.repeat_interleave(n // len(uniform), 0)

    with patch("torch.multinomial", multinomial), patch("torch.rand", rand):
        yield


def close(one: Tensor, two: Tensor, atol: float = 1e-5) -> None:
    assert_close(one, two, atol=atol, rtol=1e-5)


def assert_parity(ours: VQBeT, theirs: VQBeTModel, seed: int = 0) -> None:
    """Equal weights, equal answers: part by part, then the loss and its gradients, in training mode too."""
    c, head = ours.config, theirs.action_head
    seen, actions = make_batch(c, seed)
    chunks = actions.unfold(1, c.action_chunk_size, 1).transpose(2, 3)  # (B, Q, W, A)
    flat, uniform = chunks.flatten(0, 1), torch.rand(B, 2)
    close(ours.vqvae.embed(flat), head.vqvae_model.encoder(flat.flatten(1)))
    codes = ours.vqvae.encode(flat)
    assert torch.equal(codes, head.vqvae_model.get_code(flat)[1])
    close(
        ours.vqvae.decode(codes),
        head.vqvae_model.get_action_from_latent(head.vqvae_model.get_embeddings_from_code(codes)),
    )
    row = torch.randn(B, 9, c.gpt_input_dim)
    close(ours.gpt(row), theirs.policy(row))
    pictures = seen[next(iter(c.image_shapes))][:, 0]
    close(ours.encoder.get_submodule("images")(pictures), theirs.rgb_encoder(pictures))
    for training in (False, True):
        ours.train(training), theirs.train(training)
        ours.zero_grad(), theirs.zero_grad()
        with shared_draws(uniform, c.sequentially_select):
            torch.manual_seed(seed)  # crops and dropout fall alike
            features = ours.features(seen).flatten(0, 1)
            decision = ours.decide(features, uniform.repeat_interleave(c.n_queries, 0), c.bet_softmax_temperature)
            torch.manual_seed(seed)
            loss, parts = ours.loss(seen, chunks, codes.unflatten(0, (B, -1)))
            torch.manual_seed(seed)
            said, wanted = theirs(for_lerobot(c, seen) | {"action": actions}, rollout=False)
        assert torch.equal(decision.codes, said["sampled_centers"])
        close(decision.logits, said["cbet_logits"])
        close(decision.decoded, said["decoded_action"])
        offset = said["predicted_action"].flatten(0, 1) - said["decoded_action"].flatten(1)
        close(decision.offset.flatten(1), offset)
        close(loss, wanted["loss"])
        close(parts["code_loss"], torch.tensor(wanted["classification_loss"]))
        close(parts["offset_loss"], torch.tensor(wanted["offset_loss"]))
        loss.backward(), wanted["loss"].backward()
        gradients = {name: p.grad for name, p in theirs.named_parameters()}
        for name, p in ours.named_parameters():
            expected = gradients.pop(lerobot_name(name))
            assert (p.grad is None) == (expected is None), name
            if p.grad is not None and expected is not None:
                close(p.grad, expected.reshape(p.shape), atol=1e-4)
        assert not gradients


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_names_and_defaults_are_those_of_the_lerobot_that_is_installed() -> None:
    """Both ways, so that a release that adds, drops or changes a field is noticed."""
    elsewhere = {f.name for f in fields(PreTrainedConfig)} - {"n_obs_steps"} | {"normalization_mapping"}
    theirs = {f.name: getattr(LeRobotConfig(), f.name) for f in fields(LeRobotConfig) if f.name not in elsewhere}
    ours = VQBeTConfig(observation_sizes={STATE: 2}).to_dict()
    assert theirs == {name: ours[name] for name in SHARED} and list(ours)[: len(theirs)] == SHARED
    assert {kind: mode.value for kind, mode in LeRobotConfig().normalization_mapping.items()} == {
        "VISUAL": "IDENTITY",
        "STATE": "MIN_MAX",
        "ACTION": "MIN_MAX",
    }


@few
@given(changes=configs, seed=st.integers(0, 99))
def test_random_weights_give_equal_answers_losses_and_gradients(changes: dict[str, Any], seed: int) -> None:
    ours = make_policy(seed, **changes)
    assert_parity(ours.network, to_lerobot_model(ours), seed)


@few
@given(changes=configs)
def test_to_lerobot_and_back_changes_nothing(changes: dict[str, Any]) -> None:
    ours = make_policy(**changes)
    back = from_lerobot(to_lerobot_model(ours))
    assert back.config == ours.config
    assert_same(back.network.state_dict(), ours.network.state_dict())


def trained_by_lerobot(**changes: Any) -> LeRobotPolicy:
    """A policy of LeRobot's after a step of each stage with its own optimizer groups."""
    ours = make_policy(n_vqvae_training_steps=1, **changes)
    theirs = to_lerobot(ours)
    theirs.vqbet.action_head.vqvae_model.discretized.fill_(False)
    theirs.vqbet.action_head.vqvae_model.vq_layer.freeze_codebook.fill_(False)
    optimizer = torch.optim.Adam(theirs.get_optim_params(), lr=1e-2)
    for step in range(2):
        seen, actions = make_batch(ours.config, seed=step)
        loss, _ = theirs.train()(seen | {"action": actions})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = from_lerobot(theirs).network.state_dict()
    before = ours.network.state_dict()
    for name in ("encoder.project.weight", "vqvae.encoder.0.weight", "vqvae.vq.layers.0.codebook", "gpt.head.weight"):
        assert not torch.equal(changed[name], before[name]), name
    return theirs.eval()


@pytest.mark.parametrize("sequential", [False, True])
def test_weights_trained_by_lerobot_give_equal_answers(sequential: bool) -> None:
    theirs = trained_by_lerobot(sequentially_select=sequential)
    assert_parity(from_lerobot(theirs).network, copy.deepcopy(theirs.vqbet))
    assert_same(to_lerobot(from_lerobot(theirs)).state_dict(), theirs.state_dict())


def test_the_first_stage_has_equal_losses() -> None:
    policy = make_policy()
    ours, theirs = policy.network, to_lerobot(policy).vqbet.action_head.vqvae_model.train()
    chunks = torch.rand(20, 5, 2) * 2 - 1
    loss = vqvae_loss(ours.vqvae.train()(chunks))
    wanted, _ = theirs.vqvae_forward(chunks)
    close(loss, wanted)
    loss.backward(), wanted.backward()
    close(ours.vqvae.encoder[0].weight.grad, theirs.encoder[0].weight.grad, atol=1e-4)  # type: ignore[arg-type]


@few
@given(changes=configs.filter(lambda c: c["cameras"] == 1), seed=st.integers(0, 99))
def test_it_acts_as_lerobot_does(changes: dict[str, Any], seed: int) -> None:
    theirs = to_lerobot(make_policy(seed, **changes))
    ours = from_lerobot(theirs)
    ours.reset(), theirs.reset()
    for t in range(2 * ours.config.action_chunk_size + 1):
        seen, _ = make_batch(ours.config, seed=t)
        now = {name: values[:, 0] for name, values in seen.items()}
        with shared_draws(torch.rand(B, 2), ours.config.sequentially_select):
            close(ours.select_action(now), theirs.select_action(dict(now)))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_shapes": {}}, "image_shapes"),
        ({"cameras": 2}, "image_shapes"),
        ({"observation_sizes": {}}, "observation_sizes"),
        ({"observation_sizes": {STATE: 2, "observation.environment_state": 16}}, "environment_state"),
        ({"action_queries": False, "n_action_pred_token": 1}, "action_queries false"),
        ({"vqvae_n_layers": 3}, "vqvae_n_layers 3"),
        ({"vqvae_n_layers": 1}, "vqvae_n_layers 1"),
        ({"use_relative_actions": True}, "use_relative_actions"),
        ({"n_action_steps": 2}, "n_action_steps"),
        ({"average_chunks": True}, "average_chunks"),
        ({"bet_softmax_temperature": 0.0}, "bet_softmax_temperature"),
    ],
)
def test_what_lerobot_has_no_place_for_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named) as caught:
        to_lerobot(make_policy(**changes))
    assert "\n" not in str(caught.value)


def test_cameras_of_two_shapes_are_refused() -> None:
    shapes = {"a": (3, 40, 48), "b": (3, 48, 48)}
    with pytest.raises(BadInput, match="one shape"):
        to_lerobot_model(make_policy(image_shapes=shapes, crop_shape=(32, 32)))
