"""A change of structure changes no result: weights, traces and a small panel, against those recorded."""

import json

import pytest
from oracle import measure


@pytest.mark.timeout(600)
def test_results_are_as_recorded() -> None:
    recorded, now = json.loads(measure.RECORDED.read_text()), measure.measure()
    if now["machine"] == recorded["machine"]:
        assert now == recorded
        return
    for part, row in zip(recorded["weights"]["tensors"], now["weights"]["tensors"], strict=True):
        assert row == pytest.approx(part, rel=0.02, abs=0.02)
    for one, two in zip(recorded["traces"], now["traces"], strict=True):
        assert one["seed"] == two["seed"]
        for before, after in zip(one["first_actions"], two["first_actions"], strict=True):
            assert after == pytest.approx(before, abs=0.5)  # pixels
    assert [(row["policy"], row["parameters"]) for row in now["panel"]] == [
        (row["policy"], row["parameters"]) for row in recorded["panel"]
    ]
