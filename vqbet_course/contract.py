"""What is observed, what is done, in which units, how fast: the contract between data, policy and environment."""

from dataclasses import asdict, dataclass
from typing import Any


class BadInput(ValueError):
    """Something from outside is not usable. The message is one line: what is wrong, and what to do."""


@dataclass(frozen=True)
class Field:
    """One feature: its size (numbers per frame) and unit (`px`, `rad`, `unstated`)."""

    size: int
    unit: str = "unstated"


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
            return cls({k: Field(**v) for k, v in values["observation"].items()}, Field(**values["action"]),
                       float(values["fps"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"contract: {error} is missing or malformed") from None

    def difference(self, other: "Contract") -> str | None:
        """The first field in which `other` differs, in words; None if they agree."""
        mine, theirs = self.fields(), other.fields()
        for name in sorted(mine | theirs):
            if mine.get(name) != theirs.get(name):
                return f"{name}: {mine.get(name, 'absent')} against {theirs.get(name, 'absent')}"
        return None

    def fields(self) -> dict[str, str]:
        """{field: size and unit in words}, fps included."""
        named = self.observation | {"action": self.action}
        return {k: f"{v.size} numbers in {v.unit}" for k, v in named.items()} | {"fps": f"{self.fps:g}"}


PUSHT = Contract({"observation.environment_state": Field(16, "px"), "observation.state": Field(2, "px")},
                 Field(2, "px"), 10.0)
"""PushT as this course sees it: the T's eight keypoints, the pusher, and where to send the pusher."""
