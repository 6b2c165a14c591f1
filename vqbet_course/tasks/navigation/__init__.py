"""A small task with several equally good routes: a point robot must get to its goal round discs that lie in its way.

One disc gives two routes, two discs give four: every disc is passed on the left or on the right, and all routes
meet again between the discs. A demonstrator decides at random, and nothing that the robot observes tells how.

         .-----.
       /    _    \\
    start  (_)   goal      positions in metres, x along the way, y to its left; the n-th disc is at (n + 0.5, 0)
       \\         /
         '-----'
"""

from vqbet_course.tasks.navigation.demonstrator import (
    NavigationDemos,
    Walk,
    demonstrator,
    make_demos,
    rollout,
    walking_on,
)
from vqbet_course.tasks.navigation.drawing import plot_paths
from vqbet_course.tasks.navigation.environment import (
    GOAL_RADIUS,
    MAX_STEP,
    NOISE,
    RADIUS,
    NavigationEnv,
    y_beside_disc,
)

__all__ = [
    "GOAL_RADIUS",
    "MAX_STEP",
    "NOISE",
    "RADIUS",
    "NavigationDemos",
    "NavigationEnv",
    "Walk",
    "demonstrator",
    "make_demos",
    "plot_paths",
    "rollout",
    "walking_on",
    "y_beside_disc",
]
