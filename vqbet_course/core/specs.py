"""Contracts between data, policy and environment: which features, in which units, at which rate."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from vqbet_course.core import units
from vqbet_course.core.errors import BadInput

NO_NAMES: Mapping[str, Sequence[str]] = MappingProxyType({})

GOAL = "observation.goal"
"""The feature that holds a policy's goals: goals side by side, each with the numbers of a part of an observation."""


@dataclass(frozen=True)
class Field:
    """One feature: its size (numbers per frame; height, width and channels of an image), its unit (`px`, `rad`,
    `unstated`; with commas, `deg,deg,%`, where its numbers have several), the lowest and highest number that occurs, None
    where unknown, and the names of its numbers, empty where unknown.

    Fields are equal when size and unit are: a range and names describe data, they promise nothing."""

    size: int | tuple[int, ...]
    unit: str = units.UNSTATED
    low: float | None = field(default=None, compare=False)
    high: float | None = field(default=None, compare=False)
    names: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Field":
        """The field that a JSON object holds; a list of sizes becomes a tuple. Raises TypeError for another unit than text."""
        size, unit, names = values["size"], values.get("unit", units.UNSTATED), values.get("names", ())
        if not isinstance(unit, str):
            raise TypeError(f"unit {unit!r}")
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"names {names!r}"[:80])
        size = tuple(size) if isinstance(size, list) else int(size)
        return cls(**values | {"size": size, "unit": units.spelled(unit), "names": tuple(names)})

    def __str__(self) -> str:
        if isinstance(self.size, tuple):
            return f"an image of {' x '.join(map(str, self.size))}"
        return f"{self.size} numbers in {self.unit}"

    @property
    def unit_of_each(self) -> list[str]:
        """The unit of each number."""
        return units.of_each(self.unit, int(self.size)) if isinstance(self.size, int) else []

    def name_of_each(self, prefix: str) -> list[str]:
        """The name of each number, `prefix` and its place where it has none."""
        size = self.size if isinstance(self.size, int) else 0
        return list(self.names) if len(self.names) == size else [f"{prefix}_{i}" for i in range(size)]


@dataclass(frozen=True)
class Contract:
    """Observation fields by name, the action, and frames (decisions of the controller) per second."""

    observation: dict[str, Field]
    action: Field
    fps: float

    @classmethod
    def of(
        cls,
        columns: dict[str, Any],
        stated: Mapping[str, str],
        fps: float,
        names: Mapping[str, Sequence[str]] = NO_NAMES,
    ) -> "Contract":
        """The contract of arrays {name: (N, size)}, `action` among them, with the ranges that occur; images are
        (N, channels, height, width). stated {feature: unit}; names {feature: those of its numbers}."""
        fields = {
            name: Field((*values.shape[2:], values.shape[1]))
            if values.ndim == 4
            else Field(
                values.shape[1],
                stated.get(name, units.UNSTATED),
                float(values.min()),
                float(values.max()),
                tuple(names.get(name, ())),
            )
            for name, values in columns.items()
        }
        action = fields.pop("action")
        return cls(fields, action, fps)

    def to_dict(self) -> dict[str, Any]:
        """The contract as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Contract":
        """The contract that a JSON object holds. Raises BadInput for a malformed one."""
        try:
            observation = {name: Field.from_dict(field) for name, field in values["observation"].items()}
            return cls(observation, Field.from_dict(values["action"]), float(values["fps"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"contract: {error} is missing or malformed") from None

    def first_difference(self, other: "Contract") -> str | None:
        """The name of the first field, `fps` among them, in which `other` differs; None if they agree."""
        mine, theirs = self.fields(), other.fields()
        return next((name for name in sorted(mine | theirs) if mine.get(name) != theirs.get(name)), None)

    def difference(self, other: "Contract") -> str | None:
        """The first field in which `other` differs, in words; None if they agree."""
        name = self.first_difference(other)
        if name is None:
            return None
        return f"{name}: {self.fields().get(name, 'absent')} against {other.fields().get(name, 'absent')}"

    def observing(self, names: Container[str]) -> "Contract":
        """The same contract with only these fields observed."""
        return replace(self, observation={name: field for name, field in self.observation.items() if name in names})

    def features(self) -> dict[str, Field]:
        """{name: field} of the observation and the action."""
        return self.observation | {"action": self.action}

    def units(self) -> dict[str, str]:
        """{feature: unit}, the action included."""
        return {name: feature.unit for name, feature in self.features().items()}

    def with_units(self, stated: Mapping[str, str], names: Mapping[str, Sequence[str]] = NO_NAMES) -> "Contract":
        """The same contract with these units {feature: unit} and names of numbers; features that they lack stay."""
        features = {
            name: replace(field, unit=stated.get(name, field.unit), names=tuple(names.get(name, field.names)))
            for name, field in self.features().items()
        }
        action = features.pop("action")
        return replace(self, observation=features, action=action)

    def fields(self) -> dict[str, str]:
        """{name: size and unit as text}, fps included."""
        return {k: str(v) for k, v in self.features().items()} | {"fps": f"{self.fps:g}"}


@dataclass(frozen=True)
class TaskContract:
    """What a result was measured on. Saved with every result; results are compared only where these agree.

    robot: what moves; data: observations, action and control rate; action_bounds: lowest and highest number of an
    action, in its unit; timing_budget_ms: time from observation to action; horizon: steps of an episode at most;
    resets: what an environment seed decides; success: when an episode counts as solved; seeding: which
    generator draws what.
    """

    robot: str
    data: Contract
    action_bounds: tuple[float, float]
    timing_budget_ms: float
    horizon: int
    resets: str
    success: str
    seeding: str = "the environment seed also seeds the generator that the policy draws from"

    def to_dict(self) -> dict[str, Any]:
        """The contract as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TaskContract":
        """The contract that a JSON object holds. Raises BadInput for a malformed one."""
        try:
            low, high = values["action_bounds"]
            return cls(**values | {"data": Contract.from_dict(values["data"]), "action_bounds": (low, high)})
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"task contract: {error} is missing or malformed") from None

    def difference(self, other: "TaskContract") -> str | None:
        """The first field in which `other` differs, in words; None if they agree."""
        for name in (f.name for f in fields(self)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return mine.difference(theirs) if name == "data" else f"{name}: {mine} against {theirs}"
        return None
