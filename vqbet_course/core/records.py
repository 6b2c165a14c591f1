"""What the figures of a process depend on."""
import os
import platform
from importlib.metadata import version
from typing import Any


def made_by() -> dict[str, Any]:
    """What the figures of this process depend on: its machine, and the versions of what it ran."""
    import torch

    packages = ("torch", "gym-pusht", "pymunk", "lerobot", "diffusers")
    return {"machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
            "python": platform.python_version(), **{name: version(name) for name in packages}}
