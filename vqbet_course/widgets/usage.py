"""One codebook: how evenly its codes are used, and the chunk that each decodes to."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vqbet_course.core.errors import BadInput
from vqbet_course.core.palette import FAILURE
from vqbet_course.widgets.parts import as_image, choice, explorer

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure
    from torch import Tensor

DEAD = FAILURE  # distinguishable from viridis with every kind of colour vision


def plot_token_usage(codebook: "Tensor", tokens: "Tensor") -> "Figure":
    """The use of a codebook (K, W, A >= 2) by tokens (any shape): a bar per code, and every code drawn as a path.

    Codes are displacements from the pusher, in pixels. A bar and its path have the same colour, the darker the more
    tokens chose the code; a dead code has a cross for a bar and a dashed path. Returns a figure that pyplot does
    not know, so there is nothing to close. Raises `BadInput` for another shape.
    """
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection
    from matplotlib.colors import PowerNorm, to_rgba
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from vqbet_course.tokens import token_usage

    if codebook.ndim != 3 or codebook.shape[2] < 2:
        raise BadInput(f"codebook has shape {tuple(codebook.shape)}, expected (K, W, A) with A of at least 2")
    n_codes = len(codebook)
    usage = token_usage(tokens, n_codes)
    share = 100 * usage.counts.numpy() / max(1, tokens.numel())  # per cent
    paths = np.concatenate([np.zeros((n_codes, 1, 2)), codebook[:, :, :2].numpy()], axis=1)
    norm = PowerNorm(0.5, vmin=0, vmax=max(share.max(), 1e-9))  # the root keeps rare codes visible
    colours = np.where(share[:, None] == 0, to_rgba(DEAD), colormaps["viridis_r"](norm(share)))

    figure = Figure(figsize=(9, 3.6))
    bars, moves = figure.subplots(1, 2, width_ratios=[1.3, 1])
    figure.subplots_adjust(left=0.07, right=0.99, bottom=0.15, top=0.9, wspace=0.25)  # a solver would cost 0.2 s
    order = np.argsort(-share, kind="stable")
    dead = np.flatnonzero(share[order] == 0)
    bars.vlines(range(n_codes), 0, share[order], colors=colours[order], linewidth=270 / n_codes)
    bars.plot(dead, np.zeros(len(dead)), "x", color=DEAD, clip_on=False, zorder=3)
    bars.axhline(100 / n_codes, color="0.4", linestyle=":", linewidth=1)
    bars.annotate("even use", (n_codes - 0.5, 100 / n_codes), ha="right", va="bottom", color="0.3")
    bars.set(
        xlabel="codes, most used first",
        ylabel="share of the tokens (%)",
        xlim=(-0.7, n_codes - 0.3),
        ylim=(0, None),
        title=describe_usage(usage.share_used, usage.perplexity, n_codes),
    )
    rare_first = order[::-1]  # so that the most used lie on top
    moves.add_collection(
        LineCollection(
            paths[rare_first],
            colors=colours[rare_first],
            linewidths=1.3,
            linestyles=["dashed" if share[code] == 0 else "solid" for code in rare_first],
        )
    )
    moves.scatter(*paths[rare_first, -1].T, c=colours[rare_first], s=16, zorder=2)
    moves.plot(0, 0, "k+", markersize=10)
    moves.set(
        xlabel="x from the pusher (px)", ylabel="y from the pusher (px), down", title="the chunks in the codebook"
    )
    moves.set_aspect("equal", adjustable="datalim")
    moves.invert_yaxis()  # as in an image
    for axis in (bars.xaxis, bars.yaxis, moves.xaxis, moves.yaxis):  # few ticks: each costs a millisecond
        axis.set_major_locator(MaxNLocator(4, integer=axis is bars.xaxis))
    return figure


def describe_usage(share_used: float, perplexity: float, n_codes: int) -> str:
    """Share of codes used (0..1) and perplexity of a codebook as one line of text."""
    used = round(share_used * n_codes)
    return f"{used} of {n_codes} codes used, {n_codes - used} dead, perplexity {perplexity:.1f}"


def token_usage_explorer(codebooks: Mapping[str, "Tensor"], chunks: "Tensor", start: str | None = None) -> "VBox":
    """A slider over codebooks; below it, how the chunks use the chosen one (`plot_token_usage`).

    Args: codebooks {label: (K, W, A)}, in the slider's order; chunks (N, W, A), in the codes' units (pixels,
    relative to the pusher); start, the label shown first (the first one). Raises `BadInput` for no codebook, an
    unknown start, or widths that differ.
    """
    from vqbet_course.tokens import nearest_code

    if not codebooks:
        raise BadInput("no codebooks to explore: give at least one")
    start = next(iter(codebooks)) if start is None else start
    if start not in codebooks:
        raise BadInput(f"no codebook {start!r}: choose from {', '.join(codebooks)}")
    images = {}
    for label, codebook in codebooks.items():
        if codebook.shape[1:] != chunks.shape[1:]:
            raise BadInput(
                f"codebook {label!r} has codes of shape {tuple(codebook.shape[1:])}, "
                f"the chunks {tuple(chunks.shape[1:])}: they must agree"
            )
        tokens = nearest_code(chunks.flatten(1), codebook.flatten(1))
        images[label] = as_image(plot_token_usage(codebook, tokens), f"Use of the codebook {label}")

    return explorer(lambda label: images[label], label=choice("codebook", list(codebooks), start))
