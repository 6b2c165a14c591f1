"""Nearest-code assignment, k-means and token usage: worked example, brute force, properties, bad input."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from vqbet_course.tokens import kmeans, nearest_code, squared_distances, token_usage

pytestmark = pytest.mark.fast

CODEBOOK = torch.tensor([[0, 0.1], [0.5, 0.5], [-0.4, 0.2]])
CHUNKS = torch.tensor([[0.45, 0.55], [-0.35, 0.25]])


@st.composite
def chunks_and_codebook(draw: Any) -> Any:
    """chunks (B, D) and codebook (K, D), at a scale between a thousandth and a thousand, near or far."""
    B, K, D = draw(st.integers(1, 40)), draw(st.integers(1, 20)), draw(st.integers(1, 16))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale, shift = draw(st.sampled_from([1e-3, 1.0, 1e3])), draw(st.sampled_from([0.0, 10.0]))
    make = lambda rows: scale * (torch.randn(rows, D, generator=generator) + shift)
    return make(B), make(K)


def test_worked_example() -> None:
    tokens = nearest_code(CHUNKS, CODEBOOK)
    assert tokens.tolist() == [1, 2]
    assert tokens.dtype == torch.int64


@settings(max_examples=60, deadline=None)
@given(chunks_and_codebook())
def test_no_code_is_nearer_than_the_nearest(case: Any) -> None:
    chunks, codebook = case
    brute = (chunks.double()[:, None] - codebook.double()).pow(2).sum(-1)  # (B, K)
    chosen = brute.gather(1, nearest_code(chunks, codebook)[:, None]).squeeze(1)
    size = (codebook - codebook.mean(0)).pow(2).sum(1).max() + (chunks - codebook.mean(0)).pow(2).sum(1).max()
    assert (chosen - brute.min(1).values <= 1e-5 * size + 1e-12).all()
    assert_close(squared_distances(chunks, codebook).double(), brute, rtol=1e-4, atol=2e-5 * size.item() + 1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**31))
def test_every_distinct_code_is_its_own_token(K: int, D: int, seed: int) -> None:
    codebook = torch.randn(K, D, generator=torch.Generator().manual_seed(seed)) + torch.arange(K)[:, None] * 10
    assert nearest_code(codebook, codebook).tolist() == list(range(K))


def test_far_from_the_origin_tokens_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randint(-100, 100, (500, 8), generator=generator).float()
    codebook = torch.randint(-100, 100, (16, 8), generator=generator) + 0.25  # no ties, and exact after the shift
    assert nearest_code(points + 2**16, codebook + 2**16).tolist() == nearest_code(points, codebook).tolist()


def test_of_equal_codes_the_first_is_the_token() -> None:
    assert nearest_code(torch.zeros(1, 2), torch.tensor([[9.0, 9.0], [1.0, 0.0], [1.0, 0.0]])).tolist() == [1]


def test_no_chunks_no_tokens() -> None:
    assert nearest_code(torch.zeros(0, 2), CODEBOOK).shape == (0,)


@pytest.mark.parametrize(
    "chunks, codebook, says",
    [
        (CHUNKS, CODEBOOK[:, :1], "share D"),
        (CHUNKS[0], CODEBOOK, "share D"),
        (CHUNKS.view(1, 2, 2), CODEBOOK, "share D"),
        (CHUNKS, CODEBOOK[:0], "empty"),
        (CHUNKS * torch.nan, CODEBOOK, "NaN"),
        (CHUNKS, CODEBOOK * torch.nan, "NaN"),
    ],
)
def test_nearest_code_refuses(chunks: Any, codebook: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        nearest_code(chunks, codebook)
    assert "\n" not in str(error.value)


def test_kmeans_finds_separated_clusters() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    noise = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)) * 0.1
    points = centres.repeat(100, 1) + noise
    codebook = min(
        (kmeans(points, 3, 20, torch.Generator().manual_seed(s)) for s in range(5)),
        key=lambda c: squared_distances(points, c).min(1).values.sum(),
    )
    assert squared_distances(centres, codebook).min(1).values.max() < 0.01


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(1, 12), st.integers(0, 2**31))
def test_iterations_never_raise_the_error(n: int, K: int, seed: int) -> None:
    points = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    errors = [
        squared_distances(points, kmeans(points, K, i, torch.Generator().manual_seed(seed))).min(1).values.sum()
        for i in range(6)
    ]
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(errors))


def test_after_convergence_every_code_is_the_mean_of_its_points() -> None:
    points = torch.randn(400, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    codebook = kmeans(points, 8, 200, torch.Generator().manual_seed(1))
    tokens = nearest_code(points, codebook)
    assert_close(codebook, torch.stack([points[tokens == k].mean(0) for k in range(8)]))


def test_kmeans_starts_on_points_and_repeats_only_when_they_run_out() -> None:
    points = torch.arange(10.0).view(5, 2)
    assert sorted(kmeans(points, 5, n_iters=0)[:, 0].tolist()) == [0, 2, 4, 6, 8]
    assert sorted(kmeans(points, 7, n_iters=0).unique(dim=0)[:, 0].tolist()) == [0, 2, 4, 6, 8]


def test_a_code_without_points_keeps_its_place() -> None:
    codebook = kmeans(torch.ones(4, 2), 3)  # all codes start on one point, the first wins everything
    assert_close(codebook, torch.ones(3, 2))


def test_kmeans_repeats_with_its_generator_and_leaves_the_global_one_alone() -> None:
    points = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    first, again, other = (kmeans(points, 8, 3, torch.Generator().manual_seed(s)) for s in (7, 7, 8))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "points, K, says",
    [
        (torch.zeros(0, 2), 4, "at least one point"),
        (torch.zeros(3, 2), 0, "at least one point"),
        (torch.full((3, 2), torch.nan), 2, "NaN"),
    ],
)
def test_kmeans_refuses(points: Any, K: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kmeans(points, K)


@given(st.lists(st.integers(0, 15), min_size=1, max_size=200))
def test_usage_by_its_definition(tokens: Any) -> None:
    usage = token_usage(torch.tensor(tokens), 16)
    shares = [tokens.count(k) / len(tokens) for k in range(16)]
    assert usage.counts.tolist() == [tokens.count(k) for k in range(16)]
    assert usage.share_used == pytest.approx(len(set(tokens)) / 16)
    assert usage.dead == sorted(set(range(16)) - set(tokens))
    assert usage.perplexity == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares if p)))
    assert 1 - 1e-9 <= usage.perplexity <= len(set(tokens)) + 1e-9


def test_even_use_has_perplexity_k_in_any_shape() -> None:
    assert token_usage(torch.arange(256).repeat(3).view(3, 16, 16), 256).perplexity == pytest.approx(256)


def test_no_tokens() -> None:
    usage = token_usage(torch.tensor([], dtype=torch.int64), 4)
    assert (usage.share_used, usage.perplexity, usage.dead) == (0.0, 0.0, [0, 1, 2, 3])


@pytest.mark.parametrize("token", [-1, 4])
def test_usage_refuses_a_token_outside_the_codebook(token: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.3"):
        token_usage(torch.tensor([0, token]), 4)
