"""LeRobot's commands import every installed distribution whose name begins with `lerobot_policy_`, as a module of that
name. This one registers the policy `vqbet_course`, so that they need no flag to find it."""

import vqbet_course.lerobot_policy  # noqa: F401
