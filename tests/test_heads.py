"""The heads: losses, draws that stay in range and follow the softmax, two ways to choose codes, offsets."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from vqbet_course.heads import CodePredictor, OffsetHead, focal_loss, sample_codes

pytestmark = pytest.mark.fast

shapes = st.tuples(st.integers(1, 5), st.integers(2, 20))


def logits_of(shape: tuple[int, ...], seed: int, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- focal loss ---


@settings(max_examples=30, deadline=None)
@given(shape=shapes, seed=st.integers(0, 1000))
def test_focal_loss_without_gamma_is_cross_entropy(shape: Any, seed: int) -> None:
    logits = logits_of(shape, seed)
    targets = torch.arange(shape[0]) % shape[1]
    torch.testing.assert_close(focal_loss(logits, targets, gamma=0.0), F.cross_entropy(logits, targets))


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_loss_is_lerobots(gamma: float) -> None:
    from lerobot.policies.vqbet.modeling_vqbet import FocalLoss

    logits, targets = logits_of((64, 16), 0), torch.arange(64) % 16
    torch.testing.assert_close(focal_loss(logits, targets, gamma), FocalLoss(gamma=gamma)(logits, targets))


def test_focal_loss_by_hand_and_its_gradient() -> None:
    logits = torch.tensor([[0.9, 0.1]]).log().requires_grad_()
    loss = focal_loss(logits, torch.tensor([0]))
    assert loss.item() == pytest.approx(-(0.1**2) * np.log(0.9), rel=1e-5)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad[0, 0] < 0


def test_focal_loss_of_a_certain_answer_is_finite() -> None:
    logits = torch.tensor([[1e4, -1e4], [1e4, -1e4]]).requires_grad_()
    loss = focal_loss(logits, torch.tensor([0, 1]))  # certainly right, certainly wrong
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


# --- sampling ---


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    logits = torch.tensor([1.0, -0.5, 0.3, 2.0, -1.0])
    n = 20_000
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(0))
    counts = sample_codes(logits.expand(n, -1), temperature, uniform).bincount(minlength=5)
    expected = n * (logits / temperature).softmax(-1).double()
    assert chisquare(counts.numpy(), (expected / expected.sum() * n).numpy()).pvalue > 1e-3


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes,
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    temperature=st.sampled_from([1e-60, 1e-30, 1e-8, 1e-3, 0.1, 1.0, 1e8, 1e30]),
    uniform=st.sampled_from([0.0, 1e-8, 0.5, 1 - 2**-24]),
)
def test_extreme_draws_are_codes_that_can_occur(
    shape: Any, seed: int, scale: float, temperature: float, uniform: float
) -> None:
    logits = logits_of(shape, seed, scale)
    codes = sample_codes(logits, temperature, torch.full(shape[:1], uniform))
    assert codes.dtype == torch.int64 and codes.shape == shape[:1]
    assert ((codes >= 0) & (codes < shape[1])).all()
    gap = logits.amax(-1) - logits.gather(-1, codes.unsqueeze(-1)).squeeze(-1)
    assert (gap <= 110 * temperature).all(), "a code of probability 0 in float32 was drawn"


def test_a_code_of_probability_zero_is_never_drawn_at_the_edges() -> None:
    logits = torch.tensor([[-1e9, 0.0, 0.3, -1e9]])
    assert sample_codes(logits, 1.0, torch.tensor([0.0])).item() == 1
    assert sample_codes(logits, 1.0, torch.tensor([1 - 2**-24])).item() == 2


@settings(max_examples=30, deadline=None)
@given(shape=shapes, seed=st.integers(0, 1000), uniform=st.sampled_from([0.0, 0.3, 1 - 2**-24]))
def test_temperature_zero_is_the_most_probable_code(shape: Any, seed: int, uniform: float) -> None:
    logits = logits_of(shape, seed)
    assert torch.equal(sample_codes(logits, 0.0, torch.full(shape[:1], uniform)), logits.argmax(-1))


def test_negative_temperature_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature -1.0"):
        sample_codes(torch.zeros(1, 3), -1.0, torch.zeros(1))


def test_the_caller_owns_the_randomness() -> None:
    logits, uniform = logits_of((6, 4), 0), torch.rand(6)
    state = torch.get_rng_state()
    codes = sample_codes(logits, 1.0, uniform)
    assert torch.equal(torch.get_rng_state(), state)
    alone = sample_codes(logits[2:3], 1.0, uniform[2:3])
    assert torch.equal(alone, codes[2:3]), "whoever else is in the batch"


# --- choosing G codes ---


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("n_layers", [2, 3])
def test_predictor_shapes_and_draws(sequential: bool, n_layers: int) -> None:
    torch.manual_seed(0)
    predictor = CodePredictor(width=8, n_codes=5, n_layers=n_layers, sequential=sequential)
    features, uniform = torch.randn(7, 8), torch.rand(7, n_layers)
    logits, codes = predictor(features, uniform, temperature=1.0)
    assert logits.shape == (7, n_layers, 5) and codes.shape == (7, n_layers)
    assert torch.equal(codes, sample_codes(logits, 1.0, uniform))
    logits, codes = predictor(features, uniform, temperature=0.0)
    assert torch.equal(codes, logits.argmax(-1))


def test_only_the_sequential_form_hears_the_primary_code() -> None:
    torch.manual_seed(0)
    features, zeros, ones = torch.randn(4, 8), torch.tensor([0, 0, 0, 0]), torch.tensor([1, 1, 1, 1])
    joint, sequential = (CodePredictor(8, 5, 2, sequential=s) for s in (False, True))
    assert torch.equal(joint.logits_given(features, zeros), joint.logits_given(features, ones))
    told_0, told_1 = sequential.logits_given(features, zeros), sequential.logits_given(features, ones)
    assert torch.equal(told_0[:, 0], told_1[:, 0]) and not torch.allclose(told_0[:, 1], told_1[:, 1])


def test_forward_gives_the_logits_of_the_sampled_primary_code() -> None:
    torch.manual_seed(0)
    predictor = CodePredictor(8, 5, 3, sequential=True)
    features = torch.randn(9, 8)
    logits, codes = predictor(features, torch.rand(9, 3), temperature=1.0)
    torch.testing.assert_close(logits, predictor.logits_given(features, codes[:, 0]))


def impossible_share(sequential: bool) -> float:
    """Fit pairs that always agree, on features that say nothing; the share of sampled pairs that disagree."""
    torch.manual_seed(0)
    predictor = CodePredictor(width=1, n_codes=3, n_layers=2, sequential=sequential)
    pairs = (torch.arange(300) % 3).unsqueeze(1).expand(-1, 2)
    features = torch.ones(300, 1)
    optimizer = torch.optim.Adam(predictor.parameters(), lr=0.1)
    for _ in range(100):
        logits = predictor.logits_given(features, pairs[:, 0])
        loss = F.cross_entropy(logits.flatten(0, 1), pairs.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _, codes = predictor(features, torch.rand(300, 2), temperature=1.0)
    return (codes[:, 0] != codes[:, 1]).float().mean().item()


def test_codes_that_depend_on_each_other() -> None:
    assert impossible_share(sequential=True) < 0.02
    assert impossible_share(sequential=False) == pytest.approx(2 / 3, abs=0.1)


# --- offsets ---


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 5),
    n_codes=st.integers(2, 6),
    n_layers=st.integers(1, 3),
    chunk=st.integers(1, 4),
    action=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_offset_is_the_sum_over_layers_of_the_chosen_codes_offsets(
    n: int, n_codes: int, n_layers: int, chunk: int, action: int, seed: int
) -> None:
    torch.manual_seed(seed)
    head = OffsetHead(4, n_codes, n_layers, chunk, action)
    features, codes = torch.randn(n, 4), torch.randint(n_codes, (n, n_layers))
    everything = head.linear(features).view(n, n_layers, n_codes, chunk, action)
    expected = torch.zeros(n, chunk, action)
    for row in range(n):
        for layer in range(n_layers):
            expected[row] += everything[row, layer, codes[row, layer]]
    torch.testing.assert_close(head(features, codes), expected)


def test_only_the_chosen_offsets_learn() -> None:
    head = OffsetHead(width=4, n_codes=3, n_layers=2, chunk_size=2, action_dim=1)
    head(torch.randn(1, 4), torch.tensor([[1, 2]])).sum().backward()
    assert head.linear.bias.grad is not None
    touched = head.linear.bias.grad.view(2, 3, 2).abs().sum(-1) > 0
    assert touched.tolist() == [[False, True, False], [False, False, True]]
