"""How a policy behaves, beside whether it succeeds: changes of mind, smoothness, how much the offset repairs."""

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
    return sum(one != two for one, two in zip(said, said[1:], strict=False))


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
                 repeats: int = 10, decisions: int = 10) -> float:
    """Entropy in bits of the primary code over repeated rollouts from one start, each with draws of its own, averaged
    over the first decisions. 0: it always goes the same way."""
    played = rollouts(policy, normalizer, [seed] * repeats, make, draws=range(repeats))
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
