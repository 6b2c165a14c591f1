"""The navigation toy as a task."""
import gymnasium as gym

from vqbet_course.tasks.navigation import NavigationEnv
from vqbet_course.tasks.task import Task


class Navigation(Task):
    """A point robot gets to its goal round one disc, on either side."""

    name, title, contract = "navigation", "navigation", NavigationEnv().contract

    def make_env(self) -> gym.Env:
        return NavigationEnv()
