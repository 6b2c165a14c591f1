"""What a task is: an environment, its contract, and everything special that training and evaluation ask for."""

import copy
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import GOAL, Contract, TaskContract
from vqbet_course.datasets.source import UNSTATED, Episode, Frames, Source
from vqbet_course.tasks.perturbations import KINDS, Kind, perturbed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vqbet_course.core.configuration import VQBeTConfig
    from vqbet_course.core.frames import AbsoluteFrame
    from vqbet_course.demos import Demos, Normalizer, Windows

IMAGE = "observation.image"
"""The camera of a task that draws its states."""


@dataclass(frozen=True)
class Scene:
    """One moment as a drawing shows it: a square board of side `size`, the outlines (P, 2) of block and goal, and the
    pusher (2,) with its radius; all in the unit of the positions, y downwards."""

    size: float
    block: np.ndarray
    goal: np.ndarray
    pusher: np.ndarray
    radius: float


class PartialObservation(Protocol):
    """Changes one field of an observation, (size,), step after step; every episode owns its draws."""

    def begin(self, generator: np.random.Generator, /) -> None:
        """Start an episode."""

    def __call__(self, values: np.ndarray, /) -> np.ndarray:
        """The field (size,) of the next step as the policy sees it."""


class Demonstrator(Protocol):
    """A scripted demonstrator, asked step by step in whatever state the environment is. It remembers what it plans, so
    one demonstrator is for one episode; `copy.copy` gives another one with the same plan."""

    def __call__(self, observation: Any, /) -> np.ndarray:
        """What the environment observes now -> the action (A,) that the demonstrator would take, in its unit."""


class Task:
    """One world: what is special about it, each with a default, so that a task is its contract and its environment.

    name: as on the command line; family: what the names of many tasks begin with that are alike and listed together;
    title: as in a text; instruction: what a demonstrator is told to do;
    contract: what is observed, done and counted as success;
    data: the SOURCE of its demonstrations, None without; laptop: changes to `VQBeTConfig.laptop`;
    progress_key: the entry of `info` that says how much is achieved (0..1); without it, 1 for success;
    progress_name: the progress in a word, as in "max coverage"; result files keep it under `coverage` for every task;
    success_progress: the progress above which an episode is won, which counts as reward 1;
    frame_size: (height, width, 3) of what `draw` draws, None where it draws nothing;
    frame_every: videos show every so many-th step;
    cameras: the images that its environment can observe, instead of numbers or beside them (`with_cameras`);
    perturbations: {name: Kind} beside those that fit every environment;
    failure_rules: {label: rule} tried before the general ones (`evaluation.failures`);
    partial_observations: {name: makes a PartialObservation}, in which a policy can be trained and evaluated;
    behaviours: the ways in which demonstrators solve the task (`behaviour_of`); their entropy is measured, or, where
    there are fork seeds, from how many of these a policy shows both;
    fork_seeds: environment seeds from which demonstrators show two behaviours;
    side_task: the task on which a panel of this one also trains its policies, to see whether they keep two routes;
    milestones: {name: whether a trace (T, size) reaches it}, each a part of the task, reported beside success;
    needs: {module: requirement of pip} that the environment imports beside those of every task.
    """

    name: str
    family: str = ""
    title: str
    instruction: str = UNSTATED
    contract: TaskContract
    data: str | None = None
    laptop: Mapping[str, Any] = {}
    progress_key: str = "coverage"
    progress_name: str = "progress"
    success_progress: float = 1.0
    frame_size: tuple[int, int, int] | None = None
    frame_every: int = 1
    cameras: tuple[str, ...] = ()
    perturbations: Mapping[str, Kind] = {}
    failure_rules: Mapping[str, Callable[..., str | None]] = {}
    partial_observations: Mapping[str, Callable[[], PartialObservation]] = {}
    behaviours: tuple[str, ...] = ()
    fork_seeds: tuple[int, ...] = ()
    measures_routes: bool = False
    milestones: Mapping[str, Callable[[np.ndarray], bool]] = {}
    needs: Mapping[str, str] = {}

    # what it needs

    def missing(self) -> list[str]:
        """The requirements of `needs` that are not installed."""
        return [requirement for module, requirement in self.needs.items() if find_spec(module) is None]

    def check_installed(self) -> None:
        """Raise BadInput, with the remedy, where something of `needs` is not installed."""
        if self.missing():
            raise BadInput(
                f"{self.title} needs what is not installed; install it with: {shlex.join(['pip', 'install', *self.missing()])}"
            )

    # environment

    def make_env(self) -> gym.Env:
        """A new environment; `env.get_wrapper_attr("contract")` is the task's contract."""
        raise NotImplementedError(f"{type(self).__name__}.make_env")

    def make_vector_env(self, n: int) -> gym.vector.VectorEnv:
        """n environments that are stepped together. Gymnasium has one that ended be reset before the next step; an
        evaluation, whose episodes end one by one, steps only those that run (`rollout.RolloutVectorEnv`)."""
        return gym.vector.SyncVectorEnv([self.make_env] * n, autoreset_mode=gym.vector.AutoresetMode.DISABLED)

    @property
    def horizon(self) -> int:
        """Steps of an episode at most."""
        return self.contract.horizon

    def cannot_render(self) -> str:
        """Why its environments cannot be rendered on this machine, and what to do, in one line; empty where they can, or
        never can."""
        return ""

    def success(self, info: Mapping[str, Any]) -> bool:
        """Whether a step's `info` says that the episode is won."""
        return bool(info["is_success"])

    def progress(self, info: Mapping[str, Any]) -> float:
        """How much of the task is achieved after a step, 0..1, by its `info`."""
        return float(info[self.progress_key] if self.progress_key in info else self.success(info))

    def with_env(self, make: Callable[[], gym.Env]) -> "Task":
        """The same task in environments that `make` makes."""
        other = copy.copy(self)
        other.make_env = make  # type: ignore[method-assign]
        return other

    def perturbed(self, asked: Sequence[str]) -> "Task":
        """The task with these perturbations, each `NAME` or `NAME=value`. Raises BadInput for one that it has not."""
        return self.with_env(perturbed(self.make_env, asked, KINDS | dict(self.perturbations))) if asked else self

    def starting_from(self, demos: "Demos", resets: str) -> "Task":
        """The task, starting under environment seed i where demonstration i starts; `resets` says so in its contract.

        Raises BadInput where a demonstration does not tell its start."""
        raise BadInput(f"{demos.source}: an episode of {self.title} cannot be started where a demonstration starts")

    def with_cameras(self, names: Sequence[str]) -> "Task":
        """The task, with these images among its observations. Raises BadInput where there is no camera."""
        if names:
            raise BadInput(f"{self.title} has no camera, and the policy observes {', '.join(names)}")
        return self

    def observed_partially(self, name: str) -> "Task":
        """The task, observed as the partial observation of this name. Raises BadInput for one that it has not."""
        self.partial_observation(name)
        raise NotImplementedError(f"{type(self).__name__}.observed_partially")

    def partial_demos(self, name: str, demos: "Demos", seed: int) -> "Demos":
        """Demonstrations as the partial observation of this name shows them; `seed` seeds its draws."""
        self.partial_observation(name)
        raise NotImplementedError(f"{type(self).__name__}.partial_demos")

    def partial_observation(self, name: str) -> PartialObservation:
        """A new partial observation of this name. Raises BadInput for one that the task has not."""
        if name not in self.partial_observations:
            raise BadInput(f"{self.title} has no partial observation {name!r}")
        return self.partial_observations[name]()

    # goals

    def at_goal(self, asked: str | None) -> "Task":
        """The task with its goal where it was asked for (None: where it always is), in environments that tell it as
        `goal`. Raises BadInput for a task whose goal cannot be chosen."""
        raise BadInput(
            f"{self.title} has no goal that can be chosen; evaluate a policy without goals, and leave --goal-pose out"
        )

    def goal_frame(self, config: "VQBeTConfig") -> "AbsoluteFrame | None":
        """The coordinate frame in which a policy of this configuration, which has goals, sees and decides; None: that
        of its absolute or relative actions."""
        return None

    def in_goal_frame(
        self, windows: "Windows", normalizer: "Normalizer", contract: Contract
    ) -> "tuple[Windows, Normalizer]":
        """Training windows with chunks in the frame of `goal_frame`, and their normalizer. Raises BadInput for
        demonstrations that only look like this task's."""
        return windows, normalizer

    # which of several ways

    def behaviour_of(self, truth: np.ndarray, contacts: Sequence[int | None]) -> str | None:
        """Which of `behaviours` an episode shows, by what was so (T, size) and by its contacts (T,), None where they are
        not known; None for none of them."""
        raise NotImplementedError(f"{type(self).__name__}.behaviour_of")

    # demonstrations

    def owns(self, contract: Contract) -> bool:
        """Whether data of this contract are this task's, at whatever rate: action and numbers agree in size and unit.
        Where its cameras observe, numbers may be left out."""
        own, images = self.contract.data, False
        if contract.action != own.action:
            return False
        for name, field in contract.observation.items():
            images = images or isinstance(field.size, tuple)
            if name != GOAL and not isinstance(field.size, tuple) and own.observation.get(name) != field:
                return False
        return (images and bool(self.cameras)) or own.observation.keys() <= contract.observation.keys()

    def adapt(self, source: Source, asked: bool = False) -> Source | None:
        """The source as this task's, with its units and rate where the source states none; None if it is another's.

        `asked`: the user says that it is this task's; raises BadInput, naming the feature, where that cannot be."""
        if asked:
            source = replace(source, units=self.contract.data.units() | stated(source.units))
        if self.owns(source.contract):
            return replace(source, fps=source.fps or self.contract.data.fps, check=self.check_episode)
        if not asked:
            return None
        found = source.contract.observing(self.contract.data.observation)
        differs = replace(found, fps=self.contract.data.fps).difference(self.contract.data) or (
            "it observes " + ", ".join(source.contract.observation)
        )
        raise BadInput(f"{source.path}: not demonstrations of {self.title}: {differs}; leave --task {self.name} out")

    def check_episode(self, episode: Episode) -> None:
        """Raise BadInput, naming the row, for numbers that cannot be this task's, such as degrees for radians."""

    def demonstrations(self, episodes: int, seed: int, **options: Any) -> Source:
        """Episodes by a scripted demonstrator. Raises BadInput for a task that has none."""
        raise BadInput(f"{self.title} has no scripted demonstrator")

    def demonstrator(self, seed: int) -> Demonstrator:
        """The scripted demonstrator for one episode; `seed` seeds its draws. Raises BadInput for a task that has none."""
        raise BadInput(f"{self.title} has no scripted demonstrator")

    def copy_env(self, env: gym.Env) -> gym.Env:
        """Another environment in the same state, to try actions in."""
        return copy.deepcopy(env)

    def augmentable(self, contract: Contract) -> bool:
        """Whether training augments demonstrations of this contract unless it is told not to."""
        return False

    def augment(self, demos: "Demos", chunk_size: int) -> "Demos":
        """The demonstrations, followed by others made of them. Raises BadInput where none can be made."""
        raise BadInput(f"{demos.source}: there is no augmentation for {self.title}; leave --augment out")

    # drawing

    def scene(self, observation: Mapping[str, np.ndarray]) -> Scene:
        """What a drawing shows of the numbers that an environment observes. Raises BadInput where nothing is drawn."""
        raise BadInput(f"{self.title} cannot be drawn")

    def frame_points(self, actions: np.ndarray) -> np.ndarray | None:
        """Where actions (n, A) point in a frame that the environment renders: (n, 2) pixels; None: nowhere."""
        return None

    def draw(self, episode: Episode) -> Frames:
        """A frame of `frame_size`, uint8, for each state of a demonstration."""
        raise NotImplementedError(f"{type(self).__name__}.draw")

    def with_drawings(self, source: Source) -> Source:
        """The source with what `draw` draws as its camera."""
        assert self.frame_size is not None

        def read(start: int) -> Iterator[Episode]:
            for episode in source.read(start):
                yield replace(episode, images={IMAGE: self.draw(episode)})

        return replace(source, read=read, image_sizes={IMAGE: self.frame_size})

    def plot_scene(self, axes: "Axes") -> bool:
        """Plot what does not move, and set the limits in the unit of the positions; False where there is nothing."""
        return False


def stated(units: Mapping[str, str]) -> dict[str, str]:
    """The units that are known."""
    return {name: unit for name, unit in units.items() if unit != UNSTATED}


class EnvironmentTask(Task):
    """The task of somebody's Gymnasium environment with a contract, and nothing special beside."""

    def __init__(self, name: str, make: Callable[[], gym.Env]):
        contract = make().get_wrapper_attr("contract")
        if not isinstance(contract, TaskContract):
            raise BadInput(f"{name}: its contract is a {type(contract).__name__}, not a TaskContract")
        self.name = self.title = name
        self.contract, self.make_env = contract, make  # type: ignore[method-assign]
