"""What is observed, what is done, in which units, how fast: the contract between data, policy and environment."""

from dataclasses import asdict, dataclass, field
from typing import Any


class BadInput(ValueError):
    """Something from outside is not usable. The message is one line: what is wrong, and what to do."""


@dataclass(frozen=True)
class Field:
    """One feature: its size (numbers per frame; height, width and channels of an image), its unit (`px`, `rad`,
    `unstated`), and the lowest and highest number that occurs, None where nobody looked.

    Fields are equal when size and unit are: a range describes data, it promises nothing."""

    size: int | tuple[int, ...]
    unit: str = "unstated"
    low: float | None = field(default=None, compare=False)
    high: float | None = field(default=None, compare=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Field":
        size = values["size"]
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Contract":
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

    def features(self) -> dict[str, Field]:
        """Observation and action in one."""
        return self.observation | {"action": self.action}

    def units(self) -> dict[str, str]:
        return {name: feature.unit for name, feature in self.features().items()}

    def fields(self) -> dict[str, str]:
        """{name: size and unit in words}, fps included."""
        return {k: str(v) for k, v in self.features().items()} | {"fps": f"{self.fps:g}"}


PUSHT = Contract({"observation.environment_state": Field(16, "px"), "observation.state": Field(2, "px", 0.0, 512.0)},
                 Field(2, "px", 0.0, 512.0), 10.0)
"""PushT as this course sees it: the T's eight keypoints, the pusher, and where to send the pusher."""
