"""The scripted demonstrator for PushT: it sees the state, thinks in pushes and moves like a steady hand.

A push does the same to the block wherever the block lies. So what every push does (from where on the outline, in
which direction, how far) is simulated once, in the block's own frame: the `PushTable`. A plan is the push after
which the goal is nearest in time, looking one push further ahead. The pusher walks round the block to where it
starts, and pushes, steering a little, for as long as that beats leaving for another push.

Points and directions of the plane are complex numbers here: times exp(i angle) turns them. `turn` is that factor
for the block, `position` the origin of its frame. Times are in steps, lengths in pixels.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import Episode, Source
from vqbet_course.tasks.pusht.contract import INSTRUCTION, NAMES, PUSHT, SUCCESS_COVERAGE
from vqbet_course.tasks.pusht.geometry import (
    GOAL_POSE,
    KEYPOINTS,
    OUTLINE,
    PUSHER_RADIUS,
    SIZE,
    block_keypoints,
    block_pose,
)

Complex = NDArray[np.complex128]
Float = NDArray[np.float64]

STYLES = {"left": -1, "right": 1, "mixed": 0}
"""Which hand the block is on when the pusher walks round it. `left` and `right` leave one way round the T, `mixed` both:
it draws a slight preference for each episode."""

DETOUR = {"left": 3.0, "right": 3.0, "mixed": 1.3}
"""How many times longer the one way round may be before the other is taken."""

NEXT = {"next.reward": ["coverage_over_0.95"], "next.done": ["done"], "next.success": ["success"]}
NOISE = 3.0  # pixels: how far the hand is shaken while the true action is written down
FAR = 60.0  # pixels from the goal beyond which it is shaken in full
WALK_SPEED, PUSH_SPEED = 12.0, 7.0  # pixels a step
LEAD = 2.0  # gym-pusht's pusher follows a target 2 v ahead of it at v pixels a step
LOW, HIGH = 24.0, SIZE - 26.0  # between these the pusher's centre is free of the walls
CLEARANCE = 12.0  # between pusher and block on the way
SPACING = 10.0  # between contact points
ANGLES = np.deg2rad([-20, 0, 20])  # directions of pushes in the table, about the outline's normal
LENGTHS = np.array([4, 8, 12, 16, 20, 25, 30, 36, 42, 50, 58, 66, 76, 88, 100, 120, 140])
STEER = np.deg2rad([-12, 0, 12])  # changes of direction while pushing
STRIDES = np.repeat([1.0, 4.0], [16, 32])  # how a push is simulated while pushing: fine first, then coarse ...
STOPS = np.array([1, 3, 5, 7, 9, 12, *range(15, 48, 3)])  # ... and where it may end
NEVER = 300.0  # steps: longer than any episode


def as_complex(points: Float) -> Complex:
    """Points (..., 2) as complex numbers (...)."""
    return points[..., 0] + 1j * points[..., 1]


CENTRE = as_complex(KEYPOINTS).mean()
SPREAD = np.sqrt(np.mean(np.abs(as_complex(KEYPOINTS) - CENTRE) ** 2))
GOAL_TURN = np.exp(1j * GOAL_POSE[2])
GOAL_CENTRE = complex(*GOAL_POSE[:2]) + GOAL_TURN * CENTRE


def distance(position: Any, turn: Any) -> Any:
    """How far the block is from its goal in pixels, turning included: near it, the RMS over the keypoints."""
    away = np.abs(position + turn * CENTRE - GOAL_CENTRE)
    return np.hypot(away, SPREAD * np.angle(turn * np.conj(GOAL_TURN)))


def remaining(d: Any) -> Any:
    """Steps that a block d pixels from its goal is worth: anything that is not quite there costs a push."""
    return 80 * (1 - np.exp(-((d / 2) ** 2))) + d


class World:
    """gym-pusht's block and pusher in a plane without walls, to try pushes in."""

    def __init__(self) -> None:
        import pymunk
        from gym_pusht.envs.pusht import PushTEnv

        self.space = pymunk.Space()
        self.space.damping = 0.0
        self.pusher = PushTEnv.add_circle(self.space, (0, 0), PUSHER_RADIUS)
        self.block, _ = PushTEnv.add_tee(self.space, (0, 0), 0)

    def push(
        self, pusher: complex, position: complex, turn: complex, direction: complex, strides: Float
    ) -> tuple[Complex, Complex]:
        """Move the pusher by strides (S,) -> the block's positions and turns (S,) after each."""
        self.block.angle = math.atan2(turn.imag, turn.real)
        self.block.position = position.real, position.imag
        self.block.velocity, self.block.angular_velocity = (0, 0), 0
        self.pusher.position = pusher.real, pusher.imag
        self.space.reindex_shapes_for_body(self.block)
        self.space.reindex_shapes_for_body(self.pusher)
        poses = np.empty((len(strides), 3))
        for i, stride in enumerate(strides):
            self.pusher.velocity = 100 * stride * direction.real, 100 * stride * direction.imag
            self.space.step(0.01)
            poses[i] = *self.block.position, self.block.angle
        return as_complex(poses), np.exp(1j * poses[:, 2])


@functools.cache
def block_shape() -> Any:
    """The T as a shapely polygon, in its own frame."""
    import shapely

    shape = shapely.Polygon(OUTLINE)
    shapely.prepare(shape)
    return shape


def clearance(points: Any) -> Float:
    """Free pixels between the block and a pusher at points (N,) of the block's frame."""
    import shapely

    points = np.asarray(points)
    return shapely.distance(shapely.points(points.real, points.imag), block_shape()) - PUSHER_RADIUS


def clearance_on_way(starts: Any, ends: Complex) -> Float:
    """The smallest clearance on each of the straight ways from `starts` (N,) or one start to `ends` (N,)."""
    import shapely

    ways = np.stack(np.broadcast_arrays(starts, ends), axis=-1)
    lines = shapely.linestrings(np.stack([ways.real, ways.imag], axis=-1))
    return shapely.distance(lines, block_shape()) - PUSHER_RADIUS


def in_bounds(points: Complex) -> NDArray[np.bool_]:
    """Whether the pusher's centre is free of the walls at these points."""
    return (np.minimum(points.real, points.imag) > LOW) & (np.maximum(points.real, points.imag) < HIGH)


def keep_in_bounds(points: Complex) -> Complex:
    """The nearest points at which the pusher's centre is free of the walls."""
    return np.clip(points.real, LOW, HIGH) + 1j * np.clip(points.imag, LOW, HIGH)


def outline_contacts() -> tuple[Complex, Complex]:
    """Where a pusher can touch the outline: its centre (C,) and the outward normal (C,), block's frame."""
    corners = as_complex(OUTLINE)
    edges, outward = [], []
    for a, b in zip(corners, np.roll(corners, -1), strict=True):
        length, along = abs(b - a), (b - a) / abs(b - a)
        count = max(1, round((length - 8) / SPACING))
        edge = a + along * (4 + (length - 8) * (np.arange(count) + 0.5) / count)
        edges.append(edge - 1j * along * (PUSHER_RADIUS + 0.2))
        outward.append(np.full(count, -1j * along))
    points, normals = np.concatenate(edges), np.concatenate(outward)
    free = clearance(points) > 0
    return points[free], normals[free]


class PushTable:
    """All pushes in the block's frame: C contacts x len(ANGLES) directions = P pushes, L lengths each.

    start, normal (C,): the pusher's centre touching the outline, and the way out; ring (R,): evenly spaced points
    round the block to walk on; gate (C,) the ring point and depth (C,) the distance of the ring from a contact;
    contact (P,), direction (P,) of a push; shift, turn (P, L): what it does to the block; time (L,): how long it
    takes; walk (C, C): steps from one contact to another.
    """

    def __init__(self) -> None:
        self.start, self.normal = outline_contacts()
        self.ring, self.gap = self._ring()
        self.gate, self.depth = self._gates()
        self.contact = np.repeat(np.arange(len(self.start)), len(ANGLES))
        self.direction = (-self.normal[:, None] * np.exp(1j * ANGLES)).reshape(-1)
        world, strides = World(), np.ones(LENGTHS[-1])
        pushes = [
            world.push(self.start[c], 0j, 1 + 0j, d, strides) for c, d in zip(self.contact, self.direction, strict=True)
        ]
        self.shift, self.turn = (np.array([push[i][LENGTHS - 1] for push in pushes]) for i in (0, 1))
        self.time = LENGTHS / PUSH_SPEED + 2
        hops = np.abs(self.gate[:, None] - self.gate)
        way = self.gap * np.minimum(hops, len(self.ring) - hops) + self.depth[:, None] + self.depth
        same_place = np.abs(self.start[:, None] - self.start) < 6
        self.walk = np.where(same_place, NEVER, way / WALK_SPEED + 4)

    def _ring(self, n: int = 72) -> tuple[Complex, float]:
        import shapely

        line = block_shape().convex_hull.buffer(PUSHER_RADIUS + CLEARANCE).exterior
        points = shapely.get_coordinates(line.interpolate(np.arange(n) / n, normalized=True))
        ring = as_complex(points)
        turns_left = np.sum((np.conj(ring) * np.roll(ring, -1)).imag) > 0
        return ring if turns_left else ring[::-1], line.length / n

    def _gates(self) -> tuple[NDArray[np.int64], Float]:
        import shapely

        hull = block_shape().convex_hull
        out = np.arange(150.0)
        rays = self.start[:, None] + self.normal[:, None] * out
        outside = shapely.distance(shapely.points(rays.real, rays.imag), hull) > PUSHER_RADIUS + CLEARANCE
        depth = out[np.argmax(outside, axis=1)]
        gates = self.start + self.normal * depth
        return np.argmin(np.abs(gates[:, None] - self.ring), axis=1), depth

    def nearest(self, points: Any) -> NDArray[np.int64]:
        """The contact nearest to each of the points (...) of the block's frame."""
        return np.argmin(np.abs(np.asarray(points)[..., None] - self.start), axis=-1)


@functools.cache
def push_table() -> PushTable:
    """The table of all pushes, made once."""
    return PushTable()


def cost_to_go(position: Complex, turn: Complex, contact: NDArray[np.int64], may_stop: bool = True) -> Float:
    """Steps to the goal from block poses (N,) with the pusher at contacts (N,): one more straight push.

    That push starts elsewhere. With `may_stop`, doing without it is an option too.
    """
    table = push_table()
    straight = slice(len(ANGLES) // 2, None, len(ANGLES))
    shift, spin, time = table.shift[straight, ::2], table.turn[straight, ::2], table.time[::2]
    reachable = in_bounds(position[:, None] + turn[:, None] * table.start)
    walk = np.where(reachable, table.walk[contact], NEVER)
    after = remaining(distance(position[:, None, None] + turn[:, None, None] * shift, turn[:, None, None] * spin))
    best = (walk[:, :, None] + time + after).min(axis=(1, 2))
    return np.minimum(best, remaining(distance(position, turn))) if may_stop else best


@dataclass(frozen=True)
class Plan:
    """Walk to `contact`, one `way` round the block (+1, -1), then push; made when the block was at `pose`."""

    contact: int
    direction: complex
    way: int
    cost: float
    position: complex
    turn: complex


class Expert:
    """Solves PushT from the state. `way`: +1 prefers walking round with the block on the right, -1 on the left, up to
    `detour` times as far.

    `act` keeps the plan it follows; one `Expert` is for one episode.
    """

    def __init__(self, way: int = 1, detour: float = DETOUR["mixed"]) -> None:
        self.table, self.world = push_table(), World()
        self.way, self.detour = way, detour
        self.plan: Plan | None = None
        self.heading: complex | None = None  # of the push that is going on
        self.plans = 0

    def __call__(self, observation: Mapping[str, Float]) -> NDArray[np.float32]:
        """What the environment observes (`environment_state` and `agent_pos`) -> action (2,), as `act`."""
        pose = block_pose(np.asarray(observation["environment_state"])[None])[0]
        return self.act(np.concatenate([observation["agent_pos"], pose]))

    def act(self, state: Float) -> NDArray[np.float32]:
        """state (5,) as gym-pusht observes it -> action (2,): where to send the pusher, in pixels."""
        pusher, position, turn = complex(*state[:2]), complex(*state[2:4]), complex(np.exp(1j * state[4]))
        if self.heading is None:
            self.plan = self._revise(pusher, position, turn)
            if self._arrived(pusher, position, turn):
                self.heading = turn * self.plan.direction
        if self.heading is not None:
            self._steer(pusher, position, turn)
        move = self._walk if self.heading is None else self._push
        target = move(pusher, position, turn)
        # In eighths of a pixel, so that the last bit of a sine, which differs between CPUs, changes no episode.
        action = np.round(np.array([target.real, target.imag]) * 8) / 8
        return np.clip(action, LOW - 12, HIGH + 12).astype(np.float32)

    def _revise(self, pusher: complex, position: complex, turn: complex) -> Plan:
        """The plan to follow: the present one unless the block has moved and another one is clearly better."""
        old = self.plan
        if old is not None:
            moved = abs(position + turn * CENTRE - old.position - old.turn * CENTRE)
            if moved + SPREAD * abs(turn - old.turn) < 2:
                return old
        new = self._choose(pusher, position, turn, leaving=False)
        if old is not None and (new.contact == old.contact or new.cost > old.cost - 4):
            return Plan(old.contact, old.direction, old.way, old.cost, position, turn)
        self.plans += 1
        return new

    def _choose(self, pusher: complex, position: complex, turn: complex, leaving: bool) -> Plan:
        table = self.table
        walks = self._walk_times(pusher, position, turn, leaving)
        start = position + turn * table.start
        walk = np.where(in_bounds(start), walks.min(axis=0), NEVER)
        ends = start[table.contact, None] + turn * table.direction[:, None] * LENGTHS
        first = np.where(in_bounds(ends), table.time + walk[table.contact, None], NEVER)
        positions, turns = position + turn * table.shift, turn * table.turn
        greedy = first + remaining(distance(positions, turns))
        top = np.argsort(greedy, axis=None, kind="stable")[:200]
        p, t = positions.flat[top], turns.flat[top]
        cost = first.flat[top] + cost_to_go(p, t, table.nearest((ends.flat[top] - p) / t))
        best = int(np.argmin(cost))
        push = int(top[best]) // len(LENGTHS)
        contact = int(table.contact[push])
        way = (-1, 1)[int(np.argmin(walks[:, contact]))]
        return Plan(contact, complex(table.direction[push]), way, float(cost[best]), position, turn)

    def _walk_times(self, pusher: complex, position: complex, turn: complex, leaving: bool) -> Float:
        """Steps to every contact, walking round by -1 and by +1: (2, C)."""
        table, n = self.table, len(self.table.ring)
        seen = (pusher - position) / turn
        blocked = clearance((keep_in_bounds(position + turn * table.ring) - position) / turn) < 3
        near = int(np.argmin(np.abs(table.ring - seen)))
        times = []
        for way in (-1, 1):
            hops = way * (table.gate - near) % n
            time = (hops * table.gap + abs(table.ring[near] - seen) + table.depth) / WALK_SPEED + 2
            time = time if way == self.way else self.detour * time + 2
            met = np.cumsum(blocked[(near + way * np.arange(n)) % n])
            times.append(np.where(met[hops] > 0, NEVER, time))
        here = np.abs(table.start - seen) < 6
        return np.where(here, NEVER if leaving else 1.0, times)

    def _arrived(self, pusher: complex, position: complex, turn: complex) -> bool:
        off = self._off(pusher, position, turn)
        return abs(off.imag) < 4 and -3 < off.real < 6

    def _off(self, pusher: complex, position: complex, turn: complex) -> complex:
        """How far the pusher is from its contact: outwards (real) and along the outline (imaginary)."""
        assert self.plan is not None
        contact = self.plan.contact
        return ((pusher - position) / turn - self.table.start[contact]) / self.table.normal[contact]

    def _steer(self, pusher: complex, position: complex, turn: complex) -> None:
        """Choose the heading and the length of what is left to push, or leave for a better push."""
        assert self.heading is not None
        reach = np.cumsum(STRIDES)[STOPS]
        options = []
        for angle in STEER:
            heading = self.heading * complex(np.exp(1j * angle))
            p, t = (x[STOPS] for x in self.world.push(pusher, position, turn, heading, STRIDES))
            ends = (pusher + heading * reach - p) / t
            cost = reach / PUSH_SPEED + cost_to_go(p, t, self.table.nearest(ends)) + 0.1 * abs(angle)
            moves = np.abs(p - position) + SPREAD * np.abs(t - turn) > 0.5
            best = int(np.argmin(np.where(moves, cost, NEVER)))
            options.append((float(cost[best]) if moves.any() else NEVER, heading, float(reach[best])))
        cost, self.heading, self.length = min(options, key=lambda option: option[0])
        here = self.table.nearest([(pusher - position) / turn])
        if cost > cost_to_go(np.array([position]), np.array([turn]), here, may_stop=False)[0] - 1:
            other = self._choose(pusher, position, turn, leaving=True)
            if other.cost < cost - 1:
                self.plan, self.heading = other, None
                self.plans += 1

    def _push(self, pusher: complex, position: complex, turn: complex) -> complex:
        assert self.heading is not None
        return pusher + self.heading * min(LEAD * PUSH_SPEED, self.length + 3)

    def _walk(self, pusher: complex, position: complex, turn: complex) -> complex:
        """Where to go on to: in to the contact, or to the farthest visible point of the way round."""
        table, plan = self.table, self.plan
        assert plan is not None
        off = self._off(pusher, position, turn)
        start, normal = table.start[plan.contact], table.normal[plan.contact]
        if abs(off.imag) < 3 + 0.25 * off.real and 0 <= off.real < table.depth[plan.contact] + 12:
            gap = position + turn * (start - 6 * normal) - pusher
            return pusher + gap / abs(gap) * LEAD * PUSH_SPEED
        n = len(table.ring)
        seen = (pusher - position) / turn
        near = int(np.argmin(np.abs(table.ring - seen)))
        hops = plan.way * (table.gate[plan.contact] - near) % n
        hops = 0 if hops > 0.9 * n else hops
        way = table.ring[(near + plan.way * np.arange(hops + 1)) % n]
        way = np.append(way, start + normal * min(table.depth[plan.contact], CLEARANCE))
        way = (keep_in_bounds(position + turn * way) - position) / turn
        # Keep clear of the block; close to it, get away from it first.
        wanted = np.minimum(clearance(way), 0.7 * CLEARANCE) - 0.3
        clear = clearance_on_way(seen, way) > np.minimum(wanted, clearance(seen) - 0.3)
        clear &= clearance_on_way(0.7 * seen + 0.3 * way, way) > wanted
        visible = np.flatnonzero(clear)
        gap = turn * (way[visible[-1] if len(visible) else 0] - seen)
        return pusher + gap / max(abs(gap), 1e-6) * LEAD * WALK_SPEED


@dataclass(frozen=True)
class Solution:
    """One episode of the demonstrator, T frames at 10 Hz: what was seen before each action, the action, what it brought.

    states (T, 5): pusher x, y, block x, y in pixels, block angle in radians; actions (T, 2) float32 pixels: what
    the expert wanted, before its hand shook; done (T, 2) float32 pixels: what the shaken hand did; coverage (T,)
    after the action.
    """

    seed: int
    states: Float
    actions: NDArray[np.float32]
    done: NDArray[np.float32]
    coverage: Float
    success: bool


def solve(seed: int, style: str = "mixed", noise: float = NOISE, max_steps: int = 300) -> Solution:
    """Solve the environment of this seed, or try for `max_steps`. The same arguments give the same episode.

    `noise`, in pixels, shakes the hand (Laskey et al. 2017, "DART"): what is done drifts off from what was wanted
    and recorded, so that the demonstrations show how to come back. The hand is steadier near the goal.
    Raises `BadInput` for an unknown style or a negative noise.
    """
    from gym_pusht.envs.pusht import PushTEnv

    if style not in STYLES:
        raise BadInput(f"style {style!r} is unknown: choose one of {', '.join(STYLES)}")
    if not 0 <= noise < SIZE:
        raise BadInput(f"noise {noise} is no number of pixels: choose one from 0 to about 10")
    rng = np.random.default_rng(seed)
    way = int(rng.choice([-1, 1]))
    expert = Expert(STYLES[style] or way, DETOUR[style])
    env = PushTEnv(obs_type="state")
    state, _ = env.reset(seed=seed)
    states: list[Float] = []
    actions: list[NDArray[np.float32]] = []
    shaken: list[NDArray[np.float32]] = []
    coverage: list[float] = []
    shake: Float = np.zeros(2)
    solved = False
    while not solved and len(states) < max_steps:
        action = expert.act(state)
        states.append(state)
        actions.append(action)
        shake = 0.8 * shake + 0.6 * noise * rng.standard_normal(2)
        far = distance(complex(*state[2:4]), np.exp(1j * state[4]))
        did = np.clip(np.round((action + shake * min(1.0, far / FAR)) * 8) / 8, 0, SIZE)
        shaken.append(did.astype(np.float32))
        state, _, solved, _, info = env.step(did)
        coverage.append(info["coverage"])
    return Solution(seed, np.array(states), np.array(actions), np.array(shaken), np.array(coverage), bool(solved))


def make_episodes(
    n: int, seed: int = 0, style: str = "mixed", noise: float = NOISE, workers: int = 1
) -> Iterator[Solution]:
    """The first n solved episodes of environment seeds seed, seed + 1, ..., whatever the number of workers."""
    attempt = functools.partial(solve, style=style, noise=noise)
    if workers == 1:
        yield from itertools.islice((e for e in map(attempt, itertools.count(seed)) if e.success), n)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        batches = (pool.map(attempt, range(s, s + 4 * workers)) for s in itertools.count(seed, 4 * workers))
        episodes = itertools.chain.from_iterable(batches)
        yield from itertools.islice((e for e in episodes if e.success), n)


def expert_source(
    episodes: int, seed: int = 0, style: str = "mixed", noise: float = NOISE, workers: int = 1, shaken: bool = False
) -> Source:
    """Solved episodes as a source, made while it is read; `shaken`: what the shaken hand did is what was recorded.

    Raises `BadInput` as `solve` does."""

    def read(first: int) -> Iterator[Episode]:
        made = make_episodes(episodes, seed, style, noise, workers)
        for episode in itertools.islice(made, first, None):
            yield Episode(
                columns_of(replace(episode, actions=episode.done) if shaken else episode),
                f"environment seed {episode.seed}",
            )

    path = f"{episodes} solved environment seeds from {seed}, style {style}, hand shaken by {noise:g} px"
    return Source(
        path,
        "made when asked for",
        episodes,
        read,
        PUSHT.fps,
        units=PUSHT.units(),
        names=NAMES | NEXT,
        task=INSTRUCTION,
        robot="2d pointer",
        operator="the scripted expert of vqbet_course",
        license="apache-2.0",
    )


def columns_of(episode: Solution) -> dict[str, Float]:
    """What LeRobot keeps of PushT, (T, size) each; `next.*` is what the step brought."""
    reward = np.clip(episode.coverage / SUCCESS_COVERAGE, 0, 1).astype(np.float32)
    done = np.arange(len(reward)) == len(reward) - 1
    return {
        "observation.environment_state": block_keypoints(episode.states[:, 2:]).astype(np.float32),
        "observation.state": episode.states[:, :2].astype(np.float32),
        "action": episode.actions,
        "next.reward": reward[:, None],
        "next.done": done[:, None],
        "next.success": episode.coverage[:, None] > SUCCESS_COVERAGE,
    }
