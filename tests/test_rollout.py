"""Rollouts that repeat, metrics computed by hand."""

import math
import re
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import CONFIG, small_run

from vqbet_course import rollout
from vqbet_course.core.configuration import ActingConfig
from vqbet_course.evaluation.latency import latency
from vqbet_course.policy import VQBeTPolicy
from vqbet_course.rollout import Rollout, metrics_in_words, rollout_metrics, rollouts
from vqbet_course.tasks.pusht.contract import PUSHT_TASK
from vqbet_course.training.runs import Run, load_run

STEPS = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(small_run(tmp_path_factory.mktemp("small"), steps=30))


@pytest.fixture(scope="module")
def episodes(run: Run) -> list[Rollout]:
    return rollouts(run.policy, run.normalizer, [4, 5], steps=STEPS)


def acting(run: Run, **changes: Any) -> Run:
    """The same weights with another way of acting."""
    return replace(run, policy=VQBeTPolicy(run.policy.network, replace(run.policy.config, **changes).acting))


def same_episode(one: Rollout, two: Rollout) -> bool:
    return (
        one.summary() == two.summary()
        and one.coverage == two.coverage
        and one.tokens == two.tokens
        and np.array_equal(one.actions, two.actions)
    )


# --- rolling out ------------------------------------------------------------------------------------------------


def test_the_same_seeds_give_the_same_episodes(run: Run, episodes: list[Rollout]) -> None:
    torch.manual_seed(123)  # nobody's draws but the episodes' own matter
    again = rollouts(run.policy, run.normalizer, [4, 5], steps=STEPS)
    assert all(map(same_episode, episodes, again))
    assert not np.array_equal(episodes[0].actions, episodes[1].actions)


def test_rollouts_leave_the_callers_draws_alone(run: Run) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    rollouts(run.policy, run.normalizer, [1], steps=5)
    assert torch.equal(torch.rand(3), expected)


def test_an_episode_does_not_depend_on_its_neighbours(run: Run, episodes: list[Rollout]) -> None:
    assert same_episode(rollouts(run.policy, run.normalizer, [4, 77], steps=STEPS)[0], episodes[0])
    assert same_episode(rollouts(run.policy, run.normalizer, [77, 5], steps=STEPS)[1], episodes[1])


@pytest.mark.parametrize(("n_action_steps", "every"), [(None, CONFIG.action_chunk_size), (3, 3), (1, 1)])
def test_the_record_says_when_it_decided(run: Run, n_action_steps: int | None, every: int) -> None:
    other = acting(run, n_action_steps=n_action_steps)
    episode = rollouts(other.policy, other.normalizer, [0], steps=STEPS)[0]
    assert [i for i, new in enumerate(episode.decided) if new] == list(range(0, len(episode.actions), every))
    assert len(episode.tokens) == len(episode.actions) == len(episode.coverage)
    assert all(
        tokens == before
        for tokens, before, new in zip(episode.tokens[1:], episode.tokens, episode.decided[1:], strict=False)
        if not new
    )
    assert (np.array(episode.actions) >= 0).all() and (np.array(episode.actions) <= 512).all()


class ScriptedEnv(gym.Env):
    """An environment whose coverage is 0.1 until step `seed`, where it is 0.97 and ends; it never ends for seed 0."""

    contract = PUSHT_TASK

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.ends, self.steps = seed, 0
        return {"environment_state": np.full(16, 100.0), "agent_pos": np.full(2, 50.0)}, {}

    def step(self, action: np.ndarray) -> tuple[Any, ...]:
        assert self.ends == 0 or self.steps < self.ends, "stepped after its end"
        self.steps += 1
        done = self.steps == self.ends
        seen = {"environment_state": np.full(16, 100.0), "agent_pos": np.asarray(action)}
        return seen, 0.0, done, False, {"coverage": 0.97 if done else 0.1, "is_success": done}


def test_success_ends_an_episode_and_the_others_go_on(run: Run) -> None:
    episodes = rollouts(run.policy, run.normalizer, [12, 0, 1], ScriptedEnv)
    assert [(e.success, len(e.coverage)) for e in episodes] == [(True, 12), (False, PUSHT_TASK.horizon), (True, 1)]
    assert [e.summary()["final_coverage"] for e in episodes] == [0.97, 0.1, 0.97]


# --- metrics ----------------------------------------------------------------------------------------------------


def test_the_metrics_are_those_computed_by_hand() -> None:
    episodes = [
        Rollout(0, True, coverage=[0.5, 0.96]),
        Rollout(1, False, coverage=[0.76, 0.19]),
        Rollout(2, False, coverage=[0.0]),
        Rollout(3, True, coverage=[1.0]),
    ]
    metrics = rollout_metrics(episodes)
    assert metrics["episodes"] == 4
    assert metrics["success_rate"] == pytest.approx(0.5)
    assert metrics["avg_max_coverage"] == pytest.approx((0.96 + 0.76 + 0 + 1) / 4)
    assert metrics["avg_final_coverage"] == pytest.approx((0.96 + 0.19 + 0 + 1) / 4)
    assert metrics["avg_max_reward"] == pytest.approx((1 + 0.8 + 0 + 1) / 4)
    assert metrics["success_ci95"] == pytest.approx([0.1500, 0.8500], abs=1e-4)


@given(wins=st.integers(0, 40), losses=st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_the_interval_is_wilsons(wins: int, losses: int) -> None:
    n = wins + losses
    if n == 0:
        return
    episodes = [Rollout(i, i < wins, coverage=[0.5]) for i in range(n)]
    z, p = 1.959964, wins / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert rollout_metrics(episodes)["success_ci95"] == pytest.approx([middle - half, middle + half], abs=1e-5)


def test_the_line_has_all_metrics() -> None:
    line = metrics_in_words(
        rollout_metrics([Rollout(0, True, coverage=[0.2, 0.96]), Rollout(1, False, coverage=[0.475, 0.3])])
    )
    assert re.findall(r"\d[\d.]*%?", line) == ["2", "50%", "95", "9%", "91%", "0.750", "0.718", "0.630"]


def test_latency_is_measured_with_one_thread_and_gives_the_threads_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, seen = torch.get_num_threads(), set()
    act = rollout.act
    monkeypatch.setattr(rollout, "act", lambda *a: (seen.add(torch.get_num_threads()), act(*a))[1])
    policy = VQBeTPolicy(run.policy.network, ActingConfig(temperature=0.3, n_action_steps=4))
    metrics = latency(policy, run.normalizer, seed=0, decisions=20)
    assert 0 < metrics["latency_ms"]["p50"] <= metrics["latency_ms"]["p95"]
    assert 0 < metrics["step_latency_ms"]["p50"] < metrics["latency_ms"]["p50"]  # most steps only take from the queue
    assert seen == {1} and torch.get_num_threads() == threads
