"""Which way round the T: told from traces made by hand, from the expert, and from a policy that knows one way only."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from vqbet_course.core.frames import Decision
from vqbet_course.demos import Normalizer
from vqbet_course.evaluation.behaviour import ways_round
from vqbet_course.rollout import Rollout
from vqbet_course.tasks import get_task
from vqbet_course.tasks.pusht.contract import PUSHT
from vqbet_course.tasks.pusht.demonstrator import solve
from vqbet_course.tasks.pusht.forks import FORK_SEEDS, way_round
from vqbet_course.tasks.pusht.geometry import block_keypoints

BLOCK = np.array([256.0, 256.0, 0.5])


def circling(turned: float, touches: bool = True) -> Rollout:
    """A pusher that goes about the T's centre by an angle in radians, and touches it at the end, and again later."""
    keypoints = block_keypoints(BLOCK[None])[0]
    angles = 3 + np.linspace(0, turned, 20)  # begins close to where an angle jumps from pi to -pi
    around = keypoints.reshape(8, 2).mean(0) + 150 * np.column_stack([np.cos(angles), np.sin(angles)])
    around = np.vstack([around, around[::-1]])
    contact: list[int | None] = [*[0] * 19, 3 * touches, *[touches] * 20]
    return Rollout(0, truth=[np.concatenate([keypoints, point]) for point in around], contact=contact)


@pytest.mark.parametrize(
    ("turned", "touches", "way"),
    [(-2.0, True, "left"), (2.0, True, "right"), (0.5, True, None), (2.0, False, None)],
)
def test_a_way_is_told_by_the_turn_up_to_the_first_contact(turned: float, touches: bool, way: str | None) -> None:
    episode = circling(turned, touches)
    assert way_round(np.array(episode.truth), episode.contact) == way


@pytest.mark.parametrize("seed", FORK_SEEDS)
def test_the_expert_goes_both_ways_from_a_fork(seed: int) -> None:
    for style in ("left", "right"):
        states = solve(seed, style, max_steps=80).states
        moved = np.abs(states[:, 2:] - states[0, 2:]).max(1) > 1e-3
        truth = np.column_stack([block_keypoints(states[:, 2:]), states[:, :2]])
        assert way_round(truth, list(moved.astype(int))) == style


class Walks:
    """Goes by way of the corner of the square that its side says; `None` tosses a coin for every episode."""

    def __init__(self, side: int | None):
        self.side = side
        self.decision: Decision | None = None

    def eval(self) -> None: ...

    def reset(self, generators: Sequence[torch.Generator] | None = None) -> None:
        assert generators is not None
        coins = [int(2 * torch.randint(2, (1,), generator=g)) - 1 for g in generators]
        self.sides = torch.tensor([self.side or coin for coin in coins], dtype=torch.float32)

    def select_action(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        centre = observation["observation.environment_state"].reshape(-1, 8, 2).mean(1)
        away = observation["observation.state"] - centre
        turn = torch.stack([-away[:, 1], away[:, 0]], 1) * self.sides[:, None]
        action = observation["observation.state"] + 40 * turn / turn.norm(dim=1, keepdim=True) - 0.1 * away
        nothing = torch.zeros(len(action), 0)
        self.decision = Decision(
            action[:, None], nothing.long(), nothing, action[:, None], torch.zeros_like(action)[:, None]
        )
        return action


def test_a_coin_goes_both_ways_and_a_habit_does_not() -> None:
    plain = Normalizer({name: (-torch.ones(f.size), torch.ones(f.size)) for name, f in PUSHT.features().items()})
    both, habit = (ways_round(Walks(side), plain, get_task("pusht"), n=6) for side in (None, -1))
    assert both and habit
    assert both["both"] > 0.5 and habit["both"] == 0
    assert habit["left"] > habit["right"] and sum(habit.values()) == 1
    assert ways_round(Walks(-1), plain, get_task("navigation")) is None
