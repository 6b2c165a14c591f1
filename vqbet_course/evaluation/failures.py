"""Failure labels: seven, each by a stated rule on the trace, with the evidence beside it.

The order of the rules is that in which one fault hides the next: a wrong measurement hides everything, and a policy that
observes something wrong cannot be blamed for its plan. The first rule that applies gives the label; where none does, it
is `unlabelled`. A person's label stands beside the automatic one, in a file that may be edited. A task may add rules.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_json
from vqbet_course.core.specs import GOAL, TaskContract
from vqbet_course.demos import Demos, Normalizer
from vqbet_course.rollout import Rollout

LABELS = (
    "evaluation",
    "perception",
    "state estimation",
    "timing",
    "control",
    "data coverage",
    "planning",
    "unlabelled",
)

TAIL = 20
"""Steps before the horizon in which a rise of coverage says that time ran out."""

STUCK = 100
"""Steps without progress that count as stuck."""


@dataclass(frozen=True)
class Failure:
    """What the rules say of a failed episode, and why."""

    label: str
    evidence: str


@dataclass(frozen=True)
class Known:
    """What the demonstrations visited: observations (N, D), normalised, thinned out; and how far (0 to a few) 99 % of
    their frames are from the nearest frame of another episode."""

    frames: Tensor
    reach: float
    normalizer: Normalizer

    @classmethod
    def of(cls, demos: Demos, normalizer: Normalizer, most: int = 4000) -> "Known":
        """At most about `most` frames of the demonstrations, evenly spaced."""
        every = max(1, len(demos.action) // most)
        frames = cls.normalised(demos.observation, normalizer)[::every]
        episode = torch.from_numpy(np.searchsorted(demos.episode_ends, np.arange(len(demos.action)), "right"))[::every]
        nearest = [
            torch.cdist(part, frames).masked_fill(own[:, None] == episode, torch.inf).amin(1)
            for part, own in zip(frames.split(1000), episode.split(1000), strict=True)
        ]
        distance = torch.cat(nearest)
        return cls(
            frames, torch.quantile(distance[distance.isfinite()], 0.99).item() if len(demos) > 1 else 0.0, normalizer
        )

    @staticmethod
    def normalised(observation: dict[str, np.ndarray], normalizer: Normalizer) -> Tensor:
        """{name: (N, size)} -> the normalised numbers without goals, side by side, (N, D)."""
        return torch.cat(
            [normalizer.normalize(k, torch.from_numpy(v)) for k, v in observation.items() if k != GOAL], dim=1
        )

    def beyond(self, episode: Rollout, task: TaskContract) -> float:
        """The share (0..1) of the states of an episode that lie further from all demonstrations than `reach`."""
        seen, columns, start = np.array(episode.truth, np.float32), {}, 0
        for name, field in task.data.observation.items():
            size = int(np.prod(field.size))
            columns[name], start = seen[:, start : start + size], start + size
        distance = torch.cdist(self.normalised(columns, self.normalizer), self.frames).amin(1)
        return (distance > self.reach).float().mean().item()


Rule = Callable[[Rollout, TaskContract, Known | None], str | None]
"""What a rule is: evidence that it applies, or None."""


def evaluation(episode: Rollout, task: TaskContract, known: Known | None) -> str | None:
    """Evidence that the metrics mislead: something is not a number, or progress was still rising when time ran out."""
    if not np.isfinite(np.array(episode.actions)).all() or not np.isfinite(episode.coverage).all():
        return "an action or the progress is not a number"
    coverage = np.array(episode.coverage)
    if len(coverage) == task.horizon and len(coverage) > TAIL and coverage.argmax() >= len(coverage) - 2:
        rise = coverage[-1] - coverage[-TAIL]
        if rise > 0.1:
            return f"progress rose by {rise:.2f} in the last {TAIL} steps: the horizon of {task.horizon} cut it off"
    return None


def perception(episode: Rollout, task: TaskContract, known: Known | None) -> str | None:
    """Evidence of frames that do not change while the world does: at least one in four."""
    seen, true = np.array(episode.observations), np.array(episode.truth)
    if len(seen) < 2:
        return None
    stale = ((np.diff(seen, axis=0) == 0).all(1) & (np.abs(np.diff(true, axis=0)).max(1) > 0)).mean()
    return f"{stale:.0%} of the frames are stale while the world moved" if stale >= 0.25 else None


def state_estimation(episode: Rollout, task: TaskContract, known: Known | None) -> str | None:
    """Evidence that what is observed is off by 1 % of the range of the actions, as root mean square."""
    low, high = task.action_bounds
    error = float(np.sqrt(np.mean((np.array(episode.observations) - np.array(episode.truth)) ** 2)))
    return f"what it observed is off by {error:.3g} (root mean square)" if error > 0.01 * (high - low) else None


def timing(episode: Rollout, task: TaskContract, known: Known | None) -> str | None:
    """Evidence that one step in twenty exceeds the budget. The latency of a batch tells nothing about one robot."""
    late = (np.array(episode.latency_ms) > task.timing_budget_ms).mean()
    if episode.batch > 1 or late < 0.05:
        return None
    return f"{late:.0%} of the steps took longer than {task.timing_budget_ms:g} ms"


def control(episode: Rollout, task: TaskContract, known: Known | None) -> str | None:
    """Evidence that the action is saturated, at its bounds in a quarter of the steps, or jitters: it turns round in a third."""
    actions, (low, high) = np.array(episode.actions), task.action_bounds
    saturated = ((actions <= low) | (actions >= high)).any(1).mean()
    if saturated >= 0.25:
        return f"{saturated:.0%} of the actions lie at their bounds"
    moves = np.diff(actions, axis=0)
    far = np.linalg.norm(moves, axis=1) > 0.02 * (high - low)
    turned = ((moves[1:] * moves[:-1]).sum(1) < 0) & far[1:] & far[:-1]
    if len(turned) and turned.mean() >= 1 / 3:
        return f"the action turns round in {turned.mean():.0%} of the steps"
    return None


def data_coverage(episode: Rollout, task: TaskContract, known: Known | None) -> str | None:
    """Evidence that a quarter of the states lie further from every demonstration than demonstrations lie from one another."""
    if known is None:
        return None
    beyond = known.beyond(episode, task)
    if beyond < 0.25:
        return None
    return f"{beyond:.0%} of the states lie beyond {known.reach:.2f}, where 99 % of the demonstrations are closer"


def planning(episode: Rollout, task: TaskContract, known: Known | None) -> str | None:
    """Evidence of no progress while contacts change: it touches and lets go, and the most progress stays what it was."""
    if len(episode.coverage) <= STUCK or None in episode.contact:
        return None
    before, after = max(episode.coverage[:-STUCK]), max(episode.coverage[-STUCK:])
    touching = np.array(episode.contact[-STUCK:], dtype=int) > 0
    changes = int(np.abs(np.diff(touching.astype(int))).sum())
    if after > before + 0.02 or changes < 4:
        return None
    return f"no better than {before:.2f} in the last {STUCK} steps, while contact began or ended {changes} times"


RULES: dict[str, Rule] = {
    "evaluation": evaluation,
    "perception": perception,
    "state estimation": state_estimation,
    "timing": timing,
    "control": control,
    "data coverage": data_coverage,
    "planning": planning,
}


def failure_of(
    episode: Rollout, task: TaskContract, known: Known | None = None, rules: Mapping[str, Rule] = RULES
) -> Failure:
    """The label of a failed episode: the first rule that applies. `known`: what the demonstrations visited."""
    for label, rule in rules.items():
        evidence = rule(episode, task, known)
        if evidence:
            return Failure(label, evidence)
    return Failure("unlabelled", f"no rule applies; the most progress was {max(episode.coverage):.2f}")


def failures_of(
    episodes: Sequence[Rollout], task: TaskContract, known: Known | None, own_rules: Mapping[str, Rule] = {}
) -> dict[str, dict[str, Any]]:
    """{environment seed: label, evidence, and room for a person's label} of the episodes that failed. `own_rules`: those
    of the task, which are tried first."""
    rules = {**own_rules, **RULES, **own_rules}  # own rules first, also where they replace a general one
    found = {str(e.seed): failure_of(e, task, known, rules) for e in episodes if not e.success}
    return {seed: {"label": f.label, "evidence": f.evidence, "person": None} for seed, f in found.items()}


def keep_persons_word(
    path: Path, found: dict[str, dict[str, Any]], own_labels: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """Write failures.json, keeping what a person set under `person` there before, of episodes too that are not among
    the `found`; returns these.

    Raises BadInput for a file that is not one, or a label that does not exist: nothing is overwritten then."""
    try:
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        words = {seed: entry.get("person") for seed, entry in before.items()}
    except (ValueError, AttributeError) as error:
        raise BadInput(f"{path}: not readable ({error}); repair it, or delete it to label anew") from None
    labels = [*own_labels, *LABELS]
    for seed, word in words.items():
        if word is not None and word not in labels:
            raise BadInput(f"{path}: {seed}: {word!r} is not a label; choose from {', '.join(labels)}")
    kept = {seed: entry | {"person": words.get(seed)} for seed, entry in found.items()}
    write_json(path, {seed: entry for seed, entry in before.items() if words[seed]} | kept)
    return kept
