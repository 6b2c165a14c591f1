"""What policies without codes share."""

import torch
from torch import Tensor

from vqbet_course.core.chunk_policy import ChunkPolicy, stack_steps, without_codes
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.frames import Decision

CONFIG = VQBeTConfig.laptop(
    observation_sizes={"a": 2}, n_obs_steps=3, action_chunk_size=4, n_action_steps=2, use_relative_actions=False
)


class Counting(ChunkPolicy):
    """Decides chunks of the number of its decision, and keeps what it saw."""

    def decide(self, window: dict[str, Tensor]) -> Decision:
        self.windows = [*getattr(self, "windows", []), window["a"]]
        return without_codes(torch.full((1, 4, 2), float(len(self.windows))))

    def loss(self, window: dict[str, Tensor], chunks: Tensor) -> Tensor:
        return chunks.sum()


def test_a_window_has_the_steps_in_their_order_on_its_second_axis() -> None:
    window = stack_steps([{"a": torch.zeros(3, 2)}, {"a": torch.ones(3, 2)}])["a"]
    assert window.shape == (3, 2, 2)
    assert (window[:, 0] == 0).all() and (window[:, 1] == 1).all()


def test_a_decision_without_codes_has_none_and_no_offset() -> None:
    decision = without_codes(torch.ones(3, 8, 2))
    assert decision.codes.shape == (3, 0) and not decision.offset.any()
    assert torch.equal(decision.actions, decision.decoded)


def test_a_policy_decides_when_its_actions_are_used_up_and_sees_its_first_observation_repeated() -> None:
    policy = Counting(CONFIG)
    policy.parameter = torch.nn.Parameter(torch.zeros(1))  # whose device is asked
    policy.reset()
    actions = [policy.select_action({"a": torch.full((1, 2), float(t))})[0, 0].item() for t in range(5)]
    assert actions == [1, 1, 2, 2, 3]
    assert [window[0, :, 0].tolist() for window in policy.windows] == [[0, 0, 0], [0, 1, 2], [2, 3, 4]]
