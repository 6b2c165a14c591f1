from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqbet_course.tokens import kmeans, nearest_code


class Quantized(NamedTuple):
    """What a quantizer returns: values (B, D), codes (B,) or (B, G), commit_loss () or (G,)."""

    values: Tensor
    codes: Tensor
    commit_loss: Tensor


def straight_through(x: Tensor, quantized: Tensor) -> Tensor:
    """The quantized values going forward, the identity going backward (van den Oord et al. 2017, section 3.2)."""
    return x + (quantized - x).detach()


class VectorQuantizer(nn.Module):
    """One codebook whose codes follow, by moving average, the vectors that choose them.

    Args: n_codes K; dim D; decay of the moving average; revive_below: a code whose moving count falls below
    this is moved onto a random input (0 switches revival off); eps smooths the counts.
    Buffers: codebook (K, D), count (K,), total (K, D), started (): whether k-means has placed the codes.
    """

    codebook: Tensor
    count: Tensor
    total: Tensor
    started: Tensor

    def __init__(self, n_codes: int, dim: int, decay: float = 0.8, revive_below: float = 0.0, eps: float = 1e-5):
        super().__init__()
        self.decay, self.revive_below, self.eps = decay, revive_below, eps
        self.register_buffer("codebook", torch.zeros(n_codes, dim))
        self.register_buffer("count", torch.zeros(n_codes))
        self.register_buffer("total", torch.zeros(n_codes, dim))
        self.register_buffer("started", torch.tensor(False))

    def forward(self, x: Tensor) -> Quantized:
        """x (B, D) -> values (B, D), codes (B,), commit_loss (). In training mode the codes move too."""
        if self.training and not self.started:
            self.place(kmeans(x.detach(), len(self.codebook)))
        codes = nearest_code(x.detach(), self.codebook)
        values = self.codebook[codes]
        commit_loss = F.mse_loss(x, values)
        if self.training:
            self.follow(x.detach(), codes)
        return Quantized(straight_through(x, values), codes, commit_loss)

    def place(self, codebook: Tensor) -> None:
        """Put the codes at `codebook` (K, D), as if each had been chosen once."""
        self.codebook.copy_(codebook)
        self.total.copy_(codebook)
        self.count.fill_(1.0)
        self.started.fill_(True)

    @torch.no_grad()
    def follow(self, x: Tensor, codes: Tensor) -> None:
        """Move each code towards the mean of the x (B, D) that chose it (van den Oord et al. 2017, appendix A.1)."""
        n_codes = len(self.count)
        counts = torch.bincount(codes, minlength=n_codes).to(x.dtype)
        sums = torch.zeros_like(self.total).index_add_(0, codes, x)
        self.count.lerp_(counts, 1 - self.decay)
        self.total.lerp_(sums, 1 - self.decay)
        smoothed = (self.count + self.eps) / (self.count.sum() + n_codes * self.eps) * self.count.sum()
        self.codebook.copy_(self.total / smoothed.unsqueeze(1))
        self.revive(x)

    def revive(self, x: Tensor) -> None:
        """Move the codes that are hardly chosen onto random rows of x (B, D)."""
        dead = torch.nonzero(self.count < self.revive_below).flatten()
        if len(dead) == 0:
            return
        self.codebook[dead] = x[torch.randint(len(x), (len(dead),))]
        self.count[dead] = max(self.revive_below, 1.0)
        self.total[dead] = self.codebook[dead] * self.count[dead].unsqueeze(1)


class ResidualVQ(nn.Module):
    """A stack of G quantizers; layer g quantizes what the layers before it left over (VQ-BeT paper, eq. 2)."""

    def __init__(self, n_layers: int, n_codes: int, dim: int, decay: float = 0.8, revive_below: float = 0.0):
        super().__init__()
        self.layers = nn.ModuleList(
            VectorQuantizer(n_codes, dim, decay, revive_below) for _ in range(n_layers))

    def forward(self, x: Tensor) -> Quantized:
        """x (B, D) -> values (B, D), codes (B, G), commit_loss (G,)."""
        residual, values = x, torch.zeros_like(x)
        codes, losses = [], []
        for layer in self.layers:
            step = layer(residual)
            residual = residual - step.values.detach()
            values = values + step.values
            codes.append(step.codes)
            losses.append(step.commit_loss)
        return Quantized(values, torch.stack(codes, dim=1), torch.stack(losses))

    def lookup(self, codes: Tensor) -> Tensor:
        """codes (B, g), g <= G -> the sum of their codebook vectors (B, D). Fewer layers give a coarser answer."""
        chosen = [layer.codebook[codes[:, g]] for g, layer in enumerate(self.layers) if g < codes.shape[1]]
        return torch.stack(chosen).sum(0)
