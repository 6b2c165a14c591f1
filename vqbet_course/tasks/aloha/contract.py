"""What the two ALOHA tasks show, take and count as success, in which units and how fast.

Their numbers are those of gym-aloha: joint angles in radians, grippers from 0 (closed) to 1 (open), metres, and
quaternions (w, x, y, z), of which both q and -q are the same rotation: here w is never negative.
"""

from dataclasses import dataclass

import numpy as np

from vqbet_course.core.specs import Contract, Field, TaskContract

FPS = 50.0
"""Decisions a second."""

ANGLE = float(np.pi)
"""The largest joint angle in radians, which is also the bound of every number of an action."""

JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
"""The joints of an arm, its gripper last."""

ARMS = ("left", "right")

JOINT_UNITS = ",".join([*["rad"] * 6, "1"] * 2)
"""The units of the 14 joints."""

GRIPPERS = (6, 13)
"""Where the left and the right gripper are among the 14 joints."""


@dataclass(frozen=True)
class AlohaScene:
    """One of gym-aloha's scenes: its name there, its file, the objects in the order of their poses, what they are called
    in the file, the arms that pick them up (0 left, 1 right), how little a
    demonstrator's arms shake at the objects (0..1), the instruction of its demonstrations, and its contract."""

    name: str
    file: str
    objects: tuple[str, ...]
    bodies: tuple[str, ...]
    arms: tuple[int, ...]
    calm: float
    instruction: str
    contract: TaskContract

    @property
    def names(self) -> dict[str, list[str]]:
        """A name for each number, {feature: names}."""
        joints = [f"{arm}_{joint}" for arm in ARMS for joint in JOINTS]
        poses = [f"{name}_{part}" for name in self.objects for part in ("x", "y", "z", "qw", "qx", "qy", "qz")]
        return {"observation.environment_state": poses, "observation.state": joints, "action": joints}


def contract_of(objects: int, resets: str, success: str) -> TaskContract:
    """The contract of a scene with so many objects."""
    return TaskContract(
        robot="two ViperX 300 arms with 6 joints and a gripper each, facing one another; joints go where they are sent",
        data=Contract(
            {
                "observation.environment_state": Field(7 * objects, ",".join(["m,m,m,1,1,1,1"] * objects), -1.0, 1.0),
                "observation.state": Field(14, JOINT_UNITS, -ANGLE, ANGLE),
            },
            Field(14, JOINT_UNITS, -ANGLE, ANGLE),
            FPS,
        ),
        action_bounds=(-ANGLE, ANGLE),
        timing_budget_ms=1000 / FPS,
        horizon=400,
        resets=resets,
        success=success,
    )


TRANSFER = AlohaScene(
    "transfer_cube",
    "bimanual_viperx_transfer_cube.xml",
    ("cube",),
    ("box",),
    (1,),
    0.5,
    "Pick up the cube with the right arm and transfer it to the left arm.",
    contract_of(
        1,
        "where the cube lies, within 20 cm by 20 cm, as gym-aloha draws it from the environment seed",
        "the left gripper touches the cube, which does not touch the table",
    ),
)

INSERTION = AlohaScene(
    "insertion",
    "bimanual_viperx_insertion.xml",
    ("peg", "socket"),
    ("peg", "socket"),
    (1, 0),
    0.2,
    "Pick up the peg with the right arm and the socket with the left arm, and insert the peg into the socket.",
    contract_of(
        2,
        "where peg and socket lie, each within 10 cm by 20 cm, as gym-aloha draws it from the environment seed",
        "the peg touches the pin inside the socket, and both are in the air when they meet",
    ),
)

SCENES = {scene.name: scene for scene in (TRANSFER, INSERTION)}
"""{name in gym-aloha: scene}."""
