"""The record of one rollout, step by step."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Trace:
    """What happened in one rollout: environment seed, success, batch (how many episodes ran together), and per step:

    coverage: progress of the task, 0..1; observations, what the policy observed, and truth, what was so: all numbers side
    by side; actions (A,) sent; tokens (G,) in force, codes (A,) that they decode to, offsets (A,) added, decided: whether
    they were decided at this step; latency_ms of the call for the whole batch; intervention: what disturbed it; contact:
    None where the environment does not tell. In the units of the environment."""

    seed: int
    success: bool = False
    batch: int = 1
    coverage: list[float] = field(default_factory=list)
    observations: list[np.ndarray] = field(default_factory=list)
    truth: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    tokens: list[tuple[int, ...]] = field(default_factory=list)
    codes: list[np.ndarray] = field(default_factory=list)
    offsets: list[np.ndarray] = field(default_factory=list)
    decided: list[bool] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    intervention: list[str] = field(default_factory=list)
    contact: list[int | None] = field(default_factory=list)
