"""Processors between LeRobot's environments and the policy: min-max to -1..1, back, and clipping to bounds."""

from dataclasses import dataclass
from typing import Any

import torch
from lerobot.configs import PipelineFeatureType, PolicyFeature
from lerobot.processor import (
    PolicyActionProcessorStep,
    ProcessorStepRegistry,
    make_default_pre_post_processors,
)

from vqbet_course.demos import span_of
from vqbet_course.lerobot_policy.configuration_vqbet_course import VQBeTCourseConfig

Stats = dict[str, dict[str, torch.Tensor]]
Features = dict[PipelineFeatureType, dict[str, PolicyFeature]]


@ProcessorStepRegistry.register("vqbet_course_clip_action")
@dataclass
class ClipAction(PolicyActionProcessorStep):
    """Keep every number of an action within `low` and `high`, in the robot's units."""

    low: float
    high: float

    def action(self, action: torch.Tensor) -> torch.Tensor:
        """The action within the bounds."""
        return action.clamp(self.low, self.high)

    def get_config(self) -> dict[str, Any]:
        """The bounds, as a checkpoint stores them."""
        return {"low": self.low, "high": self.high}

    def transform_features(self, features: Features) -> Features:
        """The features as they are: clipping changes no shape."""
        return features


def shared_bounds(stats: Stats) -> Stats:
    """The same statistics, with one minimum and maximum for actions and `observation.state`.

    A difference of the two then means the same before and after normalisation, which relative chunks need."""
    both = [stats[name] for name in ("action", "observation.state")]
    low = torch.minimum(*(torch.as_tensor(s["min"]) for s in both))
    high = torch.maximum(*(torch.as_tensor(s["max"]) for s in both))
    return stats | {name: stats[name] | {"min": low, "max": high} for name in ("action", "observation.state")}


def with_spans(stats: Stats) -> Stats:
    """The same statistics, in which an observed number that never changes has a maximum one above its minimum.

    LeRobot divides by maximum - minimum, or by 1e-8: a change of 0.001 would become 200,000. Here it is divided by
    `span_of`, 1 for such a number."""
    wider = {}
    for name, values in stats.items():
        if name.startswith("observation.") and {"min", "max"} <= values.keys():
            low, high = torch.as_tensor(values["min"]), torch.as_tensor(values["max"])
            span = span_of(low, high)
            wider[name] = values | {"max": torch.where(span == high - low, high, low + span)}
    return stats | wider


def make_vqbet_course_pre_post_processors(config: VQBeTCourseConfig, dataset_stats: Stats | None = None) -> Any:
    """LeRobot's default pair of pipelines, with the bounds of actions where the configuration has some."""
    if config.relative_chunks and dataset_stats is not None:
        dataset_stats = shared_bounds(dataset_stats)
    if dataset_stats is not None:
        dataset_stats = with_spans(dataset_stats)
    before, after = make_default_pre_post_processors(config, dataset_stats)
    if config.action_bounds is not None:
        after.steps = [*after.steps, ClipAction(*config.action_bounds)]
    return before, after
