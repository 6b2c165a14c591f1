"""Corrections: an expert asked in any state, a gate, what is learned of it, and rounds that can be interrupted."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import CONFIG, same, small_run, write_npz

from vqbet_course.cli import main
from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.hooks import TrainingStage
from vqbet_course.corrections import (
    Corrected,
    Gate,
    aggregate,
    corrected_rollouts,
    corrections_of,
    expert_chunk,
    interventions,
    recoveries,
    retrain,
)
from vqbet_course.datasets.writer import write_dataset
from vqbet_course.demos import Demos, load_demos
from vqbet_course.experiments.correct import Asked, correct
from vqbet_course.rollout import rollouts
from vqbet_course.tasks import get_task, open_source
from vqbet_course.training import trainer
from vqbet_course.training.data import prepare
from vqbet_course.training.log import TrainingLog
from vqbet_course.training.runs import Run, load_run
from vqbet_course.training.trainer import resume, train, train_further
from vqbet_course.widgets import Drive, save_driven

TASKS = ("pusht", "navigation")
SMALL = {name: getattr(CONFIG, name) for name in ("gpt_n_layer", "gpt_n_head", "gpt_hidden_dim", "gpt_input_dim")}
WALKER = VQBeTConfig.laptop(
    **SMALL,
    observation_sizes={"observation.state": 2},
    gpt_output_dim=16,
    vqvae_embedding_dim=8,
    vqvae_enc_hidden_dim=32,
    action_chunk_size=4,
    batch_size=32,
    scheduler_warmup_steps=5,
    optimizer_lr=5e-3,
)


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of a policy that was hardly trained on navigation."""
    folder = tmp_path_factory.mktemp("walker")
    write_dataset(get_task("navigation").demonstrations(6, seed=0), folder / "data", quiet=True)
    train(str(folder / "data"), folder / "run", Budget(steps=12), WALKER, quiet=True)
    return folder / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the expert and the rollouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "before", "n"), [("pusht", 9, 40), ("navigation", 0, 6), ("block_push", 30, 40)])
def test_a_label_is_what_the_expert_would_do_and_changes_nothing(name: str, before: int, n: int) -> None:
    task = get_task(name)
    env, expert = task.make_env(), task.demonstrator(3)
    seen, _ = env.reset(seed=200_003)
    for _ in range(before):
        seen, *_ = env.step(expert(seen))
    remembered = dict(vars(expert))
    label = expert_chunk(task, env, expert, seen, n)
    assert vars(expert) == remembered and len(label) == n
    for expected, action in label:
        assert np.allclose(parts(seen), parts(expected))
        wanted = expert(seen)
        assert np.array_equal(wanted, action)
        seen, *_ = env.step(wanted)
    assert vars(expert) != remembered, "it plans as it goes"


def parts(observation: Any) -> Sequence[float]:
    """The numbers of an observation."""
    values = observation.values() if isinstance(observation, dict) else [observation]
    return [float(number) for part in values for number in part]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_guide_agrees_with_the_side_that_the_policy_has_chosen(seed: int) -> None:
    guide = get_task("navigation").demonstrator(seed)
    assert guide(np.array([0.2, -0.15]))[1] < 0
    assert guide(np.array([0.25, 0.01]))[1] < 0, "and keeps to it"


@pytest.mark.parametrize("name", TASKS)
def test_where_the_expert_always_acts_it_solves_the_task(name: str, walker: Path) -> None:
    run = load_run(walker if name == "navigation" else "shipped")
    task = get_task(name)
    episodes = corrected_rollouts(run.policy, run.normalizer, task, [200_001, 200_003], gate=lambda episode: True)
    assert all(episode.success and all(episode.taken) for episode in episodes)
    assert all(len(episode.progress) == len(episode.steps) < task.horizon for episode in episodes)


def test_labels_leave_the_rollouts_of_the_policy_as_they_are(walker: Path) -> None:
    run, task = load_run(walker), get_task("navigation")
    plain = rollouts(run.policy, run.normalizer, range(4), task)
    labelled = corrected_rollouts(run.policy, run.normalizer, task, range(4), every=5)
    assert [len(e.steps) for e in labelled] == [len(e.coverage) for e in plain]
    for one, two in zip(labelled, plain, strict=True):
        assert not any(one.taken)
        assert np.allclose([parts(seen) for seen, _ in one.steps], two.observations)
        assert len(one.labels) == -(-len(one.steps) // 5)


# --- the gate and the counts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "progress", "spans", "back"),
    [
        ([], [], [], 0),
        ([0, 0], [0.1, 0.5], [], 0),
        ([0, 1, 1, 0], [0.1, 0.2, 0.3, 0.4], [(1, 3)], 1),
        ([0, 1, 1, 0], [0.1, 0.2, 0.3, 0.3], [(1, 3)], 0),
        ([0, 1, 1, 0], [0.5, 0.2, 0.3, 0.4], [(1, 3)], 0),
        ([1, 1, 1], [0.1, 0.2, 1.0], [(0, 3)], 0),
        ([1, 0, 1, 0], [0.1, 0.2, 0.3, 0.4], [(0, 1), (2, 3)], 2),
        ([1, 0, 1, 0], [0.1, 0.1, 0.3, 0.4], [(0, 1), (2, 3)], 1),
    ],
)
def test_interventions_and_recoveries_are_counted(
    taken: list[int], progress: list[float], spans: list[tuple[int, int]], back: int
) -> None:
    flags = [bool(flag) for flag in taken]
    assert interventions(flags) == spans and recoveries(flags, progress) == back


def run_gate(gate: Callable[[Corrected], bool], progress: Sequence[float]) -> str:
    """Who acts at each step of an episode with this progress: p the policy, e the expert."""
    episode = Corrected(0)
    for value in progress:
        episode.taken.append(gate(episode))
        episode.progress.append(value)
    return "".join("pe"[taken] for taken in episode.taken)


@pytest.mark.parametrize(
    ("progress", "acts"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "pppppp"),  # it gets on
        ([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], "ppppeeeeeppp"[:11]),  # nothing helps: `most` steps
        ([0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.3, 0.3], "ppppeeppp"),  # it helped at once: `least` steps
        ([0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2], "ppppeepppe"),  # and is needed again
    ],
)
def test_the_gate_opens_without_progress_and_closes_with_it(progress: list[float], acts: str) -> None:
    assert run_gate(Gate(patience=3, least=2, most=5), progress) == acts


# --- what is learned ----------------------------------------------------------------------------------------------


def episode_of(taken: Sequence[int], labels: Sequence[int] = ()) -> Corrected:
    """An episode whose observations and actions are the numbers of its steps."""
    steps = [({"agent_pos": np.full(2, i)}, np.full(2, 100 + i)) for i in range(len(taken))]
    return Corrected(0, steps=steps, taken=[bool(flag) for flag in taken], labels=[steps[:n] for n in labels])


def test_a_correction_begins_with_the_steps_that_are_observed_before_it() -> None:
    config = replace(WALKER, n_obs_steps=3)
    [part] = corrections_of(episode_of([0, 0, 0, 0, 1, 1, 1, 1, 0]), config)
    assert part["observation.state"][:, 0].tolist() == [2, 3, 4, 5, 6, 7]
    assert part["action"][:, 0].tolist() == [102, 103, 104, 105, 106, 107] and part["action"].dtype == np.float32


def test_what_is_too_short_for_a_chunk_is_left_out() -> None:
    assert not corrections_of(episode_of([0, 1, 1, 0, 0, 1, 1, 0], labels=[3]), WALKER)
    assert len(corrections_of(episode_of([0, 1, 1, 1, 0], labels=[4]), WALKER)) == 2


def test_corrections_come_after_the_demonstrations(walker: Path) -> None:
    demos = load_demos(open_source(load_run(walker).plan.data))
    [part] = corrections_of(episode_of([1] * 6), WALKER)
    both = aggregate(demos, [part, part])
    assert isinstance(both, Demos) and both.contract == demos.contract
    assert np.diff(both.episode_ends, prepend=0).tolist()[-2:] == [6, 6] and len(both) == len(demos) + 2
    assert np.array_equal(both.action[: len(demos.action)], demos.action) and both.action[-1, 0] == 105


def test_training_goes_on_from_the_weights_with_the_same_tokenizer(walker: Path) -> None:
    run = load_run(walker)
    demos = load_demos(open_source(run.plan.data))
    windows = prepare(demos, WALKER, False, normalizer=run.normalizer).windows
    before = {name: value.clone() for name, value in run.policy.network.state_dict().items()}
    after = retrain(run.policy.network, windows, 3, seed=0)
    assert same(before, dict(run.policy.network.state_dict()))
    assert same(*(dict(network.vqvae.state_dict()) for network in (run.policy.network, after)))
    moved = (after.gpt.head.weight - run.policy.network.gpt.head.weight).abs().max()
    assert 0 < moved < 0.05, "three small steps away"
    assert same(dict(after.state_dict()), dict(retrain(run.policy.network, windows, 3, seed=0).state_dict()))


# --- run directories ----------------------------------------------------------------------------------------------


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_run(path).policy.network.state_dict())


@pytest.mark.parametrize("killed_at", [0, 7])
def test_a_killed_continuation_ends_as_one_that_was_not(
    killed_at: int, walker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = load_run(walker), str(tmp_path / "data")
    write_dataset(get_task("navigation").demonstrations(3, seed=7), tmp_path / "data", quiet=True)
    train_further(run, data, tmp_path / "whole", steps=12, seed=4, quiet=True)
    monkeypatch.setattr("vqbet_course.training.checkpoints.SECONDS_BETWEEN", 0.0)
    plain = TrainingLog.after

    def killed(log: TrainingLog, stage: TrainingStage, taken: int, metrics: dict[str, torch.Tensor]) -> None:
        if taken > killed_at:
            raise KeyboardInterrupt
        plain(log, stage, taken, metrics)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingLog, "after", killed)
        train_further(run, data, tmp_path / "killed", steps=12, seed=4, quiet=True)
    assert (tmp_path / "killed" / "train_state.safetensors").exists() == bool(killed_at)
    resume(tmp_path / "killed", quiet=True)
    assert same(weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed"))
    assert not same(weights_of(tmp_path / "whole"), weights_of(walker))


def test_rounds_are_counted_kept_and_continued(
    walker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = contents(walker), tmp_path / "out"
    asked = [str(walker), "--how", "label", "--episodes", "3", "--steps", "4", "--out", str(out)]
    with monkeypatch.context() as patch:
        calls: list[Path] = []

        def killed(run: Run, data: str, folder: Path, *others: Any) -> Any:
            calls.append(folder)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return trainer.train_further(run, data, folder, *others)

        patch.setattr("vqbet_course.experiments.correct.train_further", killed)
        assert main(["correct", *asked, "--rounds", "2"]) == 130
    assert len(json.loads((out / "corrections.json").read_text())["rounds"]) == 1
    first = contents(out / "round-1")
    assert main(["correct", *asked, "--rounds", "2"]) == 0
    said = capsys.readouterr().out
    assert "round 1: 0 interventions" in said and "round 2" in said
    assert contents(walker) == before and contents(out / "round-1") == first
    report = json.loads((out / "corrections.json").read_text())
    assert [found["round"] for found in report["rounds"]] == [1, 2]
    assert all(found["labels"] and found["corrections"] for found in report["rounds"])
    assert (out / "corrections.png").read_bytes()[:4] == b"\x89PNG"
    sizes = [len(load_demos(open_source(load_run(out / f"round-{n}").plan.data))) for n in (1, 2)]
    assert sizes == [6 + sum(found["corrections"] for found in report["rounds"][:n]) for n in (1, 2)]
    last = load_run(out / "round-2")
    assert last.plan.start == str(out / "round-1") and last.plan.vqvae_steps == 0
    assert same(*({k: v for k, v in weights_of(p).items() if k.startswith("vqvae")} for p in (walker, out / "round-2")))


def test_takeovers_by_hand_are_learned_from(tmp_path: Path) -> None:
    small_run(tmp_path, config=replace(CONFIG, action_chunk_size=4))
    drive = Drive(load_run(tmp_path / "run"), seed=100_000)
    for step in range(20):
        drive.target = (256.0, 400.0) if 4 <= step < 11 or step == 15 else None
        drive.step()
    drive.finish(success=True)
    save_driven(drive, tmp_path / "mine")
    asked = Asked(str(tmp_path / "run"), by=str(tmp_path / "mine"), steps=2)
    report = correct(asked, 1, tmp_path / "out", quiet=True)
    [found] = report["rounds"]
    assert (found["interventions"], found["steps_taken"], found["steps"]) == (2, 8, 20)
    assert (found["corrections"], found["corrected_steps"]) == (1, 7), "one step is too short for a chunk"
    assert found["recoveries"] in range(found["interventions"] + 1), "progress is in the folder"
    learned = load_demos(open_source(load_run(tmp_path / "out" / "round-1").plan.data))
    assert len(learned) == 4 and (learned.action[-7:] == [256, 400]).all()


# --- what cannot be done --------------------------------------------------------------------------------------------


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `correct`, assert that it refuses in one line, and return that line."""

    def run(*arguments: object) -> str:
        assert main(["correct", *map(str, arguments)]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(lines) == 1
        return lines[0]

    return run


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rounds", "0"], "--rounds"),
        (["--rounds", "1", "--episodes", "0"], "--episodes"),
        (["--rounds", "1", "--steps", "0"], "--steps 0"),
        (["--rounds", "1", "--seed", "-1"], "--seed"),
        (["--rounds", "1", "--by", "nowhere/at/all"], "nowhere/at/all"),
        (["--rounds", "1", "--by", "demo"], "give another folder"),
        (["--rounds", "2", "--by", "demo"], "one folder is one round"),
        (["--rounds", "1", "--by", "demo", "--how", "label"], "leave --how out"),
    ],
)
def test_what_is_asked_wrongly_is_refused(
    options: list[str], said: str, refused: Callable[..., str], walker: Path, tmp_path: Path
) -> None:
    assert said in refused(walker, *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_corrections_is_refused(refused: Callable[..., str], walker: Path, tmp_path: Path) -> None:
    data = load_run(walker).plan.data
    assert "holds no corrections" in refused(walker, "--rounds", 1, "--by", data, "--out", tmp_path / "out")


def test_a_run_without_a_task_is_refused(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_npz(tmp_path / "other.npz", state=np.random.default_rng(0).normal(size=(120, 3)))
    config = replace(CONFIG, observation_sizes={"observation.state": 3}, use_relative_actions=False)
    monkeypatch.setattr("vqbet_course.datasets.source.Source.rate", 10.0)
    train(data, tmp_path / "run", Budget(steps=6), config, quiet=True)
    assert "of no task that is known" in refused(tmp_path / "run", "--rounds", 1)


def test_a_task_without_demonstrator_is_refused(
    refused: Callable[..., str], walker: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr("vqbet_course.tasks.navigation.task.Navigation.demonstrator")
    assert "no scripted demonstrator" in refused(walker, "--rounds", 1, "--out", tmp_path / "out")


def test_other_settings_and_a_run_as_out_are_refused(refused: Callable[..., str], walker: Path, tmp_path: Path) -> None:
    correct(Asked(str(walker), how="label", episodes=1, steps=1), 1, tmp_path / "out", quiet=True)
    assert "made with how label" in refused(walker, "--rounds", 1, "--out", tmp_path / "out")
    assert "holds a run" in refused(walker, "--rounds", 1, "--out", walker)
    assert not (walker / "corrections.json").exists()
