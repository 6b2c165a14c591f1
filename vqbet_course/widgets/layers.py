"""Residual layers: a chunk approximated by one code after the other."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vqbet_course.core.errors import BadInput
from vqbet_course.widgets.parts import as_image, explorer, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure
    from torch import Tensor

    from vqbet_course.residual_vq import ResidualVQ


def plot_layers(rvq: "ResidualVQ", chunk: "Tensor", to_pixels: Callable[["Tensor"], Any], n_layers: int) -> "Figure":
    """A chunk (D,), and its approximations by the first 1 .. n_layers codes; beside it, in the same colours, the error
    that each leaves, in pixels.

    `to_pixels`: (D,) -> (W, 2). Raises `BadInput` for more layers than there are.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    G = len(rvq.layers)
    if not 1 <= n_layers <= G:
        raise BadInput(f"{n_layers} layers of {G}: choose from 1..{G}")
    codes = rvq.eval()(chunk[None]).codes
    guesses = [to_pixels(rvq.lookup(codes[:, :g])[0]) for g in range(1, G + 1)]
    true = to_pixels(chunk)
    errors = [(guess - true).norm(dim=1).mean().item() for guess in guesses]
    figure = Figure(figsize=(9, 3.6))
    paths, bars = figure.subplots(1, 2, width_ratios=[1.2, 1])
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.15, top=0.88, wspace=0.25)
    colours = [colormaps["viridis_r"]((g + 1) / G) for g in range(G)]
    for g in range(n_layers):
        paths.plot(*guesses[g].T, "o-", markersize=3, color=colours[g], alpha=1.0 if g == n_layers - 1 else 0.4)
    paths.plot(*true.T, "k:", linewidth=2)
    paths.set(
        xlabel="x (px)",
        ylabel="y (px)",
        title="a chunk (dotted) from tokens " + " ".join(str(code) for code in codes[0, :n_layers].tolist()),
    )
    paths.set_aspect("equal", adjustable="datalim")
    paths.invert_yaxis()
    paths.locator_params(nbins=4)
    bars.vlines(range(1, G + 1), 0, errors, linewidth=25, colors=[*colours[:n_layers], *["0.85"] * (G - n_layers)])
    bars.set(
        xlabel="layers",
        ylabel="mean error of an action (px)",
        xticks=range(1, G + 1),
        xlim=(0.4, G + 0.6),
        ylim=(0, None),
        title=f"{n_layers} of {G} layers: {errors[n_layers - 1]:.1f} px off",
    )
    return figure


def layers_explorer(rvq: "ResidualVQ", chunks: "Tensor", to_pixels: Callable[["Tensor"], Any]) -> "VBox":
    """Sliders over the chunks (N, D) and over the number of layers; below, `plot_layers`."""
    G = len(rvq.layers)

    def draw(chunk: int, n_layers: int) -> str:
        figure = plot_layers(rvq, chunks[chunk], to_pixels, n_layers)
        return as_image(figure, f"Chunk {chunk} as a dotted path, approached by {n_layers} of {G} layers")

    return explorer(draw, chunk=slider("chunk", len(chunks) - 1), n_layers=slider("layers", G, G, 1))
