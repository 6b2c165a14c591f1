"""What a task is: an environment, its contract, and everything special that training and evaluation ask for."""
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import GOAL, Contract, TaskContract
from vqbet_course.datasets.source import UNSTATED, Episode, Frames, Source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vqbet_course.demos import Demos

IMAGE = "observation.image"
"""The camera of a task that draws its states."""


class Task:
    """One world: what is special about it, each with a default, so that a task is its contract and its environment.

    name: as on the command line; title: as in a text; contract: what is observed, done and counted as success;
    data: the SOURCE of its demonstrations, None without; laptop: changes to `VQBeTConfig.laptop`;
    progress_key: the entry of `info` that says how much is achieved (0..1), None where only success is told;
    metrics: names of the figures of an evaluation, in the order of tables;
    frame_size: (height, width, 3) of what `draw` draws, None where it draws nothing;
    perturbations: {name: wrapper factory} beside those that fit every environment;
    failure_rules: {label: rule} tried before the general ones (`evaluation.failures`).
    """

    name: str
    title: str
    contract: TaskContract
    data: str | None = None
    laptop: Mapping[str, Any] = {}
    progress_key: str | None = None
    metrics: tuple[str, ...] = ("success_rate", "avg_max_reward", "avg_max_coverage", "avg_final_coverage")
    frame_size: tuple[int, int, int] | None = None
    perturbations: Mapping[str, Callable[..., gym.Env]] = {}
    failure_rules: Mapping[str, Callable[..., str | None]] = {}

    # environment

    def make_env(self) -> gym.Env:
        """A new environment; `env.get_wrapper_attr("contract")` is the task's contract."""
        raise NotImplementedError(f"{type(self).__name__}.make_env")

    def make_vector_env(self, n: int) -> gym.vector.VectorEnv:
        """n environments that are stepped together. One that has ended waits until all are reset."""
        return gym.vector.SyncVectorEnv([self.make_env] * n, autoreset_mode=gym.vector.AutoresetMode.DISABLED)

    @property
    def horizon(self) -> int:
        """Steps of an episode at most."""
        return self.contract.horizon

    def success(self, info: Mapping[str, Any]) -> bool:
        """Whether a step's `info` says that the episode is won."""
        return bool(info["is_success"])

    def progress(self, info: Mapping[str, Any]) -> float:
        """How much of the task is achieved after a step, 0..1, by its `info`."""
        return float(self.success(info) if self.progress_key is None else info[self.progress_key])

    # demonstrations

    def owns(self, contract: Contract) -> bool:
        """Whether data of this contract are this task's, at whatever rate: action and numbers agree in size and unit.
        Where images are observed, numbers may be left out."""
        own, images = self.contract.data, False
        if contract.action != own.action:
            return False
        for name, field in contract.observation.items():
            images = images or isinstance(field.size, tuple)
            if name != GOAL and not isinstance(field.size, tuple) and own.observation.get(name) != field:
                return False
        return images or own.observation.keys() <= contract.observation.keys()

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
            "it observes " + ", ".join(source.contract.observation))
        raise BadInput(f"{source.path}: not demonstrations of {self.title}: {differs}; leave --task {self.name} out")

    def check_episode(self, episode: Episode) -> None:
        """Raise BadInput, naming the row, for numbers that cannot be this task's, such as degrees for radians."""

    def demonstrations(self, episodes: int, seed: int, **options: Any) -> Source:
        """Episodes by a scripted demonstrator. Raises BadInput for a task that has none."""
        raise BadInput(f"{self.title} has no scripted demonstrator")

    def augmentable(self, contract: Contract) -> bool:
        """Whether training augments demonstrations of this contract unless it is told not to."""
        return False

    def augment(self, demos: "Demos", chunk_size: int) -> "Demos":
        """The demonstrations, followed by others made of them. Raises BadInput where none can be made."""
        raise BadInput(f"{demos.source}: there is no augmentation for {self.title}; leave --augment out")

    # drawing

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
