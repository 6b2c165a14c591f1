"""Attention: which observation each query attends to."""

from typing import TYPE_CHECKING, cast

from vqbet_course.core.errors import BadInput
from vqbet_course.widgets.parts import as_image, explorer, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure
    from torch import Tensor

    from vqbet_course.gpt import GPT, Block


def attention_weights(gpt: "GPT", row: "Tensor") -> "Tensor":
    """Attention weights of every token of a row (T, in_dim), (layers, heads, T, T): query, key; rows sum to 1.

    The fused kernel that the GPT runs on never makes these weights, so they are computed again from its projections.
    """
    import torch

    T = len(row)
    mask = torch.full((T, T), -torch.inf).triu(1)
    seen = []
    with torch.no_grad():
        x = gpt.token_embedding(row[None]) + gpt.position_embedding(torch.arange(T))
        for block in cast("list[Block]", list(gpt.eval().blocks)):
            attention = block.attention
            q, k, _ = (
                part.view(T, attention.n_head, -1).transpose(0, 1)
                for part in attention.qkv(block.norm_attention(x))[0].chunk(3, dim=1)
            )
            seen.append((q @ k.transpose(1, 2) / q.shape[2] ** 0.5 + mask).softmax(-1))
            x = block(x)
    return torch.stack(seen)


def plot_attention(weights: "Tensor", names: list[str], layer: int, head: int) -> "Figure":
    """The weights (layers, heads, T, T) of one head as a grid, row by row; `names` (T,) of the tokens.

    Raises `BadInput` for a layer or a head that is not there.
    """
    import torch
    from matplotlib.figure import Figure

    n_layers, n_heads, T, _ = weights.shape
    if not (0 <= layer < n_layers and 0 <= head < n_heads):
        raise BadInput(f"layer {layer}, head {head}: choose from 0..{n_layers - 1} and 0..{n_heads - 1}")
    figure = Figure(figsize=(9, 4.2))
    ax = figure.subplots()
    figure.subplots_adjust(left=0.21, right=0.94, bottom=0.14, top=0.9)
    allowed = weights[layer, head].where(torch.ones(T, T).tril() > 0, torch.nan)
    image = ax.imshow(allowed, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(T), names)
    ax.set_yticks(range(T), names)
    ax.set(
        xlabel="is looked at",
        ylabel="looks",
        facecolor="0.9",
        title=f"where each token looks: layer {layer}, head {head}; grey is the future",
    )
    figure.colorbar(image, label="attention weight", fraction=0.04, pad=0.02)
    return figure


def attention_explorer(gpt: "GPT", rows: "Tensor", names: list[str]) -> "VBox":
    """Sliders over rows (N, T, in_dim) of tokens, layers and heads; below, the attention weights of each token."""
    weights = [attention_weights(gpt, row) for row in rows]

    def draw(row: int, layer: int, head: int) -> str:
        return as_image(plot_attention(weights[row], names, layer, head), f"Attention weights in window {row}")

    layers, heads = weights[0].shape[:2]
    return explorer(
        draw, row=slider("window", len(rows) - 1), layer=slider("layer", layers - 1), head=slider("head", heads - 1)
    )
