"""A configuration -> its policy, with the encoders that its observations and goals need."""

from torch import nn

from vqbet_course.policy import StateEncoder, VQBeTConfig, VQBeTPolicy


def build_policy(config: VQBeTConfig) -> VQBeTPolicy:
    """An untrained policy. It fetches nothing: `pretrained_backbone_weights` are for training to load."""
    return VQBeTPolicy(config, build_encoder(config), build_goal_encoder(config))


def build_goal_encoder(c: VQBeTConfig) -> nn.Module | None:
    """Every goal as one token; None for a policy without."""
    if c.goal_shape is None:
        return None
    from vqbet_course.goals import GoalEncoder

    return GoalEncoder(c.goal_shape, c.gpt_input_dim)


def build_encoder(c: VQBeTConfig) -> nn.Module:
    """The numbers of a step as one token, every camera as one more."""
    state = StateEncoder(c.observation_sizes, c.gpt_input_dim) if c.observation_sizes else None
    if state is not None and not c.image_shapes:
        return state
    from vqbet_course.vision import CameraEncoder, ImageEncoder

    images = ImageEncoder(c.vision_backbone, c.crop_shape, c.crop_is_random, c.use_group_norm,
                          c.spatial_softmax_num_keypoints)
    return CameraEncoder(images, list(c.image_shapes), c.gpt_input_dim, state)
