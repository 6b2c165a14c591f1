"""Build the network of a configuration, with the encoders and the frame that its observations and goals need."""

from typing import Any

from torch import nn

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.frames import AbsoluteFrame
from vqbet_course.policy import StateEncoder, VQBeT, VQBeTPolicy


def build_policy(config: VQBeTConfig) -> VQBeTPolicy:
    """An untrained policy, with `build_network` of the configuration."""
    return VQBeTPolicy(build_network(config))


def build_network(config: VQBeTConfig, place: str = "configuration") -> VQBeT:
    """An untrained network. It fetches nothing: `pretrained_backbone_weights` are for training to load.

    Raises BadInput, naming the `place` of the configuration, for a network that does not fit into memory."""
    frame = build_frame(config)
    try:
        return VQBeT(config, build_encoder(config, frame), build_goal_encoder(config), frame)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in ("allocate", "overflow")):
            raise
        raise BadInput(f"{place}: a network of these sizes does not fit into memory; choose smaller ones") from None


def build_frame(config: VQBeTConfig) -> AbsoluteFrame | None:
    """The frame in which a task has its goals seen; None: that of the configuration's absolute or relative actions."""
    if config.goal_shape is None:
        return None
    from vqbet_course.tasks import every_task

    return next((frame for task in every_task() if (frame := task.goal_frame(config))), None)


def start_network(config: VQBeTConfig) -> VQBeT:
    """A network to be trained, whose cameras start from `pretrained_backbone_weights`, where some are named.

    Raises BadInput when they are neither on this machine nor can be downloaded."""
    network = build_network(config)
    if config.image_shapes and config.pretrained_backbone_weights:
        from vqbet_course.vision import CameraEncoder, load_pretrained

        assert isinstance(network.encoder, CameraEncoder)
        load_pretrained(network.encoder.images, config.pretrained_backbone_weights)
    return network


def for_cameras(shapes: dict[str, tuple[int, ...]], weights: str | None = None) -> dict[str, Any]:
    """Fields that cameras {name: (3, height, width)} change in the laptop's configuration: the crop,
    seven eighths of an image, and smaller batches. With torchvision `weights`, the backbone is theirs, with batch
    norm, so EMA is off. Raises BadInput for weights without a camera or of another network."""
    if weights is not None and not (shapes and weights.startswith("ResNet")):
        raise BadInput(
            f"weights {weights}: they are a ResNet's, like ResNet18_Weights.IMAGENET1K_V1, and for a policy "
            "that observes images"
        )
    if not shapes:
        return {}
    _, height, width = next(iter(shapes.values()))
    changes = {"image_shapes": shapes, "crop_shape": (height * 7 // 8, width * 7 // 8), "batch_size": 32}
    if weights is None:
        return changes
    return changes | {
        "vision_backbone": weights.split("_")[0].lower(),
        "pretrained_backbone_weights": weights,
        "use_group_norm": False,
        "ema_decay": 0.0,
    }


def build_goal_encoder(c: VQBeTConfig) -> nn.Module | None:
    """The encoder of goals, one token each; None for a policy without goals."""
    if c.goal_shape is None:
        return None
    from vqbet_course.goals import GoalEncoder

    return GoalEncoder(c.goal_shape, c.gpt_input_dim)


def build_encoder(c: VQBeTConfig, frame: AbsoluteFrame | None = None) -> nn.Module:
    """The encoder of observations: one token for the numbers of a step in the frame's coordinates, one per camera."""
    sizes = frame.sizes(c.observation_sizes) if frame else c.observation_sizes
    state = StateEncoder(sizes, c.gpt_input_dim) if sizes else None
    if state is not None and not c.image_shapes:
        return state
    from vqbet_course.vision import CameraEncoder, ImageEncoder

    images = ImageEncoder(
        c.vision_backbone, c.crop_shape, c.crop_is_random, c.use_group_norm, c.spatial_softmax_num_keypoints
    )
    return CameraEncoder(images, list(c.image_shapes), c.gpt_input_dim, state)
