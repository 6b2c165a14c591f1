"""The cockpit: it shows what the policy decided, looks back, and lets a hand take over."""

import asyncio
import re
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest

from vqbet_course import widgets
from vqbet_course.training.runs import Run, load_run
from vqbet_course.widgets.cockpit import STRIP, Cockpit, with_own_policy
from vqbet_course.widgets.drive import Drive
from vqbet_course.widgets.frames import SWITCH
from vqbet_course.widgets.parts import canvases_of


@pytest.fixture(scope="module")
def run() -> Run:
    return load_run("shipped")


@pytest.fixture(scope="module")
def flown(run: Run) -> Drive:
    return widgets.fly(Drive(with_own_policy(run), 100_000), 12)


def test_a_step_shows_the_decision_that_was_executed(flown: Drive) -> None:
    thought = widgets.think(flown, 7, 1.0)
    assert not thought.by_hand and thought.strip.keys() == set(range(12))
    assert thought.tokens == thought.strip[7] and thought.chunk[0] == pytest.approx(flown.steps[7][2], abs=1e-3)
    assert thought.coverage == flown.steps[6][4]
    assert thought.probabilities.sum(-1) == pytest.approx(1, abs=1e-5)
    assert thought.attention.sum(-1) == pytest.approx(1, abs=1e-5) and len(thought.names) == thought.attention.shape[1]
    assert np.abs(thought.fan[:, 0] - thought.scene.pusher).max() < 60  # pixels: the fan begins at the pusher


def test_before_a_decision_it_shows_what_the_policy_would_do(flown: Drive) -> None:
    thought = widgets.think(flown, 12, 0.0)
    assert thought.by_hand and 12 not in thought.strip
    assert thought.fan.std(0).max() < 1e-2, "at temperature 0 all chunks are the likeliest"
    assert thought.chunk == pytest.approx(thought.fan[0], abs=1e-2)


def parts_of(run: Run, out: Path, **options: Any) -> tuple[Any, Any, Any]:
    box = widgets.cockpit_explorer(run, out, seed=100_000, **options)
    buttons, controls, _, words = box.children
    return box, (buttons.children, controls.children), words


def test_the_policy_drives_and_the_reader_looks_back(run: Run, tmp_path: Path) -> None:
    box, ((_, policy), (back, temperature)), words = parts_of(run, tmp_path / "mine")

    async def drive() -> None:
        policy.value = True
        while back.max < 6:
            await asyncio.sleep(0.05)
        policy.value = False
        await asyncio.sleep(0.15)

    asyncio.run(drive())
    board, strip = canvases_of(box)
    panel = box.children[2].children[1].children[0]
    back.value = 2
    assert "step 2: the policy chose tokens" in panel.value and "step 2: the policy chose" in words.value
    left, right = STRIP
    strip._mouse_down_callbacks((left + (right - left) * 3.5 / 40) * strip.width, strip.height - 60)
    assert back.value == 3 and "step 3: the policy chose tokens" in panel.value
    before = panel.value
    temperature.value = 3.0
    assert panel.value != before and run.policy.acting.temperature != 3.0, "other cells keep their policy"


def test_a_hand_takes_over_by_keyboard(run: Run, tmp_path: Path) -> None:
    box, _, words = parts_of(run, tmp_path / "mine", panel=False)
    [canvas] = canvases_of(box)

    async def press() -> None:
        canvas._key_down_callbacks("ArrowRight", False, False, False)
        while "taken over: 1" not in words.value:
            await asyncio.sleep(0.02)
        canvas._key_down_callbacks("Escape", False, False, False)

    asyncio.run(asyncio.wait_for(press(), 20))
    assert "would choose" in words.value


def test_a_reopened_page_has_the_board_below_its_empty_canvas(run: Run, tmp_path: Path) -> None:
    board = Cockpit(Drive(with_own_policy(run), 100_000), tmp_path / "mine", panel=False)
    still, canvas = board.board.children
    assert canvas is board.canvas and still.layout.grid_area == canvas.layout.grid_area  # one lies on the other
    before = still.value
    board.drive.target = (300.0, 300.0)
    board.drive.step()
    board.show()
    assert still.value == before, "while somebody drives, only the canvas is drawn"
    board.release()
    board.show()
    assert still.value != before and "data:image/png" in still.value


def test_every_control_and_canvas_has_a_name(run: Run, tmp_path: Path) -> None:
    box, (buttons, controls), _ = parts_of(run, tmp_path / "mine")
    assert all(control.description for control in (*buttons, *controls))
    assert [bool(canvas.words) for canvas in canvases_of(box)] == [True, True]


def test_a_saved_notebook_holds_the_picture_of_the_state(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append(data))
    box, _, _ = parts_of(run, tmp_path / "mine", panel=False)
    box._ipython_display_()
    widget, picture = shown
    assert "application/vnd.jupyter.widget-view+json" in widget
    assert 'class="without-kernel"' in picture.data and 'alt="step 0: the policy would choose' in picture.data


def test_an_explorer_is_a_plain_widget(run: Run, tmp_path: Path) -> None:
    assert isinstance(parts_of(run, tmp_path / "mine", panel=False)[0], ipywidgets.VBox)


def test_a_page_without_a_kernel_has_a_frame_of_each_step(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, "1")
    monkeypatch.setattr("vqbet_course.widgets.cockpit.fly", lambda drive, steps: widgets.fly(drive, 3))
    html = parts_of(run, tmp_path / "mine")[0]._repr_mimebundle_()["text/html"]
    assert re.findall(r'<img [^>]*alt="step (\d+): the policy chose tokens', html) == ["0", "1", "2"]
