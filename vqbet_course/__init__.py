"""VQ-BeT from nothing to a robot that pushes the T: the modules that the lessons export and what serves them.

Importing the package loads neither torch nor lerobot; import the module that you need.
"""

import os
import sys
import warnings
from importlib import import_module

# Of pygame, which gym-pusht loads: nothing that a reader of a lesson could change.
warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)

# PyTorch's threads sleep while they wait for each other. If they spin, as OpenMP does by itself, a training with two threads
# takes ten times as long as with one when another process is busy. It has effect where PyTorch is imported later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"

if "gymnasium" in sys.modules:  # gymnasium.make("vqbet_course:vqbet_course/PushT-v0") imports this to register it
    import_module("vqbet_course.tasks.environments")
