"""block_push as a Gymnasium environment, and its start where a demonstration starts."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pymunk

from vqbet_course.core.errors import BadInput
from vqbet_course.demos import Demos
from vqbet_course.tasks.block_push.contract import (
    BLOCK_PUSH,
    BLOCK_PUSH_TASK,
    BLOCK_RADIUS,
    MAX_STEP,
    PUSHER_RADIUS,
    SIZE,
    TARGETS,
)
from vqbet_course.tasks.block_push.traces import distances, lies_in_target, share_achieved

BLOCKS, PUSHER = BLOCK_PUSH.observation

SUBSTEPS = 10
"""Physics steps in a step of the environment."""

FRICTION = 0.7
"""Coefficient between pusher and block: a block goes where it is pushed as long as the pusher is behind it, within 35
degrees; else it slips off."""

TRIES = 100
"""Directions that are drawn for a block that is displaced."""

ROOM = 2 * BLOCK_RADIUS
"""Pixels between a wall and the centre of a block that is displaced: so that the pusher gets behind it."""

PASSAGE = 2 * BLOCK_RADIUS + 15
"""Pixels between a block's straight way to a target and the centre of the other block, at least."""

Step = tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]


class BlockPushEnv(gym.Env[dict[str, Any], np.ndarray]):
    """A round pusher, two round blocks, two targets; any block may go into any target, in any order.

    Observation: environment_state (4,), centres of the orange and the blue block, and agent_pos (2,), float64 pixels;
    action: where to send the pusher, (2,) pixels. A block moves only while it is pushed. The reward is the share of
    the task that is achieved (`info["progress"]`, 0..1); `info` also holds `is_success`, `blocks_in_targets` (0 to 2)
    and `n_contacts`, the blocks that the pusher touches. Raises BadInput for an action that is not two finite numbers.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = "rgb_array") -> None:
        self.contract, self.render_mode = BLOCK_PUSH_TASK, render_mode
        low, high = -2 * BLOCK_RADIUS, SIZE + 2 * BLOCK_RADIUS  # physics may press a block into a wall
        self.observation_space = gym.spaces.Dict(
            {
                "environment_state": gym.spaces.Box(low, high, (4,), np.float64),
                "agent_pos": gym.spaces.Box(low, high, (2,), np.float64),
            }
        )
        self.action_space = gym.spaces.Box(0, SIZE, (2,), np.float32)
        self.space = pymunk.Space()
        self.space.damping = 0.0  # a velocity lasts for one physics step: a push is a displacement
        add_walls(self.space)
        self.pusher = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        rim = pymunk.Circle(self.pusher, PUSHER_RADIUS)
        rim.friction = 1.0  # of two shapes, the product counts
        self.space.add(self.pusher, rim)
        self.blocks = [add_block(self.space, (x, 0.0)) for x in (100.0, 200.0)]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode at positions that `seed` decides."""
        super().reset(seed=seed)
        blocks = draw_blocks(self.np_random)
        return self.place(draw_pusher(self.np_random, blocks), blocks)

    def place(self, pusher: np.ndarray, blocks: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode with the pusher at (2,) and the blocks at (2, 2) pixels."""
        self.pusher.position, self.pusher.velocity = (float(pusher[0]), float(pusher[1])), (0.0, 0.0)
        for number, position in enumerate(blocks):
            self.move_block(number, position)
        self.space.reindex_shapes_for_body(self.pusher)
        self.start = distances(self.positions())
        return self.observation(), self.info()

    def move_block(self, number: int, position: np.ndarray) -> None:
        """Put a block at a position (2,) in pixels."""
        block = self.blocks[number]
        block.position, block.velocity = (float(position[0]), float(position[1])), (0.0, 0.0)
        self.space.reindex_shapes_for_body(block)

    def displace_block(self, number: int, by: float, generator: np.random.Generator) -> bool:
        """Displace a block by so many pixels in a drawn direction in which nothing is in its way; False if none is."""
        pusher, blocks = np.array(self.pusher.position), self.positions()
        for angle in generator.uniform(0, 2 * np.pi, TRIES):
            place = blocks[number] + by * np.array([np.cos(angle), np.sin(angle)])
            free = np.linalg.norm(place - pusher) > PUSHER_RADIUS + BLOCK_RADIUS + 5
            free &= np.linalg.norm(place - blocks[1 - number]) > 2 * BLOCK_RADIUS + 5
            if free and place.min() > ROOM and place.max() < SIZE - ROOM:
                self.move_block(number, place)
                return True
        return False

    def displace_pusher(self, number: int, generator: np.random.Generator) -> bool:
        """Put the pusher beside a block, in a drawn direction in which nothing is in its way; False if none is."""
        blocks, touch = self.positions(), PUSHER_RADIUS + BLOCK_RADIUS
        for angle in generator.uniform(0, 2 * np.pi, TRIES):
            place = blocks[number] + (touch + 1) * np.array([np.cos(angle), np.sin(angle)])
            free = np.linalg.norm(place - blocks[1 - number]) > touch + 5
            if free and place.min() > PUSHER_RADIUS and place.max() < SIZE - PUSHER_RADIUS:
                self.pusher.position = (float(place[0]), float(place[1]))
                self.space.reindex_shapes_for_body(self.pusher)
                return True
        return False

    def positions(self) -> np.ndarray:
        """The centres of the blocks, (2, 2) pixels."""
        return np.array([block.position for block in self.blocks])

    def observation(self) -> dict[str, np.ndarray]:
        """The observation of this moment."""
        return {"environment_state": self.positions().reshape(4), "agent_pos": np.array(self.pusher.position)}

    def info(self) -> dict[str, Any]:
        """The `info` of this moment."""
        blocks = self.positions()
        gaps = np.linalg.norm(blocks - np.array(self.pusher.position), axis=1) - PUSHER_RADIUS - BLOCK_RADIUS
        inside = int(lies_in_target(blocks).sum())
        return {
            "is_success": inside == 2,
            "progress": share_achieved(blocks, self.start),
            "blocks_in_targets": inside,
            "n_contacts": int((gaps < 0.5).sum()),
        }

    def step(self, action: np.ndarray) -> Step:
        """Send the pusher to `action` (2,), in pixels."""
        aim = np.asarray(action, dtype=np.float64)
        if aim.shape != (2,) or not np.isfinite(aim).all():
            raise BadInput(f"action {aim} must be two finite numbers: where to send the pusher, in pixels")
        way = np.clip(aim, PUSHER_RADIUS, SIZE - PUSHER_RADIUS) - np.array(self.pusher.position)
        way *= min(1.0, MAX_STEP / max(float(np.linalg.norm(way)), 1e-9))
        seconds = 1 / BLOCK_PUSH.fps
        self.pusher.velocity = (float(way[0]) / seconds, float(way[1]) / seconds)
        self.forget()
        for _ in range(SUBSTEPS):
            self.space.step(seconds / SUBSTEPS)
        info = self.info()
        return self.observation(), info["progress"], info["is_success"], False, info

    def forget(self) -> None:
        """Exchange the blocks for new ones at their positions: the engine forgets velocities, contacts and corrections to
        come, so that what a step brings depends on positions alone."""
        for number, block in enumerate(self.blocks):
            self.space.remove(block, *block.shapes)
            self.blocks[number] = add_block(self.space, block.position)

    def render(self) -> np.ndarray:
        """A drawing of this moment, (512, 512, 3) uint8."""
        from vqbet_course.tasks.block_push.drawing import board_image

        return board_image(np.array(self.pusher.position), self.positions())


def copied_world(env: gym.Env) -> BlockPushEnv:
    """A block_push whose pusher and blocks lie as in `env`; it goes on as `env` would."""
    world, other = env.unwrapped, BlockPushEnv()
    assert isinstance(world, BlockPushEnv)
    other.place(np.array(world.pusher.position), world.positions())
    other.start = world.start
    return other


def add_walls(space: pymunk.Space) -> None:
    """Put a thick wall around the board."""
    thick = BLOCK_RADIUS
    corners = [(-thick, -thick), (SIZE + thick, -thick), (SIZE + thick, SIZE + thick), (-thick, SIZE + thick)]
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        space.add(pymunk.Segment(space.static_body, start, end, thick))


def add_block(space: pymunk.Space, position: tuple[float, float]) -> pymunk.Body:
    """A round block in a space, which does not turn: the ground resists."""
    block = pymunk.Body(1.0, float("inf"))
    block.position = position
    rim = pymunk.Circle(block, BLOCK_RADIUS)
    rim.friction = FRICTION
    space.add(block, rim)
    return block


def draw_blocks(generator: np.random.Generator) -> np.ndarray:
    """Positions (2, 2) in pixels from which either block can go first, straight to either target."""
    while True:
        blocks = generator.uniform((100, 200), (SIZE - 100, 330), (2, 2))
        if np.linalg.norm(blocks[0] - blocks[1]) > 2 * BLOCK_RADIUS + 60 and all(
            min(gap(blocks[b], TARGETS[t], blocks[1 - b]), gap(blocks[1 - b], TARGETS[1 - t], TARGETS[t])) > PASSAGE
            for b in range(2)
            for t in range(2)
        ):
            return blocks


def draw_pusher(generator: np.random.Generator, blocks: np.ndarray) -> np.ndarray:
    """A place (2,) in pixels for the pusher, anywhere on the board but at the blocks (2, 2)."""
    while True:
        pusher = generator.uniform(40, SIZE - 40, 2)
        if np.linalg.norm(blocks - pusher, axis=1).min() > PUSHER_RADIUS + BLOCK_RADIUS + 10:
            return pusher


def gap(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> float:
    """The distance in pixels between a point (2,) and the straight way between two others."""
    way = end - start
    along = np.clip((point - start) @ way / (way @ way), 0, 1)
    return float(np.linalg.norm(start + along * way - point))


class StartOfDemonstration(gym.Wrapper):
    """block_push, starting under environment seed i where demonstration i starts; after the last comes the first again.

    Args: resets, what the contract says of it."""

    def __init__(self, env: gym.Env, demos: Demos, resets: str):
        super().__init__(env)
        first = demos.episode_starts
        self.pushers = demos.observation[PUSHER][first]
        self.blocks = demos.observation[BLOCKS][first].reshape(-1, 2, 2)
        self.contract = replace(env.get_wrapper_attr("contract"), resets=resets)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Start the demonstration of this number."""
        self.env.reset(seed=seed, options=options)
        number = (seed or 0) % len(self.pushers)
        return self.env.get_wrapper_attr("place")(self.pushers[number], self.blocks[number])
