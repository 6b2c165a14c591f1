"""Registers the course's environments with Gymnasium; importing it is enough.

    import gymnasium as gym
    env = gym.make("vqbet_course.tasks.environments:vqbet_course/PushT-v0")

Gymnasium imports what stands before the colon. `vqbet_course:vqbet_course/PushT-v0` works as well where gymnasium is
imported before vqbet_course, which loads this module then.
"""

from gymnasium.envs.registration import register

register("vqbet_course/PushT-v0", "vqbet_course.tasks.pusht.environment:PushTEnv", max_episode_steps=300)
register("vqbet_course/Navigation-v0", "vqbet_course.tasks.navigation.environment:NavigationEnv")
register("vqbet_course/BlockPush-v0", "vqbet_course.tasks.block_push.environment:BlockPushEnv", max_episode_steps=250)
register("vqbet_course/AlohaTransfer-v0", "vqbet_course.tasks.aloha.environment:AlohaEnv", max_episode_steps=400)
register(
    "vqbet_course/AlohaInsertion-v0",
    "vqbet_course.tasks.aloha.environment:AlohaEnv",
    max_episode_steps=400,
    kwargs={"scene": "insertion"},
)
register("vqbet_course/MetaWorld-v0", "vqbet_course.tasks.metaworld.environment:MetaWorldEnv", max_episode_steps=500)
