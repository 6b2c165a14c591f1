"""Videos that can be read."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small import small_run

from vqbet_course.evaluation import evaluate as evaluation
from vqbet_course.evaluation.videos import (
    FRAME_SIZE,
    decided_tokens,
    draw_frame,
    video_frames,
    video_html,
    write_video,
)
from vqbet_course.rollout import Rollout, rollouts
from vqbet_course.tasks import get_task
from vqbet_course.tasks.pusht.environment import make_pusht
from vqbet_course.training.runs import Run, load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(small_run(tmp_path_factory.mktemp("small"), steps=30))


@pytest.fixture(scope="module")
def played(run: Run) -> list[Rollout]:
    return rollouts(run.policy, run.normalizer, [4], steps=30)


def test_an_episode_played_again_covers_the_same(played: list[Rollout]) -> None:
    env = make_pusht()
    env.reset(seed=played[0].seed)
    assert [round(env.step(action)[4]["coverage"], 9) for action in played[0].actions] == played[0].coverage


def shortened(episode: Rollout, steps: int) -> Rollout:
    return replace(episode, actions=episode.actions[:steps])


def test_a_video_has_one_readable_frame_per_step(played: list[Rollout], tmp_path: Path) -> None:
    import av

    write_video(tmp_path / "video.mp4", video_frames(shortened(played[0], 25)))
    with av.open(str(tmp_path / "video.mp4")) as video:
        images = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert video.streams.video[0].average_rate == 10
        assert video.streams.video[0].codec_context.name == "h264"
    assert len(images) == 25 and images[0].shape == (*FRAME_SIZE, 3)
    drawn = next(iter(video_frames(shortened(played[0], 1))))
    assert np.abs(images[0].astype(float) - drawn).mean() < 5


@pytest.mark.usefixtures("short_evaluations")
def test_a_video_runs_at_the_rate_of_the_task(
    run: Run, played: list[Rollout], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import av

    monkeypatch.setattr(evaluation, "video_frames", lambda *_: iter(np.zeros((3, 64, 64, 3), np.uint8)))
    task = get_task("pusht")
    at_25 = replace(task.contract, data=replace(task.contract.data, fps=25.0))
    monkeypatch.setattr(evaluation, "checked_contract", lambda *_: at_25)
    monkeypatch.setattr(type(task), "contract", at_25)
    evaluation.evaluate(run, episodes=1, seed=4, out=tmp_path, videos=1, quiet=True)
    with av.open(str(tmp_path / "episode-4.mp4")) as video:
        assert video.streams.video[0].average_rate == 25


def test_a_video_that_breaks_leaves_the_old_one(played: list[Rollout], tmp_path: Path) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield np.zeros((64, 64, 3), np.uint8)
        raise RuntimeError("the renderer failed")

    (tmp_path / "video.mp4").write_text("the old video")
    with pytest.raises(RuntimeError):
        write_video(tmp_path / "video.mp4", broken())
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("video.mp4", "the old video")]


@pytest.mark.parametrize(("tokens", "named"), [((), [False, False]), ((3,), [True, False]), ((3, 1), [True, True])])
def test_a_frame_names_as_many_rows_of_tokens_as_the_policy_has(tokens: tuple[int, ...], named: list[bool]) -> None:
    episode = Rollout(0, tokens=[tokens], decided=[True], actions=[np.zeros(2)], coverage=[0.5])
    names = draw_frame(np.full((512, 512, 3), 255, np.uint8), episode, 0)[:, :82]  # left of the tokens
    assert [bool((names[y - 12 : y + 12] < 255).any()) for y in (537, 573)] == named


def test_tokens_decided_up_to_a_step() -> None:
    tokens: list[tuple[int, ...]] = [*[(3, 1)] * 4, *[(5, 0)] * 3]
    episode = Rollout(
        0, tokens=tokens, decided=[True, False, False, False, True, False, False], actions=[np.zeros(2)] * 7
    )
    assert decided_tokens(episode, 0) == ([(3, 1)], 0.25, 4)
    assert decided_tokens(episode, 3) == ([(3, 1)], 1.0, 4)
    assert decided_tokens(episode, 4) == ([(3, 1), (5, 0)], 0.25, 7)


def test_a_frame_shows_tokens_and_coverage() -> None:
    board = np.full((512, 512, 3), 200, np.uint8)

    def frame(token: int, coverage: float) -> np.ndarray:
        return draw_frame(
            board, Rollout(0, coverage=[coverage], actions=[np.zeros(2)], tokens=[(token, 3)], decided=[True]), 0
        )

    plain = frame(2, 0.3)
    assert plain.shape == (640, 512, 3) and plain.dtype == np.uint8
    other_token, more = np.argwhere((frame(9, 0.3) != plain).any(2)), np.argwhere((frame(2, 0.6) != plain).any(2))
    assert other_token[:, 0].min() >= 512 and other_token[:, 0].max() < 560  # the row of the primary code
    assert more[:, 0].min() >= 596  # the bar
    assert len(more) > 1000


def test_a_frame_says_what_intervened() -> None:
    def frame(what: str) -> np.ndarray:
        return draw_frame(
            np.full((512, 512, 3), 200, np.uint8),
            Rollout(0, coverage=[0.3], actions=[np.zeros(2)], tokens=[(2, 3)], decided=[True], intervention=[what]),
            0,
        )

    said = np.argwhere((frame("shove") != frame("")).any(2))
    assert len(said) > 50 and said[:, 0].max() < 30  # the line at the top


@pytest.mark.parametrize("layers", [1, 3])
def test_frames_of_policies_with_other_numbers_of_layers(layers: int) -> None:
    episode = Rollout(0, coverage=[0.5], actions=[np.zeros(2)], tokens=[(40,) * layers], decided=[True])
    assert draw_frame(np.zeros((512, 512, 3), np.uint8), episode, 0).shape == (640, 512, 3)


def test_a_video_in_a_page_needs_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(b"film")
    element = video_html(tmp_path / "video.mp4", 'says "so"')
    assert element.startswith("<video") and element.endswith("</video>")
    assert "data:video/mp4;base64,ZmlsbQ==" in element and "&quot;so&quot;" in element
