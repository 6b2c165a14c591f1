"""How a policy behaves, beside whether it succeeds: changed decisions, smoothness, how much the offset adds, and in how
many of the demonstrators' ways it solves its task."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vqbet_course.demos import Demos, Normalizer
from vqbet_course.rollout import Policy, Rollout, World, rollouts
from vqbet_course.tasks import as_task
from vqbet_course.tasks.task import Task
from vqbet_course.tokens import token_usage


def behaviour(episodes: Sequence[Rollout]) -> dict[str, float | None]:
    """Means over episodes. token_switches: decisions with another primary code than the one before; jerk: root mean
    square of the third difference of the actions, in their unit per step^3; offset_outweighs: share (0..1) of the
    steps whose offset is longer than the move that the code asks for. None for a policy without codes."""
    has_codes = bool(episodes[0].tokens[0])
    return {
        "token_switches": float(np.mean([switches(e) for e in episodes])) if has_codes else None,
        "jerk": float(np.mean([jerk(e) for e in episodes])),
        "offset_outweighs": float(np.mean([offset_outweighs(e) for e in episodes])) if has_codes else None,
    }


def switches(episode: Rollout) -> int:
    """How often the primary code of a decision differs from that of the decision before."""
    codes = [tokens[0] for tokens, new in zip(episode.tokens, episode.decided, strict=True) if new]
    return sum(one != two for one, two in itertools.pairwise(codes))


def jerk(episode: Rollout) -> float:
    """Root mean square of the third difference of the actions; 0 for an episode too short to have one."""
    third = np.diff(np.array(episode.actions), n=3, axis=0)
    return float(np.sqrt((third**2).sum(1).mean())) if len(third) else 0.0


def offset_outweighs(episode: Rollout) -> float:
    """The share (0..1) of steps whose offset is longer than the code's move, which starts at the last A numbers observed
    when it was decided (`observation.state`)."""
    decided = np.maximum.accumulate(np.where(episode.decided, np.arange(len(episode.decided)), 0))
    codes, offsets = np.array(episode.codes), np.array(episode.offsets)
    here = np.array(episode.observations)[decided][:, -codes.shape[1] :]
    return float((np.linalg.norm(offsets, axis=1) > np.linalg.norm(codes - here, axis=1)).mean())


def mode_entropy(
    policy: Policy,
    normalizer: Normalizer,
    seed: int,
    task: World,
    repeats: int = 10,
    decisions: int = 10,
    steps: int = 100,
) -> float:
    """Entropy in bits of the primary code over repeated rollouts from one start, each with a generator of its own, averaged
    over the first decisions, of `steps` steps at most. 0: it always decides the same."""
    episodes = rollouts(policy, normalizer, [seed] * repeats, task, range(repeats), steps)
    chosen = [[tokens[0] for tokens, new in zip(e.tokens, e.decided, strict=True) if new] for e in episodes]
    together = [torch.tensor(codes) for codes in list(zip(*chosen, strict=False))[:decisions]]
    return float(np.mean([np.log2(token_usage(codes, int(codes.max()) + 1).perplexity) for codes in together]))


def recovery(episodes: Sequence[Rollout]) -> dict[str, Any]:
    """After shoves that took coverage away: how often it came back, and after how many steps (their median)."""
    steps = [steps_to_recover(e, at) for e in episodes if (at := shoved_at(e)) and e.coverage[at] < e.coverage[at - 1]]
    back = [s for s in steps if s is not None]
    return {"shoved": len(steps), "recovered": len(back), "steps_p50": float(np.median(back)) if back else None}


def shoved_at(episode: Rollout) -> int | None:
    """The step before which the block was shoved, if it was."""
    return next((i for i, what in enumerate(episode.intervention) if "shove" in what), None)


def steps_to_recover(episode: Rollout, at: int) -> int | None:
    """Steps from a shove before step `at` until coverage is what it was; None if it never is again."""
    before = episode.coverage[at - 1]
    return next((i for i, now in enumerate(episode.coverage[at:]) if now >= before), None)


def ways_round(
    policy: Policy, normalizer: Normalizer, world: World, n: int = 10, steps: int = 80
) -> dict[str, float] | None:
    """From each of the task's fork seeds, n rollouts with generators of their own, of `steps` steps: the shares (0..1) of
    starts from which they show both behaviours (of more than two: several), only one of them (`left`, `right` on PushT),
    and neither. None for a task without forks."""
    task = as_task(world)
    if not task.fork_seeds:
        return None
    seeds = [seed for seed in task.fork_seeds for _ in range(n)]
    episodes = rollouts(policy, normalizer, seeds, task, range(len(seeds)), steps)
    taken = [
        {task.behaviour_of(np.array(e.truth), e.contact) for e in episodes if e.seed == seed} - {None}
        for seed in task.fork_seeds
    ]
    ways = ["both" if len(found) > 1 else next(iter(found), "neither") for found in taken]
    return {way: ways.count(way) / len(ways) for way in ("both", *task.behaviours, "neither")}


def ways_of_solving(episodes: Sequence[Rollout], task: Task, demos: Demos | None) -> dict[str, Any]:
    """What is measured of tasks that define it, {} for others. milestones: {name: share (0..1) of the episodes that reach
    it}. behaviours, where there are no fork seeds: `counts` {label: successful episodes}, their `entropy` in bits (Lee et
    al. 2024), None without a success, and that of the `demonstrations`, None where they are not at hand."""
    found: dict[str, Any] = {}
    if task.milestones:
        found["milestones"] = {
            name: float(np.mean([e.success or reached(np.array(e.truth)) for e in episodes]))
            for name, reached in task.milestones.items()
        }
    if task.behaviours and not task.fork_seeds:
        won = counted(task, [task.behaviour_of(np.array(e.truth), e.contact) for e in episodes if e.success])
        shown = counted(task, behaviours_of_demos(demos, task) if demos else [])
        found["behaviours"] = {
            "counts": dict(won),
            "entropy": entropy_bits(won),
            "demonstrations": entropy_bits(shown),
        }
    return found


def counted(task: Task, labels: Sequence[str | None]) -> Counter[str]:
    """How many episodes show each behaviour of a task; those that show none are not counted."""
    return Counter({name: labels.count(name) for name in task.behaviours})


def behaviours_of_demos(demos: Demos, task: Task) -> list[str | None]:
    """The behaviour that each demonstration shows."""
    columns = [demos.observation[name] for name in task.contract.data.observation]
    parts = np.split(np.concatenate(columns, axis=1), demos.episode_ends[:-1])
    return [task.behaviour_of(truth, [None] * len(truth)) for truth in parts]


def entropy_bits(counts: Counter[Any]) -> float | None:
    """The entropy in bits of labels that were counted; None without any."""
    shares = np.array([n for n in counts.values() if n]) / max(1, counts.total())
    return float(-(shares * np.log2(shares)).sum()) + 0.0 if len(shares) else None


def ways_in_words(metrics: dict[str, Any]) -> list[str]:
    """Lines on what `ways_of_solving` found."""
    lines = [f"{name}: {share:.0%} of the episodes" for name, share in metrics.get("milestones", {}).items()]
    if "behaviours" in metrics:
        own = metrics["behaviours"]
        shown = "unknown" if own["demonstrations"] is None else f"{own['demonstrations']:.2f}"
        among = f"demonstrations {shown}, at most {np.log2(len(own['counts'])):.2f}"
        counted = "; ".join(f"{label}: {n}" for label, n in own["counts"].items())
        if own["entropy"] is None:
            lines.append(f"behaviour entropy: none, for no episode succeeded ({among})")
        else:
            lines.append(
                f"behaviour entropy of the successful episodes: {own['entropy']:.2f} bits ({among}): {counted}"
            )
    return lines
