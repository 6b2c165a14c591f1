"""Training in bfloat16 computes the same network: same outputs where they are read, same dropout, same loss nearly."""

import dataclasses
from functools import partial

import pytest
import torch
from small import CONFIG
from torch import nn

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.training.factory import build_network
from vqbet_course.training.quick import answered_places, drop_by_bytes, mlp_at, replace_forward, set_precision

GOALS = dataclasses.replace(
    CONFIG, goal_shape=(2, 16), gpt_block_size=16, action_queries=True, n_action_pred_token=3, dropout=0.0
)


@pytest.mark.parametrize(
    "config",
    [dataclasses.replace(CONFIG, dropout=0.0), GOALS],
)
def test_the_last_blocks_mlp_is_left_out_only_where_nobody_reads(config: VQBeTConfig) -> None:
    network = build_network(config).train()
    observation = {name: torch.randn(3, config.n_obs_steps, size) for name, size in config.observation_sizes.items()}
    if config.goal_shape:
        observation["observation.goal"] = torch.randn(3, config.n_obs_steps, 32)
    expected = network.features(observation)
    blocks = []
    for place in (answered_places(config), answered_places(config)[:-1]):
        replace_forward(network.gpt.blocks[-1], partial(mlp_at, place))
        blocks.append(network.features(observation))
        set_precision(network, "float32")
    assert torch.allclose(blocks[0], expected, atol=1e-6)
    assert not torch.allclose(blocks[1], expected, atol=1e-6)


@pytest.mark.parametrize("p", [0.05, 0.5])
def test_dropout_by_bytes_drops_as_often_and_keeps_the_mean(p: float) -> None:
    layer, x = nn.Dropout(p), torch.ones(1000, 301)
    replace_forward(layer, drop_by_bytes)
    dropped = layer(x)
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=0.004)
    assert dropped.mean().item() == pytest.approx(1, abs=0.005)
    assert (dropped == 0).float().mean(0).std().item() < 0.03  # all bytes of a draw are used alike
    assert torch.equal(layer.eval()(x), x)
    torch.manual_seed(3)
    first = layer.train()(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)


def test_float32_takes_everything_back() -> None:
    network = build_network(CONFIG)
    set_precision(network, "bfloat16")
    assert any("forward" in part.__dict__ for part in network.modules())
    names = list(network.state_dict())
    set_precision(network, "float32")
    assert not any("forward" in part.__dict__ for part in network.modules())
    assert list(network.state_dict()) == names
