"""The coordinate frame of PushT's T: with goals, a policy sees the pusher and the goals from the T, and moves in its frame.

A push has the same effect wherever the T lies and however it is turned, so a network that sees the scene from the T need
not learn it for every place and angle. The x axis of the frame points along the T's bar; walls are not seen.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.frames import AbsoluteFrame, Decision
from vqbet_course.core.specs import GOAL, Contract
from vqbet_course.demos import Normalizer, Windows
from vqbet_course.tasks.pusht.contract import PUSHT
from vqbet_course.tasks.pusht.geometry import SIZE

KEYPOINTS, PUSHER = PUSHT.observation

PUSHT_SIZES = {name: field.size for name, field in PUSHT.observation.items()}
"""What is observed on PushT: {name: numbers per step}."""

HALF_BAR = 60 / 256
"""Half the T's bar where a board of 512 pixels is normalised to -1..1."""


def frame_of(keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """Keypoints (..., 16) -> the origin of the T's own frame and the direction of its x axis, each (..., 2)."""
    ends = keypoints[..., :4].unflatten(-1, (2, 2))  # of the bar
    return ends.mean(-2), F.normalize(ends[..., 1, :] - ends[..., 0, :], dim=-1)


def turn(vectors: Tensor, axis: Tensor) -> Tensor:
    """Vectors (..., P, 2) -> the same in a frame whose x axis points along `axis` (..., 2)."""
    (x, y), (cos, sin) = vectors.unbind(-1), axis.unsqueeze(-2).unbind(-1)
    return torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1)


def turn_back(vectors: Tensor, axis: Tensor) -> Tensor:
    """The way back of `turn`."""
    return turn(vectors, axis * axis.new_tensor([1, -1]))


def seen_from_block(observation: dict[str, Tensor]) -> dict[str, Tensor]:
    """PushT's {name: (B, T, ...)}, normalised alike in x and y -> the pusher (B, T, 2) in the T's frame and, of each
    goal, by how much each corner is to move there, (B, T, n * 16); in half bars."""
    block = observation[KEYPOINTS]
    origin, axis = frame_of(block)
    seen = {PUSHER: turn((observation[PUSHER] - origin).unsqueeze(-2), axis).squeeze(-2) / HALF_BAR}
    if GOAL in observation:
        goals = observation[GOAL].unflatten(-1, (-1, 16)) - block.unsqueeze(-2)
        seen[GOAL] = turn(goals.flatten(-2).unflatten(-1, (-1, 2)), axis).flatten(-2) / HALF_BAR
    return seen


class BlockFrame(AbsoluteFrame):
    """The coordinate frame of PushT's T: the pusher and the goals are seen from it, a chunk is a move in it."""

    def sizes(self, observation_sizes: dict[str, int]) -> dict[str, int]:
        """The pusher is all that is left to see: the T's own keypoints never move in its frame."""
        return {PUSHER: 2}

    def observe(self, observation: dict[str, Tensor]) -> dict[str, Tensor]:
        """{name: (B, T, ...)} on the board, normalised -> pusher and goals seen from the T."""
        return seen_from_block(observation)

    def to_absolute(self, decision: Decision, observation: dict[str, Tensor]) -> Decision:
        """A decision in the T's frame -> the same on the board, absolute."""
        pusher, (_, axis) = observation[PUSHER][:, -1:], frame_of(observation[KEYPOINTS][:, -1])
        actions, decoded = (pusher + turn_back(chunk, axis) for chunk in (decision.actions, decision.decoded))
        return decision._replace(actions=actions, decoded=decoded, offset=turn_back(decision.offset, axis))


def has_block_goals(config: VQBeTConfig) -> bool:
    """Whether the goals of a configuration are poses of PushT's T. Raises BadInput where actions are not relative."""
    on_pusht = config.goal_shape is not None and config.observation_sizes == PUSHT_SIZES
    if on_pusht and not config.use_relative_actions:
        raise BadInput("configuration: goals on PushT need use_relative_actions")
    return on_pusht


def chunk_starts(windows: Windows) -> Tensor:
    """The frame (M,) in which each distinct chunk begins; before an episode's start, its first."""
    seen, asked = windows.observation_index, windows.chunk_index
    T, Q = seen.shape[1], asked.shape[1]
    frames = torch.zeros(len(windows.chunks), dtype=torch.long)
    frames[asked] = torch.cat([seen, seen[:, -1:] + torch.arange(1, Q - T + 1)], dim=1)
    return frames


def in_block_frame(windows: Windows, normalizer: Normalizer, contract: Contract) -> tuple[Windows, Normalizer]:
    """PushT's windows, normalised alike in x and y, with chunks as moves in the T's frame, and their normalizer; windows
    of other sizes as they are. Raises BadInput for windows of PushT's sizes whose contract is not PushT's."""
    if {name: field.size for name, field in contract.observation.items()} != PUSHT_SIZES:
        return windows, normalizer
    if replace(contract, fps=PUSHT.fps) != PUSHT:
        raise BadInput(
            "goals: 16 and 2 numbers are observed, as in PushT, but the contract says they are not "
            "PushT's; state their units as px, or train without --goal"
        )
    board = Normalizer(
        {name: (torch.zeros_like(low), torch.full_like(low, SIZE)) for name, (low, _) in normalizer.bounds.items()}
    )
    shown = {
        name: board.normalize(name, normalizer.unnormalize(name, values))
        for name, values in windows.observation.items()
    }
    low, high = normalizer.bounds["action"]
    moves = windows.chunks * (high - low) / SIZE
    _, axis = frame_of(shown[KEYPOINTS][chunk_starts(windows)])
    return replace(windows, observation=shown, chunks=turn(moves, axis)), board
