"""The quantizers against vector-quantize-pytorch and LeRobot's copy of it, and what they promise."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqbet_course.core.errors import BadInput
from vqbet_course.residual_vq import ResidualVQ, VectorQuantizer, straight_through
from vqbet_course.tokens import token_usage

pytestmark = pytest.mark.fast

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**31)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(seed: int, n: int = 400, dim: int = 6) -> Tensor:
    """Vectors (n, dim) around ten centres."""
    g = rng(seed)
    centres = 3 * torch.randn(10, dim, generator=g)
    return centres[torch.randint(10, (n,), generator=g)] + 0.5 * torch.randn(n, dim, generator=g)


def trained(seed: int, n_layers: int, n_codes: int = 8, steps: int = 30) -> tuple[ResidualVQ, Tensor]:
    """A stack trained on all of blobs(seed) at every step, in evaluation mode, and those blobs."""
    x, g = blobs(seed), rng(seed)
    rvq = ResidualVQ(n_layers, n_codes, x.shape[1])
    for _ in range(steps):
        rvq(x, g)
    return rvq.eval(), x


# --- against the references ---------------------------------------------------------------------------


def vq_pytorch(n_layers: int, n_codes: int, dim: int) -> Any:
    library = pytest.importorskip("vector_quantize_pytorch")
    return library.ResidualVQ(
        dim=dim,
        num_quantizers=n_layers,
        codebook_size=n_codes,
        decay=0.8,
        eps=1e-5,
        kmeans_init=False,
        threshold_ema_dead_code=0,
        commitment_weight=1.0,
        rotation_trick=False,
    )


def lerobot(n_layers: int, n_codes: int, dim: int) -> Any:
    utils = pytest.importorskip("lerobot.policies.vqbet.vqbet_utils")
    return utils.ResidualVQ(dim=dim, num_quantizers=n_layers, codebook_size=n_codes)


def twins(reference: Any, n_layers: int, n_codes: int, dim: int) -> ResidualVQ:
    """Our stack, with the codebooks of `reference`. Both count each code once.

    LeRobot starts its counts at 0, which throws every code that the first batch does not choose 1/eps away.
    """
    ours = ResidualVQ(n_layers, n_codes, dim)
    for mine, theirs in zip(ours.layers, reference.layers, strict=True):
        mine.place(theirs._codebook.embed[0])
        theirs._codebook.cluster_size.fill_(1.0)
    return ours


@pytest.mark.parametrize("make", [vq_pytorch, lerobot])
@pytest.mark.parametrize(("n_layers", "n_codes", "dim"), [(1, 8, 3), (2, 16, 10), (4, 5, 16)])
def test_parity_over_training(make: Callable[..., Any], n_layers: int, n_codes: int, dim: int) -> None:
    """Values, codes, losses, gradients and moved codebooks agree, step by step, then in evaluation mode."""
    torch.manual_seed(3)
    reference = make(n_layers, n_codes, dim)
    ours = twins(reference, n_layers, n_codes, dim)
    g = rng(7)
    for _ in range(8):
        x = torch.randn(64, dim, generator=g)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        values, codes, losses = reference(a[:, None])
        out = ours(b)
        torch.testing.assert_close(out.values, values[:, 0])
        assert torch.equal(out.codes, codes[:, 0])
        torch.testing.assert_close(out.commit_loss, losses.flatten())
        target = torch.randn(64, dim, generator=g)
        ((values[:, 0] - target).abs().mean() + 5 * losses.sum()).backward()
        ((out.values - target).abs().mean() + 5 * out.commit_loss.sum()).backward()
        torch.testing.assert_close(b.grad, a.grad)
        for mine, theirs in zip(ours.layers, reference.layers, strict=True):
            torch.testing.assert_close(mine.codebook, theirs._codebook.embed[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(mine.count, theirs._codebook.cluster_size[0])
    x = torch.randn(200, dim, generator=g)
    values, codes, _ = reference.eval()(x[:, None])
    out = ours.eval()(x)
    torch.testing.assert_close(out.values, values[:, 0], rtol=1e-4, atol=1e-5)
    assert torch.equal(out.codes, codes[:, 0])


# --- gradients ----------------------------------------------------------------------------------------


@few
@given(seeds)
def test_straight_through_is_the_code_forward_and_the_identity_backward(seed: int) -> None:
    g = rng(seed)
    x, quantized, weight = (torch.randn(7, 3, generator=g) for _ in range(3))
    x.requires_grad_()
    quantized.requires_grad_()
    out = straight_through(x, quantized)
    torch.testing.assert_close(out, quantized)
    (out * weight).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, weight)
    assert quantized.grad is None


@few
@given(seeds, st.integers(1, 4))
def test_every_layer_passes_the_gradient_straight_through(seed: int, n_layers: int) -> None:
    rvq, x = trained(seed, n_layers, steps=2)
    x = x.clone().requires_grad_()
    rvq(x).values.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, n_layers))


def test_commitment_of_each_layer_reaches_the_input_and_pulls_towards_the_code() -> None:
    rvq, x = trained(0, 2)
    x = x.clone().requires_grad_()
    out = rvq(x)
    for g in range(2):
        (grad,) = torch.autograd.grad(out.commit_loss[g], x, retain_graph=True)
        residual = x.detach() - rvq.lookup(out.codes[:, : g + 1])
        torch.testing.assert_close(grad, 2 * residual / x.numel(), rtol=1e-3, atol=1e-6)


# --- residuals and lookup -----------------------------------------------------------------------------


@few
@given(seeds)
def test_no_layer_makes_the_residual_larger_on_its_training_data(seed: int) -> None:
    rvq, x = trained(seed, 4)
    codes = rvq(x).codes
    left = [x.pow(2).sum()] + [(x - rvq.lookup(codes[:, :g])).pow(2).sum() for g in range(1, 5)]
    assert all(after <= before * (1 + 1e-4) for before, after in itertools.pairwise(left))
    assert left[4] < 0.5 * left[1]


@few
@given(seeds, st.integers(1, 3))
def test_codes_survive_lookup_and_encoding_on_separated_codebooks(seed: int, n_layers: int) -> None:
    """Each layer's codes lie ten times closer together than those of the layer before it."""
    g = rng(seed)
    rvq = ResidualVQ(n_layers, 8, 3).eval()
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    for scale, layer in enumerate(rvq.layers):
        layer.place(corners[torch.randperm(8, generator=g)] * 10.0**-scale)
    codes = torch.randint(8, (50, n_layers), generator=g)
    assert torch.equal(rvq(rvq.lookup(codes)).codes, codes)


@few
@given(seeds, st.integers(1, 3))
def test_values_are_sums_of_one_code_per_layer(seed: int, n_layers: int) -> None:
    rvq, x = trained(seed, n_layers, n_codes=5)
    sums = torch.zeros(1, x.shape[1])
    for codebook in rvq.codebooks:
        sums = (sums[:, None] + codebook).flatten(0, 1)
    out = rvq(x)
    assert (out.values[:, None] - sums).norm(dim=2).amin(dim=1).max() < 1e-4
    torch.testing.assert_close(rvq.lookup(out.codes), out.values, rtol=1e-4, atol=1e-5)


# --- learning -----------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 3))
def test_evaluation_changes_nothing(seed: int, n_layers: int) -> None:
    rvq, x = trained(seed, n_layers, steps=3)
    before = {name: value.clone() for name, value in rvq.state_dict().items()}
    rvq(torch.randn_like(x), rng(seed))
    assert all(torch.equal(value, before[name]) for name, value in rvq.state_dict().items())


def test_training_moves_each_code_to_the_mean_of_its_vectors() -> None:
    """With the same batch again and again, the moving average ends at the k-means condition."""
    rvq, x = trained(1, 1, n_codes=6, steps=200)
    tokens = rvq(x).codes[:, 0]
    for k in tokens.unique():
        torch.testing.assert_close(rvq.codebooks[0, k], x[tokens == k].mean(dim=0), rtol=1e-3, atol=1e-3)


@few
@given(seeds, st.integers(2, 40))
def test_revival_leaves_no_dead_code(seed: int, n_codes: int) -> None:
    """All codes start where no vector is, and one wins all. The first step puts the others into the data.

    The winner follows when its count has faded. A moment's loser may be among the codes that are alive.
    """
    x, g = blobs(seed, n=200), rng(seed)
    vq = VectorQuantizer(n_codes, 6, revive_below=1.0)
    vq.place(100 + torch.arange(n_codes * 6.0).view(n_codes, 6))
    vq(x, g)
    assert (vq.count >= 1.0).all()
    assert len(token_usage(vq.eval()(x).codes, n_codes).dead) <= 1
    vq.train()
    for _ in range(30):
        vq(x, g)
        assert (vq.count >= 1.0).all()
    assert len(token_usage(vq.eval()(x).codes, n_codes).dead) <= 1 + n_codes // 20


def test_a_code_never_chosen_stays_finite() -> None:
    vq = VectorQuantizer(3, 6)
    vq.place(blobs(0, n=3))
    vq.count[2], vq.total[2] = 0.0, 0.0  # as after long neglect
    vq.ema_update(blobs(1), torch.zeros(400, dtype=torch.int64))
    assert vq.codebook.isfinite().all()


def test_without_revival_codes_far_away_stay_dead() -> None:
    vq = VectorQuantizer(10, 6)
    vq.place(100 + torch.arange(60.0).view(10, 6))
    for _ in range(10):
        vq(blobs(0))
    assert len(token_usage(vq.eval()(blobs(0)).codes, 10).dead) >= 5


def test_revived_codes_are_different_vectors_of_the_batch() -> None:
    vq = VectorQuantizer(12, 6, revive_below=1.0)
    vq.count.zero_()
    x = blobs(2, n=12)
    vq.revive(x, rng(0))
    assert torch.equal(torch.cdist(vq.codebook, x).argmin(dim=1).sort().values, torch.arange(12))
    torch.testing.assert_close(vq.total / vq.count[:, None], vq.codebook)


def test_more_dead_codes_than_vectors_are_revived_in_turn() -> None:
    vq = VectorQuantizer(12, 6, revive_below=1.0)
    vq.revive(blobs(2, n=5), rng(0))
    assert (vq.count >= 1).sum() == 5


def test_every_draw_comes_from_the_generator() -> None:
    def run(global_seed: int, seed: int) -> dict[str, Tensor]:
        torch.manual_seed(global_seed)
        rvq, g = ResidualVQ(2, 30, 6, revive_below=2.0), rng(seed)
        for step in range(5):
            rvq(blobs(step, n=64), g)
        return rvq.state_dict()

    first, same, other = run(0, 0), run(1, 0), run(0, 1)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["layers.0.codebook"], other["layers.0.codebook"])


def test_kmeans_start_uses_all_codes_at_once() -> None:
    torch.manual_seed(0)
    rvq = ResidualVQ(2, 8, 6)
    assert not rvq.layers[0].started
    rvq(blobs(0), rng(0))
    assert rvq.layers[0].started and rvq.layers[1].started
    assert token_usage(rvq.eval()(blobs(0)).codes[:, 0], 8).share_used >= 0.75


def test_a_saved_stack_goes_on_as_it_would_have() -> None:
    """Counts and totals are saved too: the next steps of a restored stack are the same bit for bit."""
    ours, restored = ResidualVQ(2, 8, 6), ResidualVQ(2, 8, 6)
    for step in range(3):
        ours(blobs(step), rng(step))
    restored.load_state_dict(ours.state_dict())
    for step in range(3, 6):
        ours(blobs(step), rng(step))
        restored(blobs(step), rng(step))
    assert all(torch.equal(value, restored.state_dict()[name]) for name, value in ours.state_dict().items())


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("x", [torch.zeros(4, 5), torch.zeros(4, 1), torch.zeros(6), torch.zeros(2, 4, 6)])
def test_wrong_shapes_are_refused_before_anything_moves(x: Tensor, training: bool) -> None:
    rvq = ResidualVQ(2, 8, 6).train(training)
    with pytest.raises(BadInput, match=r"\(B, 6\)"):
        rvq(x)
    assert not rvq.layers[0].started


@pytest.mark.parametrize("started", [True, False])
def test_nan_is_refused_and_the_codebook_survives(started: bool) -> None:
    rvq = ResidualVQ(2, 8, 6)
    if started:
        rvq(blobs(0), rng(0))
    before = {name: value.clone() for name, value in rvq.state_dict().items()}
    x = blobs(1)
    x[3, 2] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        rvq(x, rng(0))
    assert all(torch.equal(value, before[name]) for name, value in rvq.state_dict().items())


@pytest.mark.parametrize("codes", [[[0, 8]], [[-1, 0]], [[0, 0, 0]], [0, 1]])
def test_codes_that_do_not_exist_are_refused(codes: list) -> None:
    with pytest.raises(BadInput):
        ResidualVQ(2, 8, 6).lookup(torch.tensor(codes))
