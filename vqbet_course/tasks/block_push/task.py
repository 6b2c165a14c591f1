"""block_push as a task."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract
from vqbet_course.datasets.source import Episode, Frames, Source
from vqbet_course.tasks.block_push.contract import BLOCK_PUSH, BLOCK_PUSH_TASK, INSTRUCTION
from vqbet_course.tasks.block_push.perturbations import BLOCK_PUSH_KINDS
from vqbet_course.tasks.block_push.traces import BEHAVIOURS, FAILURE_RULES, first_delivery, one_block_delivered
from vqbet_course.tasks.perturbations import Kind
from vqbet_course.tasks.task import Demonstrator, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vqbet_course.demos import Demos


class BlockPush(Task):
    """A round pusher pushes two round blocks into two targets, in any order."""

    name, title, contract = "block_push", "block_push", BLOCK_PUSH_TASK
    instruction = INSTRUCTION
    progress_key = "progress"
    frame_size = (96, 96, 3)
    laptop: Mapping[str, Any] = {
        "n_obs_steps": 1,
        "n_action_steps": 1,
        "average_chunks": False,  # averages succeeded a little less often on tuning starts
        "use_relative_actions": True,  # an action is where the pusher is to go
        "dropout": 0.05,
        "optimizer_weight_decay": 0.01,
        "bet_softmax_temperature": 0.5,
    }
    needs: Mapping[str, str] = {"pymunk": "pymunk"}
    perturbations: Mapping[str, Kind] = BLOCK_PUSH_KINDS
    failure_rules: Mapping[str, Callable[..., str | None]] = FAILURE_RULES
    behaviours = BEHAVIOURS
    milestones: Mapping[str, Callable[[np.ndarray], bool]] = {"one block in a target": one_block_delivered}

    def make_env(self) -> gym.Env:
        from vqbet_course.tasks.block_push.environment import BlockPushEnv

        return BlockPushEnv()

    def starting_from(self, demos: "Demos", resets: str) -> Task:
        from vqbet_course.tasks.block_push.environment import StartOfDemonstration

        if demos.contract.observing(BLOCK_PUSH.observation).observation != BLOCK_PUSH.observation:
            return super().starting_from(demos, resets)
        make = self.make_env
        return self.with_env(lambda: StartOfDemonstration(make(), demos, resets))

    def behaviour_of(self, truth: np.ndarray, contacts: Sequence[int | None]) -> str | None:
        return first_delivery(truth)

    def demonstrations(self, episodes: int, seed: int, **options: Any) -> Source:
        """Episodes that the scripted demonstrator solves. options: noise in pixels. Raises BadInput for another one."""
        unknown = options.keys() - {"noise"}
        if unknown:
            raise BadInput(f"block_push's demonstrator has no option {min(unknown)}")
        from vqbet_course.tasks.block_push.demonstrator import block_push_source

        return block_push_source(episodes, seed, **options)

    def demonstrator(self, seed: int) -> Demonstrator:
        """The scripted demonstrator; the seed draws its behaviour."""
        from vqbet_course.tasks.block_push.demonstrator import Corrector

        return Corrector(seed)

    def copy_env(self, env: gym.Env) -> gym.Env:
        from vqbet_course.tasks.block_push.environment import copied_world

        return copied_world(env)

    def augmentable(self, contract: Contract) -> bool:
        return contract == BLOCK_PUSH

    def augment(self, demos: "Demos", chunk_size: int) -> "Demos":
        from vqbet_course.tasks.block_push.augmentation import augment_block_push

        return augment_block_push(demos)

    def draw(self, episode: Episode) -> Frames:
        from vqbet_course.tasks.block_push.drawing import drawn_states

        return drawn_states(episode, self.frame_size[0])

    def frame_points(self, actions: np.ndarray) -> np.ndarray:
        return np.asarray(actions)

    def plot_scene(self, axes: "Axes") -> bool:
        from vqbet_course.tasks.block_push.drawing import plot_targets

        plot_targets(axes)
        return True
