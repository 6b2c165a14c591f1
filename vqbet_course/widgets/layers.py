"""Residual layers: a chunk, which can be drawn, approximated by one code after the other."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vqbet_course.core.errors import BadInput
from vqbet_course.core.palette import OFFSET
from vqbet_course.widgets.frames import control_of, with_frames
from vqbet_course.widgets.parts import as_image, on_image, slider, under_canvas, with_picture, young_figures

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure
    from torch import Tensor

    from vqbet_course.residual_vq import ResidualVQ


REDRAW_S = 0.1  # seconds between two drawings while an action is dragged


def plot_layers(
    rvq: "ResidualVQ",
    chunk: "Tensor",
    to_pixels: Callable[["Tensor"], Any],
    n_layers: int,
    reach: float | None = None,
    point: int | None = None,
) -> "Figure":
    """A chunk (D,), and its approximations by the first 1 .. n_layers codes; beside it, in the same colours, the error
    that each leaves, in pixels. Purple arrows: the residual, which the next layer would approximate.

    `to_pixels`: (D,) -> (W, 2); reach, the end of the axes; point, the action that is marked.
    Raises `BadInput` for more layers than there are.
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
    guess = guesses[n_layers - 1]
    paths.quiver(
        *guess.T, *(true - guess).T, color=OFFSET, angles="xy", scale_units="xy", scale=1, width=0.005, zorder=3
    )
    paths.plot(*true.T, "k:", linewidth=2)
    if point is not None:
        paths.plot(*true[point], "ks", markersize=7)
    paths.set(
        xlabel="x (px)",
        ylabel="y (px)",
        title="a chunk (dotted) from tokens " + " ".join(str(code) for code in codes[0, :n_layers].tolist()),
    )
    if reach is None:
        paths.set_aspect("equal", adjustable="datalim")
        paths.invert_yaxis()
    else:
        paths.set(xlim=(-1.4 * reach, 1.4 * reach), ylim=(reach, -reach), aspect="equal")
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


class ChunkEditor:
    """The controls of `layers_explorer`: an example, its layers, and one of its actions, which is moved."""

    def __init__(self, rvq: "ResidualVQ", chunks: "Tensor", to_pixels: Callable[["Tensor"], Any]):
        import ipywidgets

        self.rvq, self.chunks, self.to_pixels = rvq, chunks, to_pixels
        self.unit = to_pixels(chunks.new_ones(chunks.shape[1]))  # (W, 2) pixels of 1
        self.points = to_pixels(chunks[0]).clone()
        self.reach = 1.4 * max(to_pixels(chunk).abs().max().item() for chunk in chunks)
        W, G, reach = len(self.points), len(rvq.layers), int(self.reach)
        self.example, self.layers = slider("chunk", len(chunks) - 1), slider("layers", G, G, 1)
        self.point = slider("action to move", W, W, 1)
        self.right, self.down = (slider(words, reach, lowest=-reach) for words in ("its x (px)", "its y (px)"))
        self.image, self.held, self.busy, self.drawn_at = ipywidgets.HTML(), False, False, 0.0
        self.example.observe(self.begin, names="value")
        self.point.observe(self.place_sliders, names="value")
        for control in (self.right, self.down):
            control.observe(self.move, names="value")
        self.layers.observe(self.show, names="value")
        self.begin()
        self.canvas = under_canvas(self.image, self.grab, "The chunk: drag one of its actions")
        self.canvas.children[1].on_mouse_move(self.drag)
        self.canvas.children[1].on_mouse_up(self.drop)

    def picture(self, example: int, n_layers: int) -> str:
        """The figure of an example as it is, as an image."""
        return self.image_of(self.to_pixels(self.chunks[example]), n_layers, None)

    def image_of(self, points: Any, n_layers: int, point: int | None) -> str:
        """The figure of a chunk (W, 2) in pixels, as an image."""
        with young_figures():
            figure = plot_layers(
                self.rvq, (points / self.unit).flatten(), self.to_pixels, n_layers, reach=self.reach, point=point
            )
            return as_image(
                figure, f"A chunk as a dotted path, approached by {n_layers} of {len(self.rvq.layers)} layers"
            )

    def begin(self, change: Any = None) -> None:
        """Take an example as it is."""
        self.points = self.to_pixels(self.chunks[self.example.value]).clone()
        self.place_sliders()

    def place_sliders(self, change: Any = None) -> None:
        """Set the sliders to the action that is moved, and draw."""
        self.busy = True
        self.right.value, self.down.value = (round(float(number)) for number in self.points[self.point.value - 1])
        self.busy = False
        self.show()

    def move(self, change: Any = None) -> None:
        """Move the action to where the sliders say."""
        if not self.busy:
            self.points[self.point.value - 1] = self.points.new_tensor([self.right.value, self.down.value])
            self.show()

    def show(self, change: Any = None) -> None:
        """Draw the chunk as it is now."""
        self.image.value = self.image_of(self.points, self.layers.value, self.point.value - 1)
        self.drawn_at = time.monotonic()

    def spot(self, x: float, y: float) -> Any:
        """The place (2,) in pixels of a click, in shares of the picture."""
        ax = plot_layers(self.rvq, self.chunks[0], self.to_pixels, 1, reach=self.reach).axes[0]
        return self.points.new_tensor(on_image(ax, x, y)).clamp(-self.reach, self.reach)

    def grab(self, x: float, y: float) -> None:
        """Hold the nearest action."""
        self.held = True
        self.point.value = 1 + int((self.points - self.spot(x, y)).norm(dim=1).argmin())

    def drag(self, x: float, y: float) -> None:
        """Move the action that is held; where moves come faster than drawings, some are left out."""
        if self.held and time.monotonic() - self.drawn_at > REDRAW_S:
            canvas = self.canvas.children[1]
            self.points[self.point.value - 1] = self.spot(x / canvas.width, y / canvas.height)
            self.place_sliders()

    def drop(self, x: float, y: float) -> None:
        """Let the action go where it is."""
        self.drawn_at = 0.0
        self.drag(x, y)
        self.held = False


def layers_explorer(rvq: "ResidualVQ", chunks: "Tensor", to_pixels: Callable[["Tensor"], Any]) -> "VBox":
    """Sliders over the chunks (N, D), the layers, and the actions, which are moved by the mouse or by sliders; below,
    `plot_layers`, whose codes and errors follow. `to_pixels` multiplies: (D,) -> (W, 2)."""
    import ipywidgets

    edit = ChunkEditor(rvq, chunks, to_pixels)
    controls = [edit.example, edit.layers, edit.point, edit.right, edit.down]
    box = ipywidgets.VBox([*controls, edit.canvas])
    ahead = {"example": control_of(edit.example), "n_layers": control_of(edit.layers)}
    return with_picture(with_frames(box, edit.picture, ahead), lambda: edit.image.value)
