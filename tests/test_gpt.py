"""The GPT: causal, the reference's function on the reference's weights, clear about what does not fit."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqbet_course.gpt import GPT, Block, CausalSelfAttention

pytestmark = pytest.mark.fast


def make_gpt(seed: int = 0, **changes: int | float) -> GPT:
    sizes = dict(in_dim=5, out_dim=7, width=16, n_layer=2, n_head=4, block_size=12)
    torch.manual_seed(seed)
    return GPT(**(sizes | changes)).eval()  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    tokens=st.integers(2, 12),
    n_head=st.sampled_from([1, 2, 4]),
    n_layer=st.integers(1, 3),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_changing_a_later_token_moves_no_earlier_output(
    batch: int, tokens: int, n_head: int, n_layer: int, seed: int, data: Any
) -> None:
    gpt = make_gpt(seed, n_head=n_head, n_layer=n_layer)
    changed_at = data.draw(st.integers(1, tokens - 1), label="changed_at")
    x = torch.randn(batch, tokens, 5)
    changed = x.clone()
    changed[:, changed_at] += 10 * torch.randn(batch, 5)
    with torch.no_grad():
        before, after = gpt(x), gpt(changed)
    assert torch.equal(before[:, :changed_at], after[:, :changed_at])
    moved = (before - after).abs().amax(dim=(0, 2))[changed_at:]
    assert (moved > 0).all(), "every output from the changed token on reads it"


def test_a_shorter_row_gives_the_same_outputs() -> None:
    gpt, x = make_gpt(), torch.randn(2, 9, 5)
    torch.testing.assert_close(gpt(x[:, :4]), gpt(x)[:, :4])


def test_rows_of_a_batch_do_not_mix() -> None:
    gpt, x = make_gpt(), torch.randn(3, 6, 5)
    other = x.clone()
    other[1] = torch.randn(6, 5)
    assert torch.equal(gpt(x)[[0, 2]], gpt(other)[[0, 2]])
    assert not torch.allclose(gpt(x)[1], gpt(other)[1])


def test_attention_is_a_masked_softmax_of_scaled_inner_products() -> None:
    torch.manual_seed(0)
    layer, x = CausalSelfAttention(width=12, n_head=3), torch.randn(2, 5, 12)
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    heads = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        out = torch.zeros(2, 5, 4)
        for t in range(5):
            scores = (k[:, : t + 1, part] @ q[:, t, part].unsqueeze(-1)).squeeze(-1) / math.sqrt(4)
            out[:, t] = (scores.softmax(-1).unsqueeze(-1) * v[:, : t + 1, part]).sum(1)
        heads.append(out)
    torch.testing.assert_close(layer(x), layer.out(torch.cat(heads, dim=-1)), atol=1e-6, rtol=1e-5)


def test_attention_alone_knows_no_order_but_the_gpt_does() -> None:
    torch.manual_seed(0)
    order = [2, 0, 3, 1, 4]
    layer, x = CausalSelfAttention(width=8, n_head=2), torch.randn(1, 5, 8)
    torch.testing.assert_close(layer(x[:, order])[:, -1], layer(x)[:, -1])
    gpt, x = make_gpt(), torch.randn(1, 5, 5)
    assert not torch.allclose(gpt(x[:, order])[:, -1], gpt(x)[:, -1])


def test_a_block_adds_to_what_was_there() -> None:
    torch.manual_seed(0)
    block, x = Block(width=8, n_head=2), torch.randn(2, 4, 8)
    lasts: list[Any] = [block.attention.out, block.mlp[2]]
    for last in lasts:
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    assert torch.equal(block(x), x)


def test_dropout_acts_in_training_only() -> None:
    gpt, x = make_gpt(dropout=0.5), torch.randn(2, 6, 5)
    assert torch.equal(gpt(x), gpt(x))
    gpt.train()
    assert not torch.equal(gpt(x), gpt(x))
    layer = CausalSelfAttention(width=8, n_head=2, dropout=0.5)
    layer.drop.p = 0.0  # only the weights' own dropout is left
    assert not torch.equal(layer(x := torch.randn(2, 6, 8)), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_every_weight_learns() -> None:
    gpt = make_gpt()
    gpt(torch.randn(2, 12, 5)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in gpt.parameters())


def test_initialisation_is_gpt2s() -> None:
    gpt = make_gpt(width=128, n_layer=8)
    expected = {"qkv": 0.02, "out": 0.02 / 4}  # 0.02 / sqrt(2 * 8)
    for name, std in expected.items():
        linear = getattr(gpt.blocks[3].attention, name)
        assert linear.weight.std().item() == pytest.approx(std, rel=0.05)
        assert (linear.bias == 0).all()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: CausalSelfAttention(width=10, n_head=4), "multiple of the number of heads 4"),
        (lambda: make_gpt()(torch.randn(1, 13, 5)), "13 tokens do not fit into gpt_block_size 12"),
    ],
)
def test_what_does_not_fit_is_said(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def weights_from_lerobot(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reference's parameter names -> ours; its causal mask is a buffer that we do not have."""
    names = {
        "transformer.wte.": "token_embedding.",
        "transformer.wpe.": "position_embedding.",
        "transformer.h.": "blocks.",
        "transformer.ln_f.": "norm.",
        "lm_head.": "head.",
        ".ln_1.": ".norm_attention.",
        ".ln_2.": ".norm_mlp.",
        ".attn.c_attn.": ".attention.qkv.",
        ".attn.c_proj.": ".attention.out.",
    }
    ours = {}
    for name, value in state.items():
        if not name.endswith(".attn.bias"):
            for theirs, mine in names.items():
                name = name.replace(theirs, mine)
            ours[name] = value
    return ours


@pytest.mark.parametrize("n_layer, n_head, tokens", [(1, 1, 1), (2, 4, 9), (3, 2, 16)])
def test_same_outputs_as_lerobot_on_the_same_weights(n_layer: int, n_head: int, tokens: int) -> None:
    from lerobot.policies.vqbet.vqbet_utils import GPT as LeRobotGPT

    torch.manual_seed(n_layer)
    reference = LeRobotGPT(
        SimpleNamespace(
            gpt_input_dim=6,
            gpt_output_dim=10,
            gpt_hidden_dim=32,
            gpt_n_layer=n_layer,
            gpt_n_head=n_head,
            gpt_block_size=16,
            dropout=0.1,
        )
    ).eval()
    for parameter in reference.parameters():  # a trained net's biases and norms are not zeros and ones
        torch.nn.init.normal_(parameter, std=0.3)
    gpt = make_gpt(in_dim=6, out_dim=10, width=32, n_layer=n_layer, n_head=n_head, block_size=16, dropout=0.1)
    gpt.load_state_dict(weights_from_lerobot(reference.state_dict()))  # strict: nothing missing, nothing over
    x = torch.randn(3, tokens, 6)
    with torch.no_grad():
        torch.testing.assert_close(gpt(x), reference(x), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(gpt(x), F.linear(gpt.norm(gpt.token_embedding(x)), gpt.head.weight))
