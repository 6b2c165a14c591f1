"""An arm with the joints of an SO-101 and one camera, without hardware, for LeRobot's commands: it goes where it is sent,
by a policy or by a leader arm that swings.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from lerobot.robots import Robot, RobotConfig
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig

JOINTS = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
POSITIONS = [f"{joint}.pos" for joint in JOINTS]
HEIGHT, WIDTH = 48, 64


class WithoutHardware:
    """What a device of six joints answers that needs neither a port nor calibration."""

    connected = False

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(POSITIONS, float)

    @property
    def is_connected(self) -> bool:
        return self.connected

    @property
    def is_calibrated(self) -> bool:
        return True

    def connect(self, calibrate: bool = True) -> None:
        self.connected = True

    def calibrate(self) -> None:
        pass

    def configure(self) -> None:
        pass

    def disconnect(self) -> None:
        self.connected = False


@RobotConfig.register_subclass("mock_arm")
@dataclass(kw_only=True)
class MockArmConfig(RobotConfig):
    """The arm starts at `start` degrees in every joint."""

    start: float = 0.0


class MockArm(WithoutHardware, Robot):
    """It moves a tenth of the way to its command in every step, and its camera sees a square that moves along."""

    config_class = MockArmConfig
    name = "mock_arm"
    commands: list[list[float]] = []

    def __init__(self, config: MockArmConfig):
        super().__init__(config)
        self.cameras = {"front": None}
        self.position = np.full(len(JOINTS), config.start)
        MockArm.commands = []

    @property
    def observation_features(self) -> dict[str, Any]:
        return dict.fromkeys(POSITIONS, float) | {"front": (HEIGHT, WIDTH, 3)}

    def get_observation(self) -> dict[str, Any]:
        return dict(zip(POSITIONS, map(float, self.position), strict=True)) | {"front": view(self.position)}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        command = np.array([action[name] for name in POSITIONS])
        MockArm.commands.append(command.tolist())
        self.position = self.position + (command - self.position) / 10
        return action


@TeleoperatorConfig.register_subclass("mock_leader")
@dataclass(kw_only=True)
class MockLeaderConfig(TeleoperatorConfig):
    """A leader that nobody has to hold."""


class MockLeader(WithoutHardware, Teleoperator):
    """Its joints swing by 30 degrees, each a little later than the one before."""

    config_class = MockLeaderConfig
    name = "mock_leader"

    def __init__(self, config: MockLeaderConfig):
        super().__init__(config)
        self.step = 0

    @property
    def feedback_features(self) -> dict[str, Any]:
        return {}

    def get_action(self) -> dict[str, Any]:
        self.step += 1
        angles = 30 * np.sin(self.step / 5 - np.arange(len(JOINTS)) / 3)
        return dict(zip(POSITIONS, map(float, angles), strict=True))

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        pass


def view(position: np.ndarray) -> np.ndarray:
    """What the camera sees, (HEIGHT, WIDTH, 3): a square as far to the right as the first joint is turned."""
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    x, y = (int(np.clip(n / 2 + value, 0, n - 8)) for n, value in ((WIDTH, position[0] / 4), (HEIGHT, position[1] / 4)))
    image[y : y + 8, x : x + 8] = (220, 40, 40)
    return image
