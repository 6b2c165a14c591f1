"""The transfer of a cube and the insertion of a peg by two arms of ALOHA, as tasks."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import Episode, Frames, Source
from vqbet_course.tasks.aloha.contract import INSERTION, TRANSFER, AlohaScene
from vqbet_course.tasks.aloha.perturbations import ALOHA_KINDS
from vqbet_course.tasks.aloha.traces import (
    INSERTION_WAYS,
    TRANSFER_WAYS,
    failure_rules_of,
    milestones_of,
    way_of_insertion,
    way_of_transfer,
)
from vqbet_course.tasks.perturbations import Kind
from vqbet_course.tasks.rendering import NO_LIBRARY, renders
from vqbet_course.tasks.task import IMAGE, Demonstrator, Task

if TYPE_CHECKING:
    from vqbet_course.demos import Demos


class Aloha(Task):
    """What both tasks have in common."""

    aloha: AlohaScene
    progress_key = "progress"
    frame_size = (96, 96, 3)
    cameras = (IMAGE,)
    frame_every = 5
    needs: Mapping[str, str] = {"gym_aloha": "gym-aloha"}
    perturbations: Mapping[str, Kind] = ALOHA_KINDS

    def make_env(self) -> gym.Env:
        from vqbet_course.tasks.aloha.environment import AlohaEnv

        return AlohaEnv(self.aloha.name)

    def cannot_render(self) -> str:
        return "" if renders() else NO_LIBRARY

    def starting_from(self, demos: "Demos", resets: str) -> Task:
        from vqbet_course.tasks.aloha.environment import DemonstratedScene

        own = self.contract.data.observation
        if demos.contract.observing(own).observation != own:
            return super().starting_from(demos, resets)
        make = self.make_env
        return self.with_env(lambda: DemonstratedScene(make(), demos, resets))

    def with_cameras(self, names: Sequence[str]) -> Task:
        from vqbet_course.tasks.aloha.environment import AlohaCamera

        if set(names) - {*self.cameras}:
            raise BadInput(f"{self.title} observes {IMAGE} alone, and the policy {', '.join(names)}")
        make = self.make_env
        return self.with_env(lambda: AlohaCamera(make())) if names else self

    def demonstrations(self, episodes: int, seed: int, **options: Any) -> Source:
        """Episodes that the scripted demonstrator solves. options: noise in radians. Raises BadInput for another one."""
        unknown = options.keys() - {"noise"}
        if unknown:
            raise BadInput(f"the demonstrator of {self.name} has no option {min(unknown)}")
        from vqbet_course.tasks.aloha.demonstrator import aloha_source

        return aloha_source(self.aloha, episodes, seed, **options)

    def demonstrator(self, seed: int) -> Demonstrator:
        """The scripted demonstrator; the seed draws its style."""
        from vqbet_course.tasks.aloha.demonstrator import AlohaExpert

        return AlohaExpert.drawn(self.aloha, np.random.default_rng((seed, 1)))

    def copy_env(self, env: gym.Env) -> gym.Env:
        from vqbet_course.tasks.aloha.environment import copied_scene

        return copied_scene(env)

    def draw(self, episode: Episode) -> Frames:
        from vqbet_course.tasks.aloha.drawing import rendered_states

        return rendered_states(self.aloha, episode, self.frame_size[0])


class AlohaTransfer(Aloha):
    """The right arm picks up a cube and hands it over to the left arm."""

    name, title, aloha = "aloha-transfer", "ALOHA's transfer", TRANSFER
    instruction, contract = TRANSFER.instruction, TRANSFER.contract
    behaviours = TRANSFER_WAYS
    milestones = milestones_of(TRANSFER)
    failure_rules: Mapping[str, Callable[..., str | None]] = failure_rules_of(TRANSFER)
    laptop: Mapping[str, Any] = {
        "n_obs_steps": 1,
        "action_chunk_size": 20,  # 0.4 s
        "n_action_steps": 10,
        "average_chunks": True,
        "use_relative_actions": False,
        "offset_code": "sampled",
        "bet_softmax_temperature": 0.1,
        "dropout": 0.05,
        "optimizer_weight_decay": 0.01,
    }

    def behaviour_of(self, truth: np.ndarray, contacts: Sequence[int | None]) -> str | None:
        return way_of_transfer(truth)


class AlohaInsertion(Aloha):
    """Each arm picks up a part, and they put the peg into the socket."""

    name, title, aloha = "aloha-insertion", "ALOHA's insertion", INSERTION
    instruction, contract = INSERTION.instruction, INSERTION.contract
    behaviours = INSERTION_WAYS
    milestones = milestones_of(INSERTION)
    failure_rules: Mapping[str, Callable[..., str | None]] = failure_rules_of(INSERTION)
    laptop = AlohaTransfer.laptop

    def behaviour_of(self, truth: np.ndarray, contacts: Sequence[int | None]) -> str | None:
        return way_of_insertion(truth)
