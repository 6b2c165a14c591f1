"""Where a network computes, and how precisely: devices, bfloat16, and windows that lie on the device.

What is drawn for a training (first weights, batches, codes, noise, crops) is drawn on the CPU and then moved, so that it is
the same on every device. Only dropout draws on the device, and so do LeRobot's own policies.
"""

import time
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from vqbet_course.core.errors import BadInput
from vqbet_course.demos import Windows
from vqbet_course.training.quick import set_precision

DEVICES = ("auto", "cpu", "cuda", "mps")
"""What a device can be asked for as; `auto` is the first of cuda, mps and cpu that is there."""

PRECISIONS = ("float32", "bfloat16", "auto")
"""What the matrix products of a network can be computed in; `auto` is bfloat16 where a trial shows that it is faster."""


@dataclass(frozen=True)
class Computing:
    """Where and how a network computes: a device of PyTorch, the precision of its matrix products, and the threads that
    a training takes on the CPU, None: as many as `train` finds."""

    device: str = "cpu"
    precision: str = "float32"
    threads: int | None = None

    @classmethod
    def asked(cls, device: str, precision: str, threads: int | None = None) -> Self:
        """The same, with `auto` replaced by what there is. Raises BadInput for a device that is not there."""
        device = available_device(device)
        if precision == "auto":
            precision = "bfloat16" if faster_in_bfloat16(device) else "float32"
        return cls(device, precision, threads)

    def place[M: nn.Module](self, module: M) -> M:
        """Move a module to the device and set its precision; returns the module."""
        set_precision(module.to(self.device), self.precision)
        return module

    def windows(self, windows: Windows) -> Windows:
        """The same windows for a network on the device."""
        return windows if self.device == "cpu" else WindowsOnDevice.of(windows, self.device)


CPU = Computing()
"""The CPU, in float32: the same results on every run of the same machine."""


def available_device(asked: str) -> str:
    """The device that was asked for. Raises BadInput where this machine has none that PyTorch can use."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(name for name, usable in there.items() if usable)
    if not there.get(asked):
        usable = ", ".join(name for name, found in there.items() if found)
        raise BadInput(f"--device {asked}: PyTorch finds none on this machine; it can use: {usable}")
    return asked


def faster_in_bfloat16(device: str, times: float = 1.3) -> bool:
    """Whether matrix products on a device are so many times as fast in bfloat16; without hardware for it they are slower."""
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        a = torch.ones(512, 512, device=device, dtype=kind)
        trials = []
        for _ in range(8):
            start = time.perf_counter()
            (a @ a).sum().item()  # .item() waits for the device
            trials.append(time.perf_counter() - start)
        seconds[kind] = min(trials)
    return seconds[torch.float32] > times * seconds[torch.bfloat16]


@dataclass(frozen=True)
class WindowsOnDevice(Windows):
    """Windows for a network on a device: chunks and numbers lie there, images stay on the CPU until a batch is made."""

    device: str = "cpu"

    @classmethod
    def of(cls, windows: Windows, device: str) -> Self:
        """The same windows, on the device."""
        parts = {f.name: getattr(windows, f.name) for f in fields(windows) if f.name != "device"}
        numbers = {k: v.to(device) if is_number(v) else v for k, v in windows.observation.items()}
        return cls(**parts | {"chunks": windows.chunks.to(device), "observation": numbers}, device=device)

    def seen(self, windows: Tensor) -> dict[str, Tensor]:
        """The observations of these windows (B,), and their goals, on the device: {name: (B, T, size)}."""
        return {name: moved(values, self.device) for name, values in super().seen(windows).items()}


def is_number(values: Any) -> bool:
    """Whether an observation of all frames is numbers (N, size), and no images."""
    return isinstance(values, Tensor) and values.ndim == 2


def moved(values: Tensor, device: str) -> Tensor:
    """The values on the device; a copy from the CPU to a GPU does not wait for what the GPU still computes."""
    if values.device.type == "cpu" and device == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
