"""Commands that tests run as processes of their own."""

import subprocess
from collections.abc import Mapping
from pathlib import Path


def output_of(*command: object, cwd: Path, timeout: float, environment: Mapping[str, str] | None = None) -> str:
    """Run a command without input, assert that it succeeds, and return what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        timeout=timeout,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    return done.stdout
