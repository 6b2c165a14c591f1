"""What PushT shows, takes and counts as success, in which units and how fast."""

from vqbet_course.core.specs import Contract, Field, TaskContract

PUSHT = Contract({"observation.environment_state": Field(16, "px"), "observation.state": Field(2, "px", 0.0, 512.0)},
                 Field(2, "px", 0.0, 512.0), 10.0)
"""PushT as this course sees it: the T's eight keypoints, the pusher, and where to send the pusher."""

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
