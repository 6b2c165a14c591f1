import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalSelfAttention(nn.Module):
    """Every token looks at itself and at what came before (Vaswani et al. 2017, section 3.2). (B, T, D) -> same."""

    def __init__(self, width: int, n_head: int, dropout: float = 0.0):
        super().__init__()
        if width % n_head:
            raise ValueError(f"width {width} must be a multiple of the number of heads {n_head}")
        self.n_head, self.dropout = n_head, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = (part.view(B, T, self.n_head, -1).transpose(1, 2) for part in self.qkv(x).split(D, dim=2))
        mixed = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)  # (B, heads, T, D/heads)
        return self.drop(self.out(mixed.transpose(1, 2).reshape(B, T, D)))


class Block(nn.Module):
    """Attention, then an MLP on each token, both added to what was there (pre-norm). (B, T, D) -> same."""

    def __init__(self, width: int, n_head: int, dropout: float = 0.0):
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalSelfAttention(width, n_head, dropout)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class GPT(nn.Module):
    """Vectors in, vectors out, causal in between: (B, T, in_dim) -> (B, T, out_dim), T <= block_size.

    GPT-2's layout and initialisation (Radford et al. 2019), with a linear layer in place of word embeddings.
    """

    def __init__(self, in_dim: int, out_dim: int, width: int, n_layer: int, n_head: int, block_size: int,
                 dropout: float = 0.0):
        super().__init__()
        self.token_embedding = nn.Linear(in_dim, width)
        self.position_embedding = nn.Embedding(block_size, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, n_head, dropout) for _ in range(n_layer))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, out_dim, bias=False)
        self.apply(_init_weights)
        for block in self.blocks:  # keeps the residual stream's variance independent of the depth
            nn.init.normal_(block.attention.out.weight, std=0.02 / math.sqrt(2 * n_layer))

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        if T > self.position_embedding.num_embeddings:
            raise ValueError(f"{T} tokens do not fit into gpt_block_size {self.position_embedding.num_embeddings}")
        x = self.token_embedding(x) + self.position_embedding(torch.arange(T, device=x.device))
        x = self.drop(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
