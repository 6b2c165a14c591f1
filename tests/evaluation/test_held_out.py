"""Evaluation on the held-out episodes of a split."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small import small_run, write_npz

from vqbet_course import cli
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_json
from vqbet_course.datasets.splits import Split
from vqbet_course.demos import load_demos
from vqbet_course.evaluation.evaluate import Conditions, demos_trained_on, evaluate, visited
from vqbet_course.evaluation.held_out import held_out, held_out_action_error
from vqbet_course.experiments.reproduce import evaluation_command
from vqbet_course.tasks import open_source
from vqbet_course.tasks.pusht.contract import PUSHT_TASK
from vqbet_course.tasks.pusht.environment import DemonstratedStart, make_pusht
from vqbet_course.training.runs import Run, load_run

PUSHER, KEYPOINTS = "observation.state", "observation.environment_state"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.npz, split.json and a run that was trained on the split."""
    folder = tmp_path_factory.mktemp("held")
    data = write_npz(folder / "data.npz")
    write_json(folder / "split.json", Split(data, 3, [0], [2], [1]).to_dict())
    small_run(folder, split=folder / "split.json")
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    return load_run(place / "run")


def test_what_was_done_from_a_start_leads_to_what_was_seen(tmp_path: Path) -> None:
    env, draw = make_pusht(), np.random.default_rng(3)
    env.reset(seed=5)
    actions = np.array(env.block.position) + draw.normal(0, 20, (25, 2))
    states = [np.array([*env.agent.position, *env.block.position, env.block.angle])]
    for action in actions:
        env.step(action)
        states.append(np.array([*env.agent.position, *env.block.position, env.block.angle]))
    assert np.abs(states[-1][2:4] - states[0][2:4]).max() > 10  # the T was pushed
    path = write_npz(tmp_path / "one.npz", state=np.array(states[:-1]), action=actions, episode_ends=np.array([25]))
    demos = load_demos(open_source(path))
    again = DemonstratedStart(make_pusht(), demos, "where it starts")
    seen, _ = again.reset(seed=7)  # round and round: there is one demonstration only
    for frame, action in enumerate(actions):
        np.testing.assert_allclose(seen["agent_pos"], demos.observation[PUSHER][frame], atol=0.01)
        np.testing.assert_allclose(seen["environment_state"], demos.observation[KEYPOINTS][frame], atol=0.5)
        seen = again.step(action)[0]


@pytest.mark.usefixtures("short_evaluations")
def test_an_evaluation_starts_where_the_episodes_start(
    place: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["eval", str(run.path), "--split", str(place / "split.json"), "--videos", "0"]
    assert cli.main([*arguments, "--part", "stress"]) == 0 and cli.main(arguments) == 0
    assert "action error on held-out demonstrations: " in capsys.readouterr().out
    demos = load_demos(open_source(str(place / "data.npz")))
    for part, episode in (("val", 2), ("stress", 1)):
        result = json.loads((run.path / "eval" / part / "run.json").read_text())
        assert result["split"] == {"file": str(place / "split.json"), "part": part}
        assert [e["seed"] for e in result["episodes"]] == [episode] and result["metrics"]["action_error"] > 0
        assert result["contract"]["resets"] == f"where the episodes for {part} of {place / 'data.npz'} start"
        first = pq.read_table(run.path / "eval" / part / "traces.parquet")["observation"][0].as_py()
        shown = [demos.observation[name][demos.episode_starts[episode]] for name in (KEYPOINTS, PUSHER)]
        np.testing.assert_allclose(sorted(first), sorted(np.concatenate(shown)), atol=0.01)
        kept = run.path / "eval" / part / "split.json"
        assert kept.read_text() == (place / "split.json").read_text()
        again = evaluation_command(result, kept.with_name("run.json"), run.path, place / "again")
        assert again[again.index("--split") :][:4] == ["--split", str(kept), "--part", part]


def test_the_action_error_is_that_of_the_acting_policy(place: Path, run: Run) -> None:
    policy, held = run.policy, held_out(place / "split.json", "val", run)
    policy.acting = replace(policy.acting, temperature=0.0, average_chunks=False)
    demos, n = held.demos.select([2]), policy.config.steps_per_decision
    seen = {
        name: run.normalizer.normalize(name, torch.from_numpy(values)) for name, values in demos.observation.items()
    }
    wrong = []
    for now in range(len(demos.action) - policy.config.action_chunk_size + 1):
        policy.reset()
        for frame in (max(0, now - 1), now):  # two observation steps
            policy.actions.clear()
            first = policy.select_action({name: values[frame : frame + 1] for name, values in seen.items()})
        chunk = torch.cat([first, *policy.actions][:n])
        wrong.append(run.normalizer.unnormalize("action", chunk).numpy() - demos.action[now : now + n])
    assert held_out_action_error(run, held) == pytest.approx(np.abs(wrong).mean(), rel=1e-4)


def test_only_what_was_trained_on_counts_as_visited(run: Run) -> None:
    known = visited(run, demos_trained_on(run, PUSHT_TASK))
    assert known is not None and len(known.frames) == 40  # those of episode 0; all three have 120


def test_what_was_trained_on_is_not_held_out(place: Path, run: Run, tmp_path: Path) -> None:
    data = str(place / "data.npz")
    for split, part, said in [
        (Split(data, 3, [1], [0, 2]), "val", "was trained on 1 of the 2 episodes for val, on episode 0"),
        (Split(data, 3, [0], [2]), "stress", "has no episodes for stress"),
        (Split(data, 4, [0], [3]), "val", "has 3 episodes, the split was made of 4"),
    ]:
        write_json(tmp_path / "split.json", split.to_dict())
        with pytest.raises(BadInput, match=said):
            evaluate(
                run, conditions=Conditions(split=tmp_path / "split.json", part=part), out=tmp_path / "out", quiet=True
            )
    assert not (tmp_path / "out").exists()
    assert cli.main(["eval", str(run.path), "--split", str(tmp_path / "nowhere.json")]) == 2
