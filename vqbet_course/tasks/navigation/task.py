"""Navigation as a task."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import Source
from vqbet_course.tasks.navigation.environment import INSTRUCTION, NavigationEnv, y_beside_disc
from vqbet_course.tasks.task import Demonstrator, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Navigation(Task):
    """A point robot gets to its goal round one disc, on either side."""

    name, title, instruction, contract = "navigation", "navigation", INSTRUCTION, NavigationEnv().contract
    behaviours, measures_routes = ("left", "right"), True
    laptop: Mapping[str, Any] = {"use_relative_actions": False}  # an action is a displacement already

    def make_env(self) -> gym.Env:
        return NavigationEnv()

    def demonstrations(self, episodes: int, seed: int, **options: Any) -> Source:
        """Walks on either route. options: walk_on, whether they go on behind the goal. Raises BadInput for another one."""
        from vqbet_course.tasks.navigation.demonstrator import navigation_source

        unknown = options.keys() - {"walk_on"}
        if unknown:
            raise BadInput(f"navigation's demonstrator has no option {min(unknown)}")
        return navigation_source(episodes, seed, **options)

    def demonstrator(self, seed: int) -> Demonstrator:
        """The scripted demonstrator; the seed draws its side of the disc."""
        from vqbet_course.tasks.navigation.demonstrator import Guide

        return Guide(seed)

    def behaviour_of(self, truth: np.ndarray, contacts: Sequence[int | None]) -> str | None:
        side = y_beside_disc(np.asarray(truth)[:, -2:])
        return "left" if side > 0 else "right" if side < 0 else None

    def plot_scene(self, axes: "Axes") -> bool:
        from vqbet_course.tasks.navigation.drawing import plot_paths

        plot_paths(axes, [])
        return True
