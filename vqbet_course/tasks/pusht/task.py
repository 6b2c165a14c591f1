"""PushT as a task."""
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from vqbet_course.core.specs import Contract
from vqbet_course.datasets.source import Episode, Frames, Source
from vqbet_course.tasks.pusht.contract import PUSHT, PUSHT_TASK
from vqbet_course.tasks.task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vqbet_course.demos import Demos


class PushT(Task):
    """A round pusher pushes a T-shaped block onto its goal."""

    name, title, contract = "pusht", "PushT", PUSHT_TASK
    data = "demo"
    progress_key = "coverage"
    frame_size = (96, 96, 3)

    def make_env(self) -> gym.Env:
        from vqbet_course.tasks.pusht.environment import make_pusht

        return make_pusht()

    def adapt(self, source: Source, asked: bool = False) -> Source | None:
        """As any task; moreover, five-number states become keypoints, and unstated units are recognised."""
        from vqbet_course.tasks.pusht.sources import has_states, shows_keypoints, shows_states, with_keypoints

        if has_states(source):
            if not asked and not shows_states(source):
                return None
            if not asked:
                say_recognised(source, "positions over 0..512 px and an angle in radians")
            return replace(with_keypoints(source), check=self.check_episode)
        if not asked and shows_keypoints(source):
            say_recognised(source, "the T's keypoints in pixels")
            asked = True
        return super().adapt(source, asked)

    def check_episode(self, episode: Episode) -> None:
        from vqbet_course.tasks.pusht.sources import check_units

        check_units(episode)

    def demonstrations(self, episodes: int, seed: int, **options: Any) -> Source:
        from vqbet_course.tasks.pusht.demonstrator import expert_source

        return expert_source(episodes, seed, **options)

    def augmentable(self, contract: Contract) -> bool:
        return contract == PUSHT

    def augment(self, demos: "Demos", chunk_size: int) -> "Demos":
        from vqbet_course.tasks.pusht.augmentation import augment_pusht

        return augment_pusht(demos, chunk_size)

    def draw(self, episode: Episode) -> Frames:
        from vqbet_course.tasks.pusht.drawing import drawings_of

        return drawings_of(episode)

    def plot_scene(self, axes: "Axes") -> bool:
        from vqbet_course.tasks.pusht.drawing import plot_board

        plot_board(axes)
        return True


def say_recognised(source: Source, why: str) -> None:
    """Tell that a source is read as PushT's though it does not say so itself."""
    print(f"{source.path}: read as PushT, for it holds {why}; --task pusht says so, --task none reads it as stored",
          file=sys.stderr)
