"""What PushT shows, takes and counts as success, in which units and how fast."""

from vqbet_course.core.specs import Contract, Field, TaskContract

PUSHT = Contract(
    {"observation.environment_state": Field(16, "px"), "observation.state": Field(2, "px", 0.0, 512.0)},
    Field(2, "px", 0.0, 512.0),
    10.0,
)
"""PushT as this course sees it: the T's eight keypoints, the pusher, and where to send the pusher."""

SUCCESS_COVERAGE = 0.95
"""The coverage above which PushT is solved, and which reward 1 stands for."""

PUSHT_TASK = TaskContract(
    robot="a round pusher of 15 px radius, led by a PD controller",
    data=PUSHT,
    action_bounds=(0.0, 512.0),
    timing_budget_ms=100.0,
    horizon=300,
    resets="positions of pusher and T and the angle of the T, drawn by gym-pusht from the environment seed",
    success="the T covers more than 0.95 of the goal at any step",
)
"""PushT as this course evaluates it."""

INSTRUCTION = "Push the T-shaped block onto the T-shaped target."
"""The instruction of PushT's demonstrations, as LeRobot keeps one."""

NAMES = {
    "observation.environment_state": [f"keypoint_{i}_{axis}" for i in range(8) for axis in "xy"],
    "observation.state": ["pusher_x", "pusher_y"],
    "action": ["target_x", "target_y"],
}
"""A name for each of PushT's numbers, as in `lerobot/pusht_keypoints`."""
