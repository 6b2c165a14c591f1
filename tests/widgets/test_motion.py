"""The explorers of k-means, drawn chunks, snippets, several policies, and a training: the picture follows the control."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vqbet_course import widgets
from vqbet_course.core import recordings
from vqbet_course.core.errors import BadInput
from vqbet_course.demos import load_demos
from vqbet_course.residual_vq import ResidualVQ
from vqbet_course.rollout import Rollout
from vqbet_course.tasks import open_source
from vqbet_course.tokens import kmeans
from vqbet_course.training.runs import load_run
from vqbet_course.widgets.kmeans import STEPS
from vqbet_course.widgets.parts import canvases_of, on_image

POINTS = 30 * torch.randn(400, 2, generator=torch.Generator().manual_seed(0))


def picture_in(box: Any) -> Any:
    """The image of an explorer that takes clicks."""
    return box.children[-1].children[0]


def click(canvas: Any, ax: Any, x: float, y: float) -> None:
    """Click on the place (x, y) in the coordinates of a figure's axes."""
    ax.figure.set_dpi(80)
    ax.figure.draw_without_rendering()
    across, up = ax.transData.transform((x, y))
    canvas._mouse_down_callbacks(across, canvas.height - up)


# --- k-means --------------------------------------------------------------------------------------------------------


def test_the_steps_of_kmeans_are_those_of_the_course() -> None:
    begin = kmeans(POINTS, 8, 0, torch.Generator().manual_seed(0))
    stages = widgets.kmeans_steps(POINTS, begin)
    assert len(stages) == STEPS + 1
    torch.testing.assert_close(stages[7], kmeans(POINTS, 8, 7, torch.Generator().manual_seed(0)))


def test_a_click_moves_the_nearest_code_and_begins_anew() -> None:
    begin = kmeans(POINTS, 8, 0, torch.Generator().manual_seed(0))
    box = widgets.kmeans_explorer(POINTS, begin)
    play, step = box.children[:2]
    step.value = STEPS
    before = picture_in(box).value
    [canvas] = canvases_of(box)
    click(canvas, widgets.plot_kmeans(POINTS, [begin], 0).axes[0], 40.0, 40.0)
    assert step.value == 0 and picture_in(box).value != before and canvas.words
    assert play.max == STEPS and step._view_name == "IntSliderView"


# --- a chunk that is drawn --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def editor() -> Any:
    torch.manual_seed(0)
    rvq, chunks = ResidualVQ(3, 8, 8), torch.randn(300, 8).cumsum(1)
    rvq(chunks)
    return widgets.layers_explorer(rvq.eval(), chunks[:3], lambda chunk: 10 * chunk.view(4, 2))


def test_a_chunk_is_drawn_by_sliders_and_by_dragging(editor: Any) -> None:
    example, _, point, right, down, _ = editor.children
    picture, [canvas] = picture_in(editor), canvases_of(editor)
    first = picture.value
    right.value += 20  # by keyboard, as every slider
    moved = picture.value
    assert moved != first
    canvas._mouse_down_callbacks(0.3 * canvas.width, 0.5 * canvas.height)
    canvas._mouse_up_callbacks(0.35 * canvas.width, 0.3 * canvas.height)
    assert picture.value != moved and 1 <= point.value <= 4
    canvas._mouse_move_callbacks(10, 10)
    dropped = (right.value, down.value)
    assert (right.value, down.value) == dropped, "an action that was dropped stays"
    example.value, example.value = 1, 0
    point.value = 4
    assert picture.value == first, "an example begins as it is"


def test_the_arrows_are_the_residual(editor: Any) -> None:
    torch.manual_seed(0)
    rvq, chunk = ResidualVQ(2, 4, 8), torch.randn(1, 8)
    rvq(torch.randn(50, 8))
    rvq.eval()
    paths = widgets.plot_layers(rvq, chunk[0], lambda flat: flat.view(4, 2), 1).axes[0]
    arrows: Any = next(part for part in paths.collections if hasattr(part, "U"))
    left = (chunk - rvq.lookup(rvq(chunk).codes[:, :1])).view(4, 2)
    assert np.stack([arrows.U, arrows.V], 1) == pytest.approx(left.detach().numpy(), abs=1e-5)


# --- token to demonstrations ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def snippets() -> Any:
    return widgets.snippets_of(load_run("shipped"), load_demos(open_source("demo")).select(list(range(12))))


def test_snippets_use_the_pair_and_the_walk_ends_at_the_next(snippets: Any) -> None:
    for pair, following in zip(snippets.pairs[:5], snippets.pairs[1:6], strict=True):
        assert snippets.using(pair)
        assert all(tuple(snippets.moves.codes[row].tolist()) == pair for row in snippets.using(pair))
        for end, of in ((0, pair), (-1, following)):
            torch.testing.assert_close(snippets.walks[pair][end], snippets.moves.decoded[of], atol=0.05, rtol=1e-3)


def test_a_click_on_the_map_chooses_a_pair(snippets: Any) -> None:
    box = widgets.snippet_explorer(snippets)
    play, pair, walked, moment = box.children[:4]
    [canvas] = canvases_of(box)
    wanted = snippets.pairs[3]
    world = widgets.plot_snippets(snippets, snippets.pairs[0], 0).axes[0]
    click(canvas, world, *snippets.pair_places[wanted].tolist())
    assert pair.value == f"{wanted[0]}·{wanted[1]}" and f"The pair {pair.value}" in picture_in(box).value
    before = picture_in(box).value
    moment.value = 2
    assert picture_in(box).value != before and play.repeat and play.max == moment.max


def test_a_pair_that_nobody_uses_is_bad_input(snippets: Any) -> None:
    with pytest.raises(BadInput, match="no demonstration uses"):
        widgets.plot_snippets(snippets, (99, 99), 0)


# --- recordings -----------------------------------------------------------------------------------------------------


def steps_to(n: int, coverage: float) -> np.ndarray:
    """An episode of n steps that ends at a coverage."""
    steps = np.full((n, 8), 200, np.float32)
    steps[:, 4], steps[:, 7] = 0.5, np.linspace(0, coverage, n)
    return steps


def test_the_boards_stand_at_the_same_step_and_ended_ones_say_so() -> None:
    episodes = {"short": steps_to(5, 0.97), "long": steps_to(9, 0.4)}
    titles = [ax.get_title() for ax in widgets.plot_side_by_side(episodes, 6).axes[1:]]
    assert titles == ["short: 0.97, solved", "long: 0.30"]
    box = widgets.side_by_side_explorer({"1": episodes, "2": {"short": steps_to(9, 0.1), "long": steps_to(9, 0.2)}})
    _, start, step, image = box.children
    before = image.value
    step.value = 8
    start.value = "2"
    assert image.value != before and "seed 2" in image.value
    with pytest.raises(BadInput, match="choose from 0..8"):
        widgets.plot_side_by_side(episodes, 9)


def test_the_steps_of_a_rollout_are_what_happened() -> None:
    from vqbet_course.tasks.pusht.geometry import block_keypoints

    pose = np.array([[200.0, 210.0, 0.3]])
    truth = np.hstack([block_keypoints(pose), [[100.0, 120.0]]])[0]
    episode = Rollout(3, coverage=[0.25], truth=[truth], actions=[np.array([101.0, 121.0])])
    assert widgets.steps_of(episode)[0] == pytest.approx([100, 120, 200, 210, 0.3, 101, 121, 0.25], abs=1e-3)
    with pytest.raises(BadInput, match="only PushT"):
        widgets.steps_of(Rollout(3, coverage=[0.0], truth=[np.zeros(4)], actions=[np.zeros(2)]))


def test_what_is_recorded_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "RECORDED", tmp_path)
    counts = np.eye(2, dtype=np.int64)
    moments = [{"stage": "policy", "step": step, "success_rate": 0.5, "error": 4.0} for step in (1, 7)]
    parts = {"decoded": np.ones((2, 2, 3, 2)), "counts": counts, "rollout": steps_to(4, 0.5)}
    arrays = {f"{name}_{i}": values for i in range(2) for name, values in parts.items()}
    recordings.write_recording(tmp_path / "training.npz", {"moments": moments}, arrays)
    read = widgets.recorded_moments()
    assert [moment.step for moment in read] == [1, 7] and (read[0].counts == counts).all()
    assert read[1].rollout == pytest.approx(steps_to(4, 0.5), abs=0.25)
    _, moment, image = widgets.learning_explorer(read).children
    before = image.value
    moment.index = 1
    assert image.value != before and "policy, 7 steps" in image.value
    with pytest.raises(BadInput, match="choose from training"):
        recordings.read_recording("nothing")


def test_a_click_lands_where_it_was_made() -> None:
    ax = widgets.plot_kmeans(POINTS, [POINTS[:3]], 0).axes[0]
    ax.figure.set_dpi(80)
    ax.figure.draw_without_rendering()
    across, up = ax.transData.transform((12.0, -7.0))
    width, height = ax.figure.bbox.size
    assert on_image(ax, across / width, 1 - up / height) == pytest.approx((12, -7), abs=1e-6)
