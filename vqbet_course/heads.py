import torch
import torch.nn.functional as F
from torch import Tensor, nn


def focal_loss(logits: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross-entropy that looks away from what is already known: mean of -(1 - p)^gamma log p.

    Args: logits (N, K); targets (N,) codes; gamma 0 gives plain cross-entropy (Lin et al. 2017, eq. 4).
    """
    log_p = F.log_softmax(logits, dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return (-((1 - log_p.exp()) ** gamma) * log_p).mean()


def sample_codes(logits: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """Draw one code per row from softmax(logits / temperature) by inverting its cumulative sum.

    Args: logits (..., K); uniform (...) draws in [0, 1), so that whoever calls owns the randomness.
    temperature 0 takes the most probable code. Returns codes (...), int64.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    cumulative = torch.softmax(logits / temperature, dim=-1).cumsum(dim=-1)
    return (cumulative < uniform.unsqueeze(-1)).sum(dim=-1).clamp(max=logits.shape[-1] - 1)


class CodePredictor(nn.Module):
    """GPT features -> a choice of G codes (VQ-BeT paper, section 3.3).

    Joint: the logits of all layers at once. Sequential: each later layer is told the first layer's code.
    """

    def __init__(self, width: int, n_codes: int, n_layers: int, sequential: bool = False):
        super().__init__()
        self.n_codes, self.n_layers, self.sequential = n_codes, n_layers, sequential
        if sequential:
            self.primary = nn.Linear(width, n_codes)
            self.later = nn.Linear(width + n_codes, (n_layers - 1) * n_codes)
        else:
            self.joint = nn.Linear(width, n_layers * n_codes)

    def forward(self, features: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """features (N, D), uniform (N, G) -> logits (N, G, K), sampled codes (N, G).

        The later logits of the sequential form are those given the *sampled* primary code.
        """
        if not self.sequential:
            logits = self.joint(features).unflatten(1, (self.n_layers, self.n_codes))
            return logits, sample_codes(logits, temperature, uniform)
        primary = self.primary(features)
        first = sample_codes(primary, temperature, uniform[:, 0])
        told = torch.cat([features, F.one_hot(first, self.n_codes).to(features.dtype)], dim=1)
        later = self.later(told).unflatten(1, (self.n_layers - 1, self.n_codes))
        logits = torch.cat([primary.unsqueeze(1), later], dim=1)
        return logits, torch.cat([first.unsqueeze(1), sample_codes(later, temperature, uniform[:, 1:])], dim=1)


class OffsetHead(nn.Module):
    """GPT features and G codes -> the correction that the codes are too coarse for (VQ-BeT paper, section 3.3).

    One offset per layer and code is predicted; those of the given codes are summed.
    """

    def __init__(self, width: int, n_codes: int, n_layers: int, chunk_size: int, action_dim: int):
        super().__init__()
        self.shape = (n_layers, n_codes, chunk_size * action_dim)
        self.chunk_shape = (chunk_size, action_dim)
        self.linear = nn.Linear(width, n_layers * n_codes * chunk_size * action_dim)

    def forward(self, features: Tensor, codes: Tensor) -> Tensor:
        """features (N, D), codes (N, G) -> offsets (N, W, A)."""
        offsets = self.linear(features).unflatten(1, self.shape)  # (N, G, K, W * A)
        index = codes[:, :, None, None].expand(-1, -1, 1, self.shape[2])
        return offsets.gather(2, index).squeeze(2).sum(1).unflatten(1, self.chunk_shape)
