"""The policy: its configuration, what it reads, what it learns from, how it acts."""

import json
import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import KEYPOINTS
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from vqbet_course.core.configuration import ActingConfig, VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.heads import draw_uniform
from vqbet_course.policy import (
    StateEncoder,
    VQBeT,
    VQBeTPolicy,
    average_overlaps,
    interleave,
    stage2_loss,
    token_sequence,
)
from vqbet_course.training.factory import build_policy

pytestmark = pytest.mark.fast

few = settings(max_examples=15, deadline=None)


def make_policy(**changes: object) -> VQBeTPolicy:
    """A small untrained policy, in evaluation mode, with a codebook in which codes differ."""
    sizes = dict(
        n_obs_steps=2,
        n_action_pred_token=1,
        action_chunk_size=4,
        gpt_input_dim=16,
        gpt_output_dim=16,
        gpt_hidden_dim=16,
        gpt_n_layer=2,
        gpt_n_head=2,
        gpt_block_size=32,
        vqvae_embedding_dim=8,
        vqvae_enc_hidden_dim=16,
        bet_softmax_temperature=1.0,
        offset_loss_weight=10.0,
    )
    torch.manual_seed(0)
    config = VQBeTConfig(**({"observation_sizes": KEYPOINTS} | sizes | changes))
    policy = VQBeTPolicy(VQBeT(config, StateEncoder(config.observation_sizes, config.gpt_input_dim)))
    for layer in policy.network.vqvae.vq.layers:
        layer.codebook.normal_()
    return policy.eval()


def observe(*shape: int, seed: int = 0) -> dict[str, Tensor]:
    """A random observation of PushT {name: (*shape, size)}."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*shape, size, generator=generator) for name, size in KEYPOINTS.items()}


def owned(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def episode(policy: VQBeTPolicy, *seeds: int, steps: int = 10, worlds: tuple[int, ...] | None = None) -> Tensor:
    """The actions (steps, B, A) of episodes that own generators of `seeds`, each in a world of its own."""
    policy.reset(owned(*seeds))
    actions = []
    for t in range(steps):
        rows = [observe(1, seed=100 * world + t) for world in worlds or seeds]
        actions.append(policy.select_action({name: torch.cat([row[name] for row in rows]) for name in rows[0]}))
    return torch.stack(actions)


# the configuration


def test_names_and_defaults_are_those_of_the_installed_lerobot() -> None:
    theirs = pytest.importorskip("lerobot.policies.vqbet.configuration_vqbet").VQBeTConfig
    names = set(theirs.__annotations__) - {"normalization_mapping"}
    defaults = {f.name: f.default for f in fields(theirs) if f.name in names}
    assert {f.name: f.default for f in fields(VQBeTConfig)[: len(names)]} == defaults


@pytest.mark.parametrize(
    "config",
    [
        VQBeTConfig(observation_sizes=KEYPOINTS),
        VQBeTConfig.laptop(observation_sizes=KEYPOINTS),
        VQBeTConfig(crop_shape=None, n_action_steps=2, observation_sizes={"a": 3}),
    ],
)
def test_a_configuration_survives_json(config: VQBeTConfig) -> None:
    assert VQBeTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_laptop_takes_changes() -> None:
    assert VQBeTConfig.laptop(observation_sizes=KEYPOINTS, dropout=0.3).dropout == 0.3
    assert VQBeTConfig.laptop(observation_sizes=KEYPOINTS) != VQBeTConfig(observation_sizes=KEYPOINTS)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n_obs_steps": 0}, "n_obs_steps"),
        ({"action_chunk_size": -1}, "action_chunk_size"),
        ({"gpt_n_head": 0}, "gpt_n_head"),
        ({"gpt_hidden_dim": 100, "gpt_n_head": 8}, "multiple of gpt_n_head"),
        ({"n_obs_steps": 300}, "gpt_block_size"),
        ({"vqvae_n_embed": 1}, "vqvae_n_embed"),
        ({"vqvae_n_layers": 1, "sequentially_select": True}, "sequentially_select"),
        ({"n_action_steps": 6}, "n_action_steps 6"),
        ({"n_action_steps": 0}, "n_action_steps"),
        ({"offset_code": "best"}, "'best'"),
        ({"use_relative_actions": True, "action_dim": 3}, "observation.state"),
        ({"use_relative_actions": True, "observation_sizes": {"x": 2}}, "observation.state"),
        ({"observation_sizes": {"x": 0}}, "x must be"),
        ({"bet_softmax_temperature": -0.1}, "bet_softmax_temperature"),
        ({"bet_softmax_temperature": math.nan}, "bet_softmax_temperature"),
        ({"action_queries": False}, "n_action_pred_token"),
        ({"dropout": 1.0}, "dropout"),
        ({"ema_decay": 1.5}, "ema_decay"),
        ({"optimizer_lr": 0.0}, "learning rates"),
        ({"optimizer_betas": (0.9, 1.5)}, "optimizer_betas"),
        ({"optimizer_betas": (0.9,)}, "optimizer_betas"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_line(changes: dict[str, object], named: str) -> None:
    with pytest.raises(BadInput) as caught:
        VQBeTConfig(**{"observation_sizes": KEYPOINTS} | changes)  # type: ignore[arg-type]
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"n_obs_step": 3}, "n_obs_step"),
        ({"n_obs_steps": "two"}, "wrong type"),
        ({"dropout": None}, "wrong type"),
        ({"observation_sizes": {"x": "many"}}, "wrong type"),
        ({"observation_sizes": 3}, "wrong type"),
    ],
)
def test_from_dict_refuses_what_is_no_configuration(values: dict[str, object], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        VQBeTConfig.from_dict({"observation_sizes": KEYPOINTS} | values)


# what it reads


@few
@given(T=st.integers(1, 5), n=st.integers(1, 3), future=st.integers(0, 4))
def test_interleave_puts_a_query_after_each_step_and_the_future_ones_last(T: int, n: int, future: int) -> None:
    tokens, query = torch.randn(2, T, n, 3), torch.randn(1, 1, 1, 3)
    row, at_queries = interleave(tokens, query, future)
    expected = [part for t in range(T) for part in [*tokens[:, t].unbind(1), query[0, 0].expand(2, 3)]]
    expected += [query[0, 0].expand(2, 3)] * future
    assert torch.equal(row, torch.stack(expected, dim=1))
    assert len(at_queries) == T + future
    assert (row[:, at_queries] == query[0]).all()


@few
@given(T=st.integers(1, 5), n=st.integers(1, 3))
def test_without_a_query_the_newest_token_of_each_step_is_answered(T: int, n: int) -> None:
    tokens = torch.randn(2, T, n, 3)
    row, places = token_sequence(tokens, None)
    assert row.shape == (2, T * n, 3)
    assert torch.equal(row[:, places], tokens[:, :, -1])


def test_the_encoder_takes_observations_by_name_not_by_order() -> None:
    encoder = StateEncoder({"a": 2, "b": 3}, width=4)
    a, b = torch.randn(5, 1, 2), torch.randn(5, 1, 3)
    assert torch.equal(encoder({"a": a, "b": b}), encoder({"b": b, "a": a}))
    assert encoder({"a": a, "b": b}).shape == (5, 1, 1, 4)


@few
@given(T=st.integers(1, 5), n_pred=st.integers(0, 3), data=st.data())
def test_no_answer_sees_a_later_observation(T: int, n_pred: int, data: st.DataObject) -> None:
    """Here 0 stands for no queries at all."""
    queries, n_pred = n_pred > 0, max(n_pred, 1)
    policy = make_policy(n_obs_steps=T, n_action_pred_token=n_pred, action_queries=queries)
    changed = data.draw(st.integers(0, T - 1))
    before, after = observe(2, T), observe(2, T)
    after["observation.state"][:, changed] += 1
    with torch.no_grad():
        moved = (policy.network.features(before) != policy.network.features(after)).any(dim=2)  # (B, Q)
    assert moved.shape == (2, T + n_pred - 1)
    assert not moved[:, :changed].any() and moved[:, changed:].all()


@pytest.mark.parametrize("sequential", [False, True])
def test_a_decision_is_its_decoded_codes_plus_offset(sequential: bool) -> None:
    policy = make_policy(sequentially_select=sequential, vqvae_n_layers=3)
    decision = policy.network.decide(torch.randn(7, 16), torch.rand(7, 3), 1.0)
    assert decision.codes.shape == (7, 3) and decision.logits.shape == (7, 3, 16)
    assert decision.actions.shape == (7, 4, 2)
    assert torch.equal(decision.actions, decision.decoded + decision.offset)
    assert torch.equal(decision.decoded, policy.network.vqvae.decode(decision.codes))


# what it learns from


def test_the_loss_weighs_its_parts() -> None:
    logits, codes, right, wrong = (
        torch.randn(9, 3, 16),
        torch.randint(16, (9, 3)),
        torch.zeros(9, 4, 2),
        torch.ones(9, 4, 2),
    )

    def loss(predicted: Tensor, **weights: Any) -> float:
        return stage2_loss(
            VQBeTConfig(observation_sizes=KEYPOINTS, vqvae_n_layers=3, **weights), logits, codes, predicted, right
        )[0].item()

    none = dict(offset_loss_weight=0.0, primary_code_loss_weight=0.0, secondary_code_loss_weight=0.0)
    assert loss(wrong, **none) == 0
    assert loss(wrong, **none | {"offset_loss_weight": 3.0}) == pytest.approx(3.0)
    p = torch.softmax(logits, -1).gather(-1, codes.unsqueeze(-1)).squeeze(-1)  # (9, 3)
    focal = (-((1 - p) ** 2) * p.log()).mean(0)
    assert loss(right, **none | {"primary_code_loss_weight": 2.0}) == pytest.approx(2 * focal[0].item(), rel=1e-4)
    assert loss(right, **none | {"secondary_code_loss_weight": 2.0}) == pytest.approx(
        2 * focal[1:].sum().item(), rel=1e-4
    )


def batch(network: VQBeT, B: int = 12) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Observations, chunks that some codes decode to exactly, and those codes."""
    c = network.config
    codes = torch.randint(c.vqvae_n_embed, (B, c.n_queries, c.vqvae_n_layers))
    chunks = network.vqvae.decode(codes.flatten(0, 1)).unflatten(0, (B, c.n_queries)).detach()
    return observe(B, c.n_obs_steps), chunks, codes


@pytest.mark.parametrize(("offset_code", "perfect"), [("ground_truth", True), ("sampled", False)])
def test_the_offset_is_trained_on_the_code_that_was_asked_for(offset_code: str, perfect: bool) -> None:
    network = make_policy(offset_code=offset_code).network
    torch.nn.init.zeros_(network.offset_head.linear.weight)
    torch.nn.init.zeros_(network.offset_head.linear.bias)
    _, parts = network.loss(*batch(network))
    assert (parts["offset_loss"] < 1e-6) == perfect  # without offset, true codes decode to the very chunks


def test_teacher_forcing_tells_the_true_first_code_and_needs_no_temperature() -> None:
    told, losses = [], []
    for temperature in (0.1, 10.0):
        changes = {"bet_softmax_temperature": temperature, "offset_code": "ground_truth", "dropout": 0.0}
        torch.manual_seed(0)
        network = make_policy(sequentially_select=True, teacher_forcing=True, **changes).network
        network.code_predictor.later.register_forward_hook(lambda _, given, out: told.append(given[0]))
        observation, chunks, codes = batch(network)
        losses.append(network.loss(observation, chunks, codes)[0])
        assert torch.equal(told[-1][:, -network.config.vqvae_n_embed :].argmax(1), codes.flatten(0, 1)[:, 0])
    assert torch.equal(losses[0], losses[1])


def test_stage_two_trains_everything_but_the_tokenizer() -> None:
    network = make_policy(n_action_pred_token=3).network
    network.loss(*batch(network))[0].backward()
    missed = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert {name.split(".")[0] for name in missed} <= {"vqvae", "gpt"}
    assert all(name.startswith("vqvae") or "position" in name for name in missed), missed
    assert all(p.grad is None for p in network.vqvae.parameters())


@pytest.mark.parametrize("offset_code", ["ground_truth", "sampled"])
def test_a_loss_decodes_and_corrects_once(offset_code: str) -> None:
    network, calls = make_policy(offset_code=offset_code).network, []
    network.offset_head.register_forward_hook(lambda *_: calls.append("offset"))
    network.vqvae.decoder.register_forward_hook(lambda *_: calls.append("decoder"))
    before = batch(network)
    calls.clear()
    network.loss(*before)
    assert sorted(calls) == ["decoder", "offset"]


# how it acts


def test_how_a_policy_acts_follows_from_its_flat_fields_and_can_be_replaced() -> None:
    policy = make_policy(bet_softmax_temperature=0.3, n_action_steps=2, average_chunks=True)
    assert policy.acting == ActingConfig(0.3, 2, True) == policy.config.acting
    other = VQBeTPolicy(policy.network, ActingConfig(0.0, 1))
    assert other.config.bet_softmax_temperature == 0 and other.config.n_action_steps == 1
    assert policy.network.config.n_action_steps == 2 == policy.config.n_action_steps
    for wrong in (ActingConfig(0.1, 5), ActingConfig(0.1, 0), ActingConfig(-1.0, 1)):
        with pytest.raises(BadInput):
            VQBeTPolicy(policy.network, wrong)


def test_the_same_generators_give_the_same_episodes_and_others_do_not() -> None:
    policy = make_policy()
    assert torch.equal(episode(policy, 1, 2), episode(policy, 1, 2))
    assert not torch.equal(episode(policy, 1, 2)[:, 1], episode(policy, 1, 3, worlds=(1, 2))[:, 1])


@pytest.mark.parametrize(
    "acting",
    [
        {},
        {"n_action_steps": 1},
        {"n_action_steps": 1, "average_chunks": True},
        {"use_relative_actions": True, "n_action_steps": 3},
    ],
)
def test_a_batch_of_episodes_is_each_episode_alone(acting: dict[str, object]) -> None:
    policy = make_policy(**acting)
    together = episode(policy, 1, 2, 3)
    for i, seed in enumerate((1, 2, 3)):
        assert_close(together[:, i], episode(policy, seed)[:, 0], atol=1e-5, rtol=0)


def test_acting_with_generators_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    policy = make_policy()
    after_making = torch.get_rng_state()
    episode(policy, 1, 2)
    assert torch.equal(torch.get_rng_state(), after_making)
    torch.set_rng_state(before)


def test_draw_uniform_asks_each_generator_for_its_own_row() -> None:
    rows = draw_uniform(3, 2, owned(4, 5, 6))
    assert torch.equal(rows[1], torch.rand(2, generator=torch.Generator().manual_seed(5)))
    assert draw_uniform(3, 2, None).shape == (3, 2)


def test_temperature_zero_throws_no_dice() -> None:
    policy = make_policy(bet_softmax_temperature=0.0)
    assert torch.equal(episode(policy, 1, worlds=(9,)), episode(policy, 2, worlds=(9,)))


def test_reset_forgets_the_episode() -> None:
    policy = make_policy(n_action_steps=1, average_chunks=True)
    first = episode(policy, 5)
    episode(policy, 6)
    assert torch.equal(episode(policy, 5), first)


@few
@given(n=st.integers(1, 4), steps=st.integers(1, 13))
def test_it_decides_when_the_queue_is_empty_and_not_before(n: int, steps: int) -> None:
    policy = make_policy(n_action_steps=n)
    policy.reset()
    decisions, last = 0, None
    for t in range(steps):
        policy.select_action(observe(1, seed=t))
        decisions, last = decisions + (policy.decision is not last), policy.decision
    assert decisions == math.ceil(steps / n)


def test_a_decision_reads_the_last_observations_in_order() -> None:
    policy = make_policy(n_obs_steps=3, n_action_steps=1)
    policy.reset(owned(0))
    for t in range(5):
        action = policy.select_action(observe(1, seed=t))
        seen = [observe(1, seed=max(0, t - back)) for back in (2, 1, 0)]  # before the start, the first one repeats
        window = {name: torch.stack([one[name] for one in seen], dim=1) for name in seen[0]}
        assert policy.decision is not None
        expected = policy.network.decide(policy.network.features(window)[:, 2], torch.zeros(1, 2), 1.0)
        assert_close(policy.decision.logits, expected.logits)
        assert torch.equal(action, policy.decision.actions[:, 0])


def test_relative_chunks_begin_at_the_pusher() -> None:
    place, move = make_policy(), make_policy(use_relative_actions=True)
    seen = observe(2)
    for policy in (place, move):
        policy.reset(owned(0, 1))
        policy.select_action(seen)
    assert place.decision is not None and move.decision is not None
    here = seen["observation.state"].unsqueeze(1)
    assert_close(move.decision.actions, place.decision.actions + here)
    assert_close(move.decision.actions, move.decision.decoded + move.decision.offset)


@few
@given(W=st.integers(1, 6), data=st.data())
def test_overlapping_chunks_are_averaged_where_they_overlap(W: int, data: st.DataObject) -> None:
    n, decisions = data.draw(st.integers(1, W)), data.draw(st.integers(1, 8))
    policy = make_policy(action_chunk_size=W, n_action_steps=n, average_chunks=True)
    chunks = torch.randn(decisions, 2, W, 2)
    acted = [action for chunk in chunks for action in policy.actions_of(chunk)]
    assert len(acted) == n * decisions
    for t, action in enumerate(acted):
        said = [chunks[d, :, t - d * n] for d in range(t // n + 1) if t - d * n < W]
        assert_close(action, torch.stack(said).mean(0))


def test_whole_chunks_have_nothing_to_average() -> None:
    chunk = torch.randn(2, 4, 2)
    averaged = torch.stack(average_overlaps([chunk, torch.randn(2, 4, 2)], n=4), dim=1)
    assert torch.equal(averaged, chunk)
    assert F.l1_loss(averaged, chunk) == 0


# what a decision reads


CAMERA = "observation.image"


def camera_policy(n_obs_steps: int, n_action_steps: int) -> tuple[VQBeTPolicy, list[int]]:
    """A policy with a camera, and a list that will hold how many frames each call of its encoder was given."""
    torch.manual_seed(0)
    config = VQBeTConfig.laptop(
        n_obs_steps=n_obs_steps,
        action_chunk_size=8,
        n_action_steps=n_action_steps,
        image_shapes={CAMERA: (3, 40, 40)},
        observation_sizes={"observation.state": 2},
        crop_shape=None,
        gpt_block_size=32,
    )
    policy, encoded = build_policy(config).eval(), list[int]()
    images = policy.network.encoder.get_submodule("images")
    images.register_forward_hook(lambda module, inputs, output: encoded.append(len(inputs[0])))
    return policy, encoded


@pytest.mark.parametrize(
    ("n_obs_steps", "n_action_steps", "batches"),
    [(2, 8, [1, 2, 2]), (5, 8, [1, 5, 5]), (5, 1, [1] * 20), (3, 2, [1] + [2] * 9), (5, 4, [1, 4, 4, 4, 4])],
)
def test_only_frames_that_a_decision_needs_are_encoded_once_and_together(
    n_obs_steps: int, n_action_steps: int, batches: list[int]
) -> None:
    policy, encoded = camera_policy(n_obs_steps, n_action_steps)
    frames, states = torch.rand(20, 1, 3, 40, 40), torch.rand(20, 1, 2)
    image, state = torch.empty(1, 3, 40, 40), torch.empty(1, 2)
    last = 0
    for t in range(20):
        image.copy_(frames[t]), state.copy_(states[t])  # as an environment that reuses its buffers
        decided = not policy.actions
        policy.select_action({CAMERA: image, "observation.state": state})
        last = t if decided else last
    assert encoded == batches
    steps = [max(0, t) for t in range(last - n_obs_steps + 1, last + 1)]
    window = {CAMERA: frames[steps].transpose(0, 1), "observation.state": states[steps].transpose(0, 1)}
    torch.testing.assert_close(torch.cat([*policy.tokens], dim=1), policy.network.encode(window), atol=1e-5, rtol=1e-5)


def test_a_token_of_numbers_does_not_depend_on_when_it_was_encoded() -> None:
    """To the last bit: one row and several rows round differently in a matrix product."""
    torch.manual_seed(0)
    network = build_policy(VQBeTConfig.laptop(observation_sizes={"observation.state": 2}, n_obs_steps=3)).network.eval()
    often, seldom = (VQBeTPolicy(network, ActingConfig(0.0, n)) for n in (1, 4))
    for t, seen in enumerate(torch.rand(9, 1, 2)):
        for policy in (often, seldom):
            policy.select_action({"observation.state": seen})
        if t % 4 == 0:
            assert torch.equal(torch.cat([*often.tokens]), torch.cat([*seldom.tokens]))
