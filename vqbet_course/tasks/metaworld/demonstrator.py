"""MetaWorld's scripted policies as demonstrators: the hand is shaken and pushed while what was wanted is recorded."""

import functools
import itertools
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import Episode, Source
from vqbet_course.tasks.metaworld.contract import METAWORLD, OBJECTS, STATE, number_names
from vqbet_course.tasks.metaworld.environment import MetaWorldEnv

NOISE = 0.1  # cm a step: how far the hand is shaken while the true action is written down
PUSH_EVERY, PUSH_STEPS = 40, 6  # it is also pushed: how seldom, and for how many steps
PUSH = 8.0  # so many times as far as it is shaken
AFTER = 8  # steps that an episode goes on after success
GIVE_UP = 400  # steps

NEXT = {"next.reward": ["progress"], "next.done": ["done"], "next.success": ["success"]}


def scripted(name: str) -> Any:
    """MetaWorld's scripted policy for the task of this name."""
    from metaworld.policies import ENV_POLICY_MAP

    policies: Mapping[str, Any] = ENV_POLICY_MAP
    return policies[f"{name}-v3"]()


def wanted(policy: Any, view: np.ndarray) -> NDArray[np.float32]:
    """The action (4,) that a scripted policy takes for numbers (39,), within the bounds, in steps of 1/256, so that the
    last bit, which differs between CPUs, changes no episode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MetaWorld warns of every action that its environment clips
        action = np.asarray(policy.get_action(view), dtype=np.float64)
    return (np.round(action.clip(-1, 1) * 256) / 256).astype(np.float32)


class Scripted:
    """The demonstrator for one episode, asked in any state."""

    def __init__(self, name: str) -> None:
        self.policy, self.before = scripted(name), None

    def __call__(self, observation: Mapping[str, np.ndarray]) -> NDArray[np.float32]:
        """What the environment observes -> action (4,)."""
        objects = np.asarray(observation["environment_state"], dtype=float)
        now = np.concatenate([np.asarray(observation["agent_pos"], dtype=float), objects[:14]])
        before = now if self.before is None else self.before
        self.before = now
        return wanted(self.policy, np.concatenate([now, before, objects[14:]]))


def shaken(noise: float, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """What is added to each action of a hand that is shaken and pushed, (4,): the gripper is left alone."""
    shake: NDArray[np.float64] = np.zeros(3)
    push: NDArray[np.float64] = np.zeros(3)
    left = 0
    while True:
        if generator.random() < 1 / PUSH_EVERY:
            push, left = generator.standard_normal(3), PUSH_STEPS
            push *= PUSH * noise / np.linalg.norm(push)
        shake = 0.8 * shake + 0.6 * noise * generator.standard_normal(3)
        yield np.append(shake + push * (left > 0), 0.0)
        left -= 1


def scripted_episode(env: MetaWorldEnv, seed: int, noise: float = NOISE) -> dict[str, np.ndarray] | None:
    """The columns (T, size) of one episode as LeRobot keeps them, `next.*` what the step brought; None where it fails.
    The same arguments give the same episode. noise, in cm a step: 0 disturbs nothing."""
    policy, generator = scripted(env.name), np.random.default_rng((seed, 1))
    observation, _ = env.reset(seed=seed)
    rows: list[tuple[Any, ...]] = []
    disturbance, left, won = shaken(noise, generator), AFTER, False
    while left and len(rows) < GIVE_UP:
        action = wanted(policy, env.scripted_view())
        seen = observation
        observation, reward, _, _, info = env.step((action + next(disturbance)).astype(np.float32))
        won = won or info["is_success"]
        rows.append((seen["environment_state"], seen["agent_pos"], action, [reward], [False], [info["is_success"]]))
        left -= won
    if not won:
        return None
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    columns[4][-1] = True
    names = [OBJECTS, STATE, "action", *NEXT]
    numbers = [c.astype(np.float32) if c.dtype == np.float64 else c for c in columns]
    return dict(zip(names, numbers, strict=True))


def demonstrations_of(name: str, instruction: str, episodes: int, seed: int = 0, noise: float = NOISE) -> Source:
    """The first solved episodes of environment seeds seed, seed + 1, ..., made while they are read. noise in cm a step.
    Raises BadInput for a noise that is no such number."""
    if not 0 <= noise <= 1:
        raise BadInput(f"noise {noise} is no number of centimetres a step: choose one from 0 to 1")

    def read(first: int) -> Iterator[Episode]:
        env = MetaWorldEnv(name, render_mode=None)
        tried = map(functools.partial(scripted_episode, env, noise=noise), itertools.count(seed))
        solved = ((columns, seed + i) for i, columns in enumerate(tried) if columns is not None)
        for columns, used in itertools.islice(solved, first, episodes):
            yield Episode(columns, f"environment seed {used}")

    return Source(
        f"{episodes} solved environment seeds from {seed} of metaworld-{name}, hand shaken by {noise:g} cm",
        "made when asked for",
        episodes,
        read,
        METAWORLD.fps,
        units=METAWORLD.units(),
        names=number_names(name) | NEXT,
        task=instruction,
        robot="sawyer (simulated)",
        operator="the scripted policy of MetaWorld 3.0",
        license="mit",
    )
