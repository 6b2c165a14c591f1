"""How a policy behaves, beside whether it succeeds: changes of mind, smoothness, how much the offset repairs."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from vqbet_course.demos import Normalizer
from vqbet_course.rollout import Episode, Policy, rollouts
from vqbet_course.tokens import token_usage


def behaviour(episodes: Sequence[Episode]) -> dict[str, float | None]:
    """Means over episodes. token_switches: decisions with another primary code than the one before; jerk: root mean
    square of the third difference of the actions, in their unit per step^3; offset_outweighs: share (0..1) of the
    steps whose offset is longer than the move that the code asks for. None for a policy without codes."""
    speaks = bool(episodes[0].tokens[0])
    return {"token_switches": float(np.mean([switches(e) for e in episodes])) if speaks else None,
            "jerk": float(np.mean([jerk(e) for e in episodes])),
            "offset_outweighs": float(np.mean([offset_outweighs(e) for e in episodes])) if speaks else None}


def switches(episode: Episode) -> int:
    """How often the primary code of a decision differs from that of the decision before."""
    said = [tokens[0] for tokens, new in zip(episode.tokens, episode.decided, strict=True) if new]
    return sum(one != two for one, two in itertools.pairwise(said))


def jerk(episode: Episode) -> float:
    """Root mean square of the third difference of the actions; 0 for an episode too short to have one."""
    third = np.diff(np.array(episode.actions), n=3, axis=0)
    return float(np.sqrt((third ** 2).sum(1).mean())) if len(third) else 0.0


def offset_outweighs(episode: Episode) -> float:
    """The share (0..1) of steps whose offset is longer than the code's move, told from the last A numbers seen when
    it was decided (`observation.state`, in PushT the pusher)."""
    decided = np.maximum.accumulate(np.where(episode.decided, np.arange(len(episode.decided)), 0))
    codes, offsets = np.array(episode.codes), np.array(episode.offsets)
    here = np.array(episode.observations)[decided][:, -codes.shape[1]:]
    return float((np.linalg.norm(offsets, axis=1) > np.linalg.norm(codes - here, axis=1)).mean())


def mode_entropy(policy: Policy, normalizer: Normalizer, seed: int, make: Callable[[], gym.Env],
                 repeats: int = 10, decisions: int = 10, steps: int = 100) -> float:
    """Entropy in bits of the primary code over repeated rollouts from one start, each with draws of its own, averaged
    over the first decisions, of so many steps at most. 0: it always goes the same way."""
    played = rollouts(policy, normalizer, [seed] * repeats, make, range(repeats), steps)
    said = [[tokens[0] for tokens, new in zip(e.tokens, e.decided, strict=True) if new] for e in played]
    together = [torch.tensor(codes) for codes in list(zip(*said, strict=False))[:decisions]]
    return float(np.mean([np.log2(token_usage(codes, int(codes.max()) + 1).perplexity) for codes in together]))


def recovery(episodes: Sequence[Episode]) -> dict[str, Any]:
    """After shoves that took coverage away: how often it came back, and after how many steps (their median)."""
    steps = [steps_to_recover(e, at) for e in episodes if (at := shoved_at(e)) and e.coverage[at] < e.coverage[at - 1]]
    back = [s for s in steps if s is not None]
    return {"shoved": len(steps), "recovered": len(back), "steps_p50": float(np.median(back)) if back else None}


def shoved_at(episode: Episode) -> int | None:
    """The step before which the block was shoved, if it was."""
    return next((i for i, what in enumerate(episode.intervention) if "shove" in what), None)


def steps_to_recover(episode: Episode, at: int) -> int | None:
    """Steps from a shove before step `at` until coverage is what it was; None if it never is again."""
    before = episode.coverage[at - 1]
    return next((i for i, now in enumerate(episode.coverage[at:]) if now >= before), None)


FORKS = (300_000, 300_001, 300_003, 300_004, 300_005, 300_010, 300_013, 300_014)
"""The first eight environment seeds of PushT from 300000 on from which the pusher has to get to the other side of the T,
and the expert's two styles walk round it by more than a quarter turn either way."""


def ways_round(policy: Policy, normalizer: Normalizer, make: Callable[[], gym.Env], n: int = 10,
               steps: int = 80) -> dict[str, float]:
    """From each of the FORKS, n rollouts with draws of their own, up to the first contact with the T: the shares
    (0..1) of starts from which they go round it both ways, only `left`, only `right`, and neither way."""
    seeds = [seed for seed in FORKS for _ in range(n)]
    played = rollouts(policy, normalizer, seeds, make, range(len(seeds)), steps)
    taken = [{way_round(e) for e in played if e.seed == seed} - {"neither"} for seed in FORKS]
    told = ["both" if len(ways) == 2 else next(iter(ways), "neither") for ways in taken]
    return {way: told.count(way) / len(told) for way in ("both", "left", "right", "neither")}


def way_round(episode: Episode, least: float = np.pi / 3) -> str:
    """On which hand the pusher has the T on its way to the first contact: `left` or `right`, and `neither` when it
    touches nothing, or goes less than `least` radians about the T's centre."""
    touched = next((i for i, contacts in enumerate(episode.contact) if contacts), None)
    if touched is None:
        return "neither"
    told = np.array(episode.truth[:touched + 1])
    away = told[:, 16:] - told[:, :16].reshape(-1, 8, 2).mean(1)
    angle = np.unwrap(np.arctan2(away[:, 1], away[:, 0]))
    turned = angle[-1] - angle[0]  # y points down: anticlockwise on the screen is negative
    return "neither" if abs(turned) < least else "left" if turned < 0 else "right"
