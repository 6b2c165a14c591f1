"""Ablations: one change at a time, one file a run, and conclusions that say no more than the results."""

import dataclasses
import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from small import KEYPOINTS

from vqbet_course import tasks
from vqbet_course.cli import main
from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Field
from vqbet_course.demos import load_demos
from vqbet_course.evaluation.results import rows_of
from vqbet_course.experiments import ablations as module
from vqbet_course.experiments.ablations import (
    ABLATIONS,
    ONE_CODEBOOK,
    SCHEMA,
    STORED,
    USUAL,
    Ablation,
    AblationSettings,
    Variant,
    ablate,
    changed,
    conclusion,
    draw_ablation,
    interval,
    key,
    significantly_different,
    stored,
    training_of,
)
from vqbet_course.experiments.panel import parse_job
from vqbet_course.tasks import open_source
from vqbet_course.tasks.task import Task

SMALL: dict[str, Any] = {
    "gpt_n_layer": 1,
    "gpt_hidden_dim": 16,
    "gpt_n_head": 2,
    "batch_size": 16,
    "vqvae_batch_size": 64,
}


def result(reward: float, seed: int = 1, jerk: float = 1.0) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "metrics": {"avg_max_reward": reward, "reconstruction_px": reward, "behaviour": {"jerk": jerk}},
        "variant": {},
        "training": {"seed": seed},
        "settings": {"data": "demo", "episodes": 50, "budget": {"minutes": 3.0, "steps": None}},
    }


def results(*rewards: float) -> list[dict[str, Any]]:
    """One result for each of the training seeds 1, 2, ..."""
    return [result(reward, seed) for seed, reward in enumerate(rewards, start=1)]


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_variant_is_a_configuration_and_no_two_share_a_file(name: str) -> None:
    variants = ABLATIONS[name].variants
    assert len({key(v) for v in variants.values()}) == len(variants) >= 2
    for variant in variants.values():
        VQBeTConfig.laptop(observation_sizes=KEYPOINTS, **variant.changes)
        assert variant.demos <= 200


def test_variants_that_are_the_same_share_a_file_and_those_that_act_otherwise_a_training() -> None:
    layers, acting, chunk = (ABLATIONS[name].variants for name in ("layers", "acting", "chunk"))
    assert key(layers["2 layers"]) == key(acting["temperature 0.35: averaged"]) == key(Variant())
    assert key(chunk["chunk 4"]) == key(acting["temperature 0.35: whole chunk"]) != key(Variant())
    assert len({key(training_of(v)) for v in acting.values()}) == 1
    sampling = [changed(teacher_forcing=False, bet_softmax_temperature=T) for T in (0.1, 1.0)]
    assert len({key(training_of(v)) for v in sampling}) == 2  # these draw codes in training, at the temperature
    assert len({key(training_of(v)) for v in chunk.values()}) == 4


def test_a_run_is_a_file_and_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", SMALL)
    variants = {
        "usual": Variant(),
        "hot": changed(bet_softmax_temperature=1.0, offset_code="sampled"),
        "whole chunk": changed(n_action_steps=None, bet_softmax_temperature=0.2),
        "no offset": changed(offset_loss_weight=0.0),
    }
    monkeypatch.setitem(ABLATIONS, "small", Ablation("How?", variants))
    trained, train_variant = [], module.train_variant
    monkeypatch.setattr(
        module, "train_variant", lambda variant, *a: trained.append(variant) or train_variant(variant, *a)
    )
    settings = AblationSettings(budget=Budget(steps=3), episodes=1)
    found = ablate(["small"], settings, [1], tmp_path, quiet=True)["small"]
    assert {label: len(made) for label, made in found.items()} == {
        "usual": 1,
        "hot": 1,
        "whole chunk": 1,
        "no offset": 1,
    }
    assert len(trained) == 3  # the whole chunk is only another way to act
    whole = found["whole chunk"][0]["config"]
    assert (whole["n_action_steps"], whole["bet_softmax_temperature"]) == (4, 0.2)
    made = found["usual"][0]
    assert made["made_by"]["torch"] and "ablate small" in made["command"] and made["training"]["seed"] == 1
    assert made["training"]["steps"] == 3 and made["episodes"][0]["seed"] == 250_000
    monkeypatch.setattr(module, "train_variant", lambda *_: pytest.fail("it was done already"))
    assert ablate(["small"], settings, [1], tmp_path, quiet=True)["small"] == found
    with pytest.raises(BadInput, match="made with episodes 1; ask for the same, or choose another --out"):
        ablate(["small"], replace(settings, episodes=2), [1], tmp_path)
    with pytest.raises(BadInput, match="made with budget --steps 3; ask"):
        ablate(["small"], replace(settings, budget=USUAL), [1], tmp_path)


def test_a_variant_changes_what_its_task_trains_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative actions only where state and action share a unit, as in any training."""
    navigation = tasks.get_task("navigation").contract
    metres = dataclasses.replace(navigation.data, action=Field(2, "m/s"))
    task = Task()
    task.name, task.contract = "drive", dataclasses.replace(navigation, data=metres)
    monkeypatch.setitem(tasks.TASKS, "drive", task)
    assert not module.full_config(Variant(), "drive").use_relative_actions
    assert module.full_config(Variant()).use_relative_actions


def test_an_untrained_offset_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", SMALL)
    for weight in (0.0, 10.0):
        learned = module.train_variant(Variant({"offset_loss_weight": weight}, demos=5), 1, "demo", Budget(steps=3))
        decision = learned.network.decide(torch.randn(4, 128), torch.rand(4, 2), 1.0)
        assert bool(decision.offset.any()) == bool(weight)


def test_a_view_is_the_same_in_training_and_in_acting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", SMALL)
    variant = Variant({"n_obs_steps": 1}, demos=5, view="distractor")
    learned = module.train_variant(variant, 1, "demo", Budget(steps=3))
    assert learned.network.config.observation_sizes["observation.environment_state"] == 32
    assert module.evaluate_variant(learned, variant, 1)["metrics"]["episodes"] == 1


def test_an_unsteady_hand_is_recorded_as_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", SMALL)
    shaky, steady = module.unsteady_demos("pusht", 1), load_demos(open_source("demo")).select([0])
    rough, smooth = (np.abs(np.diff(d.action, n=3, axis=0)).mean() for d in (shaky, steady))
    assert rough > 1.5 * smooth and shaky.contract == steady.contract
    both = module.concatenate_demos(steady, shaky)
    assert len(both) == 2 and np.array_equal(both.action[both.episode_starts[1] :], shaky.action)


def test_tokenizers_are_judged_on_what_they_never_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {
        name: Variant({"action_chunk_size": 4, "n_action_steps": None} | size, demos=190, tokenizer=kind)
        for name, kind, size in (
            ("one", "k-means", ONE_CODEBOOK | {"vqvae_n_embed": 2}),
            ("many", "k-means", ONE_CODEBOOK | {"vqvae_n_embed": 64}),
            ("vq", "learned", {}),
        )
    }
    monkeypatch.setitem(ABLATIONS, "few", Ablation("?", few, "reconstruction_px"))
    found = ablate(["few"], AblationSettings(budget=Budget(steps=3), episodes=1), [1], tmp_path, quiet=True)["few"]
    pixels = {name: made[0]["metrics"]["reconstruction_px"] for name, made in found.items()}
    assert 0 < pixels["many"] < pixels["one"] < 60 and 0 < pixels["vq"] < 100
    assert rows_of(tmp_path / f"{key(few['vq'])}_seed1.json") == []  # nothing was rolled out


def test_the_interval_is_students() -> None:
    assert interval([0.4, 0.5, 0.6]) == pytest.approx(
        (0.5, 0.5 - 4.3027 * 0.1 / 3**0.5, 0.5 + 4.3027 * 0.1 / 3**0.5), abs=1e-4
    )
    assert interval([0.4])[0] == 0.4 and np.isinf(interval([0.4])[1:]).all()


def test_differences_are_tested_by_pairs_of_a_seed() -> None:
    assert significantly_different(
        results(0.3, 0.5, 0.7), results(0.4, 0.61, 0.8), "avg_max_reward"
    )  # overlap, but always by the same
    assert not significantly_different(results(0.3, 0.5, 0.7), results(0.7, 0.5, 0.4), "avg_max_reward")
    assert not significantly_different(results(0.3), results(0.9), "avg_max_reward")  # one pair says nothing
    assert not significantly_different(
        [result(0.1, seed=1), result(0.1, seed=2)], [result(0.9, seed=3), result(0.9, seed=4)], "avg_max_reward"
    )


def test_a_conclusion_says_no_more_than_the_results() -> None:
    found = {"1 layer": results(0.3, 0.4, 0.35), "2 layers": results(0.6, 0.7, 0.65), "3 layers": []}
    said = conclusion("layers", found)
    assert (
        "Highest average max reward: 2 layers, 0.65 (0.526 to 0.774), significantly different from all others" in said
    )
    assert "Not run: 3 layers." in said and "3 training seed(s)" in said
    assert "not significantly different from 1 layer" in conclusion(
        "layers", found | {"1 layer": results(0.3, 0.7, 0.7)}
    )
    one = {"1 layer": results(0.3), "2 layers": results(0.9), "3 layers": results(0.1)}
    assert "not significantly different from 1 layer, 3 layers" in conclusion("layers", one)


def test_only_those_of_a_group_compete() -> None:
    said = conclusion(
        "tokenizer",
        {
            "chunk 1: k-means": results(1.0, 1.1),
            "chunk 1: learned": results(2.0, 2.1),
            "chunk 16: k-means": results(9.0, 9.1),
            "chunk 16: learned": results(5.0, 5.1),
        },
    )
    assert "Lowest reconstruction error (px): chunk 1, k-means" in said and "chunk 16, learned" in said


def test_smooth_is_a_small_jerk() -> None:
    said = conclusion("smoothness", {"chunk 1": [result(0.9, jerk=5.0)], "chunk 4": [result(0.1, jerk=1.0)]})
    assert "Lowest jerk (px/step³): chunk 4" in said


def test_an_error_has_the_unit_of_its_task() -> None:
    """Results from before there was another task than PushT are in pixels."""
    metres = {"contract": tasks.get_task("navigation").contract.to_dict()}
    found = {name: [made | metres for made in results(0.1, 0.2)] for name in ("chunk 1: k-means", "chunk 1: learned")}
    assert "Lowest reconstruction error (m):" in conclusion("tokenizer", found)
    fig, ax = plt.subplots()
    draw_ablation(ax, "tokenizer", found)
    assert "reconstruction error (m)" in ax.get_xlabel()
    plt.close(fig)


def test_nothing_run_is_said_so(tmp_path: Path) -> None:
    nothing = stored("layers", tmp_path)
    assert conclusion("layers", nothing).endswith("Not run: vqbet-course ablate layers")
    fig, ax = plt.subplots()
    draw_ablation(ax, "layers", nothing | {"2 layers": results(0.4, 0.5)})
    assert [text.get_text() for text in ax.texts] == ["not run", "not run"]
    assert "3 minutes a run" in ax.get_xlabel()
    plt.close(fig)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nothing"], "unknown ablation 'nothing'; choose from queries, layers"),
        (["layers", "--minutes", "9"], "for at most 3"),
        (["layers", "--episodes", "0"], "at least one episode"),
        (["layers", "--data", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    arguments: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", *arguments, "--out", str(tmp_path)]) == 2
    error = [line for line in capsys.readouterr().err.split("\n") if line.startswith("error: ")]
    assert len(error) == 1 and why in error[0] and not list(tmp_path.iterdir())


def test_results_of_0_1_are_brought_into_the_form_of_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The remedy that the refusal names: an ablation, a panel and the file of one of its jobs."""
    variant = ABLATIONS["layers"].variants["2 layers"]
    path = tmp_path / f"{key(variant)}_seed1.json"
    path.write_text(json.dumps(result(0.5) | {"variant": dataclasses.asdict(variant)}))
    with pytest.raises(BadInput) as refused:
        stored("layers", tmp_path)
    command = str(refused.value).partition("python -m ")[2].split()[0]
    panel = json.loads((STORED.parent / "panel.json").read_text())
    rows = [row | {"schema": "vqbet_course/panel/1"} for row in panel["results"]]
    for row in rows:
        row["rollouts"], row["films"] = row.pop("episodes"), ["films/a.mp4"]
        row["settings"] = dict(row["settings"])
        row["settings"]["rollouts"] = row["settings"].pop("episodes")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "bc-seed1.json").write_text(
        json.dumps({"schema": "vqbet_course/panel/1", "results": rows[:1]})
    )
    with pytest.raises(SystemExit) as ended:
        import_module(command).convert_folders([str(tmp_path), str(tmp_path / "jobs")])
    assert ended.value.code == 0 and capsys.readouterr().out.count("converted: ") == 2
    assert len(stored("layers", tmp_path)["2 layers"]) == 1
    (job,) = parse_job(json.loads((tmp_path / "jobs" / "bc-seed1.json").read_text()))
    assert job["episodes"] == panel["results"][0]["episodes"] and job["videos"] == ["videos/a.mp4"]
    assert job["settings"] == panel["results"][0]["settings"]


def test_another_schema_is_refused(tmp_path: Path) -> None:
    first = next(iter(ABLATIONS["layers"].variants.values()))
    (tmp_path / f"{key(first)}_seed1.json").write_text(json.dumps(result(0.5) | {"schema": "vqbet_course/ablation/2"}))
    with pytest.raises(BadInput, match="ablation/2, this version reads"):
        stored("layers", tmp_path)
