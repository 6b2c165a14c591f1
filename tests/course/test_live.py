"""The front page's board in a real Chromium: its policy and its physics against Python's, and how it is used."""

import re
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from conftest import REPO, skip_without_chromium
from rendered import rendered

from vqbet_course.course.live import WEIGHTS, board_cell, policy_data, write_weights
from vqbet_course.policy import average_overlaps
from vqbet_course.rollout import act, observe
from vqbet_course.tasks.pusht.environment import PushTEnv, make_pusht
from vqbet_course.training.runs import load_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
skip_without_chromium()

FIRST, EPISODES, STEPS = 200_000, 5, 50


def start_of(seed: int) -> list[float]:
    """Pusher, and place and angle of the T, as gym-pusht draws them under a seed."""
    draw, _ = gym.utils.seeding.np_random(seed)
    places = [int(draw.integers(*between)) for between in ((50, 450), (50, 450), (100, 400), (100, 400))]
    return [*places, float(draw.uniform(-np.pi, np.pi))]


def pose_of(env: PushTEnv) -> list[float]:
    return [*env.agent.position, *env.block.position, env.block.angle]


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    """Episodes of the shipped policy: per step what it was shown and decided, the pose after it, and the coverage."""
    run, episodes = load_run("shipped"), []
    for seed in range(FIRST, FIRST + EPISODES):
        env, steps = make_pusht(), []
        observation, _ = env.reset(seed=seed)
        generator = torch.Generator().manual_seed(seed)
        run.policy.reset([generator])
        for _ in range(STEPS):
            drawn = torch.rand(2, generator=generator.clone_state()).tolist()
            shown = {
                "keypoints": observation["environment_state"].tolist(),
                "pusher": observation["agent_pos"].tolist(),
            }
            action = act(run.policy, run.normalizer, observe([observation]), (0, 512))[0]
            decision = run.policy.decision
            assert decision is not None
            observation, *_, info = env.step(action)
            said = {name: getattr(decision, name)[0].tolist() for name in ("codes", "logits", "actions", "decoded")}
            steps.append(
                {"uniform": drawn, "action": action.tolist(), "pose": pose_of(env), "coverage": info["coverage"]}
                | shown
                | said
            )
        episodes.append({"start": start_of(seed), "steps": steps})
    return episodes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The board's cell as a page, with the files beside it as `stage` puts them."""
    out = tmp_path_factory.mktemp("live")
    for path in (REPO / "nbs" / "site").iterdir():
        shutil.copy(path, out / path.name)
    write_weights(out / WEIGHTS)
    (out / "index.md").write_text('---\ntitle: "VQ-BeT"\n---\n' + "".join(board_cell()["source"]))
    (out / "index.html").write_text(rendered(out / "index.md"))
    return out


@pytest.fixture
def page(browser: Any, folder: Path) -> Any:
    """The board, which does not begin by itself, for the reader wants less motion."""
    page = browser.new_page(viewport={"width": 1300, "height": 900}, reduced_motion="reduce")
    page.goto((folder / "index.html").as_uri())
    yield page
    page.close()


def test_the_browser_decides_as_python_does(page: Any, folder: Path, recorded: Any) -> None:
    page.add_script_tag(path=folder / WEIGHTS)
    said = page.evaluate(
        """episodes => { const policy = new VqBet.Policy(POLICY_DATA);
        return episodes.map(({steps}) => { policy.reset();
            return steps.map(step => policy.decide(step.keypoints, step.pusher, step.uniform)); }); }""",
        recorded,
    )
    run, compared = load_run("shipped"), 0
    for episode, decisions in zip(recorded, said, strict=True):
        for step, decision in zip(episode["steps"], decisions, strict=True):
            assert decision["codes"] == step["codes"]
            for name in ("logits", "actions", "decoded"):
                assert np.abs(np.array(decision["values"][name]) - step[name]).max() < 1e-4
            odds = torch.softmax(torch.tensor(step["logits"]) / run.policy.acting.temperature, -1)
            assert np.abs(np.array(decision["probabilities"]) - odds.numpy()).max() < 1e-4
            assert np.abs(np.array(decision["next"]) - step["action"]).max() < 1e-2  # pixels
            compared += 1
    assert compared >= 100


def test_overlapping_chunks_are_averaged_where_the_configuration_says_so(
    page: Any, folder: Path, recorded: Any
) -> None:
    page.add_script_tag(path=folder / WEIGHTS)
    steps = recorded[0]["steps"][:8]
    said = page.evaluate(
        """steps => { const config = { ...POLICY_DATA.config, average_chunks: true };
        const policy = new VqBet.Policy({ ...POLICY_DATA, config });
        return steps.map(step => policy.decide(step.keypoints, step.pusher, step.uniform).next); }""",
        steps,
    )
    normalizer = load_run("shipped").normalizer
    chunks = [torch.tensor(step["actions"])[None] for step in steps]
    for i, action in enumerate(said):
        [mean] = average_overlaps(chunks[max(0, i - 3) : i + 1][::-1], 1)
        expected = normalizer.unnormalize("action", mean)[0].clamp(0, 512)
        assert np.abs(np.array(action) - expected.numpy()).max() < 1e-2


REPLAY = """episodes => episodes.map(({start, steps}) => { const board = new PushT.Board(start);
    return steps.map(({action}) => { board.step(action); return [...board.pusher, ...board.pose, board.coverage]; }); })"""


def test_the_browsers_board_moves_as_pymunks(page: Any, recorded: Any) -> None:
    """Recorded actions of the policy: the same poses after 1, 10 and 50 steps, and the same coverage."""
    for episode, states in zip(recorded, page.evaluate(REPLAY, recorded), strict=True):
        for n in (1, 10, 50):
            step = episode["steps"][n - 1]
            assert np.abs(np.array(states[n - 1][:5]) - step["pose"]).max() < 1e-6
            assert abs(states[n - 1][5] - step["coverage"]) < 1e-6


def test_rough_pushes_agree_until_the_t_is_pressed_against_a_wall(page: Any) -> None:
    """Ten random targets near the T, and far ones, pushed for 0.8 s each: half of the episodes stay within 0.01 px."""
    episodes: list[dict[str, Any]] = []
    for seed in range(FIRST + 100, FIRST + 116):
        env, draw = make_pusht(), np.random.default_rng(seed)
        env.reset(seed=seed)
        steps: list[dict[str, Any]] = []
        for k in range(STEPS):
            if k % 8 == 0:
                near = np.array(env.block.position) + draw.normal(0, 60, 2)
                target = np.clip(near if draw.random() < 0.7 else draw.uniform(0, 512, 2), 0, 512)
            env.step(target)
            steps.append({"action": target.tolist(), "pose": pose_of(env)})
        episodes.append({"start": start_of(seed), "steps": steps})
    moved = [
        np.abs(np.subtract(episode["steps"][-1]["pose"], episode["steps"][0]["pose"])).max() for episode in episodes
    ]
    ends = [states[-1][:5] for states in page.evaluate(REPLAY, episodes)]
    errors = [np.abs(end - np.array(e["steps"][-1]["pose"])).max() for e, end in zip(episodes, ends, strict=True)]
    assert min(moved) > 50 and np.median(errors) < 0.01, errors


def test_the_browsers_policy_succeeds_about_as_often_as_pythons(page: Any, folder: Path) -> None:
    """Python's solves 96 % of its starts."""
    page.add_script_tag(path=folder / WEIGHTS)
    solved = page.evaluate(
        """starts => { const policy = new VqBet.Policy(POLICY_DATA);
        let seed = 1; const uniform = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
        return starts.filter(start => { const board = new PushT.Board(start); policy.reset();
            for (let step = 0; step < 300 && board.coverage <= PushT.SUCCESS; step++) {
                board.step(policy.decide(board.keypoints, board.pusher, [uniform(), uniform()]).next);
            }
            return board.coverage > PushT.SUCCESS; }).length; }""",
        [start_of(seed) for seed in range(FIRST, FIRST + 20)],
    )
    assert solved >= 17


def numbers(page: Any) -> tuple[int, float]:
    """The start and the seconds that the board shows."""
    found = re.search(r"Start (\d+) · ([\d.]+) s", page.inner_text(".live-numbers"))
    assert found is not None
    return int(found[1]), float(found[2])


def test_steps_and_starts_show_the_tokens_in_use(page: Any) -> None:
    page.get_by_role("button", name="Step").click()
    page.wait_for_selector(".live-tokens li")
    page.get_by_role("button", name="Step").click()
    assert numbers(page) == (1, 0.2) and page.locator(".live-tokens li").count() == 2
    assert re.fullmatch(r"[0-7] [0-7]", page.inner_text(".live-tokens li >> nth=0"))
    assert page.locator(".live-layers rect").count() == 16 and page.locator(".live-chosen").count() == 2
    page.get_by_role("button", name="New start").click()
    assert numbers(page) == (2, 0.0) and page.locator(".live-tokens li").count() == 0


def test_the_t_is_dragged_and_the_policy_goes_on(page: Any) -> None:
    page.get_by_role("button", name="Step").click()
    page.wait_for_selector(".live-tokens li")
    block, board = page.locator(".live-block"), page.locator(".live-board svg").bounding_box()
    before = block.get_attribute("transform")
    grip = block.evaluate(
        "block => { const at = new DOMPoint(0, 15).matrixTransform(block.getScreenCTM()); return [at.x, at.y]; }"
    )
    page.mouse.move(*grip)
    page.mouse.down()
    page.mouse.move(board["x"] + 0.3 * board["width"], board["y"] + 0.7 * board["height"], steps=4)
    assert block.get_attribute("transform") != before and numbers(page)[1] == 0
    page.mouse.up()
    page.wait_for_function("() => !/ 0[.]0 s/.test(document.querySelector('.live-numbers').textContent)")
    assert page.inner_text(".live-controls button >> nth=0") == "Pause"


def test_the_keyboard_moves_the_t_and_leaves_the_rest_to_the_page(page: Any) -> None:
    page.focus(".live-board")
    place = page.get_attribute(".live-block", "transform")
    for key in ("ArrowRight", "e"):
        page.keyboard.press(key)
        assert page.get_attribute(".live-block", "transform") != place
        place = page.get_attribute(".live-block", "transform")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.do") == "play"


def test_nothing_moves_for_who_wants_less_motion_and_all_begins_for_others(browser: Any, folder: Path) -> None:
    for motion, moves in (("reduce", False), ("no-preference", True)):
        page, asked = browser.new_page(viewport={"width": 390, "height": 900}, reduced_motion=motion), list[str]()
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto((folder / "index.html").as_uri())
        page.locator(".live-board").scroll_into_view_if_needed()
        if moves:
            page.wait_for_function("() => !/ 0[.]0 s/.test(document.querySelector('.live-numbers').textContent)")
        else:
            page.wait_for_timeout(1000)
            assert numbers(page)[1] == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert all(url.startswith(folder.as_uri()) for url in asked)
        assert any(url.endswith(WEIGHTS) for url in asked) == moves, "2 MB are loaded when the board moves"
        page.close()


def test_without_scripts_there_is_a_picture(browser: Any, folder: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "index.html").as_uri())
    assert page.locator(".live-goal, .live-block, .live-pusher").count() == 3
    assert page.locator(".live-block").bounding_box()["width"] > 50
    assert "JavaScript" in page.inner_text(".live-status") and not page.locator(".live-controls").is_visible()
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_axe_finds_nothing_serious_on_the_board(browser: Any, folder: Path, theme: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce")
    page.goto((folder / "index.html").as_uri())
    page.get_by_role("button", name="Step").click()
    page.wait_for_selector(".live-tokens li")
    found = Axe().run(page).response["violations"]
    assert not [v["id"] for v in found if v["impact"] in ("serious", "critical")]
    page.close()


def test_another_kind_of_policy_is_refused(tmp_path: Path) -> None:
    shutil.copytree(REPO / "vqbet_course" / "data" / "shipped", tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"sequentially_select": true', '"sequentially_select": false'))
    with pytest.raises(ValueError, match="sequentially_select"):
        policy_data(tmp_path / "run")
