"""gym-aloha's two scenes as Gymnasium environments that observe numbers, and render only when they are asked to."""

import functools
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from vqbet_course.core.errors import BadInput, CannotRender
from vqbet_course.core.specs import Field
from vqbet_course.demos import Demos
from vqbet_course.tasks.aloha.contract import INSERTION, SCENES, TRANSFER, AlohaScene
from vqbet_course.tasks.rendering import choose_renderer, renders
from vqbet_course.tasks.task import IMAGE

choose_renderer()

from dm_control import mujoco  # noqa: E402 - the renderer is chosen before
from dm_control.rl import control  # noqa: E402
from gym_aloha import utils  # noqa: E402
from gym_aloha.constants import DT, unnormalize_puppet_gripper_position  # noqa: E402
from gym_aloha.tasks import sim  # noqa: E402

Float = NDArray[np.float64]
Step = tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]

FINISHED = 4
"""gym-aloha's reward at success; below it are the parts of the task."""

CAMERA, FRAME, SEEN = "angle", 480, 96
"""The camera that looks at the table, and the side in pixels of a rendered frame, which is no larger in
gym-aloha's scenes, and of an observed image."""

TABLE = (np.array([-0.25, 0.35]), np.array([0.25, 0.65]))
"""Where on the table, in metres along x and y, an object may be displaced to."""

FINGERS = [f"vx300s_{arm}/10_{side}_gripper_finger" for arm in ("left", "right") for side in ("left", "right")]


def nothing_seen(self: Any, physics: Any) -> dict[str, Float]:
    """An empty observation, for gym-aloha's own renders three cameras at every step."""
    return {}


TASKS: dict[str, Any] = {
    TRANSFER.name: type("NumbersOfTransfer", (sim.TransferCubeTask,), {"get_observation": nothing_seen}),
    INSERTION.name: type("NumbersOfInsertion", (sim.InsertionTask,), {"get_observation": nothing_seen}),
}
"""{scene: gym-aloha's task, which renders nothing}."""


@functools.cache
def compiled(file: str) -> Any:
    """The physics of a scene, read once; environments share its model."""
    spec = find_spec("gym_aloha")
    assert spec is not None and spec.submodule_search_locations is not None
    return mujoco.Physics.from_xml_path(str(Path(spec.submodule_search_locations[0], "assets", file)))


def start_poses(scene: AlohaScene, seed: int) -> Float:
    """Where the objects lie at the start, (7,) each, side by side: as gym-aloha draws it from a seed."""
    if scene is TRANSFER:
        return np.asarray(utils.sample_box_pose(seed), dtype=float)
    return np.concatenate(utils.sample_insertion_pose(seed))


class AlohaEnv(gym.Env[dict[str, Any], np.ndarray]):
    """Two arms of ALOHA and what they handle; `scene`: transfer_cube or insertion.

    Observation: environment_state (7 n,), position in metres and quaternion of each of n objects, and agent_pos (14,),
    six joint angles in radians and the gripper (0 closed, 1 open) of the left and then of the right arm, float64. Action:
    where to send the joints, (14,) in the same units. The reward is gym-aloha's, 0 to 4, divided by 4
    (`info["progress"]`); `info` also holds `is_success`, `n_contacts`, how many fingers touch an object, and `diverged`,
    whether the simulation broke down under the actions: the episode has failed then. Raises BadInput for an action that
    is not 14 finite numbers.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}

    def __init__(self, scene: str = TRANSFER.name, render_mode: str | None = "rgb_array") -> None:
        self.scene = SCENES[scene]
        self.contract = self.scene.contract
        self.render_mode = render_mode if renders() else None
        sizes = {"environment_state": 7 * len(self.scene.objects), "agent_pos": 14}
        self.observation_space = gym.spaces.Dict(
            {name: gym.spaces.Box(-np.inf, np.inf, (size,), np.float64) for name, size in sizes.items()}
        )
        low, high = self.contract.action_bounds
        self.action_space = gym.spaces.Box(np.float32(low), np.float32(high), (14,), np.float32)
        self.physics = compiled(self.scene.file).copy(share_model=True)
        self.task = TASKS[scene]()
        self.world = control.Environment(self.physics, self.task, control_timestep=DT)
        model = self.physics.model
        self.fingers = [model.name2id(name, "geom") for name in FINGERS]
        bodies = [model.name2id(name, "body") for name in self.scene.bodies]
        self.objects = np.flatnonzero(np.isin(model.geom_bodyid, bodies))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode with the objects where `seed` puts them."""
        super().reset(seed=seed)
        return self.place(start_poses(self.scene, int(self.np_random.integers(2**31)) if seed is None else seed))

    def place(self, poses: Float) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode with the arms at home and the objects at these poses (7 n,)."""
        sim.BOX_POSE[0] = np.array(poses, dtype=float)
        self.world.reset()
        self.reward, self.diverged = 0.0, False
        self.seen = self.observation()
        return self.seen, self.info()

    def step(self, action: np.ndarray) -> Step:
        """Send the joints to `action` (14,) for 1/50 s."""
        action = np.asarray(action, dtype=float)
        if action.shape != (14,) or not np.isfinite(action).all():
            raise BadInput(f"action {action}: give 14 finite numbers"[:200])
        try:
            self.reward = float(self.world.step(action).reward)
            self.seen = self.observation()
        except control.PhysicsError:
            self.diverged = True
        info = self.info()
        return self.seen, info["progress"], info["is_success"] or self.diverged, False, info

    def poses(self) -> Float:
        """Position and quaternion of the objects, (n, 7), with w never negative."""
        found = np.array(self.physics.data.qpos[16:]).reshape(-1, 7)
        found[:, 3:] *= np.where(found[:, 3:4] < 0, -1, 1)
        return found

    def observation(self) -> dict[str, np.ndarray]:
        """The observation of this moment."""
        return {"environment_state": self.poses().reshape(-1), "agent_pos": self.task.get_qpos(self.physics)}

    def info(self) -> dict[str, Any]:
        """The `info` of this moment."""
        return {
            "is_success": self.reward == FINISHED and not self.diverged,
            "progress": self.reward / FINISHED,
            "n_contacts": len(self.touching()),
            "diverged": self.diverged,
        }

    def touching(self) -> set[int]:
        """The fingers that touch an object."""
        pairs = self.physics.data.contact.geom
        of_object = np.isin(pairs, self.objects).any(1)
        return {int(geom) for geom in pairs[of_object].flat if geom in self.fingers}

    def displace(self, number: int, by: float, generator: np.random.Generator) -> bool:
        """Move an object along the table by so many metres in a drawn direction; False where there is no room."""
        place = self.physics.data.qpos[16 + 7 * number : 18 + 7 * number]
        for angle in generator.uniform(0, 2 * np.pi, 100):
            moved = place + by * np.array([np.cos(angle), np.sin(angle)])
            others = np.delete(self.poses()[:, :2], number, axis=0)
            if (moved > TABLE[0]).all() and (moved < TABLE[1]).all() and np.all(abs(others - moved).max(1) > 0.13):
                place[:] = moved
                self.physics.forward()
                self.seen = self.observation()
                return True
        return False

    def show(self, poses: Float, joints: Float) -> None:
        """Put objects (n, 7) and joints (14,) there, to be rendered."""
        data = self.physics.data
        grippers = unnormalize_puppet_gripper_position(joints[[6, 13]])
        left, right = [[opened, -opened] for opened in grippers]
        data.qpos[:] = np.concatenate([joints[:6], left, joints[7:13], right, np.ravel(poses)])
        self.physics.forward()

    def image(self, side: int) -> np.ndarray:
        """What the camera sees, (side, side, 3) uint8. Raises CannotRender on a machine that cannot."""
        try:
            return np.asarray(self.physics.render(height=side, width=side, camera_id=CAMERA))
        except (RuntimeError, ImportError, AttributeError) as error:  # of three libraries, each in its own way
            raise CannotRender(
                f"MuJoCo cannot render here ({error}); install libegl1 or libosmesa6, or do without images and videos"
            ) from None

    def render(self) -> np.ndarray:
        """What the camera sees, (480, 480, 3) uint8."""
        return self.image(FRAME)


def copied_scene(env: gym.Env) -> AlohaEnv:
    """A scene in which all is as in `env`; it goes on as `env` would."""
    world = env.unwrapped
    assert isinstance(world, AlohaEnv)
    other = AlohaEnv(world.scene.name)
    other.place(world.poses().reshape(-1))
    for name in ("qpos", "qvel", "ctrl", "qacc_warmstart", "act"):
        getattr(other.physics.data, name)[:] = getattr(world.physics.data, name)
    other.physics.data.time = world.physics.data.time
    other.physics.forward()
    other.reward, other.diverged, other.seen = world.reward, world.diverged, world.seen
    return other


class DemonstratedScene(gym.Wrapper):
    """A scene, starting under environment seed i where demonstration i starts; after the last comes the first again.

    Args: resets, what the contract says of it."""

    def __init__(self, env: gym.Env, demos: Demos, resets: str):
        super().__init__(env)
        self.starts = demos.observation["observation.environment_state"][demos.episode_starts]
        self.contract = replace(env.get_wrapper_attr("contract"), resets=resets)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Start the demonstration of this number."""
        self.env.reset(seed=seed, options=options)
        return self.env.get_wrapper_attr("place")(self.starts[(seed or 0) % len(self.starts)])


class AlohaCamera(gym.ObservationWrapper):
    """A scene that also observes an image, `image` (3, 96, 96) float32, 0..1. The numbers stay, for the traces."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        if env.render_mode is None:
            raise BadInput("MuJoCo cannot render here, and images are to be observed; install libegl1 or libosmesa6")
        spaces = {"image": gym.spaces.Box(0, 1, (3, SEEN, SEEN), np.float32)}
        assert isinstance(env.observation_space, gym.spaces.Dict)
        self.observation_space = gym.spaces.Dict(spaces | dict(env.observation_space.spaces))
        task = env.get_wrapper_attr("contract")
        seen = {IMAGE: Field((SEEN, SEEN, 3))} | task.data.observation
        self.contract = replace(task, data=replace(task.data, observation=seen))

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The image, and the numbers of the same moment after it."""
        world: Any = self.unwrapped
        return {"image": world.image(SEEN).transpose(2, 0, 1).astype(np.float32) / 255} | observation
