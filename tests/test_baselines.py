"""The other policies of the panel: they learn, act through one interface, and repeat."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import write_npz
from torch import nn

from vqbet_course.baselines import BC, BeT, FlowMatching, chunk_stage, integrate_euler
from vqbet_course.core.chunk_policy import ChunkPolicy
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.demos import Demos, load_demos
from vqbet_course.experiments.panel import POLICIES, as_policy, build, config_for
from vqbet_course.rollout import Rollout, rollouts
from vqbet_course.tasks import open_source
from vqbet_course.tokens import nearest_code
from vqbet_course.training.data import Setup, prepare


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Demos:
    return load_demos(open_source(write_npz(tmp_path_factory.mktemp("demos") / "d.npz")))


def trained(name: str, demos: Demos, steps: int = 3) -> tuple[Any, Setup]:
    """A policy after a few steps, and what it learned from."""
    setup = prepare(demos, config := config_for(name, demos, use_relative_actions=True), augment=False)
    torch.manual_seed(0)
    policy: nn.Module = build(name, config)
    if isinstance(policy, ChunkPolicy):
        stage = chunk_stage(policy, setup.windows, steps)
        for step in range(steps):
            stage.step(step, seed=0)
    return (policy if isinstance(policy, ChunkPolicy) else as_policy(policy)).eval(), setup


CONFIG_OF_FLOW = VQBeTConfig.laptop(
    observation_sizes={"observation.state": 2}, n_obs_steps=2, action_chunk_size=4, n_action_steps=1
)


def same(one: Rollout, two: Rollout) -> bool:
    return one.coverage == two.coverage and np.array_equal(one.actions, two.actions) and one.tokens == two.tokens


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_repeats_from_its_episodes_generators(name: str, demos: Demos) -> None:
    policy, setup = trained(name, demos)
    if name == "diffusion":
        policy.sample_with("DDPM", 5)  # draws at every denoising step
    make = ShortPusht
    torch.manual_seed(1)
    one = rollouts(policy, setup.normalizer, [4, 5], make)
    torch.manual_seed(2)
    two = rollouts(policy, setup.normalizer, [4, 5], make)
    assert all(map(same, one, two))
    assert same(rollouts(policy, setup.normalizer, [4, 99], make)[0], one[0])
    if name in ("diffusion", "bet", "flow"):  # draws matter to these, even untrained
        assert not same(rollouts(policy, setup.normalizer, [4, 5], make, draws=[7, 8])[0], one[0])


def ShortPusht() -> Any:
    """PushT that is over after twenty steps."""
    from vqbet_course.tasks.pusht.environment import make_pusht

    env = make_pusht()
    setattr(env, "contract", replace(getattr(env, "contract"), horizon=20))
    return env


@pytest.mark.parametrize("name", ["bc", "bet", "act", "diffusion", "flow"])
def test_every_policy_learns(name: str, demos: Demos) -> None:
    setup = prepare(
        demos, config := config_for(name, demos, use_relative_actions=True, scheduler_warmup_steps=1), False
    )
    torch.manual_seed(0)
    policy = build(name, config)
    assert isinstance(policy, ChunkPolicy)
    stage = chunk_stage(policy, setup.windows, 80)
    losses = [stage.step(step, seed=0)["loss"].item() for step in range(40)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_the_bins_of_bet_are_clusters_of_actions(demos: Demos) -> None:
    policy, setup = trained("bet", demos)
    actions = setup.windows.chunks.flatten(0, 1)
    assert len(torch.unique(nearest_code(actions, policy.bins))) > len(policy.bins) / 2
    assert (actions - policy.bins[nearest_code(actions, policy.bins)]).norm(dim=1).mean() < actions.std(0).norm() / 2


def test_a_bin_and_an_offset_make_the_action(demos: Demos) -> None:
    policy, setup = trained("bet", demos)
    played = rollouts(policy, setup.normalizer, [0], ShortPusht)[0]
    assert np.allclose(np.array(played.codes) + np.array(played.offsets), np.array(played.actions), atol=1e-2)


@pytest.mark.parametrize(("name", "every"), [("bc", 4), ("bet", 1), ("act", 8), ("diffusion", 8), ("flow", 8)])
def test_a_policy_decides_when_its_queue_is_empty(name: str, every: int, demos: Demos) -> None:
    policy, setup = trained(name, demos)
    played = rollouts(policy, setup.normalizer, [0], ShortPusht)[0]
    assert [i for i, new in enumerate(played.decided) if new] == list(range(0, 20, every))


@pytest.mark.parametrize("kind", [BC, BeT])
def test_chunks_are_told_from_where_the_robot_is(kind: type[ChunkPolicy], demos: Demos) -> None:
    name = kind.__name__.lower()
    policy, _ = trained(name, demos)
    here = {"observation.state": torch.tensor([[0.1, 0.2]]), "observation.environment_state": torch.zeros(1, 16)}

    class Still(kind):  # type: ignore[misc, valid-type]
        def decide(self, window: dict[str, torch.Tensor]) -> Any:
            decision = kind.decide(self, window)
            return decision._replace(actions=torch.zeros_like(decision.actions))

    still = Still(policy.config)
    assert torch.allclose(still.select_action(here), here["observation.state"])


def test_samplers_of_one_diffusion_policy_share_its_weights(demos: Demos) -> None:
    policy, _ = trained("diffusion", demos)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    policy.sample_with("DDPM", 100)
    assert policy.policy.diffusion.num_inference_steps == 100
    assert type(policy.policy.diffusion.noise_scheduler).__name__ == "DDPMScheduler"
    policy.sample_with("DDIM", 10)
    assert type(policy.policy.diffusion.noise_scheduler).__name__ == "DDIMScheduler"
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


@given(st.integers(1, 20), st.integers(0, 2**31))
def test_the_velocity_of_one_chunk_leads_to_that_chunk(n_steps: int, seed: int) -> None:
    """From any noise, Euler steps of the true velocity of a world with one chunk end at it: (x1 - x) / (1 - t)."""
    g = torch.Generator().manual_seed(seed)
    only, noise = torch.randn(4, 2, generator=g), torch.randn(3, 4, 2, generator=g)
    arrived = integrate_euler(lambda x, t: (only - x) / (1 - t.unsqueeze(2)), noise, n_steps)
    assert torch.allclose(arrived, only.expand(3, -1, -1), atol=1e-4)


def test_flow_draws_both_of_two_chunks() -> None:
    """Where two chunks are right, flow matching decides for one of them, not for their mean."""
    flow = build("flow", CONFIG_OF_FLOW)
    assert isinstance(flow, FlowMatching)
    windows, chunks = torch.zeros(256, 2, 2), torch.ones(256, 2, *flow.velocity.shape)
    chunks[::2] *= -1
    flow.learn_scales(chunks[:, -1])
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3)
    for _ in range(300):
        optimizer.zero_grad()
        flow.loss({"observation.state": windows}, chunks).backward()
        optimizer.step()
    drawn = flow.decide({"observation.state": torch.zeros(100, 2, 2)}).actions.mean((1, 2))
    assert (drawn.abs() > 0.5).float().mean() > 0.9
    assert 0.2 < (drawn > 0).float().mean() < 0.8
