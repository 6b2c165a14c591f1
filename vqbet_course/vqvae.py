from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from vqbet_course.residual_vq import ResidualVQ


def mlp(in_dim: int, *widths: int) -> nn.Sequential:
    """Linear layers of the given widths with ReLU between them, none after the last."""
    layers: list[nn.Module] = []
    for width in widths[:-1]:
        layers += [nn.Linear(in_dim, width), nn.ReLU()]
        in_dim = width
    return nn.Sequential(*layers, nn.Linear(in_dim, widths[-1]))


class Tokenized(NamedTuple):
    """reconstruction (B, W, A), codes (B, G), recon_loss () L1, commit_loss () summed over layers."""

    reconstruction: Tensor
    codes: Tensor
    recon_loss: Tensor
    commit_loss: Tensor


class ActionVQVAE(nn.Module):
    """Action chunk (W, A) <-> G codes: MLP encoder, residual VQ, MLP decoder (VQ-BeT paper, section 3.2)."""

    def __init__(self, chunk_size: int, action_dim: int, n_codes: int = 16, n_layers: int = 2,
                 embedding_dim: int = 256, hidden_dim: int = 128, decay: float = 0.8, revive_below: float = 1.0):
        super().__init__()
        self.chunk_shape = (chunk_size, action_dim)
        flat = chunk_size * action_dim
        self.encoder = mlp(flat, hidden_dim, hidden_dim, embedding_dim)
        self.vq = ResidualVQ(n_layers, n_codes, embedding_dim, decay, revive_below)
        self.decoder = mlp(embedding_dim, hidden_dim, hidden_dim, flat)

    def forward(self, chunks: Tensor) -> Tokenized:
        """chunks (B, W, A), normalised -> everything stage 1 needs."""
        quantized = self.vq(self.encoder(chunks.flatten(1)))
        reconstruction = self.decoder(quantized.values).unflatten(1, self.chunk_shape)
        recon_loss = F.l1_loss(reconstruction, chunks)
        return Tokenized(reconstruction, quantized.codes, recon_loss, quantized.commit_loss.sum())

    def encode(self, chunks: Tensor) -> Tensor:
        """chunks (B, W, A) -> codes (B, G)."""
        return self.vq(self.encoder(chunks.flatten(1))).codes

    def decode(self, codes: Tensor) -> Tensor:
        """codes (B, G) -> chunks (B, W, A)."""
        return self.decoder(self.vq.lookup(codes)).unflatten(1, self.chunk_shape)


def vqvae_loss(out: Tokenized, commit_weight: float = 5.0) -> Tensor:
    """Stage-1 loss: L1 reconstruction + weighted commitment (VQ-BeT paper, eq. 4)."""
    return out.recon_loss + commit_weight * out.commit_loss
