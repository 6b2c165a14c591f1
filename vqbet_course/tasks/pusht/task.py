"""PushT as a task."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract
from vqbet_course.datasets.source import Episode, Frames, Source
from vqbet_course.tasks.perturbations import Kind
from vqbet_course.tasks.pusht.contract import INSTRUCTION, PUSHT, PUSHT_TASK, SUCCESS_COVERAGE
from vqbet_course.tasks.pusht.forks import FORK_SEEDS, way_round
from vqbet_course.tasks.pusht.geometry import GOAL_POSE, OUTLINE, PUSHER_RADIUS, SIZE, block_pose, to_world
from vqbet_course.tasks.pusht.perturbations import PUSHT_KINDS
from vqbet_course.tasks.task import IMAGE, Demonstrator, PartialObservation, Scene, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vqbet_course.core.configuration import VQBeTConfig
    from vqbet_course.core.frames import AbsoluteFrame
    from vqbet_course.demos import Demos, Normalizer, Windows


class PushT(Task):
    """A round pusher pushes a T-shaped block onto its goal."""

    name, title, contract = "pusht", "PushT", PUSHT_TASK
    instruction, data = INSTRUCTION, "demo"
    laptop: Mapping[str, Any] = {"use_relative_actions": True}  # an action is where the pusher is to go
    progress_name, success_progress = "coverage", SUCCESS_COVERAGE
    frame_size = (96, 96, 3)
    cameras = (IMAGE,)
    needs: Mapping[str, str] = {"gym_pusht": "gym-pusht"}
    perturbations: Mapping[str, Kind] = PUSHT_KINDS
    behaviours = ("left", "right")
    fork_seeds, measures_routes = FORK_SEEDS, True

    def make_env(self) -> gym.Env:
        from vqbet_course.tasks.pusht.environment import make_pusht

        return make_pusht()

    def starting_from(self, demos: "Demos", resets: str) -> Task:
        from vqbet_course.tasks.pusht.environment import DemonstratedStart

        if demos.contract.observing(PUSHT.observation).observation != PUSHT.observation:
            return super().starting_from(demos, resets)
        make = self.make_env
        return self.with_env(lambda: DemonstratedStart(make(), demos, resets))

    def with_cameras(self, names: Sequence[str]) -> Task:
        from vqbet_course.tasks.pusht.observation_wrappers import WithCamera

        make = self.make_env
        return self.with_env(lambda: WithCamera(make())) if names else self

    @property
    def partial_observations(self) -> Mapping[str, Callable[[], PartialObservation]]:  # type: ignore[override]
        """{name: makes a PartialObservation} of the keypoints."""
        from vqbet_course.tasks.pusht.observation_wrappers import PARTIAL_OBSERVATIONS

        return PARTIAL_OBSERVATIONS

    def observed_partially(self, name: str) -> Task:
        from vqbet_course.tasks.pusht.observation_wrappers import PartiallyObserved

        self.partial_observation(name)
        make = self.make_env
        return self.with_env(lambda: PartiallyObserved(make(), self.partial_observation(name)))

    def partial_demos(self, name: str, demos: "Demos", seed: int) -> "Demos":
        from vqbet_course.tasks.pusht.observation_wrappers import observed_demos

        return observed_demos(self.partial_observation(name), demos, seed)

    def at_goal(self, asked: str | None) -> Task:
        from vqbet_course.tasks.pusht.environment import GoalPose, parse_pose

        make, pose = self.make_env, GOAL_POSE if asked is None else parse_pose(asked)
        return self.with_env(lambda: GoalPose(make(), pose))

    def goal_frame(self, config: "VQBeTConfig") -> "AbsoluteFrame | None":
        from vqbet_course.tasks.pusht.block_frame import BlockFrame, has_block_goals

        return BlockFrame() if has_block_goals(config) else None

    def in_goal_frame(
        self, windows: "Windows", normalizer: "Normalizer", contract: Contract
    ) -> "tuple[Windows, Normalizer]":
        from vqbet_course.tasks.pusht.block_frame import in_block_frame

        return in_block_frame(windows, normalizer, contract)

    def behaviour_of(self, truth: np.ndarray, contacts: Sequence[int | None]) -> str | None:
        return way_round(truth, contacts)

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
        """Episodes that the scripted demonstrator solves. options: style, noise in pixels, workers, and `shaken`, whether
        what the shaken hand did is recorded instead of what was wanted. Raises BadInput for another one."""
        unknown = options.keys() - {"style", "noise", "workers", "shaken"}
        if unknown:
            raise BadInput(f"PushT's demonstrator has no option {min(unknown)}")
        from vqbet_course.tasks.pusht.demonstrator import expert_source

        return expert_source(episodes, seed, **options)

    def demonstrator(self, seed: int) -> Demonstrator:
        """The scripted demonstrator; the seed draws which way round the T it prefers."""
        from vqbet_course.tasks.pusht.demonstrator import DETOUR, Expert

        return Expert(int(np.random.default_rng(seed).choice([-1, 1])), DETOUR["mixed"])

    def copy_env(self, env: gym.Env) -> gym.Env:
        from vqbet_course.tasks.pusht.environment import copied

        return copied(env)

    def augmentable(self, contract: Contract) -> bool:
        return contract == PUSHT

    def augment(self, demos: "Demos", chunk_size: int) -> "Demos":
        from vqbet_course.tasks.pusht.augmentation import augment_pusht

        return augment_pusht(demos, chunk_size)

    def draw(self, episode: Episode) -> Frames:
        from vqbet_course.tasks.pusht.drawing import drawings_of

        return drawings_of(episode)

    def scene(self, observation: Mapping[str, np.ndarray]) -> Scene:
        keypoints = np.asarray(observation["environment_state"])
        goal = np.asarray(observation["goal"]) if "goal" in observation else None
        poses = GOAL_POSE[None] if goal is None else block_pose(goal[None])
        return Scene(
            SIZE,
            to_world(OUTLINE, block_pose(keypoints[None]))[0],
            to_world(OUTLINE, poses)[0],
            np.asarray(observation["agent_pos"]),
            PUSHER_RADIUS,
        )

    def frame_points(self, actions: np.ndarray) -> np.ndarray:
        return np.asarray(actions)

    def plot_scene(self, axes: "Axes") -> bool:
        from vqbet_course.tasks.pusht.drawing import plot_board

        plot_board(axes)
        return True


def say_recognised(source: Source, why: str) -> None:
    """Tell that a source is read as PushT's though it does not say so itself."""
    print(
        f"{source.path}: read as PushT, for it holds {why}; --task pusht says so, --task none reads it as stored",
        file=sys.stderr,
    )
