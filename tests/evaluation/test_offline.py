"""Evaluation without a simulator: errors in the robot's own unit, against baselines that look at nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vqbet_course import cli
from vqbet_course.core.specs import Contract, Field
from vqbet_course.datasets.readers import DEMO_FOLDER
from vqbet_course.datasets.splits import same_source
from vqbet_course.evaluation.held_out import Decisions, difference_with_remedy
from vqbet_course.evaluation.offline import against_baselines, decided_codes, errors_of, means_in_words, roughness


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations of an arm in degrees, a split of them, and a run that was trained on one part."""
    folder = tmp_path_factory.mktemp("arm")
    t = np.arange(40)[:, None] / 30
    state = np.concatenate([40 * np.sin(t * np.array([1.0, 2.0, 3.0]) + e) for e in range(6)])
    np.savez(folder / "raw.npz", state=state, action=np.roll(state, -1, 0), episode_ends=40 * np.arange(1, 7))
    units = [word for name in ("observation.state", "action") for word in ("--unit", f"{name}=deg")]
    assert (
        cli.main(["demos", "convert", str(folder / "raw.npz"), "--fps", "30", "--out", str(folder / "data"), *units])
        == 0
    )
    data = str(folder / "data")
    assert cli.main(["demos", "split", data, "--train", "4", "--val", "1", "--out", str(folder / "split.json")]) == 0
    assert (
        cli.main(
            [
                "train",
                "--data",
                data,
                "--steps",
                "20",
                "--split",
                str(folder / "split.json"),
                "--out",
                str(folder / "run"),
            ]
        )
        == 0
    )
    return folder


def page_of(arm: Path) -> str:
    """The report page of the evaluation of all held-out episodes."""
    return (arm / "run" / "eval" / "offline" / "offline.html").read_text()


def test_held_out_episodes_are_compared_in_their_own_unit(arm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["eval", str(arm / "run"), "--offline", str(arm / "data")]
    assert cli.main(asked) == 0
    said, result = capsys.readouterr().out, json.loads((arm / "run" / "eval" / "offline" / "offline.json").read_text())
    trained = json.loads((arm / "split.json").read_text())["train"]
    assert result["episodes"] == [e for e in range(6) if e not in trained]
    assert result["units"] == 3 * ["deg"] and " deg" in said and " px" not in said
    assert f"{len(result['episodes'])} held-out episodes" in said and result["held_out"] is True
    assert f"verdict: {result['verdict']['sentence']}" in said and result["verdict"]["sentence"] in page_of(arm)
    assert all(f"; {name}: " in said and name in page_of(arm) for name in ("stay", "repeat the last move"))
    chunk = result["config"]["action_chunk_size"]
    assert list(result["errors"]) == ["1", f"{chunk // 2}", f"{chunk}"] and chunk > 2
    assert len(result["errors"][f"{chunk}"]["policy"]) == 3
    assert all(np.isfinite(v).all() for errors in result["errors"].values() for v in errors.values())
    assert result["latency_ms"]["period"] == pytest.approx(1000 / 30)
    assert 0 <= result["tokens"]["unseen"] <= 1
    assert (arm / "run" / "eval" / "offline" / "chunks.png").read_bytes().startswith(b"\x89PNG")
    assert "chunks.png" in (arm / "run" / "eval" / "offline" / "offline.html").read_text()
    assert cli.main([*asked, "--split", str(arm / "split.json"), "--out", str(arm / "val")]) == 0
    assert len(json.loads((arm / "val" / "offline.json").read_text())["episodes"]) == 1


def test_a_training_names_the_data_that_it_held_out(arm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--resume", str(arm / "run")]) == 0  # it is finished
    assert f"vqbet-course eval {arm / 'run'} --offline {arm / 'data'}" in capsys.readouterr().out


def test_each_part_of_a_split_has_its_folder(arm: Path) -> None:
    asked = ["eval", str(arm / "run"), "--offline", str(arm / "data"), "--split", str(arm / "split.json")]
    held_out = json.loads((arm / "split.json").read_text())
    for part in ("val", "stress"):
        assert cli.main([*asked, "--part", part]) == 0
    for part in ("val", "stress"):
        found = json.loads((arm / "run" / "eval" / f"offline-{part}" / "offline.json").read_text())
        assert found["episodes"] == held_out[part]


def test_data_under_another_name_are_the_same_data(arm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [e for e in range(6) if e not in json.loads((arm / "split.json").read_text())["train"]]
    (arm / "link").symlink_to(arm / "data")
    (arm / "elsewhere").mkdir()
    monkeypatch.chdir(arm)
    for name in ("data", "./data", str(arm / "elsewhere" / ".." / "data"), "link"):
        assert cli.main(["eval", "run", "--offline", name, "--out", "named"]) == 0
        assert json.loads((arm / "named" / "offline.json").read_text())["episodes"] == held, name


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("demo", str(DEMO_FOLDER), True),
        ("demo", "lerobot/pusht", False),
        ("gone/data", "/also/gone/data", True),
        ("gone/data", "/also/gone/other", False),
    ],
)
def test_sources_are_the_same_by_their_place(one: str, other: str, same: bool) -> None:
    assert same_source(one, other) is same_source(other, one) is same


def test_what_was_trained_on_or_is_of_another_robot_is_refused(arm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = json.loads((arm / "split.json").read_text())
    split["train"], split["val"] = split["val"], split["train"]
    (arm / "other.json").write_text(json.dumps(split))
    assert cli.main(["eval", str(arm / "run"), "--offline", str(arm / "data"), "--split", str(arm / "other.json")]) == 2
    assert "was trained on 4 of the 4 episodes for val, on episode" in capsys.readouterr().err
    assert cli.main(["eval", str(arm / "run"), "--offline", "demo"]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("own", "other", "remedy"),
    [
        (Field(3), Field(3, "deg"), "; the run does not know this unit: import"),
        (Field(3, "deg"), Field(3), "; state units with: vqbet-course demos convert"),
        (Field(2), Field(3, "deg"), ""),
        (Field(3, "rad"), Field(3, "deg"), ""),
    ],
)
def test_the_remedy_is_one_that_can_help(own: Field, other: Field, remedy: str) -> None:
    found = difference_with_remedy(Contract({}, own, 30.0), Contract({}, other, 30.0))
    assert found is not None and found.startswith("action: ") and remedy in found and (";" in found) == bool(remedy)


def test_images_of_another_size_can_be_resized() -> None:
    trained, found = (
        Contract({"observation.image": Field(size)}, Field(3), 30.0) for size in ((48, 64, 3), (96, 128, 3))
    )
    assert str(difference_with_remedy(trained, found)).endswith(
        "; convert them with: vqbet-course demos convert ... --resize 48x64"
    )


def test_the_remedy_is_for_the_difference_that_is_named() -> None:
    """The rate differs first, and no unit helps against that."""
    state = "observation.state"
    trained, found = (
        Contract({state: Field(3, unit)}, Field(3), rate) for unit, rate in (("deg", 30.0), ("unstated", 10.0))
    )
    assert difference_with_remedy(trained, found) == "fps: 30 against 10"
    assert difference_with_remedy(trained, trained) is None


def test_errors_are_those_of_each_joint_and_of_each_baseline() -> None:
    steps = np.arange(4.0)[None, :, None]
    done = np.concatenate([10 + steps, 0 * steps], axis=2)  # one joint moves by 1 a frame, one stands
    before = np.array([[[8.0, 0.0], [9.0, 0.0]]])
    errors = errors_of(Decisions(done + 0.5, done, np.zeros((1, 2), int), np.zeros(1, int)), before)
    assert errors["1"] == {"policy": [0.5, 0.5], "stay": [1.0, 0.0], "repeat": [0.0, 0.0]}
    assert errors["4"] == {"policy": [0.5, 0.5], "stay": [4.0, 0.0], "repeat": [0.0, 0.0]}


def test_the_verdict_is_that_of_the_end_of_the_chunk_in_shares_of_each_range() -> None:
    spans = np.array([100.0, 1.0])  # degrees beside a gripper
    poor = {"policy": [9.0, 0.9], "stay": [9.5, 0.2], "repeat": [20.0, 0.5]}
    good = {"policy": [9.0, 0.1], "stay": [9.5, 0.2], "repeat": [8.5, 0.3]}
    worse = against_baselines({"1": good, "8": poor}, spans)
    assert not worse["better"] and "no better than to stay at 8 steps ahead" in worse["sentence"]
    better = against_baselines({"1": poor, "8": good}, spans)
    assert better["better"] and better["sentence"].endswith("both baselines at 8 steps ahead, not at 1")


def test_means_are_those_of_each_unit() -> None:
    assert means_in_words([1.0, 2.0, 30.0], ["deg", "deg", "%"]) == "1.5 deg, 30 %"


def test_what_a_checkpoint_was_trained_on_is_not_known(arm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(arm / "run", arm / "imported", ignore=shutil.ignore_patterns("split.json", "eval")))
    plan = json.loads((run / "train_state.json").read_text())
    (run / "train_state.json").write_text(json.dumps(plan | {"data": "checkpoint", "steps": 0, "vqvae_steps": 0}))
    for asked in ([], ["--split", str(arm / "split.json")]):
        assert cli.main(["eval", str(run), "--offline", str(arm / "data"), "--out", str(arm / "unknown"), *asked]) == 0
        said, page = capsys.readouterr().out, (arm / "unknown" / "offline.html").read_text()
        assert "does not say whether it was trained on them" in said and "held-out" not in said + page
        assert json.loads((arm / "unknown" / "offline.json").read_text())["held_out"] is None


def test_tokens_and_smoothness() -> None:
    codes = np.array([[0, 1], [0, 1], [2, 1], [3, 0]])
    usage = decided_codes(codes, 4, {(0, 1), (2, 1)})
    assert usage["used"] == [0.75, 0.5] and usage["combinations"] == 3 and usage["unseen"] == 0.25
    assert decided_codes(np.zeros((5, 2), int), 4, None)["perplexity"] == pytest.approx(1)
    assert roughness(np.arange(9.0)[:, None]) == [0.0] and roughness(np.array([[0.0], [1.0], [0.0]])) == [2.0]
