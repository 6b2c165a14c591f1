"""MetaWorld's fifty tasks as tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract
from vqbet_course.datasets.source import Source
from vqbet_course.tasks.metaworld import METAWORLD_NAMES
from vqbet_course.tasks.metaworld.contract import metaworld_contract, number_names
from vqbet_course.tasks.metaworld.perturbations import METAWORLD_KINDS, OBJECT_KINDS
from vqbet_course.tasks.metaworld.traces import FAILURE_RULES, at_object, object_moved
from vqbet_course.tasks.perturbations import Kind
from vqbet_course.tasks.rendering import NO_LIBRARY, renders
from vqbet_course.tasks.task import IMAGE, Demonstrator, Task

LOOSE = """
    assembly basketball bin-picking coffee-pull coffee-push hammer hand-insert peg-insert-side pick-place pick-place-wall
    push push-back push-wall shelf-place soccer stick-pull stick-push sweep sweep-into
"""
"""The tasks whose first object lies loose on the table."""


class MetaWorld(Task):
    """One of MetaWorld's fifty tasks, by its name without `-v3`. Raises BadInput for another name."""

    family = "metaworld"
    laptop: Mapping[str, Any] = {
        "use_relative_actions": False,  # an action is a displacement already
        "dropout": 0.05,
        "optimizer_weight_decay": 0.01,
        "bet_softmax_temperature": 0.5,
    }
    progress_key = "progress"
    frame_every = 8
    cameras = (IMAGE,)
    needs: Mapping[str, str] = {"metaworld": "vqbet_course[arms]"}
    failure_rules: Mapping[str, Callable[..., str | None]] = FAILURE_RULES
    milestones: Mapping[str, Callable[[np.ndarray], bool]] = {
        "hand at the object": at_object,
        "object moved": object_moved,
    }

    def __init__(self, member: str) -> None:
        if member not in METAWORLD_NAMES:
            raise BadInput(f"MetaWorld has no task {member!r}; choose from {', '.join(METAWORLD_NAMES)}")
        self.member, self.name = member, f"metaworld-{member}"
        self.title = f"MetaWorld {member}"
        self.instruction = f"{member.replace('-', ' ').capitalize()}."
        self.contract = metaworld_contract(member)
        self.perturbations: Mapping[str, Kind] = {
            **METAWORLD_KINDS,
            **(OBJECT_KINDS if member in LOOSE.split() else {}),
        }

    def make_env(self) -> gym.Env:
        from vqbet_course.tasks.metaworld.environment import MetaWorldEnv

        return MetaWorldEnv(self.member)

    def cannot_render(self) -> str:
        return "" if renders() else NO_LIBRARY

    def with_cameras(self, names: Sequence[str]) -> Task:
        from vqbet_course.tasks.metaworld.camera import ArmCamera

        unknown = {*names} - {*self.cameras}
        if unknown:
            raise BadInput(f"{self.title} has no camera {min(unknown)}; it has {', '.join(self.cameras)}")
        if names and self.cannot_render():
            raise BadInput(f"{self.title}: the policy observes images: {self.cannot_render()}")
        make = self.make_env
        return self.with_env(lambda: ArmCamera(make())) if names else self

    def owns(self, contract: Contract) -> bool:
        """As any task; moreover, the names of the action's numbers say which of MetaWorld's tasks it is."""
        return super().owns(contract) and list(contract.action.names) == number_names(self.member)["action"]

    def adapt(self, source: Source, asked: bool = False) -> Source | None:
        """As any task; moreover, data that say of which of MetaWorld's tasks they are, are no other's."""
        said = {name.partition(".")[0] for name in source.names.get("action", ())} & {*METAWORLD_NAMES}
        if asked and said - {self.member}:
            raise BadInput(
                f"{source.path}: demonstrations of metaworld-{min(said)}, not of {self.name}; leave --task {self.name} out"
            )
        if asked:
            source = replace(source, names=source.names | number_names(self.member))
        return super().adapt(source, asked)

    def demonstrations(self, episodes: int, seed: int, **options: Any) -> Source:
        """Episodes that MetaWorld's scripted policy solves. options: noise in cm a step. Raises BadInput for another
        one."""
        unknown = options.keys() - {"noise"}
        if unknown:
            raise BadInput(f"{self.title}'s demonstrator has no option {min(unknown)}")
        from vqbet_course.tasks.metaworld.demonstrator import demonstrations_of

        return demonstrations_of(self.member, self.instruction, episodes, seed, **options)

    def demonstrator(self, seed: int) -> Demonstrator:
        """MetaWorld's scripted policy; it draws nothing."""
        from vqbet_course.tasks.metaworld.demonstrator import Scripted

        return Scripted(self.member)

    def copy_env(self, env: gym.Env) -> gym.Env:
        from vqbet_course.tasks.metaworld.environment import copied_arm

        return copied_arm(env)
