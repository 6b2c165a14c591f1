"""Pairs of a primary and a secondary code: which of them chunks use, over training and for sizes of the codebook."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vqbet_course.core.errors import BadInput
from vqbet_course.core.palette import CODE, FAILURE, OFFSET
from vqbet_course.widgets.parts import as_image, choice, explorer
from vqbet_course.widgets.usage import describe_usage

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor


def draw_pairs(ax: "Axes", counts: "Tensor") -> None:
    """A heat map of counts (K, K), primary code downwards; a pair that never occurs stays white."""
    from matplotlib.colors import LogNorm

    used = counts.numpy().astype(float)
    used[used == 0] = float("nan")
    ax.imshow(used, cmap="viridis_r", norm=LogNorm(1, max(2, counts.max().item())))
    ticks = range(0, len(counts), max(1, len(counts) // 4))  # few: ticks are most of the time to draw the figure
    ax.set(xlabel="secondary code (dark: many chunks, white: none)", ylabel="primary code", xticks=ticks, yticks=ticks)


def plot_pair_usage(codes: "Tensor", n_codes: int) -> "Figure":
    """The use of all pairs by codes (N, 2): a heat map, and beside it the use of each layer alone.

    Raises `BadInput` for another shape.
    """
    from matplotlib.figure import Figure

    from vqbet_course.tokens import token_usage

    if codes.ndim != 2 or codes.shape[1] != 2:
        raise BadInput(f"codes have shape {tuple(codes.shape)}, expected (N, 2): a primary and a secondary one")
    pairs = token_usage(codes[:, 0] * n_codes + codes[:, 1], n_codes**2)
    figure = Figure(figsize=(9, 3.8))
    grid, bars = figure.subplots(1, 2, width_ratios=[1, 1.2])
    figure.subplots_adjust(left=0.05, right=0.98, bottom=0.14, top=0.88, wspace=0.2)
    draw_pairs(grid, pairs.counts.view(n_codes, n_codes))
    grid.set_title(f"{(pairs.counts > 0).sum()} of {n_codes**2} pairs in use, perplexity {pairs.perplexity:.1f}")
    words, highest = [], 0.0
    for layer, (name, colour) in enumerate((("primary", CODE), ("secondary", OFFSET))):
        usage = token_usage(codes[:, layer], n_codes)
        places = [code + 0.4 * (layer - 0.5) for code in range(n_codes)]
        shares = 100 * usage.counts / max(1, len(codes))
        highest = max(highest, shares.max().item())
        bars.vlines(places, 0, shares, linewidth=80 / n_codes, color=colour, label=name)
        bars.plot([places[code] for code in usage.dead], [0] * len(usage.dead), "x", color=FAILURE, clip_on=False)
        words.append(f"{name}: {describe_usage(usage.share_used, usage.perplexity, n_codes)}")
    bars.set_title("\n".join(words), fontsize=10)
    bars.set(
        xlabel="code",
        ylabel="share of the chunks (%)",
        ylim=(0, 1.2 * highest or 1),
        xticks=range(0, n_codes, max(1, n_codes // 4)),
    )
    bars.locator_params(axis="y", nbins=4)
    bars.legend(loc="upper right", ncols=2)  # above the bars; to look for the best place takes longer than to draw
    return figure


def pair_usage_explorer(snapshots: Mapping[int, Mapping[int, "Tensor"]], start: int | None = None) -> "VBox":
    """Sliders over the size K of the codebooks and over training steps; below, the use of the pairs at that moment.

    Args: snapshots {K: {training step: codes (N, 2)}}, the same steps for every K; start, the K shown first (the first
    one), at its last step. Raises `BadInput` otherwise.
    """
    if not snapshots:
        raise BadInput("no snapshots to explore: give at least one")
    steps = [list(of_size) for of_size in snapshots.values()]
    if not steps[0] or any(other != steps[0] for other in steps):
        raise BadInput("every size of codebook needs snapshots of the same training steps")
    sizes = list(snapshots)
    start = sizes[0] if start is None else start
    if start not in sizes:
        raise BadInput(f"no codebooks of {start} codes: choose from {', '.join(map(str, sizes))}")
    images: dict[tuple[int, int], str] = {}

    def draw(size: int, step: int) -> str:
        if (size, step) not in images:
            figure = plot_pair_usage(snapshots[size][step], size)
            images[size, step] = as_image(figure, f"Use of pairs of {size} codes after {step} training steps")
        return images[size, step]

    return explorer(
        draw, size=choice("codes per layer", sizes, start), step=choice("training step", steps[0], steps[0][-1])
    )
