"""A MetaWorld task as a Gymnasium environment that tells the target, and ends with success."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput, CannotRender
from vqbet_course.tasks.metaworld import MEASURED
from vqbet_course.tasks.metaworld.contract import metaworld_contract
from vqbet_course.tasks.rendering import NO_LIBRARY, choose_renderer, renders

CAMERA, SIDE = "corner2", 256
"""The camera of MetaWorld that looks over the table, and the side of its square frames in pixels."""

DIGITS = 4
"""Observed numbers are rounded to 0.1 mm, so that noise of the physics in what stands still is not observed."""

TOUCH = 0.06
"""Metres between hand and first object in which the hand counts as being at it."""

Step = tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]


class MetaWorldEnv(gym.Env[dict[str, Any], np.ndarray]):
    """The MetaWorld task of this name, `pick-place` and 49 more.

    Observation: environment_state (17,): position (m) and quaternion of two objects, zeros without a second one, and the
    target (m); agent_pos (4,): the hand (m) and the gripper's opening (0..1). Action (4,): the hand's move in cm, at most
    1 along each axis, and the gripper, -1 opens, 1 closes. The reward is the progress, a tenth of MetaWorld's reward,
    which counts reaching, grasping and bringing; 1 with success. `info` holds `progress`, `is_success` and `n_contacts`,
    1 where the hand is at the first object. An episode ends with success. Raises BadInput for an action that is not four
    finite numbers."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}

    def __init__(self, name: str = MEASURED[0], render_mode: str | None = "rgb_array") -> None:
        self.name, self.contract = name, metaworld_contract(name)
        self.render_mode = render_mode if renders() else None
        self.arm = simulated_arm(name)
        self.observation_space = gym.spaces.Dict(
            {
                "environment_state": gym.spaces.Box(-np.inf, np.inf, (17,), np.float64),
                "agent_pos": gym.spaces.Box(-np.inf, np.inf, (4,), np.float64),
            }
        )
        self.action_space = gym.spaces.Box(-1, 1, (4,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; `seed` decides where objects and target are."""
        super().reset(seed=seed)
        self.arm.seed(int(self.np_random.integers(2**31)) if seed is None else seed)
        self.arm.reset()
        self.previous = self.now = self.numbers()
        return self.observation(), self.info_of(0.0, False)

    def step(self, action: np.ndarray) -> Step:
        """Move the hand and the gripper by `action` (4,)."""
        action = np.asarray(action, dtype=float)
        if action.shape != (4,) or not np.isfinite(action).all():
            raise BadInput(f"action {action}: give four finite numbers")
        _, reward, _, _, info = self.arm.step(action.clip(-1, 1).astype(np.float32))
        self.previous, self.now = self.now, self.numbers()
        told = self.info_of(float(reward), bool(info["success"]))
        over = self.arm.curr_path_length >= self.contract.horizon
        return self.observation(), told["progress"], told["is_success"], over, told

    def numbers(self) -> np.ndarray:
        """What is so now, (21,): hand, gripper, two objects, target, as MetaWorld orders them."""
        now = self.arm._get_curr_obs_combined_no_goal()
        return np.round(np.concatenate([now, self.arm._target_pos]), DIGITS) + 0.0  # no -0

    def observation(self) -> dict[str, np.ndarray]:
        """The observation of this moment."""
        return {"environment_state": self.now[4:].copy(), "agent_pos": self.now[:4].copy()}

    def info_of(self, reward: float, success: bool) -> dict[str, Any]:
        """The `info` of a step that brought this reward of MetaWorld's, 0..10."""
        near = np.linalg.norm(self.now[:3] - self.now[4:7]) < TOUCH
        progress = 1.0 if success else float(np.clip(reward / 10, 0, 0.99))
        return {"is_success": success, "progress": progress, "n_contacts": int(near)}

    def scripted_view(self) -> np.ndarray:
        """What MetaWorld's scripted policies are asked with, (39,): this moment, the one before, the target."""
        return np.concatenate([self.now[:18], self.previous[:18], self.now[18:]])

    def displace_hand(self, way: np.ndarray) -> None:
        """Move the point that the hand is drawn to by `way` (3,) metres, as far as its range goes."""
        arm = self.arm
        arm.data.mocap_pos[0] = np.clip(arm.data.mocap_pos[0] + way, arm.mocap_low, arm.mocap_high)

    def displace_object(self, way: np.ndarray) -> None:
        """Move the object that lies loose by `way` (3,) metres."""
        import mujoco

        model, data = self.arm.model, self.arm.data
        loose = int(np.argmax(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE))
        place = int(model.jnt_qposadr[loose])
        data.qpos[place : place + 3] += way
        mujoco.mj_forward(model, data)

    def render(self) -> np.ndarray:
        """What the camera sees, (256, 256, 3) uint8. Raises CannotRender where MuJoCo cannot."""
        try:
            return np.ascontiguousarray(self.arm.render()[::-1])
        except Exception as error:  # every library has its own
            raise CannotRender(f"MuJoCo cannot render here ({type(error).__name__}); {NO_LIBRARY}") from None

    def close(self) -> None:
        """Give the simulator back."""
        self.arm.close()


def simulated_arm(name: str) -> Any:
    """MetaWorld's environment of this name, with its target told and its starts drawn from its seed."""
    choose_renderer()  # before MuJoCo is imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from metaworld.env_dict import ENV_CLS_MAP

        arm: Any = ENV_CLS_MAP[f"{name}-v3"](render_mode="rgb_array", camera_name=CAMERA, width=SIDE, height=SIDE)
    arm._partially_observable, arm._freeze_rand_vec, arm.seeded_rand_vec, arm._set_task_called = (
        False,
        False,
        True,
        True,
    )
    del arm.sawyer_observation_space  # it was made for a hidden target, and would clip the target to zero
    return arm


def copied_arm(env: gym.Env) -> MetaWorldEnv:
    """A MetaWorld task in the state that `env` is in; it goes on as `env` would."""
    import mujoco

    world = env.unwrapped
    assert isinstance(world, MetaWorldEnv)
    other = MetaWorldEnv(world.name, world.render_mode)
    other.arm._freeze_rand_vec, other.arm._last_rand_vec = True, world.arm._last_rand_vec
    other.reset(seed=0)  # the same start: some of it lies in the model, as where a drawer stands
    whole = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(world.arm.model, whole))
    mujoco.mj_getState(world.arm.model, world.arm.data, state, whole)
    mujoco.mj_setState(other.arm.model, other.arm.data, state, whole)
    mujoco.mj_forward(other.arm.model, other.arm.data)
    other.arm.curr_path_length = world.arm.curr_path_length
    other.previous, other.now = world.previous, world.now
    return other
