"""What a MetaWorld task shows, takes and counts as success, in which units and how fast."""

from vqbet_course.core.specs import Contract, Field, TaskContract

RATE = 80.0
"""Steps a second: five physics steps of 2.5 ms each."""

OBJECTS, STATE = "observation.environment_state", "observation.state"

FIRST, SECOND, TARGET = slice(0, 3), slice(7, 10), slice(14, 17)
"""Where the positions lie in `observation.environment_state`: first object, second object, target."""

HAND = slice(17, 20)
"""Where the hand's position lies in a trace: behind the numbers of `observation.environment_state`."""

POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")

NUMBERS = {
    OBJECTS: [*(f"object_{i}_{part}" for i in (1, 2) for part in POSE), *(f"target_{axis}" for axis in "xyz")],
    STATE: ["hand_x", "hand_y", "hand_z", "gripper_opening"],
    "action": ["move_x", "move_y", "move_z", "gripper_effort"],
}
"""A name for each number; of which task they are stands before it (`number_names`)."""

METAWORLD = Contract(
    {
        OBJECTS: Field(17, ",".join([*(["m"] * 3 + ["1"] * 4) * 2, *["m"] * 3])),
        STATE: Field(4, "m,m,m,1"),
    },
    Field(4, "cm,cm,cm,1", -1.0, 1.0),
    RATE,
)
"""Every MetaWorld task as it is observed: position and orientation (a quaternion) of up to two objects, zeros where there
is no second one; the target; the hand and how far the gripper is open (0..1). An action moves the hand by up to 1 cm
along each axis and opens (-1) or closes (1) the gripper."""


def number_names(name: str) -> dict[str, list[str]]:
    """{feature: names of its numbers} of a task, which tell its data from those of MetaWorld's other tasks."""
    return {feature: [f"{name}.{number}" for number in numbers] for feature, numbers in NUMBERS.items()}


def metaworld_contract(name: str) -> TaskContract:
    """The MetaWorld task of this name as this course evaluates it."""
    return TaskContract(
        robot=f"a simulated Sawyer arm whose hand moves by at most 1 cm a step along each axis: MetaWorld {name}-v3",
        data=METAWORLD.with_units({}, number_names(name)),
        action_bounds=(-1.0, 1.0),
        timing_budget_ms=1000 / RATE,
        horizon=500,
        resets="where the objects stand and where the target is, drawn from the environment seed over MetaWorld's ranges",
        success="MetaWorld's `success` at any step",
    )
