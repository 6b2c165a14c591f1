"""Contracts between data, policy and environment: which features, in which units, at which rate."""

from collections.abc import Container
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from vqbet_course.core.errors import BadInput

GOAL = "observation.goal"
"""The feature that holds a policy's goals: goals side by side, each with the numbers of a part of an observation."""


@dataclass(frozen=True)
class Field:
    """One feature: its size (numbers per frame; height, width and channels of an image), its unit (`px`, `rad`,
    `unstated`), and the lowest and highest number that occurs, None where unknown.

    Fields are equal when size and unit are: a range describes data, it promises nothing."""

    size: int | tuple[int, ...]
    unit: str = "unstated"
    low: float | None = field(default=None, compare=False)
    high: float | None = field(default=None, compare=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Field":
        """The field that a JSON object holds; a list of sizes becomes a tuple. Raises TypeError for another unit than text."""
        size, unit = values["size"], values.get("unit", "unstated")
        if not isinstance(unit, str):
            raise TypeError(f"unit {unit!r}")
        return cls(**values | {"size": tuple(size) if isinstance(size, list) else int(size)})

    def __str__(self) -> str:
        if isinstance(self.size, tuple):
            return f"an image of {' x '.join(map(str, self.size))}"
        return f"{self.size} numbers in {self.unit}"


@dataclass(frozen=True)
class Contract:
    """Observation fields by name, the action, and frames (decisions of the controller) per second."""

    observation: dict[str, Field]
    action: Field
    fps: float

    @classmethod
    def of(cls, columns: dict[str, Any], units: dict[str, str], fps: float) -> "Contract":
        """The contract of arrays {name: (N, size)}, `action` among them, with the ranges that occur; images are
        (N, channels, height, width)."""
        fields = {
            name: Field((*values.shape[2:], values.shape[1]))
            if values.ndim == 4
            else Field(values.shape[1], units.get(name, "unstated"), float(values.min()), float(values.max()))
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

    def difference(self, other: "Contract") -> str | None:
        """The first field in which `other` differs, in words; None if they agree."""
        mine, theirs = self.fields(), other.fields()
        for name in sorted(mine | theirs):
            if mine.get(name) != theirs.get(name):
                return f"{name}: {mine.get(name, 'absent')} against {theirs.get(name, 'absent')}"
        return None

    def observing(self, names: Container[str]) -> "Contract":
        """The same contract with only these fields observed."""
        return replace(self, observation={name: field for name, field in self.observation.items() if name in names})

    def features(self) -> dict[str, Field]:
        """{name: field} of the observation and the action."""
        return self.observation | {"action": self.action}

    def units(self) -> dict[str, str]:
        """{feature: unit}, the action included."""
        return {name: feature.unit for name, feature in self.features().items()}

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
