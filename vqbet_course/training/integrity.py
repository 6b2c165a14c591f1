"""A run directory that cannot be spoiled: one training at a time, and files that are those that were written."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import in_plain_words, read_json, try_lock, write_json
from vqbet_course.core.specs import Contract
from vqbet_course.demos import Normalizer

WEIGHTS, NORMALIZER = "model.safetensors", "normalizer.json"

CHECKSUMS = "checksums.json"
"""{file: SHA-256} of the weights and the normalizer; runs from before it was written have none."""

LOCK = ".lock"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a run directory for this process. Raises BadInput where another process trains into it.

    The system frees the lock of a process that was killed."""
    path = out / LOCK
    with in_plain_words(path):
        out.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115  it is closed below, whatever happens
    try:
        if not try_lock(file):
            raise BadInput(f"{out}: another process trains into it; wait for its end, or choose another folder")
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
    finally:
        file.close()


def record_checksums(out: Path) -> None:
    """Write the checksums of the weights and the normalizer, of those that are there."""
    write_json(
        out / CHECKSUMS, {name: file_checksum(out / name) for name in (WEIGHTS, NORMALIZER) if (out / name).exists()}
    )


def verify_checksums(out: Path) -> None:
    """Raise BadInput, naming it, for a file that is not the one that the run wrote."""
    if not (out / CHECKSUMS).exists():
        return
    known = read_json(
        out / CHECKSUMS, lambda values: {name: str(values[name]) for name in (WEIGHTS, NORMALIZER) if name in values}
    )
    for name, digest in known.items():
        if not (out / name).is_file() or file_checksum(out / name) != digest:
            raise BadInput(
                f"{out / name}: is not the file that this run wrote, its checksum differs from that in "
                f"{CHECKSUMS}; copy the run again, or train again"
            )


def file_checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_finite(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Raise BadInput, naming the tensor, for weights that are not finite."""
    for name, values in tensors.items():
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise BadInput(
                f"{path}: {name} is not finite; the training diverged or the file is damaged: train again "
                "with a lower learning rate, or copy it again"
            )


def check_normalizer(normalizer: Normalizer, config: VQBeTConfig, path: Path) -> None:
    """Raise BadInput unless the bounds are finite, in order, and of what the configuration observes and does."""
    sizes = config.observation_sizes | {"action": config.action_dim}
    for name, size in sizes.items():
        if name not in normalizer.bounds:
            raise BadInput(f"{path}: has no bounds of {name}; copy it again or train again")
        low, high = normalizer.bounds[name]
        if low.shape != (size,) or high.shape != (size,) or not low.is_floating_point() or not high.is_floating_point():
            raise BadInput(f"{path}: the bounds of {name} are not {size} numbers each; copy it again or train again")
    for name, (low, high) in normalizer.bounds.items():
        if not bool(torch.isfinite(low).all() and torch.isfinite(high).all() and (low <= high).all()):
            raise BadInput(f"{path}: the bounds of {name} are not finite or not in order; copy it again or train again")


def check_contract(contract: Contract, config: VQBeTConfig, path: Path) -> None:
    """Raise BadInput where a contract gives a feature another size than the configuration, or no rate above 0.

    The contract of an imported checkpoint may leave features out."""
    sizes: dict[str, int | tuple[int, ...]] = {**config.observation_sizes, "action": config.action_dim}
    sizes |= {name: (*shape[1:], shape[0]) for name, shape in config.image_shapes.items()}
    found = contract.features()
    for name in sizes.keys() & found.keys():
        if found[name].size != sizes[name]:
            raise BadInput(
                f"{path}: {name} is {found[name]}, config.json has {sizes[name]}; was one of them "
                "copied from another run?"
            )
    if not 0 < contract.fps < 1e6:
        raise BadInput(f"{path}: {contract.fps} frames a second; copy it again or train again")
