"""The navigation task, drawn."""

from typing import TYPE_CHECKING

import numpy as np

from vqbet_course.tasks.navigation.environment import GOAL_RADIUS, RADIUS, NavigationEnv

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_paths(ax: "Axes", paths: list[np.ndarray], crashed: list[bool] | None = None, n_discs: int = 1) -> None:
    """Draw the world and paths (T, 2) into it: blue for arriving, orange and ending in a cross for a crash."""
    from matplotlib.patches import Circle

    env = NavigationEnv(n_discs)
    for disc in env.discs:
        ax.add_patch(Circle(tuple(disc), RADIUS, color="0.8"))
    ax.add_patch(Circle(tuple(env.goal), GOAL_RADIUS, fill=False, linestyle="--"))
    for path, crash in zip(paths, crashed or [False] * len(paths), strict=True):
        colour = "#D55E00" if crash else "#0072B2"
        ax.plot(*path.T, color=colour, alpha=0.35, linewidth=1)
        if crash:
            ax.plot(*path[-1], "x", color=colour, markersize=7)
    ax.plot(0, 0, "ko", markersize=5)
    ax.annotate("start", (0, 0), xytext=(-4, 8), textcoords="offset points", ha="center")
    ax.annotate("goal", tuple(env.goal), ha="center", va="center")
    ax.set(xlabel="x (m)", ylabel="y (m)", aspect="equal", xlim=(-0.15, n_discs + 0.2), ylim=(-0.65, 0.65))
