"""Watch it learn: the codes, their use, and a rollout at some moments of a training."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.palette import CODE, DEMO, FAILURE, GOAL
from vqbet_course.core.recordings import read_recording
from vqbet_course.widgets.pairs import draw_pairs
from vqbet_course.widgets.parts import as_image, choice, explorer, played
from vqbet_course.widgets.side_by_side import draw_step

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Moment:
    """A training at one moment: its stage and steps of it; the chunks `decoded` (K, K, W, 2) in pixels from the pusher;
    counts (K, K) of each pair in the demonstrations; the steps (T, 8) of a rollout; success rate of some rollouts, and the
    error in pixels that the codes leave."""

    stage: str
    step: int
    decoded: np.ndarray
    counts: np.ndarray
    rollout: np.ndarray
    success: float
    error: float

    @property
    def name(self) -> str:
        """The moment in words."""
        return f"{self.stage}, {self.step} steps"


def recorded_moments(name: str = "training") -> list[Moment]:
    """The moments of a training that was recorded, in order. Raises `BadInput` where there is none of this name."""
    about, arrays = read_recording(name)
    return [
        Moment(
            one["stage"],
            one["step"],
            arrays[f"decoded_{i}"],
            arrays[f"counts_{i}"],
            arrays[f"rollout_{i}"],
            one["success_rate"],
            one["error"],
        )
        for i, one in enumerate(about["moments"])
    ]


def plot_learning(moments: "list[Moment]", number: int) -> "Figure":
    """A moment of a training: the chunks of all pairs of codes, how often each pair is used, the end of a rollout, and
    the success of all moments. Raises `BadInput` for a moment that is not there."""
    import torch
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    if not 0 <= number < len(moments):
        raise BadInput(f"moment {number}: choose from 0..{len(moments) - 1}")
    now = moments[number]
    figure = Figure(figsize=(9, 5.2))
    grid = figure.add_gridspec(2, 3, height_ratios=[2, 1], left=0.08, right=0.97, top=0.93, bottom=0.11, wspace=0.35)
    codes, pairs, board = (figure.add_subplot(grid[0, column]) for column in range(3))
    paths = now.decoded.reshape(-1, *now.decoded.shape[2:])
    paths = np.concatenate([np.zeros_like(paths[:, :1]), paths], axis=1)
    used = now.counts.flatten() > 0
    for some, color in ((~used, FAILURE), (used, CODE)):
        codes.add_collection(LineCollection(list(paths[some]), colors=color, linewidths=1))
    reach = 1.1 * max(np.abs(moment.decoded).max() for moment in moments)
    codes.plot(0, 0, "o", color=DEMO)
    codes.set(
        xlim=(-reach, reach),
        ylim=(reach, -reach),
        aspect="equal",
        xlabel="right (px)",
        title=f"chunks of all pairs: {now.error:.0f} px off",
    )
    codes.set(xticks=(-50, 50), yticks=(-50, 50))
    draw_pairs(pairs, torch.from_numpy(now.counts))
    pairs.set(
        xticks=(0, len(now.counts) - 1),
        yticks=(0, len(now.counts) - 1),
        title=f"{used.sum()} of {used.size} pairs in use",
        xlabel="secondary code",
    )
    draw_step(board, now.rollout, len(now.rollout) - 1)
    board.set_title(f"a rollout, at its end: {now.rollout[-1, 7]:.2f}")
    draw_success(figure.add_subplot(grid[1, :]), moments, number)
    return figure


def draw_success(ax: Any, moments: "list[Moment]", number: int) -> None:
    """The success of all moments, with a line at one of them."""
    ax.plot([moment.success for moment in moments], "o-", color=GOAL)
    ax.axvline(number, color="black", linewidth=1)
    ax.set(ylim=(-0.03, 1), yticks=(0, 0.5, 1), ylabel="success")
    ax.set_xticks(range(len(moments)), [f"{m.stage[0].upper()} {m.step}" for m in moments], fontsize=9)
    ax.set_xlabel("T: steps of the tokenizer, P: steps of the policy")


def learning_explorer(moments: "list[Moment]") -> "VBox":
    """A slider over the moments of a training and a button that plays; below, `plot_learning`."""
    names = {moment.name: number for number, moment in enumerate(moments)}

    @cache
    def draw(moment: str) -> str:
        return as_image(plot_learning(moments, names[moment]), f"The training at {moment}")

    first = next(iter(names))
    moment = choice("moment", list(names), first)
    return played(explorer(draw, moment=moment), moment, interval=1500)
