"""Processors between LeRobot's environments or robots and the policy: min-max to -1..1, back, and clipping."""

from dataclasses import dataclass
from typing import Any

import torch
from lerobot.configs import NormalizationMode, PipelineFeatureType, PolicyFeature
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
    """Keep every number of an action within `low` and `high`, its own or one for all: in the robot's units, or in
    normalised ones where the step comes before those that bring the robot's back."""

    low: float | list[float]
    high: float | list[float]

    def action(self, action: torch.Tensor) -> torch.Tensor:
        """The action (..., A) within the bounds."""
        low, high = (torch.as_tensor(bound).to(action) for bound in (self.low, self.high))
        return action.clamp(low, high)

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


def fitted_stats(config: VQBeTCourseConfig, stats: Stats) -> Stats:
    """The statistics of a dataset as this policy normalises by them: `shared_bounds` for relative chunks, `with_spans`."""
    return with_spans(shared_bounds(stats) if config.relative_chunks else stats)


def clipped(config: VQBeTCourseConfig, stats: Stats | None, steps: list[Any]) -> list[Any]:
    """The steps after the policy with one more, which keeps an action within the configuration's bounds, else within the
    range of the demonstrations; none where `clip_actions` is off or neither is known.

    That range is -1..1 before the numbers are brought back, so that it follows the statistics: LeRobot replaces these
    when a checkpoint is trained further on other data."""
    if not config.clip_actions:
        return steps
    if config.action_bounds is not None:
        return [*steps, ClipAction(*([bound] * config.action_feature.shape[0] for bound in config.action_bounds))]
    if stats is None or "action" not in stats:
        return steps
    if config.normalization_mapping.get("ACTION") == NormalizationMode.MIN_MAX:
        return [ClipAction(-1.0, 1.0), *steps]
    ends = (torch.as_tensor(stats["action"][what]).flatten().tolist() for what in ("min", "max"))
    return [*steps, ClipAction(*ends)]


def make_vqbet_course_pre_post_processors(config: VQBeTCourseConfig, dataset_stats: Stats | None = None) -> Any:
    """LeRobot's default pair of pipelines, with actions `clipped`."""
    stats = None if dataset_stats is None else fitted_stats(config, dataset_stats)
    before, after = make_default_pre_post_processors(config, stats)
    after.steps = clipped(config, stats, [*after.steps])
    return before, after
