"""PushT's scenes: as frames by gym-pusht, and in a plot."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.core.palette import OTHER
from vqbet_course.datasets.source import Episode, Frames
from vqbet_course.tasks.pusht.contract import PUSHT
from vqbet_course.tasks.pusht.geometry import AROUND, GOAL_POSE, SIZE, block_keypoints, block_pose, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vqbet_course.demos import Demos

KEYPOINTS, PUSHER = PUSHT.observation


def drawings_of(episode: Episode) -> Frames:
    """The states of a demonstration, drawn by gym-pusht: (96, 96, 3) uint8 each."""

    def drawn() -> Iterator[np.ndarray]:
        from vqbet_course.tasks.pusht.environment import make_pusht

        env = make_pusht()
        env.reset(seed=0)
        pushers = episode.numbers[PUSHER].astype(float)
        for pusher, pose in zip(pushers, block_pose(episode.numbers[KEYPOINTS]), strict=True):
            place(env, pusher, pose)
            yield env.frame()

    return drawn


def plot_board(axes: "Axes", title: str | None = None) -> None:
    """PushT's board with the goal."""
    plot_block(axes, block_keypoints(GOAL_POSE[None])[0], fc="none", ec="#009E73", lw=3, zorder=2)
    axes.set(xlim=(0, SIZE), ylim=(SIZE, 0), aspect="equal", xlabel="x (px)", ylabel="y (px)")
    if title:
        axes.set_title(title)


def plot_block(axes: "Axes", keypoints: np.ndarray, **style: Any) -> None:
    """The T whose keypoints are (16,) pixels."""
    axes.fill(*keypoints.reshape(8, 2)[AROUND].T, **style)


def plot_demonstration(axes: "Axes", demos: "Demos", number: int, title: str) -> None:
    """A demonstration: six moments of the T, fading in, and the path of the pusher, from dark to light."""
    plot_board(axes, title)
    one = demos.select([number])
    keypoints, pusher = (one.observation[name] for name in PUSHT.observation)
    for frame in np.linspace(0, len(pusher) - 1, 6).astype(int):
        plot_block(axes, keypoints[frame], fc="0.4", ec="black", alpha=0.12 + 0.5 * frame / len(pusher))
    axes.scatter(pusher[:, 0], pusher[:, 1], c=np.arange(len(pusher)), s=9, cmap="viridis", zorder=2)


def plot_augmentation(axes: Any, demos: "Demos", mirrored: "Demos", hindsight: "Demos", number: int) -> None:
    """A demonstration, its mirror image across the board's diagonal, and a last push made of another one, in three axes.

    mirrored: `demos` and after them their mirror images; hindsight: `demos` and after them the last pushes."""
    plot_demonstration(axes[0], mirrored, number, "a demonstration")
    plot_demonstration(axes[1], mirrored, len(demos) + number, "its mirror image")
    plot_demonstration(axes[2], hindsight, len(demos) + 3, "hindsight: ends at the goal")
    axes[1].plot([0, SIZE], [SIZE, 0], "--", color=OTHER, lw=1)
