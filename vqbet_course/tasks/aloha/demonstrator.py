"""The scripted demonstrator of the two ALOHA tasks: hands go to targets in space, by inverse kinematics.

Each hand has a reference, which goes towards its target at a limited speed; the targets follow from what is seen and
from a style, drawn once. The action is the joint angles of the references, and what gravity asks for on top. The arms
are shaken while the true action is written down; references are not, so that actions show the way back.
"""

import copy
import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import Episode, Source
from vqbet_course.tasks.aloha.contract import FPS, GRIPPERS, TRANSFER, AlohaScene
from vqbet_course.tasks.aloha.environment import AlohaEnv, compiled
from vqbet_course.tasks.aloha.kinematics import LEFT, RIGHT, Float, Hand, angles_of, away_from_base, hand_of
from vqbet_course.tasks.aloha.traces import AIR, HALF

SPEED, SLOWEST = 0.3, 0.05  # metres a second of a reference: at most, and at its target
BRAKE = 6.0  # per second: a reference goes no faster than so many times the distance that is left
TURN = 2.5  # radians a second at which a reference turns
LEASH = 0.05  # metres that a reference is ahead of its hand at most
OPEN, CLOSED = 1.0, 0.0  # grippers
CUBE, PEG, SOCKET = 0.61, 0.36, 0.66  # grippers that are closed round an object
SNUG = 0.07  # how far off a gripper may be that holds it
HOLDING = 0.03  # metres from where an object is to be grasped, within which a closed gripper holds it
PITCH = 1.2  # radians by which a hand that picks something up points down
STEEP = 0.5  # radians: a hand that points down less is not turned away from its arm's upright plane
PATIENCE = 40  # steps in which a gripper must have closed round an object
ABOVE = 0.09  # metres above an object from which it is approached
APART = 0.04  # metres between the peg's tip and the socket's mouth before they meet
INTO = 0.03  # metres by which the peg is pushed into the socket
ALIGNED, ASKEW = 0.005, 0.012  # metres by which the tip is off: less, it is pushed; more, it is drawn back
AFTER = 30  # steps that an episode goes on after success: more than a chunk, so that closing grippers are trained on

NOISE = 0.02  # radians by which joints are shaken on the way
LASTING = 0.9  # how much of that is left after a step
FREE = 0.2  # metres from the objects where an arm is shaken in full
NEXT = {"next.reward": ["progress"], "next.done": ["done"], "next.success": ["success"]}


def long_axes(rotations: Float) -> Float:
    """Where the x axes of objects point: quaternions (n, 4) -> (n, 3)."""
    w, x, y, z = rotations.T
    return np.stack([w * w + x * x - y * y - z * z, 2 * (x * y + w * z), 2 * (x * z - w * y)], axis=-1)


@dataclass(frozen=True)
class Seen:
    """What the demonstrator sees. objects (n, 3): positions, metres; axes (n, 3): where their x axes point; yaws (n,): how
    far they are turned about z from the nearest position in which a hand along x can grasp them; hands; grippers (2,)."""

    objects: Float
    axes: Float
    yaws: Float
    hands: tuple[Hand, Hand]
    grippers: Float

    @classmethod
    def of(cls, observation: Mapping[str, Any]) -> "Seen":
        """What an environment's observation shows."""
        joints = np.asarray(observation["agent_pos"], dtype=float)
        poses = np.asarray(observation["environment_state"], dtype=float).reshape(-1, 7)
        axes = long_axes(poses[:, 3:])
        yaws = np.arctan2(axes[:, 1], axes[:, 0])
        same = np.pi / (2 if len(poses) == 1 else 1)  # a cube looks the same after a quarter turn
        hands = hand_of(joints[:6], LEFT), hand_of(joints[7:13], RIGHT)
        return cls(poses[:, :3], axes, yaws - same * np.round(yaws / same), hands, joints[[*GRIPPERS]])

    def away(self, arm: int, place: Float) -> float:
        """Metres between a hand and a place (3,)."""
        return float(np.linalg.norm(self.hands[arm].position - place))

    def holds(self, arm: int, number: int, width: float) -> bool:
        """Whether a gripper is closed round an object of this width (0..1), anywhere along it."""
        way = self.hands[arm].position - self.objects[number]
        along = float(way @ self.axes[number]) if len(self.objects) > 1 else 0.0
        across = np.linalg.norm(way - along * self.axes[number])
        return bool(abs(self.grippers[arm] - width) < SNUG and across < HOLDING and abs(along) < HALF)


@dataclass(frozen=True)
class Target:
    """Where a hand is to go, and its gripper."""

    hand: Hand
    gripper: float


class TwoHandPlan(Protocol):
    """Decides where both hands are to go; it remembers what it is at, and is for one episode."""

    def targets(self, seen: Seen) -> tuple[Target, Target]:
        """The targets of the left and of the right hand."""


class Picker:
    """Picks up one object with one arm: `width` is how far the gripper is open (0..1) that holds it."""

    def __init__(self, arm: int, width: float) -> None:
        self.arm, self.width, self.closing, self.missed = arm, width, 0, False

    def target(self, seen: Seen, grasp: Float, yaw: float) -> Target:
        """The next target of a hand that is to grasp at a place (3,), turned by `yaw`: above it, at it, and closing. What
        it did not grasp it lets go, and comes again from above."""
        hand, opened = seen.hands[self.arm], seen.grippers[self.arm]
        way = hand.position - grasp
        aside, up = float(np.hypot(*way[:2])), float(way[2])
        failed = opened < self.width - SNUG or self.closing > PATIENCE
        self.missed = failed or (self.missed and (opened < 0.85 or up < ABOVE - 0.03))
        turned = abs(hand.yaw - yaw) < 0.05 or up < ABOVE - 0.03
        if self.missed or aside > 0.012 + max(0.0, up) * 0.2 or not turned:
            self.closing = 0
            return Target(Hand(grasp + [0, 0, ABOVE], PITCH, yaw), OPEN)
        if self.closing or (aside < 0.01 and abs(up) < 0.008):
            self.closing += 1
        return Target(Hand(grasp, PITCH, yaw), CLOSED if self.closing else OPEN)


class HandOver:
    """The transfer of the cube, in one style: where the hands meet, (3,) metres."""

    def __init__(self, meeting: Float) -> None:
        self.meeting, self.handing_over, self.picker = meeting, False, Picker(RIGHT, CUBE)

    def targets(self, seen: Seen) -> tuple[Target, Target]:
        """The targets of the left and of the right hand."""
        cube = seen.objects[0]
        held = seen.holds(RIGHT, 0, CUBE)
        if held:
            right = carried(seen, RIGHT, cube, self.meeting, self.meeting - cube, seen.yaws[0])
        else:
            right = self.picker.target(seen, cube + [0, 0, 0.004], seen.yaws[0])
        waiting = self.meeting - [0.1, 0, 0]
        arrived = bool(np.linalg.norm(cube - self.meeting) < 0.025) and seen.away(LEFT, waiting) < 0.025
        self.handing_over = held and (self.handing_over or arrived)
        if not self.handing_over:
            return Target(Hand(waiting, 0.0, 0.0, np.pi / 2), OPEN), right
        grasp = cube - [0.01, 0, 0]
        closing = seen.away(LEFT, grasp) < 0.014 or seen.grippers[LEFT] < 0.9
        return Target(Hand(grasp, 0.0, 0.0, np.pi / 2), CLOSED if closing else OPEN), right


def carried(seen: Seen, arm: int, held: Float, meeting: Float, way: Float, yaw: float) -> Target:
    """The next target of a hand that holds an object (3,) turned by `yaw`, and is to move it by a way (3,) and to turn it
    back: first straight up, to the height at which the hands meet."""
    hand = seen.hands[arm]
    low = held[2] < AIR
    place = np.array([*hand.position[:2], meeting[2]]) if low else hand.position + way
    return Target(Hand(place, PITCH, hand.yaw - yaw), CLOSED)


class Insert:
    """The insertion, in one style: which arm picks up first, and where the socket's mouth is when the peg comes."""

    def __init__(self, first: int, meeting: Float) -> None:
        self.first, self.meeting, self.inserting, self.begun = first, meeting, False, False
        self.pickers = [Picker(LEFT, SOCKET), Picker(RIGHT, PEG)]

    def targets(self, seen: Seen) -> tuple[Target, Target]:
        """The targets of the left and of the right hand."""
        objects, yaws = seen.objects[::-1], seen.yaws[::-1]  # the left hand's first
        grasps = objects + [[-0.02, 0, 0], [0.02, 0, 0.008]]
        held = [seen.holds(LEFT, 1, SOCKET), seen.holds(RIGHT, 0, PEG)]
        self.begun = self.begun or bool(objects[self.first, 2] > AIR and held[self.first])
        ways = self.ways(seen, all(held))
        found = []
        for arm in (LEFT, RIGHT):
            if held[arm]:
                found.append(carried(seen, arm, objects[arm], self.meeting, ways[arm], yaws[arm]))
            elif arm == self.first or self.begun:
                found.append(self.pickers[arm].target(seen, grasps[arm], yaws[arm]))
            else:
                found.append(Target(Hand(grasps[arm] + [0, 0, 2 * ABOVE], PITCH, yaws[arm]), OPEN))
        return found[0], found[1]

    def ways(self, seen: Seen, both_held: bool) -> tuple[Float, Float]:
        """How far socket and peg are to be moved, (3,) metres each: before each other, then into each other."""
        tip, mouth = seen.objects[0] - HALF * seen.axes[0], seen.objects[1] + HALF * seen.axes[1]
        off = tip - mouth
        across = float(np.hypot(*off[1:]))
        ready = across < ALIGNED and abs(off[0] - APART) < 0.02 and np.linalg.norm(mouth - self.meeting) < 0.02
        self.inserting = both_held and (across < ASKEW or off[0] < 0) and (self.inserting or bool(ready))
        goal = self.meeting + [APART, 0, 0]
        if self.inserting:
            inside = off[0] < -0.005
            goal = mouth - [INTO, 0, 0] if inside or across < ALIGNED else np.array([tip[0], *mouth[1:]])
        return self.meeting - mouth, goal - tip


def drawn_plan(scene: AlohaScene, generator: np.random.Generator) -> TwoHandPlan:
    """A plan in a style that is drawn: which arm is first, or in which half of the table hands meet, and at which height."""
    which, high = generator.integers(2, size=2)
    if scene is TRANSFER:
        return HandOver(np.array([[-0.05, 0.05][which], 0.5, [0.17, 0.3][high]]))
    return Insert(int(which), np.array([0.0, 0.5, [0.16, 0.28][high]]))


class AlohaExpert:
    """The demonstrator for one episode, asked in any state; a copy goes on with the same plan."""

    def __init__(self, plan: TwoHandPlan, gravity: "Gravity") -> None:
        self.plan, self.gravity = plan, gravity
        self.references: tuple[Hand, Hand] | None = None

    @classmethod
    def drawn(cls, scene: AlohaScene, generator: np.random.Generator) -> "AlohaExpert":
        """A demonstrator of a scene, in a style that is drawn."""
        return cls(drawn_plan(scene, generator), Gravity(scene))

    def __copy__(self) -> "AlohaExpert":
        other = AlohaExpert(copy.deepcopy(self.plan), self.gravity)
        other.references = self.references
        return other

    def __call__(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """What the environment observes now -> where to send the joints, (14,): rad, grippers 0..1."""
        seen = Seen.of(observation)
        targets, old = self.plan.targets(seen), self.references or seen.hands
        left, right = (advanced(old[arm], targets[arm].hand, seen.hands[arm], arm) for arm in (LEFT, RIGHT))
        self.references = left, right
        angles = np.concatenate([angles_of(left, LEFT), angles_of(right, RIGHT)])
        action = np.insert(angles + self.gravity(angles), [6, 12], [target.gripper for target in targets])
        return action.astype(np.float32)


def advanced(reference: Hand, target: Hand, hand: Hand, arm: int) -> Hand:
    """A reference after a step towards its target; it waits for its hand."""
    way = target.position - reference.position
    left = float(np.linalg.norm(way))
    step = min(left, max(SLOWEST, min(SPEED, BRAKE * left)) / FPS)
    position = reference.position + way * (step / max(left, 1e-9))
    lead = position - hand.position
    position = hand.position + lead * min(1.0, LEASH / max(float(np.linalg.norm(lead)), 1e-9))

    def turned_to(now: float, aim: float) -> float:
        return float(now + np.clip(aim - now, -TURN / FPS, TURN / FPS))

    pitch = turned_to(reference.pitch, target.pitch)
    yaw = target.yaw if pitch > STEEP else away_from_base(position, arm)
    return Hand(position, pitch, turned_to(reference.yaw, yaw), turned_to(reference.roll, target.roll))


class Gravity:
    """How much farther the joints of a scene must be sent so that gravity does not pull them down."""

    def __init__(self, scene: AlohaScene) -> None:
        import mujoco

        self.model = compiled(scene.file).model.ptr
        self.data, self.forces = mujoco.MjData(self.model), np.zeros(self.model.nv)

    def __call__(self, angles: Float) -> Float:
        """The angles (12,) of both arms -> what to add to them, (12,) rad."""
        import mujoco

        self.data.qpos[:6], self.data.qpos[8:14] = angles[:6], angles[6:]
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_rne(self.model, self.data, 0, self.forces)
        more = self.forces[:16] / self.model.actuator_gainprm[:, 0]
        more[[3, 5, 11, 13]] = 0.0  # which turn what hangs straight down
        return np.concatenate([more[:6], more[8:14]])


@dataclass(frozen=True)
class Demonstration:
    """One episode of the demonstrator, T frames at 50 Hz: what was seen before each action, and what it brought.

    poses (T, 7 n) and joints (T, 14); actions (T, 14) float32: what the demonstrator wanted, before its arms shook;
    progress (T,) and success (T,) after the action."""

    seed: int
    poses: Float
    joints: Float
    actions: NDArray[np.float32]
    progress: Float
    success: NDArray[np.bool_]


def demonstrate(scene: AlohaScene, seed: int, noise: float = NOISE) -> Demonstration:
    """Solve a scene under this seed, or try until the horizon. The same arguments give the same episode.

    `noise`, in radians, shakes the joints of the arms (Laskey et al. 2017, "DART"), in full on the way and less at the
    objects: what is executed differs from what was wanted and recorded, so that the demonstrations show how to come
    back. Raises BadInput for a noise that is no such number."""
    if not 0 <= noise < 0.5:
        raise BadInput(f"noise {noise} is no number of radians: choose one from 0 to about 0.03")
    generator = np.random.default_rng((seed, 1))
    expert, env = AlohaExpert.drawn(scene, generator), AlohaEnv(scene.name)
    seen, _ = env.reset(seed=seed)
    rows: list[tuple[Float, Float, NDArray[np.float32], float, bool]] = []
    shake, left = np.zeros((2, 7)), AFTER
    while left and len(rows) < scene.contract.horizon:
        action = expert(seen)
        shake = LASTING * shake + np.sqrt(1 - LASTING**2) * noise * generator.standard_normal((2, 7))
        shake[:, -1] = 0.0  # grippers do as they are told
        before, (seen, _, _, _, info) = seen, env.step(action + (shake * free(scene, seen)[:, None]).reshape(-1))
        rows.append((before["environment_state"], before["agent_pos"], action, info["progress"], info["is_success"]))
        left -= info["is_success"] or left < AFTER
    poses, joints, actions, progress, success = map(np.array, zip(*rows, strict=True))
    return Demonstration(seed, poses, joints, actions, progress, success)


def free(scene: AlohaScene, observation: Mapping[str, Any]) -> Float:
    """How far each arm is shaken, (2,), 0..1: by how far its hand is from the objects."""
    seen = Seen.of(observation)
    away = np.array([min(seen.away(arm, place) for place in seen.objects) for arm in (LEFT, RIGHT)])
    return np.clip(away / FREE, scene.calm, 1.0)


def solved(scene: AlohaScene, n: int, seed: int = 0, noise: float = NOISE) -> Iterator[Demonstration]:
    """The first n solved episodes of environment seeds seed, seed + 1, ..."""
    made = map(functools.partial(demonstrate, scene, noise=noise), itertools.count(seed))
    return itertools.islice((episode for episode in made if episode.success.any()), n)


def aloha_source(scene: AlohaScene, episodes: int, seed: int = 0, noise: float = NOISE) -> Source:
    """Solved episodes as a source, made while it is read. Raises BadInput as `demonstrate` does."""

    def read(first: int) -> Iterator[Episode]:
        for episode in itertools.islice(solved(scene, episodes, seed, noise), first, None):
            yield Episode(columns_of_demonstration(episode), f"environment seed {episode.seed}")

    return Source(
        f"{episodes} solved environment seeds from {seed}, joints shaken by {noise:g} rad",
        "made when asked for",
        episodes,
        read,
        FPS,
        units=scene.contract.data.units(),
        names=scene.names | NEXT,
        task=scene.instruction,
        robot="aloha",
        operator="the scripted demonstrator of vqbet_course",
        license="apache-2.0",
    )


def columns_of_demonstration(episode: Demonstration) -> dict[str, np.ndarray]:
    """What LeRobot keeps of an episode, (T, size) each; `next.*` is what the step brought."""
    done = np.arange(len(episode.actions)) == len(episode.actions) - 1
    return {
        "observation.environment_state": episode.poses.astype(np.float32),
        "observation.state": episode.joints.astype(np.float32),
        "action": episode.actions,
        "next.reward": episode.progress[:, None].astype(np.float32),
        "next.done": done[:, None],
        "next.success": episode.success[:, None],
    }
