"""block_push's scenes: as frames, and in a plot."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from vqbet_course.datasets.source import Episode, Frames
from vqbet_course.tasks.block_push.contract import (
    BLOCK_NAMES,
    BLOCK_PUSH,
    BLOCK_RADIUS,
    PUSHER_RADIUS,
    SIZE,
    TARGET_NAMES,
    TARGET_RADIUS,
    TARGETS,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLOCKS, PUSHER = BLOCK_PUSH.observation

COLOURS = dict(zip(BLOCK_NAMES, ("#E69F00", "#0072B2"), strict=True))
"""Of the blocks."""


def board_image(pusher: np.ndarray, blocks: np.ndarray, size: int = SIZE) -> np.ndarray:
    """A moment of block_push, (size, size, 3) uint8: the targets, the blocks (2, 2) and the pusher (2,), in pixels of the
    board."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (2 * size, 2 * size), "white")  # drawn twice as large, so that edges are smooth
    draw, scale = ImageDraw.Draw(image), 2 * size / SIZE

    def disc(centre: np.ndarray, radius: float, fill: str, outline: str | None = None) -> None:
        low, high = (centre - radius) * scale, (centre + radius) * scale
        draw.ellipse((*low, *high), fill=fill, outline=outline, width=round(4 * scale))

    for target in TARGETS:
        disc(target, TARGET_RADIUS, "#e4f4ee", "#009E73")
    for block, colour in zip(blocks, COLOURS.values(), strict=True):
        disc(block, BLOCK_RADIUS, colour)
    disc(pusher, PUSHER_RADIUS, "#333333")
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def drawn_states(episode: Episode, size: int) -> Frames:
    """The states of a demonstration, drawn: (size, size, 3) uint8 each."""

    def drawn() -> Iterator[np.ndarray]:
        for blocks, pusher in zip(episode.numbers[BLOCKS], episode.numbers[PUSHER], strict=True):
            yield board_image(pusher.astype(float), blocks.reshape(2, 2).astype(float), size)

    return drawn


def plot_targets(axes: "Axes") -> None:
    """block_push's board with its targets."""
    from matplotlib.patches import Circle

    for name, target in zip(TARGET_NAMES, TARGETS, strict=True):
        axes.add_patch(Circle((float(target[0]), float(target[1])), TARGET_RADIUS, fill=False, ec="#009E73", lw=3))
        axes.annotate(name, (float(target[0]), float(target[1])), ha="center", va="center")
    axes.set(xlim=(0, SIZE), ylim=(SIZE, 0), aspect="equal", xlabel="x (px)", ylabel="y (px)")
