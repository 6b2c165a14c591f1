"""Which library MuJoCo renders with, decided when a simulator is first asked for: importing MuJoCo settles it for good."""

import ctypes
import os
import sys

LIBRARIES = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}
"""{MUJOCO_GL: the library that it needs} on a machine without a display, in the order in which they are tried."""

NO_RENDERER = ("disable", "disabled", "off", "false", "0")
"""The values of MUJOCO_GL that switch rendering off."""

NO_LIBRARY = "nothing to render with was found; install libegl1 or libosmesa6, and leave MUJOCO_GL unset"
"""Why no frame can be made, and what to do."""


def choose_renderer() -> None:
    """Set MUJOCO_GL, where it is not set, to what renders on this machine; `disable` where nothing does. A machine with
    a display is left to MuJoCo."""
    has_display = not sys.platform.startswith("linux") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if os.environ.get("MUJOCO_GL") or has_display:
        return
    os.environ["MUJOCO_GL"] = next((name for name, file in LIBRARIES.items() if can_be_loaded(file)), "disable")


def can_be_loaded(file: str) -> bool:
    """Whether a shared library is on this machine."""
    try:
        ctypes.CDLL(file)
    except OSError:
        return False
    return True


def renders() -> bool:
    """Whether MuJoCo may render here, as far as can be told before it tries."""
    choose_renderer()
    return os.environ.get("MUJOCO_GL", "").lower() not in NO_RENDERER
