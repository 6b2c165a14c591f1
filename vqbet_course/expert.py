"""The scripted demonstrator for PushT: it sees the state, thinks in pushes and acts like a steady hand.

Points of the plane are complex numbers here: multiplying by exp(i angle) turns them.

Pushing is the same wherever the block lies, so what every push does to the block is simulated once, in the
block's own frame (`PushTable`). A plan is the push, of all contact points, directions and lengths, after which
the goal is nearest in time, looking one push further ahead. The pusher walks to it round the block, and pushes
while that helps, steering a little.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vqbet_course.contract import BadInput
from vqbet_course.pusht import GOAL_POSE, KEYPOINTS, OUTLINE, PUSHER_RADIUS, SIZE

STYLES = ("left", "right", "mixed")

WALK_SPEED, PUSH_SPEED = 12.0, 7.0  # pixels a step
LEAD = 2.0  # the target that moves gym-pusht's pusher at a steady v pixels a step is 2 v ahead of it
CLEARANCE = 12.0  # pixels between pusher and block on the way
SPACING = 10.0  # pixels between contact points
ANGLES = np.deg2rad([-20, 0, 20])  # push directions about the normal
LENGTHS = np.array([4, 8, 12, 16, 20, 25, 30, 36, 42, 50, 58, 66, 76, 88, 100, 120, 140])  # pixels
STEER = np.deg2rad([-12, 0, 12])
STRIDES = np.concatenate([np.ones(16), np.full(32, 4)])
PICK = np.r_[1, 3, 5, 7, 9, 12, 15:48:3]
REACH = np.cumsum(STRIDES)[PICK]
DEBUG = False
NOISE = 3.0
import os
FAR = float(os.environ.get('FAR', 60))
LAM = float(os.environ.get('LAM', 1))
CON = float(os.environ.get('CON', 60))
SCL = float(os.environ.get('SCL', 2.5))
LOW, HIGH = 24.0, SIZE - 26.0  # where the pusher's centre is free of the walls


def _complex(points: np.ndarray) -> np.ndarray:
    return points[..., 0] + 1j * points[..., 1]


CENTRE = _complex(KEYPOINTS).mean()
SPREAD = np.mean(np.abs(_complex(KEYPOINTS) - CENTRE) ** 2)
GOAL_TURN = np.exp(1j * GOAL_POSE[2])
GOAL_CENTRE = complex(*GOAL_POSE[:2]) + GOAL_TURN * CENTRE


def distance(position, turn):
    """How far the block is from its goal: root mean square over its keypoints while small, in pixels."""
    away = np.abs(position + turn * CENTRE - GOAL_CENTRE)
    return np.sqrt(away**2 + SPREAD * np.angle(turn * np.conj(GOAL_TURN)) ** 2)


def remaining(d):
    """Steps that a block d pixels from its goal is worth."""
    return CON * (1 - np.exp(-((d / SCL) ** 2))) + LAM * d


class World:
    """gym-pusht's block and pusher in an empty plane."""

    def __init__(self):
        import pymunk
        from gym_pusht.envs.pusht import PushTEnv

        self.space = pymunk.Space()
        self.space.damping = 0.0
        self.pusher = PushTEnv.add_circle(self.space, (0, 0), PUSHER_RADIUS)
        self.block, _ = PushTEnv.add_tee(self.space, (256, 256), 0)

    def push(self, pusher, position, turn, direction, strides):
        """Push by strides (S,) pixels -> block positions and turns (S,), one after each stride."""
        self.block.angle = float(np.angle(turn))
        self.block.position = position.real, position.imag
        self.block.velocity, self.block.angular_velocity = (0, 0), 0
        self.pusher.position = pusher.real, pusher.imag
        self.space.reindex_shapes_for_body(self.block)
        self.space.reindex_shapes_for_body(self.pusher)
        poses = np.empty((len(strides), 3))
        for i, stride in enumerate(strides):
            self.pusher.velocity = 100 * stride * direction.real, 100 * stride * direction.imag
            self.space.step(0.01)
            poses[i, :2] = self.block.position
            poses[i, 2] = self.block.angle
        return _complex(poses), np.exp(1j * poses[:, 2])


class PushTable:
    def __init__(self):
        import shapely.geometry as sg

        tee = sg.Polygon(OUTLINE)
        ring = tee.convex_hull.buffer(PUSHER_RADIUS + CLEARANCE).exterior
        n = 72
        self.ring_length = ring.length
        self.ring = np.array([complex(*ring.interpolate(i / n, normalized=True).coords[0]) for i in range(n)])
        area = np.sum(self.ring.real * np.roll(self.ring.imag, -1) - np.roll(self.ring.real, -1) * self.ring.imag)
        if area < 0:
            self.ring = self.ring[::-1]
        hull = tee.convex_hull.buffer(PUSHER_RADIUS + CLEARANCE)
        starts, normals = [], []
        corners = _complex(OUTLINE)
        for a, b in zip(corners, np.roll(corners, -1)):
            normal = (b - a) / abs(b - a) * -1j
            if tee.contains(sg.Point(((a + b) / 2 + normal).real, ((a + b) / 2 + normal).imag)):
                normal = -normal
            count = max(1, round((abs(b - a) - 8) / SPACING))
            for k in range(count):
                c = a + (b - a) / abs(b - a) * (4 + (abs(b - a) - 8) * (k + 0.5) / count)
                s = c + normal * (PUSHER_RADIUS + 0.2)
                if tee.distance(sg.Point(s.real, s.imag)) > PUSHER_RADIUS:
                    starts.append(s)
                    normals.append(normal)
        starts, normals = np.array(starts), np.array(normals)
        # walk out along the normal to the ring
        out = np.arange(0, 150, 1.0)
        entry, depth = [], []
        for s, nrm in zip(starts, normals):
            inside = np.array([hull.contains(sg.Point((s + o * nrm).real, (s + o * nrm).imag)) for o in out])
            o = out[np.argmin(inside)]
            entry.append(np.argmin(np.abs(self.ring - (s + o * nrm))))
            depth.append(o)
        self.starts, self.normals = starts, normals
        self.entry, self.depth = np.array(entry), np.array(depth)
        self.contact = np.repeat(np.arange(len(starts)), len(ANGLES))
        self.direction = (-normals[:, None] * np.exp(1j * ANGLES)).reshape(-1)
        world = World()
        shift, turn = [], []
        for c, d in zip(self.contact, self.direction):
            p, t = world.push(starts[c], 0j, 1 + 0j, d, np.ones(LENGTHS[-1]))
            shift.append(p[LENGTHS - 1])
            turn.append(t[LENGTHS - 1])
        self.shift, self.turn = np.array(shift), np.array(turn)
        self.time = LENGTHS / PUSH_SPEED + 2
        # from where a push ends (nearest contact) to every start: steps
        gap = np.abs(self.entry[:, None] - self.entry[None]) * self.ring_length / n
        gap = np.minimum(gap, self.ring_length - gap)
        self.walk = (gap + self.depth[:, None] + self.depth[None]) / WALK_SPEED + 4
        self.walk[np.abs(starts[:, None] - starts[None]) < 6] = 300

    def nearest(self, q):
        """contact index nearest to body-frame points q"""
        return np.argmin(np.abs(np.asarray(q)[..., None] - self.starts), axis=-1)


@functools.cache
def push_table() -> PushTable:
    return PushTable()


def free(p):
    return (np.minimum(p.real, p.imag) > LOW) & (np.maximum(p.real, p.imag) < HIGH)


def cost_to_go(position, turn, at, table, stay=True):
    """Steps to the goal with one more straight push from poses (N,), the pusher at contacts `at` (N,)."""
    shift, spin = table.shift[len(ANGLES) // 2 :: len(ANGLES), ::2], table.turn[len(ANGLES) // 2 :: len(ANGLES), ::2]
    p = position[:, None, None] + turn[:, None, None] * shift
    t = turn[:, None, None] * spin
    walk = np.where(free(position[:, None] + turn[:, None] * table.starts), table.walk[at], 300)
    total = remaining(distance(p, t)) + table.time[::2] + walk[..., None]
    best = total.reshape(len(position), -1).min(1)
    return np.minimum(best, remaining(distance(position, turn))) if stay else best


@dataclass(frozen=True)
class Plan:
    contact: int
    direction: complex  # in block frame
    cost: float
    way: int


class Expert:
    """act(state) -> action."""

    def __init__(self, way: int = 1):
        self.table = push_table()
        self.world = World()
        self.way = way
        self.plan = None
        self.pushing = False
        self.heading = None
        self.log = []
        self.leaving = False

    def walks(self, q, z, u):
        """Steps from body-frame pusher q to every contact, both ways round: (2, C) for ways +1, -1"""
        t = self.table
        n = len(t.ring)
        ring_world = z + u * t.ring
        k = np.argmin(np.abs(t.ring - q))
        reach = np.abs(t.ring[k] - q)
        blocked = clearance(self.keep_in(ring_world), z, u) < 3
        out = []
        for way in (1, -1):
            hops = (way * (t.entry - k)) % n
            steps = (hops * t.ring_length / n + reach + t.depth) / WALK_SPEED + 2
            order = (k + way * np.arange(n)) % n
            bad = np.cumsum(blocked[order])
            steps = np.where(bad[hops] > 0, np.inf, steps)
            if way != self.way:
                steps = steps * 1.3 + 2
            out.append(steps)
        out = np.array(out)
        here = np.abs(t.starts - q) < 6
        out[:, here] = 300 if self.leaving else 1
        return out

    def choose(self, q, z, u) -> Plan:
        t = self.table
        walks = self.walks(q, z, u)
        walk = walks.min(0)
        start = z + u * t.starts
        ok = (np.minimum(start.real, start.imag) > LOW) & (np.maximum(start.real, start.imag) < HIGH)
        walk = np.where(ok, walk, np.inf)
        p = z + u * t.shift
        tn = u * t.turn
        end = (start[t.contact] + u * t.direction * LENGTHS[:, None]).T
        inside = (np.minimum(end.real, end.imag) > LOW) & (np.maximum(end.real, end.imag) < HIGH)
        first = np.where(inside, t.time + walk[t.contact][:, None], np.inf)
        greedy = first + remaining(distance(p, tn))
        top = np.argsort(greedy.reshape(-1), kind="stable")[:200]
        top = top[np.isfinite(greedy.reshape(-1)[top])]
        if not len(top):
            return Plan(int(np.argmin(np.abs(t.starts - q))), 0j, 0, 1)
        pp, tt = p.reshape(-1)[top], tn.reshape(-1)[top]
        at = t.nearest((end.reshape(-1)[top] - pp) / tt)
        total = first.reshape(-1)[top] + cost_to_go(pp, tt, at, t)
        best = np.argmin(total)
        i, l = divmod(top[best], len(LENGTHS))
        c = t.contact[i]
        return Plan(c, t.direction[i], total[best], 1 if walks[0, c] <= walks[1, c] else -1)

    def act(self, state):
        pusher, z = complex(*state[:2]), complex(*state[2:4])
        u = np.exp(1j * state[4])
        q = (pusher - z) * np.conj(u)
        if self.pushing:
            target = self.push(pusher, q, z, u)
            if target is not None:
                return self.clip(target)
            self.pushing, self.plan, self.leaving = False, None, True
        if self.plan is None:
            self.plan = new = self.choose(q, z, u)
            self.leaving = False
            self.seen = z, u
            self.log.append(new)
        elif abs(z + u * CENTRE - self.seen[0] - self.seen[1] * CENTRE) + 60 * abs(u - self.seen[1]) > 2:
            new = self.choose(q, z, u)
            self.seen = z, u
            # the old plan's price from here, unless a better one by a margin
            if new.contact != self.plan.contact and new.cost < self.plan.cost - 4:
                self.plan = new
                self.log.append(new)
        t = self.table
        start = t.starts[self.plan.contact]
        lateral = (q - start) * np.conj(t.normals[self.plan.contact])
        if abs(lateral.imag) < 4 and -3 < lateral.real < 6:
            self.pushing = True
            self.heading = None
            target = self.push(pusher, q, z, u)
            if target is not None:
                return self.clip(target)
            self.pushing = False
        self.plan = Plan(self.plan.contact, self.plan.direction, self.plan.cost - 1, self.plan.way)
        return self.clip(self.walk(q, z, u))

    def clip(self, target):
        return np.clip([target.real, target.imag], 12, SIZE - 12).astype(np.float32)

    def push(self, pusher, q, z, u):
        t = self.table
        base = u * self.plan.direction if self.heading is None else self.heading
        best, aim = remaining(distance(z, u)) + 1e9, None
        at = t.nearest(q)
        now = cost_to_go(np.array([z]), np.array([u]), np.array([at]), t, stay=False)[0]
        options = []
        for angle in STEER:
            d = base * np.exp(1j * angle)
            p, tn = self.world.push(pusher, z, u, d, STRIDES)
            p, tn = p[PICK], tn[PICK]
            ends = (pusher + d * REACH - p) / tn
            cost = REACH / PUSH_SPEED + cost_to_go(p, tn, t.nearest(ends), t) + 0.02 * abs(angle) / 0.2
            cost = np.where(np.abs(p - z) + 60 * np.abs(tn - u) > 0.5, cost, 1e6)
            k = np.argmin(cost)
            options.append((cost[k], REACH[k], d))
        cost, length, d = min(options, key=lambda o: o[0])
        if DEBUG: print("   push", now, [(round(o[0],1), o[1]) for o in options])
        if cost > now - 0.3:
            return None
        self.heading = d
        return pusher + d * min(LEAD * PUSH_SPEED, length + 3)

    def keep_in(self, p):
        return np.clip(p.real, LOW, HIGH) + 1j * np.clip(p.imag, LOW, HIGH)

    def walk(self, q, z, u):
        t = self.table
        n = len(t.ring)
        c, way = self.plan.contact, self.plan.way
        start, normal = t.starts[c], t.normals[c]
        off = (q - start) * np.conj(normal)
        pusher = z + u * q
        if abs(off.imag) < 3 + 0.25 * off.real and 0 <= off.real < t.depth[c] + 12:  # in the lane: come in
            aim = z + u * (start - 6 * normal)
            return pusher + (aim - pusher) / abs(aim - pusher) * LEAD * PUSH_SPEED
        k = np.argmin(np.abs(t.ring - q))
        hops = (way * (t.entry[c] - k)) % n
        if hops > n * 0.9:
            hops = 0
        path = t.ring[(k + way * np.arange(hops + 1)) % n]
        path = np.append(path, start + normal * min(t.depth[c], 12))
        path = self.keep_in(z + u * path)
        seen = np.flatnonzero(self.visible(pusher, path, z, u))
        target = path[seen[-1]] if len(seen) else path[0]
        gap = target - pusher
        return pusher + gap / max(abs(gap), 1e-6) * LEAD * WALK_SPEED

    def visible(self, pusher, path, z, u):
        import shapely

        q, path_ = (pusher - z) * np.conj(u), (path - z) * np.conj(u)
        lines = shapely.linestrings([[(q.real, q.imag), (p.real, p.imag)] for p in path_])
        need = np.minimum(np.minimum(clearance(path, z, u), clearance(pusher, z, u)), CLEARANCE * 0.7) - 0.3
        return shapely.distance(lines, tee()) - PUSHER_RADIUS > need


def clearance(p, z, u):
    import shapely

    q = (p - z) * np.conj(u)
    return shapely.distance(shapely.points(q.real, q.imag), tee()) - PUSHER_RADIUS


@functools.cache
def tee():
    import shapely
    import shapely.geometry as sg

    polygon = sg.Polygon(OUTLINE)
    shapely.prepare(polygon)
    return polygon


@dataclass(frozen=True)
class Episode:
    seed: int
    states: np.ndarray
    actions: np.ndarray
    coverage: np.ndarray
    success: bool


def solve(seed, style="mixed", noise=0.0, max_steps=300, log=None):
    import gymnasium as gym
    import gym_pusht  # noqa: F401
    rng = np.random.default_rng(seed)
    way = {"left": 1, "right": -1}.get(style) or int(rng.choice([1, -1]))
    from gym_pusht.envs.pusht import PushTEnv
    env = PushTEnv(obs_type="state")
    state, _ = env.reset(seed=seed)
    expert = Expert(way)
    states, actions, coverage = [], [], []
    drift = np.zeros(2)
    for _ in range(max_steps):
        action = expert.act(state)
        states.append(state)
        actions.append(action)
        drift = 0.8 * drift + 0.6 * noise * rng.standard_normal(2)
        far = distance(complex(*state[2:4]), np.exp(1j * state[4]))
        shake = drift * min(1, far / FAR)
        state, _, done, _, info = env.step(np.clip(action + shake, 0, SIZE))
        coverage.append(info["coverage"])
        if done:
            break
    if log is not None:
        log.extend(expert.log)
    return Episode(seed, np.array(states), np.array(actions), np.array(coverage), bool(done))


def make_episodes(n, seed=0, style="mixed", noise=NOISE):
    found = 0
    while found < n:
        episode = solve(seed, style, noise)
        seed += 1
        if episode.success:
            found += 1
            yield episode


def make_demos(episodes, seed, out, style="mixed", noise=NOISE):
    from tqdm import tqdm
    from vqbet_course.convert.lerobot_dataset import write_lerobot_dataset

    made = make_episodes(episodes, seed, style, noise)
    return write_lerobot_dataset(tqdm(made, total=episodes, unit="episode", desc="demonstrations"), out)
