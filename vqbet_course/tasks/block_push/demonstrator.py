"""The scripted demonstrator of block_push: it chooses a block and a target at random, drives round the blocks to the
far side of the block, and pushes it along the straight line to its target.

All that it does follows from what it sees and from its choice, so that the same state is answered by the same action,
and a state that was disturbed by a way back. Points of the plane are complex numbers here; lengths are in pixels.
"""

import copy
import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import Episode, Source
from vqbet_course.tasks.block_push.contract import (
    BLOCK_PUSH,
    BLOCK_RADIUS,
    INSTRUCTION,
    NAMES,
    PUSHER_RADIUS,
    SIZE,
    TARGETS,
)
from vqbet_course.tasks.block_push.environment import BlockPushEnv
from vqbet_course.tasks.block_push.traces import distances

Float = NDArray[np.float64]

NOISE = 3.0  # pixels: how far the hand is shaken while the true action is written down
NUDGE, NUDGE_STEPS, NUDGE_EVERY = 3.0, 4, 30  # it is also nudged: so many times as far, for so many steps, how seldom
DISPLACED, DISPLACED_EVERY = (10.0, 60.0), 60  # a block slips away by so many pixels, from and to; how seldom
ASTRAY_EVERY = 50  # the pusher finds itself beside a block that is to be pushed, on any side of it, how seldom
TAKEN_OUT, TAKEN_OUT_EVERY = 50.0, 24  # and from its target, once in so many of the last steps, at most once
DRIVE_SPEED, PUSH_SPEED = 12.0, 8.0  # pixels a step
TOUCH = PUSHER_RADIUS + BLOCK_RADIUS  # between the centres where the pusher touches a block
CLEAR = TOUCH + 14.0  # between the centres on the way
BEHIND = TOUCH + 14.0  # from where a push begins
AT_FIRST, ASIDE = 12.0, 22.0  # off the line to the target: where a push may begin, and where it must begin anew
DELIVERED, LOST = 8.0, 18.0  # from the target's centre: nearer, it is delivered; then farther, it is not any more
BEGUN = 10.0  # how far a block has moved when a behaviour is begun
AFTER, RETREAT = 12, 60.0  # steps that an episode goes on after the last delivery; how far the pusher withdraws
LONGEST = 400  # steps of a demonstration at most: more than a policy has, because disturbances cost some
TARGET_CENTRES = [complex(*target) for target in TARGETS]

NEXT = {"next.reward": ["progress"], "next.done": ["done"], "next.success": ["success"]}


class BlockPusher:
    """Brings block `first` (0 or 1) to `target` (0 or 1), then the other block to the other target.

    `act` keeps what is delivered; one BlockPusher is for one episode."""

    def __init__(self, first: int, target: int) -> None:
        self.pairs = [(first, target), (1 - first, 1 - target)]
        self.delivered: frozenset[int] = frozenset()

    @property
    def finished(self) -> bool:
        """Whether both blocks are delivered."""
        return len(self.delivered) == 2

    def act(self, pusher: complex, blocks: list[complex]) -> complex:
        """Where to send the pusher."""
        for block, target in self.pairs:
            away = abs(TARGET_CENTRES[target] - blocks[block])
            if away < DELIVERED:
                self.delivered |= {block}
            elif away > LOST:
                self.delivered -= {block}
        for block, target in self.pairs:
            if block not in self.delivered:
                return bring(pusher, blocks, block, TARGET_CENTRES[target])
        return withdraw(pusher, blocks[self.pairs[1][0]])


class Corrector:
    """The demonstrator for one episode, asked in any state: its behaviour is the one that `seed` draws until a block has
    been pushed, and from then on the one that was begun."""

    def __init__(self, seed: int) -> None:
        self.hand = BlockPusher(*(int(choice) for choice in np.random.default_rng((seed, 1)).integers(2, size=2)))
        self.start: Float | None = None
        self.decided = False

    def __call__(self, observation: Mapping[str, Float]) -> NDArray[np.float32]:
        """What the environment observes -> action (2,): where to send the pusher, in pixels."""
        blocks = np.asarray(observation["environment_state"], dtype=float).reshape(2, 2)
        if self.start is None:
            self.start = blocks
        moved = np.linalg.norm(blocks - self.start, axis=1)
        if not self.decided and moved.max() > BEGUN:
            block, self.decided = int(moved.argmax()), True
            nearer = distances(blocks)[block] - distances(self.start)[block]
            self.hand = BlockPusher(block, int(nearer.argmin()))
        self.hand = copy.copy(self.hand)  # a copy of this corrector keeps what it has delivered
        aim = self.hand.act(complex(*observation["agent_pos"]), [complex(*block) for block in blocks])
        return rounded(aim)


def rounded(aim: complex) -> NDArray[np.float32]:
    """A point as an action (2,), in eighths of a pixel, so that the last bit of a sine, which differs between CPUs,
    changes no episode."""
    return np.clip(np.round(np.array([aim.real, aim.imag]) * 8) / 8, 0, SIZE).astype(np.float32)


def bring(pusher: complex, blocks: list[complex], block: int, target: complex) -> complex:
    """Where to send a pusher that is to bring a block to a target: on to the block's far side, or pushing."""
    here, way = blocks[block], target - blocks[block]
    ahead = way / abs(way)
    seen = (pusher - here) * ahead.conjugate()  # in the block's frame, whose real axis points to the target
    if seen.real < 0 and abs(seen) < TOUCH + 2 and abs(seen.imag) < ASIDE:
        return pusher + ahead * min(PUSH_SPEED, abs(way))  # the block goes where the pusher goes
    if seen.real < 0 and abs(seen) < BEHIND + 2 and abs(seen.imag) < AT_FIRST:
        return towards(pusher, here - ahead * (TOUCH - 2), PUSH_SPEED)
    return pusher + DRIVE_SPEED * heading(pusher, here - ahead * BEHIND, blocks)


def withdraw(pusher: complex, block: complex) -> complex:
    """Where to send a pusher that has delivered its last block: away from it."""
    away = (pusher - block) / abs(pusher - block)
    return towards(pusher, block + away * (TOUCH + RETREAT), DRIVE_SPEED)


def towards(pusher: complex, aim: complex, speed: float) -> complex:
    """The point at most `speed` ahead on the straight way to `aim`."""
    way = aim - pusher
    return pusher + way * min(1.0, speed / max(abs(way), 1e-9))


def heading(pusher: complex, aim: complex, blocks: list[complex]) -> complex:
    """The direction to go in, of length 1 or, where it is nearly there, less: straight to `aim`, else along the circle
    of radius CLEAR around the nearest block in the way, on the side of the aim."""
    way = aim - pusher
    length = abs(way)
    straight = way * min(1.0, DRIVE_SPEED / max(length, 1e-9)) / DRIVE_SPEED
    for block in sorted(blocks, key=lambda b: abs(b - pusher)):
        to_block = block - pusher
        seen = to_block * way.conjugate() / max(length, 1e-9)  # its real part along the way, its imaginary one aside
        if not 0 < seen.real < length + CLEAR or abs(seen.imag) >= CLEAR:
            continue
        if seen.real > length and abs(aim - block) >= CLEAR:
            continue
        side = -1 if seen.imag > 0 else 1
        near = abs(to_block)
        turn = np.arcsin(min(1.0, CLEAR / near))
        out = -0.5 * max(0.0, CLEAR - near) / DRIVE_SPEED * to_block / near
        bent = to_block / near * complex(np.exp(1j * side * turn)) + out
        return bent / abs(bent)
    return straight


@dataclass(frozen=True)
class Delivery:
    """One episode of the demonstrator, T frames at 10 Hz: what was seen before each action, and what it brought.

    states (T, 6): orange block, blue block, pusher, pixels; actions (T, 2) float32 pixels: what the demonstrator wanted,
    before its hand shook; progress (T,) and success (T,) after the action."""

    seed: int
    states: Float
    actions: NDArray[np.float32]
    progress: Float
    success: NDArray[np.bool_]


def deliver(seed: int, noise: float = NOISE) -> Delivery:
    """Solve the environment of this seed, or try for LONGEST steps. The same arguments give the same episode.

    `noise`, in pixels, shakes the hand (Laskey et al. 2017, "DART"); seldom it is nudged, or a block or the pusher is
    displaced: what happens differs from what was wanted and recorded, so that the demonstrations show how to come back.
    With 0 px, nothing of the kind happens. Raises BadInput for a noise that is no such number."""
    if not 0 <= noise < SIZE:
        raise BadInput(f"noise {noise} is no number of pixels: choose one from 0 to about 5")
    generator = np.random.default_rng((seed, 1))
    hand = BlockPusher(*(int(choice) for choice in generator.integers(2, size=2)))
    env = BlockPushEnv()
    observation, _ = env.reset(seed=seed)
    states: list[Float] = []
    actions: list[NDArray[np.float32]] = []
    brought: list[tuple[float, bool]] = []
    shake, left, taken_out = hand_shaking(noise, generator), AFTER, False
    while left and len(states) < LONGEST:
        state = np.concatenate([observation["environment_state"], observation["agent_pos"]])
        aim = hand.act(complex(*state[4:]), [complex(*state[:2]), complex(*state[2:4])])
        action = rounded(aim)
        states.append(state)
        actions.append(action)
        observation, _, _, _, info = env.step(np.clip(np.round((action + next(shake)) * 8) / 8, 0, SIZE))
        brought.append((info["progress"], info["is_success"]))
        left -= hand.finished
        if noise and (not hand.finished or not taken_out) and disturb(env, hand, generator):
            taken_out = hand.finished
            observation, left = env.observation(), AFTER
    progress, success = np.array(brought).T
    return Delivery(seed, np.array(states), np.array(actions), progress, success.astype(bool))


def disturb(env: BlockPushEnv, hand: BlockPusher, generator: np.random.Generator) -> bool:
    """Displace, seldom, a block or the pusher, so that demonstrations show the way back; whether it happened."""
    if hand.finished:
        return generator.random() < 1 / TAKEN_OUT_EVERY and env.displace_block(
            int(generator.integers(2)), TAKEN_OUT, generator
        )
    block = int(generator.choice([*{0, 1} - hand.delivered]))
    if generator.random() < 1 / DISPLACED_EVERY:
        return env.displace_block(block, generator.uniform(*DISPLACED), generator)
    return generator.random() < 1 / ASTRAY_EVERY and env.displace_pusher(block, generator)


def hand_shaking(noise: float, generator: np.random.Generator) -> Iterator[Float]:
    """What is added to each action of a shaken hand, (2,) pixels, step by step."""
    shake: Float = np.zeros(2)
    nudge: Float = np.zeros(2)
    left = 0
    while True:
        if generator.random() < 1 / NUDGE_EVERY:
            angle, left = generator.uniform(0, 2 * np.pi), NUDGE_STEPS
            nudge = NUDGE * noise * np.array([np.cos(angle), np.sin(angle)])
        shake = 0.8 * shake + 0.6 * noise * generator.standard_normal(2)
        yield shake + nudge * (left > 0)
        left -= 1


def make_deliveries(n: int, seed: int = 0, noise: float = NOISE) -> Iterator[Delivery]:
    """The first n solved episodes of environment seeds seed, seed + 1, ..."""
    made = map(functools.partial(deliver, noise=noise), itertools.count(seed))
    return itertools.islice((episode for episode in made if episode.success[-1]), n)


def block_push_source(episodes: int, seed: int = 0, noise: float = NOISE) -> Source:
    """Solved episodes as a source, made while it is read. Raises BadInput as `deliver` does."""

    def read(first: int) -> Iterator[Episode]:
        for episode in itertools.islice(make_deliveries(episodes, seed, noise), first, None):
            yield Episode(columns_of_delivery(episode), f"environment seed {episode.seed}")

    return Source(
        f"{episodes} solved environment seeds from {seed}, hand shaken by {noise:g} px",
        "made when asked for",
        episodes,
        read,
        BLOCK_PUSH.fps,
        units=BLOCK_PUSH.units(),
        names=NAMES | NEXT,
        task=INSTRUCTION,
        robot="2d pointer",
        operator="the scripted demonstrator of vqbet_course",
        license="apache-2.0",
    )


def columns_of_delivery(episode: Delivery) -> dict[str, np.ndarray]:
    """What LeRobot keeps of an episode, (T, size) each; `next.*` is what the step brought."""
    done = np.arange(len(episode.actions)) == len(episode.actions) - 1
    return {
        "observation.environment_state": episode.states[:, :4].astype(np.float32),
        "observation.state": episode.states[:, 4:].astype(np.float32),
        "action": episode.actions,
        "next.reward": episode.progress[:, None].astype(np.float32),
        "next.done": done[:, None],
        "next.success": episode.success[:, None],
    }
