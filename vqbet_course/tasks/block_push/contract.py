"""What block_push shows, takes and counts as success, in which units and how fast, and where its parts are."""

import numpy as np

from vqbet_course.core.specs import Contract, Field, TaskContract

SIZE = 512
"""Side of the square board in pixels; y points down."""

PUSHER_RADIUS, BLOCK_RADIUS, TARGET_RADIUS = 20.0, 30.0, 65.0
"""Pixels. Pusher, blocks and targets are round, and blocks do not turn, so that no angle is to be observed."""

INSIDE = TARGET_RADIUS - BLOCK_RADIUS
"""Pixels: a block whose centre is nearer than this to a target's centre lies in the target as a whole."""

TARGETS = np.array([[136.0, 100.0], [376.0, 100.0]])
"""The centres of the left and of the right target, (2, 2) pixels."""

MAX_STEP = 20.0
"""The most that the pusher moves in one step, in pixels."""

BLOCK_NAMES, TARGET_NAMES = ("orange", "blue"), ("left", "right")

BLOCK_PUSH = Contract(
    {
        "observation.environment_state": Field(4, "px", 0.0, float(SIZE)),
        "observation.state": Field(2, "px", 0.0, float(SIZE)),
    },
    Field(2, "px", 0.0, float(SIZE)),
    10.0,
)
"""block_push as it is observed: the centres of both blocks, the pusher, and where to send the pusher."""

BLOCK_PUSH_TASK = TaskContract(
    robot=f"a round pusher of {PUSHER_RADIUS:g} px radius that goes where it is sent, at most {MAX_STEP:g} px a step",
    data=BLOCK_PUSH,
    action_bounds=(0.0, float(SIZE)),
    timing_budget_ms=100.0,
    horizon=250,
    resets="pusher and blocks, drawn from the environment seed so that either block can go first, to either target",
    success="both blocks lie in the targets, one in each",
)
"""block_push as this course evaluates it."""

INSTRUCTION = "Push each block into a target."
"""The instruction of block_push's demonstrations, as LeRobot keeps one."""

NAMES = {
    "observation.environment_state": [f"{name}_{axis}" for name in BLOCK_NAMES for axis in "xy"],
    "observation.state": ["pusher_x", "pusher_y"],
    "action": ["target_x", "target_y"],
}
"""A name for each of block_push's numbers."""
