"""How long a policy takes from observation to action."""

from typing import Any

import numpy as np

from vqbet_course.demos import Normalizer
from vqbet_course.rollout import Policy, World, rollouts
from vqbet_course.tasks import as_task
from vqbet_course.training.calibration import using_threads


def percentiles(values: np.ndarray) -> dict[str, float]:
    """The median and what 95 % of the values stay below."""
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": float(p50), "p95": float(p95)}


def latency(
    policy: Policy, normalizer: Normalizer, seed: int, task: World = None, decisions: int = 50
) -> dict[str, Any]:
    """Milliseconds from observation to action in whole episodes of one environment, with one thread: p50 and p95 of the
    steps at which a decision is due and of all steps, and the share of all steps beyond the contract's budget."""
    own = as_task(task)
    budget = own.contract.timing_budget_ms
    spent, decided = list[float](), list[bool]()
    with using_threads(1):
        while sum(decided) <= decisions:
            episode = rollouts(policy, normalizer, [seed], own)[0]
            spent, decided = spent + episode.latency_ms, decided + episode.decided
            seed += 1
    steps, due = np.array(spent[1:]), np.array(decided[1:])  # the first call is slower: it warms the caches
    return {
        "latency_ms": percentiles(steps[due]),
        "step_latency_ms": percentiles(steps),
        "timing_violations": float((steps > budget).mean()),
    }
