"""What the results of a process depend on."""

import os
import platform
from importlib.metadata import version
from typing import Any


def made_by() -> dict[str, Any]:
    """What the results of this process depend on: its machine, its threads and the versions of its libraries."""
    import torch

    packages = ("torch", "gym-pusht", "pymunk", "lerobot", "diffusers")
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
