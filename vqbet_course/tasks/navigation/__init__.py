"""A toy task with several equally good routes: a point robot must get to its goal round discs that lie in its way.

One disc gives two routes, two discs give four: every disc is passed on the left or on the right, and all routes
meet again between the discs. A demonstrator decides at random, and nothing that the robot observes tells how.

         .-----.
       /    _    \\
    start  (_)   goal      positions in metres, x along the way, y to its left; the n-th disc is at (n + 0.5, 0)
       \\         /
         '-----'
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract, Field, TaskContract

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RADIUS = 0.25
"""Radius of a disc in metres."""

GOAL_RADIUS = 0.15
"""The goal is reached this near to it, in metres."""

MAX_STEP = 0.05
"""The most that the robot moves in one step, in metres."""

NOISE = 0.003
"""Standard deviation in metres of the slip added to every step."""

Policy = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""position (2,) and the episode's generator -> chunk (W, 2) of displacements; all in metres."""


class NavigationEnv(gym.Env[np.ndarray, np.ndarray]):
    """The toy as a Gymnasium environment.

    Observation: position (2,) float32, metres. Action: displacement (2,) float32, metres, shortened to MAX_STEP.
    An episode starts at (0, 0) and ends on a disc (a crash), at the goal (reward 1), or after `max_steps`.
    `info` holds `crashed` and `is_success`. Raises `BadInput` without discs or for an action that is not (2,).
    """

    def __init__(self, n_discs: int = 1):
        if n_discs < 1:
            raise BadInput(f"n_discs is {n_discs}: the navigation task needs at least 1")
        self.discs = np.array([[i + 0.5, 0.0] for i in range(n_discs)])
        self.goal = np.array([float(n_discs), 0.0])
        self.max_steps = 50 * n_discs
        self.contract = TaskContract(
            robot=f"a point among {n_discs} discs",
            data=Contract({"observation.state": Field(2, "m")}, Field(2, "m"), 10.0),
            action_bounds=(-MAX_STEP, MAX_STEP),
            timing_budget_ms=100.0,
            horizon=self.max_steps,
            resets="always at (0, 0); the environment seed draws the slips",
            success="the goal is reached without touching a disc",
        )
        reach = 2 * self.max_steps * MAX_STEP
        self.observation_space = gym.spaces.Box(-reach, reach, (2,), np.float32)
        self.action_space = gym.spaces.Box(-MAX_STEP, MAX_STEP, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start an episode; `seed` makes its slips repeat."""
        super().reset(seed=seed)
        self.position: np.ndarray = np.zeros(2)
        self.steps = 0
        return self.position.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, bool]]:
        """Move by `action` (2,) metres and a little slip."""
        move = np.asarray(action, dtype=np.float64)
        if move.shape != (2,) or not np.isfinite(move).all():
            raise BadInput(f"action {move} must be two finite numbers: a displacement in metres")
        move = move * min(1.0, MAX_STEP / max(float(np.linalg.norm(move)), 1e-9))
        self.position = self.position + move + NOISE * self.np_random.standard_normal(2)
        self.steps += 1
        crashed = bool((np.linalg.norm(self.discs - self.position, axis=1) < RADIUS).any())
        success = not crashed and bool(np.linalg.norm(self.goal - self.position) < GOAL_RADIUS)
        done = crashed or success
        info = {"crashed": crashed, "is_success": success}
        return self.position.astype(np.float32), float(success), done, self.steps >= self.max_steps, info


@dataclass(frozen=True)
class Rollout:
    """One episode: path (T + 1, 2), from the start on, and actions (T, 2), in metres; how it ended; and the route,
    one number per disc: +1 passed on the left (y > 0), -1 on the right, 0 not passed."""

    path: np.ndarray
    actions: np.ndarray
    success: bool
    crashed: bool
    route: tuple[int, ...]


def rollout(policy: Policy, seed: int, n_discs: int = 1) -> Rollout:
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
    route = tuple(_side(np.array(path), disc[0]) for disc in env.discs)
    return Rollout(np.array(path), np.array(actions, np.float32), info["is_success"], info["crashed"], route)


def _side(path: np.ndarray, x: float) -> int:
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


def plot_paths(ax: "Axes", paths: list[np.ndarray], crashed: list[bool] | None = None, n_discs: int = 1) -> None:
    """Draw the world and paths (T, 2) into it: blue for arriving, orange and ending in a cross for a crash."""
    from matplotlib.patches import Circle

    env = NavigationEnv(n_discs)
    for disc in env.discs:
        ax.add_patch(Circle(tuple(disc), RADIUS, color="0.8"))
    ax.add_patch(Circle(tuple(env.goal), GOAL_RADIUS, fill=False, linestyle="--"))
    for path, crash in zip(paths, crashed or [False] * len(paths), strict=True):
        colour = "#D55E00" if crash else "#0072B2"
        ax.plot(*path.T, color=colour, alpha=0.35, linewidth=1)
        if crash:
            ax.plot(*path[-1], "x", color=colour, markersize=7)
    ax.plot(0, 0, "ko", markersize=5)
    ax.annotate("start", (0, 0), xytext=(-4, 8), textcoords="offset points", ha="center")
    ax.annotate("goal", tuple(env.goal), ha="center", va="center")
    ax.set(xlabel="x (m)", ylabel="y (m)", aspect="equal", xlim=(-0.15, n_discs + 0.2), ylim=(-0.65, 0.65))
