"""Bounds of the features of a dataset."""

import json

import torch

from vqbet_course.core.bounds import Bounds
from vqbet_course.demos import Normalizer

BOUNDS = {"action": (torch.tensor([0.0, 10.0]), torch.tensor([4.0, 20.0]))}


def test_a_unit_is_the_mean_of_half_the_spans() -> None:
    assert Bounds(BOUNDS).unit("action") == (2 + 5) / 2


def test_bounds_survive_json_and_keep_their_class() -> None:
    again = Normalizer.from_dict(json.loads(json.dumps(Normalizer(BOUNDS).to_dict())))
    assert type(again) is Normalizer
    assert all(torch.equal(a, b) for a, b in zip(again.bounds["action"], BOUNDS["action"], strict=True))
