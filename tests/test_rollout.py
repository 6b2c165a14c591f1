"""Rollouts that repeat, figures computed by hand, films that can be read."""
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import CONFIG, small_run

from vqbet_course import rollout
from vqbet_course.contract import PUSHT, BadInput
from vqbet_course.rollout import (
    MAX_STEPS, Episode, describe, draw_frame, evaluate, film_html, frames, latency, make_pusht, measures, rollouts,
    spoken, write_film,
)
from vqbet_course.train import Run, load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(small_run(tmp_path_factory.mktemp("small"), steps=30))


@pytest.fixture(scope="module")
def played(run: Run) -> list[Episode]:
    return rollouts(run.policy, run.normalizer, [4, 5])


def acting(run: Run, **changes: Any) -> Run:
    """The same weights with another way of acting."""
    policy = load_run(run.path).policy
    policy.config = replace(policy.config, **changes)
    return replace(run, policy=policy)


def same_episode(one: Episode, two: Episode) -> bool:
    return one.summary() == two.summary() and one.coverage == two.coverage and one.tokens == two.tokens \
        and np.array_equal(one.actions, two.actions)


# --- rolling out ------------------------------------------------------------------------------------------------


def test_the_same_seeds_give_the_same_episodes(run: Run, played: list[Episode]) -> None:
    torch.manual_seed(123)  # nobody's draws but the episodes' own matter
    again = rollouts(run.policy, run.normalizer, [4, 5])
    assert all(map(same_episode, played, again))
    assert not np.array_equal(played[0].actions, played[1].actions)


def test_rollouts_leave_the_callers_draws_alone(run: Run) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    rollouts(run.policy, run.normalizer, [1])
    assert torch.equal(torch.rand(3), expected)


def test_an_episode_does_not_depend_on_its_neighbours(run: Run, played: list[Episode]) -> None:
    assert same_episode(rollouts(run.policy, run.normalizer, [4, 77])[0], played[0])
    assert same_episode(rollouts(run.policy, run.normalizer, [77, 5])[1], played[1])


@pytest.mark.parametrize(("n_action_steps", "every"), [(None, CONFIG.action_chunk_size), (3, 3), (1, 1)])
def test_the_record_says_when_it_decided(run: Run, n_action_steps: int | None, every: int) -> None:
    other = acting(run, n_action_steps=n_action_steps)
    episode = rollouts(other.policy, other.normalizer, [0])[0]
    assert [i for i, new in enumerate(episode.decided) if new] == list(range(0, len(episode.actions), every))
    assert len(episode.tokens) == len(episode.actions) == len(episode.coverage)
    assert all(tokens == before for tokens, before, new
               in zip(episode.tokens[1:], episode.tokens, episode.decided[1:], strict=False) if not new)
    assert (np.array(episode.actions) >= 0).all() and (np.array(episode.actions) <= 512).all()


class ScriptedEnv:
    """An environment whose coverage is 0.1 until step `seed`, where it is 0.97 and ends; it never ends for seed 0."""

    def reset(self, seed: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self.ends, self.steps = seed, 0
        return {"environment_state": np.full(16, 100.0), "agent_pos": np.full(2, 50.0)}, {}

    def step(self, action: np.ndarray) -> tuple[Any, ...]:
        assert self.ends == 0 or self.steps < self.ends, "stepped after its end"
        self.steps += 1
        done = self.steps == self.ends
        seen = {"environment_state": np.full(16, 100.0), "agent_pos": np.asarray(action)}
        return seen, 0.0, done, False, {"coverage": 0.97 if done else 0.1}


def test_success_ends_an_episode_and_the_others_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "make_pusht", ScriptedEnv)
    episodes = rollouts(run.policy, run.normalizer, [12, 0, 1])
    assert [(e.success, len(e.coverage)) for e in episodes] == [(True, 12), (False, MAX_STEPS), (True, 1)]
    assert [e.summary()["final_coverage"] for e in episodes] == [0.97, 0.1, 0.97]


# --- figures ----------------------------------------------------------------------------------------------------


def test_the_figures_are_those_computed_by_hand() -> None:
    episodes = [Episode(0, True, coverage=[0.5, 0.96]), Episode(1, False, coverage=[0.76, 0.19]),
                Episode(2, False, coverage=[0.0]), Episode(3, True, coverage=[1.0])]
    figures = measures(episodes)
    assert figures["episodes"] == 4
    assert figures["success_rate"] == pytest.approx(0.5)
    assert figures["avg_max_coverage"] == pytest.approx((0.96 + 0.76 + 0 + 1) / 4)
    assert figures["avg_final_coverage"] == pytest.approx((0.96 + 0.19 + 0 + 1) / 4)
    assert figures["avg_max_reward"] == pytest.approx((1 + 0.8 + 0 + 1) / 4)
    assert figures["success_ci95"] == pytest.approx([0.1500, 0.8500], abs=1e-4)


@given(wins=st.integers(0, 40), losses=st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_the_interval_is_wilsons(wins: int, losses: int) -> None:
    n = wins + losses
    if n == 0:
        return
    episodes = [Episode(i, i < wins, coverage=[0.5]) for i in range(n)]
    z, p = 1.959964, wins / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert measures(episodes)["success_ci95"] == pytest.approx([middle - half, middle + half], abs=1e-5)


def test_the_line_says_all_figures() -> None:
    line = describe(measures([Episode(0, True, coverage=[0.2, 0.96]), Episode(1, False, coverage=[0.475, 0.3])]))
    assert line == ("2 episodes: success 50% (95 % interval 9% to 91%), average max reward 0.750, "
                    "average max coverage 0.718, average final coverage 0.630")


def test_latency_is_measured_with_one_thread_and_gives_the_threads_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, seen = torch.get_num_threads(), set()
    act = rollout.act
    monkeypatch.setattr(rollout, "act", lambda *a: (seen.add(torch.get_num_threads()), act(*a))[1])
    figures = latency(run.policy, run.normalizer, seed=0, decisions=20)
    assert 0 < figures["p50"] <= figures["p95"]
    assert seen == {1} and torch.get_num_threads() == threads


# --- the evaluator ----------------------------------------------------------------------------------------------


def test_an_evaluation_is_written_down_and_repeats(run: Run, tmp_path: Path) -> None:
    result = evaluate(run, episodes=2, seed=30, out=tmp_path / "a", videos=1, quiet=True)
    written = json.loads((tmp_path / "a" / "run.json").read_text())
    assert written == result
    assert {"schema", "config", "data", "seed", "metrics", "episodes"} <= written.keys()
    assert {"episodes", "success_rate", "success_ci95", "avg_max_reward", "avg_max_coverage", "avg_final_coverage",
            "latency_ms"} <= written["metrics"].keys()
    assert written["metrics"]["latency_ms"].keys() == {"p50", "p95"}
    assert [e["seed"] for e in written["episodes"]] == [30, 31]
    assert all(e.keys() == {"seed", "success", "max_coverage", "final_coverage", "steps"} for e in written["episodes"])
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"run.json", "episode-30.mp4"}
    again = evaluate(run, episodes=2, seed=30, out=tmp_path / "b", videos=0, quiet=True)
    assert again["episodes"] == result["episodes"]


def test_without_a_folder_it_goes_below_the_run(run: Run) -> None:
    evaluate(run, episodes=1, seed=3, videos=0, quiet=True)
    assert (run.path / "eval" / "seed-3" / "run.json").exists()


@pytest.mark.parametrize("numbers", [{"episodes": 0}, {"episodes": -1}, {"seed": -1}, {"videos": -1}])
def test_numbers_out_of_range_are_refused(run: Run, numbers: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least"):
        evaluate(run, out=tmp_path / "out", quiet=True, **numbers)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_policy_of_another_rate_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fps: 5 against 10"):
        evaluate(replace(run, contract=replace(PUSHT, fps=5.0)), 1, out=tmp_path / "out", quiet=True)


# --- films ------------------------------------------------------------------------------------------------------


def test_an_episode_played_again_covers_the_same(played: list[Episode]) -> None:
    env = make_pusht()
    env.reset(seed=played[0].seed)
    assert [round(env.step(action)[4]["coverage"], 9) for action in played[0].actions] == played[0].coverage


def shortened(episode: Episode, steps: int) -> Episode:
    return replace(episode, actions=episode.actions[:steps])


def test_a_film_has_one_readable_frame_per_step(played: list[Episode], tmp_path: Path) -> None:
    import av

    write_film(tmp_path / "film.mp4", frames(shortened(played[0], 25)))
    with av.open(str(tmp_path / "film.mp4")) as film:
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert film.streams.video[0].average_rate == 10
        assert film.streams.video[0].codec_context.name == "h264"
    assert len(pictures) == 25 and pictures[0].shape == (*rollout.FRAME_SIZE, 3)
    drawn = next(iter(frames(shortened(played[0], 1))))
    assert np.abs(pictures[0].astype(float) - drawn).mean() < 5


def test_a_film_that_breaks_leaves_the_old_one(played: list[Episode], tmp_path: Path) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield np.zeros((64, 64, 3), np.uint8)
        raise RuntimeError("the renderer failed")

    (tmp_path / "film.mp4").write_text("the old film")
    with pytest.raises(RuntimeError):
        write_film(tmp_path / "film.mp4", broken())
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("film.mp4", "the old film")]


def test_what_was_spoken_up_to_a_step() -> None:
    episode = Episode(0, tokens=[(3, 1)] * 4 + [(5, 0)] * 3, decided=[True, False, False, False, True, False, False],
                      actions=[np.zeros(2)] * 7)
    assert spoken(episode, 0) == ([(3, 1)], 0.25, 4)
    assert spoken(episode, 3) == ([(3, 1)], 1.0, 4)
    assert spoken(episode, 4) == ([(3, 1), (5, 0)], 0.25, 7)


def test_a_frame_shows_tokens_and_coverage() -> None:
    board = np.full((512, 512, 3), 200, np.uint8)

    def frame(token: int, coverage: float) -> np.ndarray:
        return draw_frame(board, Episode(0, coverage=[coverage], actions=[np.zeros(2)], tokens=[(token, 3)],
                                         decided=[True]), 0)

    plain = frame(2, 0.3)
    assert plain.shape == (640, 512, 3) and plain.dtype == np.uint8
    other_token, more = np.argwhere((frame(9, 0.3) != plain).any(2)), np.argwhere((frame(2, 0.6) != plain).any(2))
    assert other_token[:, 0].min() >= 512 and other_token[:, 0].max() < 560  # the row of the primary code
    assert more[:, 0].min() >= 596  # the bar
    assert len(more) > 1000


@pytest.mark.parametrize("layers", [1, 3])
def test_frames_of_policies_with_other_numbers_of_layers(layers: int) -> None:
    episode = Episode(0, coverage=[0.5], actions=[np.zeros(2)], tokens=[(40,) * layers], decided=[True])
    assert draw_frame(np.zeros((512, 512, 3), np.uint8), episode, 0).shape == (640, 512, 3)


def test_a_film_in_a_page_needs_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"film")
    element = film_html(tmp_path / "film.mp4", 'says "so"')
    assert element.startswith("<video") and element.endswith("</video>")
    assert "data:video/mp4;base64,ZmlsbQ==" in element and "&quot;so&quot;" in element
