"""Ablations: one change at a time, one file a run, and sentences that say no more than the figures."""
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from vqbet_course import ablate as module
from vqbet_course.ablate import ABLATIONS, SCHEMA, Ablation, ablate, changed, conclusion, draw, key, stored
from vqbet_course.cli import main
from vqbet_course.compare import Budget
from vqbet_course.contract import BadInput
from vqbet_course.policy import VQBeTConfig

SMALL: dict[str, Any] = {"gpt_n_layer": 1, "gpt_hidden_dim": 16, "gpt_n_head": 2, "batch_size": 16, "vqvae_batch_size": 64}


def result(reward: float, jerk: float = 1.0) -> dict[str, Any]:
    return {"schema": SCHEMA, "metrics": {"avg_max_reward": reward, "behaviour": {"jerk": jerk}},
            "settings": {"data": "demo", "episodes": 50, "budget": {"minutes": 3.0, "steps": None}}}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_variant_is_a_configuration_and_no_two_share_a_file(name: str) -> None:
    variants = ABLATIONS[name].variants
    assert len({key(v) for v in variants.values()}) == len(variants) >= 2
    for variant in variants.values():
        VQBeTConfig.laptop(**variant.changes)
        assert variant.demos <= 200


def test_a_run_is_a_file_and_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"two": changed(vqvae_n_layers=2, **SMALL), "one": changed(vqvae_n_layers=1, **SMALL)}
    monkeypatch.setitem(ABLATIONS, "small", Ablation("How?", two))
    arguments: dict[str, Any] = {"seeds": [1], "budget": Budget(steps=3), "episodes": 1, "out": tmp_path, "quiet": True}
    results = ablate("small", **arguments)
    assert {label: len(found) for label, found in results.items()} == {"two": 1, "one": 1}
    made = results["two"][0]
    assert made["made_by"]["torch"] and "ablate small" in made["command"] and made["training"]["seed"] == 1
    monkeypatch.setattr(module, "run", lambda *_: pytest.fail("it was done already"))
    assert ablate("small", **arguments) == results
    with pytest.raises(BadInput, match="made with episodes 1; choose another --out"):
        ablate("small", **arguments | {"episodes": 2})


def test_ranges_that_overlap_are_not_ranked() -> None:
    apart = {"1 layer": [result(0.3), result(0.4)], "2 layers": [result(0.6), result(0.7)], "3 layers": []}
    said = conclusion("layers", apart)
    assert "2 layers has the highest average max reward, 0.65 (0.60 to 0.70)" in said
    assert "apart from all others" in said and "Not run: 3 layers." in said
    close = apart | {"1 layer": [result(0.3), result(0.65)]}
    assert "not told apart from 1 layer" in conclusion("layers", close)
    one = {"1 layer": [result(0.3)], "2 layers": [result(0.9)], "3 layers": [result(0.1)]}
    assert "with one seed nothing is told apart" in conclusion("layers", one)


def test_smooth_is_a_small_jerk() -> None:
    said = conclusion("smoothness", {"chunk 1": [result(0.9, 5.0)] * 2, "chunk 4": [result(0.1, 1.0)] * 2})
    assert "chunk 4 has the lowest jerk" in said


def test_nothing_run_is_said_so(tmp_path: Path) -> None:
    nothing = stored("layers", tmp_path)
    assert conclusion("layers", nothing).endswith("Not run: vqbet-course ablate layers")
    fig, ax = plt.subplots()
    draw(ax, "layers", nothing | {"2 layers": [result(0.4), result(0.5)]})
    assert [text.get_text() for text in ax.texts] == ["not run", "not run"]
    plt.close(fig)


@pytest.mark.parametrize(("arguments", "why"), [
    (["nothing"], "unknown ablation 'nothing'; choose from layers, chunk"), (["layers", "--minutes", "9"], "3 at most"),
    (["layers", "--episodes", "0"], "at least one episode"), (["layers", "--data", "nowhere.npz"], "nowhere.npz"),
])
def test_what_cannot_be_done_is_one_line_and_status_2(arguments: list[str], why: str, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", *arguments, "--out", str(tmp_path)]) == 2
    error = [line for line in capsys.readouterr().err.split("\n") if line.startswith("error: ")]
    assert len(error) == 1 and why in error[0] and not list(tmp_path.iterdir())


def test_another_schema_is_refused(tmp_path: Path) -> None:
    first = next(iter(ABLATIONS["layers"].variants.values()))
    (tmp_path / f"{key(first)}_seed1.json").write_text(json.dumps(result(0.5) | {"schema": "vqbet_course/ablation/2"}))
    with pytest.raises(BadInput, match="ablation/2, this version reads"):
        stored("layers", tmp_path)
