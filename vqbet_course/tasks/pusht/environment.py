"""PushT as a Gymnasium environment."""
import gymnasium as gym

from vqbet_course.tasks.pusht.contract import PUSHT_TASK


def make_pusht() -> gym.Env:
    """PushT with keypoint observations and its contract; frames are drawn only when asked for."""
    import gym_pusht  # noqa: F401  registers the environment

    env = gym.make("gym_pusht/PushT-v0", obs_type="environment_state_agent_pos", render_mode="rgb_array",
                   visualization_width=512, visualization_height=512).unwrapped
    setattr(env, "contract", PUSHT_TASK)
    return env
