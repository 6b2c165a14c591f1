"""Time in recorded tables: which columns are clocks, and what they say in seconds."""

import re
from collections.abc import Mapping

import numpy as np

from vqbet_course.core.errors import BadInput

COUNTERS = ("frame_index", "episode_index", "index", "step", "step_index", "seq", "header.seq")
"""Columns that count frames or episodes."""

UNITS = {
    "s": 1.0,
    "sec": 1.0,
    "secs": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "milliseconds": 1e-3,
    "us": 1e-6,
    "usec": 1e-6,
    "microseconds": 1e-6,
    "ns": 1e-9,
    "nsec": 1e-9,
    "nanosec": 1e-9,
    "nsecs": 1e-9,
    "nanoseconds": 1e-9,
}
"""Seconds in one, by the last part of a column's name."""

SINCE_1970 = ((1e8, 1e11, 1.0), (1e11, 1e14, 1e-3), (1e14, 1e17, 1e-6), (1e17, 1e20, 1e-9))
"""Lowest and highest number, and seconds in one, of clocks that count from 1970."""

SLOWEST = 0.5
"""Frames a second below which a clock is not one of seconds."""

STAMP = re.compile(rf"(.*[._/])?(timestamps?|time_?stamp|time|stamp|t)([._]({'|'.join(UNITS)}))?", re.I)


def is_clock(name: str, values: np.ndarray) -> bool:
    """Whether a column (T, ...) says when a frame was taken: by its name, or because it counts on from 1970."""
    if values.size != len(values) or values.dtype.kind not in "fiu":
        return False
    counted = values.reshape(-1)
    if (
        len(counted) > 1
        and counted.min() > 1e8
        and counted.max() - counted.min() < 0.1 * counted.max()
        and (np.diff(counted.astype(np.float64)) >= 0).all()
    ):
        return True
    match = STAMP.fullmatch(name)
    if match is None:
        return False
    return match[2].lower() != "t" or match[3] is not None or bool((np.diff(counted) > 0).all())


def clocks_in(columns: Mapping[str, np.ndarray]) -> list[str]:
    """The names of columns {name: (T, size)} that are clocks or counters, and so never state."""
    return [name for name, values in columns.items() if name in COUNTERS or is_clock(name, values)]


def seconds_of(columns: Mapping[str, np.ndarray], place: str, rate_is_known: bool = False) -> np.ndarray | None:
    """The time (T,) of each frame in seconds from the first, by the first clock; None without a clock.

    A pair like `header.stamp.sec` and `header.stamp.nanosec` is one clock. Raises BadInput where time does not go on,
    or, unless the rate is known anyway, where the unit cannot be told."""
    names = sorted((name for name in clocks_in(columns) if name not in COUNTERS), key=preference)
    if not names:
        return None
    name = names[0]
    stem, unit = stem_and_unit(name)
    parts = {other: UNITS[stem_and_unit(other)[1]] for other in names if unit and stem_and_unit(other)[0] == stem}
    if len(set(parts.values())) > 1:
        clock = sum(from_first(columns[other]) * factor for other, factor in parts.items())
    else:
        values = from_first(columns[name])
        clock = values * (UNITS[unit] if unit else factor_of(columns[name]))
    assert isinstance(clock, np.ndarray)
    check_order(clock, name, place)
    if not rate_is_known:
        check_pace(clock, name, place)
    return clock


def preference(name: str) -> tuple[bool, int]:
    """A key that puts the usual names of a frame's own clock first."""
    return name not in ("timestamp", "time"), len(name)


def from_first(values: np.ndarray) -> np.ndarray:
    """A clock (T, 1) counted from its first row, (T,): exact, where seconds since 1970 as floats are not."""
    flat = values.reshape(-1)
    if flat.dtype.kind == "u":
        flat = flat.astype(np.int64)
    return (flat - flat[:1]).astype(np.float64)


def stem_and_unit(name: str) -> tuple[str, str]:
    """`header.stamp.sec` -> `header.stamp` and `sec`; the unit is empty where the name states none."""
    match = re.fullmatch(r"(.*)[._]([^._]*)", name)
    return (match[1], match[2].lower()) if match and match[2].lower() in UNITS else (name, "")


def factor_of(values: np.ndarray) -> float:
    """Seconds in one of a clock whose name states no unit: by how far it is from 1970, else they are seconds."""
    largest = float(np.abs(values.astype(np.float64)).max(initial=0.0))
    if (np.abs(values.astype(np.float64)) < 1e8).any():
        return 1.0
    return next((factor for low, high, factor in SINCE_1970 if low <= largest < high), 1.0)


def check_order(clock: np.ndarray, name: str, place: str) -> None:
    """Raise BadInput, naming the row, where a clock (T,) does not rise."""
    wrong = np.flatnonzero(~(np.diff(clock) > 0))
    if len(wrong):
        raise BadInput(
            f"{place}, row {wrong[0] + 1}: the {name} does not go on from the row before; frames are "
            "doubled or out of order"
        )


def check_pace(clock: np.ndarray, name: str, place: str) -> None:
    """Raise BadInput for a clock (T,) that would give less than SLOWEST frames a second, or a million."""
    rate = 1 / float(np.median(np.diff(clock))) if len(clock) > 1 else 1.0
    if not SLOWEST <= rate < 1e6:
        raise BadInput(
            f"{place}: {name} read as seconds gives {rate:.3g} frames a second; name the column by its unit, "
            f"{name}_s, {name}_ms, {name}_us or {name}_ns, or give --fps N"
        )


def rate_of(clock: np.ndarray | None) -> float | None:
    """Frames a second of a clock (T,) by its median interval, to the next whole number; None without."""
    if clock is None or len(clock) < 2:
        return None
    rate = float(1 / np.median(np.diff(clock)))
    return float(round(rate)) if abs(rate - round(rate)) < 0.02 * rate else rate
