"""Demonstrations of the navigation task, and episodes of any policy in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import Episode, Source
from vqbet_course.demos import Demos
from vqbet_course.tasks.navigation.environment import INSTRUCTION, MAX_STEP, NavigationEnv

BEHIND_THE_GOAL = 20
"""Steps that demonstrations walk on behind the goal where long chunks learn from them."""

WIDTH = 0.43
"""Metres from the middle of the disc at which a guide passes it: the middle of what demonstrators draw."""

OFF_AXIS = 0.02
"""Metres from the axis beyond which a robot is on one side of it."""

Policy = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""position (2,) and the episode's generator -> chunk (W, 2) of displacements; all in metres."""


@dataclass(frozen=True)
class Walk:
    """One episode: path (T + 1, 2), from the start on, and actions (T, 2), in metres; how it ended; and the route,
    one number per disc: +1 passed on the left (y > 0), -1 on the right, 0 not passed."""

    path: np.ndarray
    actions: np.ndarray
    success: bool
    crashed: bool
    route: tuple[int, ...]


def rollout(policy: Policy, seed: int, n_discs: int = 1) -> Walk:
    """Run `policy` for one episode, each chunk to its end. The same seed gives the same episode."""
    env = NavigationEnv(n_discs)
    position, _ = env.reset(seed=seed)
    generator = np.random.default_rng(seed)
    path, actions, ended, info = [position], [], False, dict[str, bool]()
    while not ended:
        for action in policy(position, generator):
            position, _, done, late, info = env.step(action)
            path.append(position)
            actions.append(action)
            if ended := done or late:
                break
    route = tuple(side_passed(np.array(path), disc[0]) for disc in env.discs)
    return Walk(np.array(path), np.array(actions, np.float32), info["is_success"], info["crashed"], route)


def side_passed(path: np.ndarray, x: float) -> int:
    """On which side of the axis the path (T, 2) first gets past x: +1, -1, or 0 when it never does."""
    beyond = np.flatnonzero(path[:, 0] > x)
    return int(np.sign(path[beyond[0], 1])) if len(beyond) else 0


def demonstrator(route: tuple[int, ...], width: float) -> Policy:
    """A demonstrator that passes disc n on the side `route[n]`, at `width` metres from its centre.

    It steers by what it sees: it aims at the point of its arc that is MAX_STEP further along x.
    """

    def act(position: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        x = min(float(position[0]) + MAX_STEP, len(route))
        side = route[min(int(x), len(route) - 1)]
        aim = np.array([x, side * width * abs(np.sin(np.pi * x))]) - position
        return (aim * MAX_STEP / np.linalg.norm(aim))[None].astype(np.float32)

    return act


class Guide:
    """The demonstrator for one episode of one disc, asked in any state: it passes the disc on the side that `seed` draws,
    or, once the robot is off the axis, on the side where it is, and keeps to it. It stops in the middle of the goal."""

    def __init__(self, seed: int) -> None:
        self.side, self.decided = int(np.random.default_rng(seed).choice([-1, 1])), False

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Position (2,) -> displacement (2,); metres."""
        if not self.decided and abs(observation[1]) > OFF_AXIS:
            self.side, self.decided = int(np.sign(observation[1])), True
        move = demonstrator((self.side,), WIDTH)(observation, np.random.default_rng(0))[0]
        return move * np.float32(min(1.0, np.hypot(observation[0] - 1, observation[1]) / MAX_STEP))


@dataclass(frozen=True)
class NavigationDemos:
    """Demonstrations, end to end: observation (N, 2) positions and action (N, 2) displacements, float32 metres;
    episode_ends (E,), the frame after the last of each episode; route (E, n_discs), +1 or -1, never observed."""

    observation: np.ndarray
    action: np.ndarray
    episode_ends: np.ndarray
    route: np.ndarray


def make_demos(n_episodes: int = 100, seed: int = 0, n_discs: int = 1) -> NavigationDemos:
    """Demonstrations of the task, each on a route drawn at random. Raises `BadInput` for fewer than one.

    Route and width come from the episode's own generator and appear in no observation: all start at (0, 0).
    """
    if n_episodes < 1:
        raise BadInput(f"n_episodes is {n_episodes}: ask for at least 1 demonstration")
    episodes, routes = [], []
    for number in range(n_episodes):
        generator = np.random.default_rng((seed, number))
        route = tuple(int(side) for side in generator.choice([-1, 1], n_discs))
        width = generator.uniform(0.38, 0.48)
        episodes.append(rollout(demonstrator(route, width), int(generator.integers(2**31)), n_discs))
        routes.append(route)
    return NavigationDemos(
        observation=np.concatenate([episode.path[:-1] for episode in episodes]),
        action=np.concatenate([episode.actions for episode in episodes]),
        episode_ends=np.cumsum([len(episode.actions) for episode in episodes]),
        route=np.array(routes),
    )


def walking_on(toy: NavigationDemos) -> Demos:
    """The demonstrations, which walk on behind the goal as they came. What lies less than a chunk before the end of a
    demonstration is never learned from; without this, policies of long chunks would not know the goal."""
    ahead = np.arange(1, BEHIND_THE_GOAL + 1)[:, None]
    places, moves = [], []
    for start, end in zip([0, *toy.episode_ends[:-1]], toy.episode_ends, strict=True):
        place, move = toy.observation[end - 1], toy.action[end - 1]
        places += [toy.observation[start:end], place + ahead * move]
        moves += [toy.action[start:end], np.tile(move, (BEHIND_THE_GOAL, 1))]
    ends = toy.episode_ends + BEHIND_THE_GOAL * np.arange(1, len(toy.episode_ends) + 1)
    return Demos(
        {"observation.state": np.concatenate(places).astype(np.float32)},
        np.concatenate(moves),
        ends,
        10.0,
        "navigation",
    )


def navigation_source(episodes: int, seed: int, walk_on: bool = False) -> Source:
    """Demonstrations as a source; with `walk_on`, they go on behind the goal (`walking_on`)."""
    toy = make_demos(episodes, seed)
    plain = Demos({"observation.state": toy.observation}, toy.action, toy.episode_ends, 10.0, "navigation")
    demos = walking_on(toy) if walk_on else plain
    contract = NavigationEnv().contract.data

    def read(first: int) -> Iterator[Episode]:
        for number in islice(range(episodes), first, None):
            one = demos.select([number])
            yield Episode(one.columns, f"episode {number}")

    return Source(
        f"{episodes} walks, seed {seed}",
        "made when asked for",
        episodes,
        read,
        contract.fps,
        units=contract.units(),
        task=INSTRUCTION,
        robot="a point",
        operator="the scripted demonstrator of vqbet_course",
        license="apache-2.0",
    )
