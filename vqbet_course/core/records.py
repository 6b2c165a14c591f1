"""What the results of a process depend on."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vqbet_course.core.errors import BadInput


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


def check_made_with(path: Path, made: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise BadInput, naming the first entry, where a result that is to be kept was made with other settings."""
    other = [name for name, value in json.loads(json.dumps(wanted)).items() if made.get(name) != value]
    if other:
        raise BadInput(f"{path}: made with another {other[0]}; move it away to measure anew")
