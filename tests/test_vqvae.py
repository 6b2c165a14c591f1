"""The chunk VQ-VAE: shapes, there and back, what learns by gradients and what by counting, bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vqbet_course.core.errors import BadInput
from vqbet_course.vqvae import ActionVQVAE, Tokenized, mlp, vqvae_loss

pytestmark = pytest.mark.fast


def lines(n: int, chunk_size: int, seed: int = 0) -> Tensor:
    """Chunks (n, chunk_size, 2) that run straight from one random place to another."""
    ends = torch.rand(n, 2, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    t = torch.linspace(0, 1, chunk_size).view(1, -1, 1)
    return ends[:, :1] * (1 - t) + ends[:, 1:] * t


def small(chunk_size: int = 4, action_dim: int = 2, n_layers: int = 2, n_codes: int = 16) -> ActionVQVAE:
    torch.manual_seed(0)
    return ActionVQVAE(chunk_size, action_dim, n_codes, n_layers, embedding_dim=16, hidden_dim=32)


def trained(steps: int = 150) -> ActionVQVAE:
    vqvae, g = small(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(vqvae.parameters(), lr=3e-3)
    for step in range(steps):
        loss = vqvae_loss(vqvae(lines(128, 4, seed=step), g))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return vqvae.eval()


def test_mlp_alternates_and_ends_linear() -> None:
    assert [type(layer) for layer in mlp(3, 5, 7, 2)] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in mlp(3, 2)] == [nn.Linear]
    assert (mlp(3, 64, 64, 50)(torch.randn(20, 3)) < 0).any()


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 9), st.integers(1, 7), st.integers(1, 4), st.integers(2, 20), st.integers(1, 12))
def test_shapes_and_the_way_there_and_back(W: int, A: int, G: int, K: int, B: int) -> None:
    vqvae = small(W, A, G, K)
    chunks = torch.rand(B, W, A) * 2 - 1
    vqvae(chunks)
    out = vqvae.eval()(chunks)
    assert out.reconstruction.shape == (B, W, A) and out.codes.shape == (B, G)
    assert out.recon_loss.shape == out.commit_loss.shape == ()
    assert out.codes.min() >= 0 and out.codes.max() < K
    assert torch.equal(vqvae.encode(chunks), out.codes)
    torch.testing.assert_close(vqvae.decode(out.codes), out.reconstruction, rtol=1e-4, atol=1e-5)
    assert vqvae.decode(out.codes[:, :1]).shape == (B, W, A)


def test_a_chunk_keeps_the_order_of_its_actions() -> None:
    """With identities for networks, what comes back is the chunk, action by action."""
    vqvae = ActionVQVAE(3, 2, n_codes=2, n_layers=1, embedding_dim=6).eval()
    vqvae.encoder = vqvae.decoder = nn.Sequential(nn.Identity())
    chunk = torch.arange(6.0).view(1, 3, 2)
    vqvae.vq.layers[0].place(torch.stack([torch.zeros(6), chunk.flatten()]))
    assert torch.equal(vqvae.embed(chunk), chunk.flatten(1))
    assert torch.equal(vqvae.encode(chunk), torch.tensor([[1]]))
    torch.testing.assert_close(vqvae(chunk).reconstruction, chunk)


def test_losses_are_what_they_are_called() -> None:
    vqvae, chunks = small(), lines(32, 4)
    vqvae(chunks)
    out = vqvae.eval()(chunks)
    torch.testing.assert_close(out.recon_loss, (out.reconstruction - chunks).abs().mean())
    x = vqvae.embed(chunks)
    left = [(x - vqvae.vq.lookup(out.codes[:, :g])).pow(2).mean() for g in (1, 2)]
    torch.testing.assert_close(out.commit_loss, sum(left), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(vqvae_loss(out), out.recon_loss + 5 * out.commit_loss)
    one_and_two = Tokenized(chunks, out.codes, torch.tensor(1.0), torch.tensor(2.0))
    assert vqvae_loss(one_and_two, commit_weight=0.5) == 2


def test_gradients_pass_the_codebook_and_codes_learn_by_counting() -> None:
    vqvae = small()
    vqvae(lines(64, 4))
    before = vqvae.vq.codebooks.clone()
    vqvae(lines(64, 4, seed=1)).recon_loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vqvae.parameters())
    assert not any(name.startswith("vq.") for name, _ in vqvae.named_parameters())
    assert not torch.equal(vqvae.vq.codebooks, before)


def test_training_learns_chunks_never_seen() -> None:
    """Clearly better than the mean chunk, with most primary codes in use; fewer codes are coarser."""
    vqvae, held = trained(), lines(500, 4, seed=10_000)
    out = vqvae(held)
    codes = out.codes
    mean_error = (held - held.mean(dim=0)).abs().mean()
    errors = [(vqvae.decode(codes[:, :g]) - held).abs().mean() for g in (1, 2)]
    assert errors[1] < errors[0] < mean_error and errors[1] < 0.6 * mean_error
    assert len(codes[:, 0].unique()) >= 12


def test_frozen_means_frozen() -> None:
    vqvae = small()
    vqvae(lines(64, 4))
    vqvae.eval().requires_grad_(False)
    before = {name: value.clone() for name, value in vqvae.state_dict().items()}
    out = vqvae(lines(64, 4, seed=1))
    assert not out.reconstruction.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in vqvae.state_dict().items())


def test_the_state_dict_brings_codes_and_weights_back() -> None:
    vqvae, other = trained(steps=5), small().eval()
    other.load_state_dict(vqvae.state_dict())
    chunks = lines(50, 4, seed=2)
    assert torch.equal(other.encode(chunks), vqvae.encode(chunks))
    assert torch.equal(other(chunks).reconstruction, vqvae(chunks).reconstruction)


@pytest.mark.parametrize("shape", [(5, 2, 4), (5, 8), (5, 3, 2), (4, 2), (5, 4, 2, 1)])
def test_chunks_of_another_shape_are_refused_though_their_numbers_would_fit(shape: tuple[int, ...]) -> None:
    vqvae = small()
    for refuse in (vqvae, vqvae.encode):
        with pytest.raises(BadInput, match=r"\(B, 4, 2\)"):
            refuse(torch.zeros(shape))


def test_nan_is_refused_and_nothing_moves() -> None:
    vqvae = small()
    vqvae(lines(64, 4))
    before = {name: value.clone() for name, value in vqvae.state_dict().items()}
    chunks = lines(64, 4, seed=1)
    chunks[7, 1, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        vqvae(chunks)
    assert all(torch.equal(value, before[name]) for name, value in vqvae.state_dict().items())


@pytest.mark.parametrize("codes", [[[0, 16]], [[-1, 0]], [[0, 0, 0]]])
def test_codes_that_do_not_exist_are_refused(codes: list) -> None:
    with pytest.raises(BadInput):
        small().decode(torch.tensor(codes))
