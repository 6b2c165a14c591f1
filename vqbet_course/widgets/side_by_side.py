"""Side by side: rollouts of several policies from the same start, under one slider."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.palette import CODE, DEMO, FAILURE, GOAL, OFFSET, OTHER, POLICY
from vqbet_course.core.recordings import read_recording
from vqbet_course.widgets.parts import as_image, choice, draw_board, explorer, played, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vqbet_course.core.trace import Trace

COLORS = (POLICY, CODE, OFFSET, DEMO, FAILURE, OTHER)
AHEAD = 8  # targets that are drawn before the pusher
Steps = np.ndarray
"""The steps of an episode of PushT, (T, 8): pusher x, y, block x, y, angle, target x, y, coverage after the step; pixels,
radians."""


def steps_of(episode: "Trace") -> Steps:
    """The steps of a rollout of PushT, (T, 8) float32. Raises `BadInput` for another task."""
    from vqbet_course.tasks.pusht.geometry import block_pose

    truth = np.array(episode.truth)
    if truth.ndim != 2 or truth.shape[1] != 18:
        raise BadInput(f"the rollout of seed {episode.seed} has {truth.shape[1:]} numbers a step: only PushT is drawn")
    pose, coverage = block_pose(truth[:, :16]), np.array(episode.coverage)[:, None]
    return np.hstack([truth[:, 16:], pose, np.array(episode.actions), coverage]).astype(np.float32)


def recorded_policies(name: str = "policies") -> dict[str, dict[str, Steps]]:
    """Recorded rollouts, {environment seed: {policy: steps (T, 8)}}. Raises `BadInput` where there is no such recording."""
    _, arrays = read_recording(name)
    titles = {"vqbet": "VQ-BeT", "bet": "BeT", "act": "ACT", "diffusion": "Diffusion"}
    starts: dict[str, dict[str, Steps]] = {}
    for key, steps in arrays.items():
        policy, seed = key.split("-")
        starts.setdefault(seed, {})[titles.get(policy, policy)] = steps
    return starts


def draw_step(ax: "Axes", steps: Steps, step: int, color: str = POLICY) -> None:
    """The board at a step of an episode (its last one, where it is over), with the pusher's path and the next targets."""
    from vqbet_course.tasks.pusht.geometry import block_keypoints

    now = min(step, len(steps) - 1)
    draw_board(ax, block_keypoints(steps[now : now + 1, 2:5].astype(float))[0].reshape(8, 2), steps[now, :2])
    ax.plot(*steps[: now + 1, :2].T, color=color, linewidth=1)
    ax.plot(*steps[now : now + AHEAD, 5:7].T, ".", color=FAILURE, markersize=3)


def plot_side_by_side(episodes: Mapping[str, Steps], step: int, enough: float = 0.95) -> "Figure":
    """The boards of {policy: steps (T, 8)} at the same step, and below the coverage of all. Raises `BadInput` without
    episodes or for a step that none has."""
    from matplotlib.figure import Figure

    longest = max((len(steps) for steps in episodes.values()), default=0)
    if not 0 <= step < longest:
        raise BadInput(f"step {step} of {len(episodes)} episodes: choose from 0..{longest - 1}")
    figure = Figure(figsize=(9, 4.6))
    grid = figure.add_gridspec(2, len(episodes), height_ratios=[2, 1], left=0.07, right=0.99, top=0.94, bottom=0.11)
    curves = figure.add_subplot(grid[1, :])
    for column, ((name, steps), color) in enumerate(zip(episodes.items(), COLORS, strict=False)):
        board, now = figure.add_subplot(grid[0, column]), min(step, len(steps) - 1)
        draw_step(board, steps, step, color)
        over = now < step or step == len(steps) - 1
        ended = f", {'solved' if steps[:, 7].max() > enough else 'not solved'}" if over else ""
        board.set_title(f"{name}: {steps[now, 7]:.2f}{ended}", fontsize=9)
        board.plot((0.02, 0.98), (-0.04, -0.04), color=color, linewidth=4, transform=board.transAxes, clip_on=False)
        curves.plot(steps[: now + 1, 7], color=color)
    curves.axhline(enough, color=GOAL, linestyle="--", linewidth=1)
    curves.axvline(step, color="black", linewidth=1)
    curves.set(
        xticks=(0, longest // 2, longest - 1),
        xlim=(0, longest - 1),
        ylim=(0, 1),
        xlabel="step",
        ylabel="coverage",
        yticks=(0, 0.5, 1),
    )
    return figure


def side_by_side_explorer(starts: Mapping[str, Mapping[str, Steps]]) -> "VBox":
    """A choice of the start, a slider over the steps and a button that plays; below, `plot_side_by_side`.

    Args: starts {environment seed: {policy: steps (T, 8)}}, as `steps_of` makes them; the same policies for each.
    Raises `BadInput` without a start.
    """
    if not starts:
        raise BadInput("no episodes to compare: give at least one start")
    last = max(len(steps) for episodes in starts.values() for steps in episodes.values()) - 1

    def draw(start: str, step: int) -> str:
        longest = max(map(len, starts[start].values())) - 1
        figure = plot_side_by_side(starts[start], min(step, longest))
        return as_image(figure, f"Boards of {', '.join(starts[start])} at step {step} from environment seed {start}")

    first = next(iter(starts))
    step = slider("step", last)
    ahead = {"start": [first]}
    return played(explorer(draw, ahead, start=choice("environment seed", list(starts), first), step=step), step)
