"""The weights of our VQ-BeT and of LeRobot's, both ways: the same network under two sets of names."""

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import fields

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig as LeRobotConfig
from lerobot.policies.vqbet.modeling_vqbet import VQBeTModel
from lerobot.policies.vqbet.modeling_vqbet import VQBeTPolicy as LeRobotPolicy
from torch import Tensor

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.policy import VQBeT, VQBeTPolicy
from vqbet_course.training.factory import build_network

OBS_STATE, ACTION = "observation.state", "action"

SHARED = [f.name for f in fields(VQBeTConfig) if f.name in LeRobotConfig.__annotations__]
"""The fields of our configuration that LeRobot's has, too."""

NAMES = {
    "encoder.images.backbone.conv1.": "rgb_encoder.backbone.0.",
    "encoder.images.backbone.bn1.": "rgb_encoder.backbone.1.",
    "encoder.images.backbone.layer1.": "rgb_encoder.backbone.4.",
    "encoder.images.backbone.layer2.": "rgb_encoder.backbone.5.",
    "encoder.images.backbone.layer3.": "rgb_encoder.backbone.6.",
    "encoder.images.backbone.layer4.": "rgb_encoder.backbone.7.",
    "encoder.images.keypoints.mix.": "rgb_encoder.pool.nets.",
    "encoder.images.out.": "rgb_encoder.out.",
    "encoder.project.": "rgb_feature_projector.0.",
    "encoder.state.project.": "state_projector.0.",
    "action_query": "action_token",
    "gpt.token_embedding.": "policy.transformer.wte.",
    "gpt.position_embedding.": "policy.transformer.wpe.",
    "gpt.blocks.": "policy.transformer.h.",
    ".norm_attention.": ".ln_1.",
    ".attention.qkv.": ".attn.c_attn.",
    ".attention.out.": ".attn.c_proj.",
    ".norm_mlp.": ".ln_2.",
    "gpt.norm.": "policy.transformer.ln_f.",
    "gpt.head.": "policy.lm_head.",
    "code_predictor.joint.": "action_head.map_to_cbet_preds_bin.0.",
    "code_predictor.primary.": "action_head.map_to_cbet_preds_primary_bin.0.",
    "code_predictor.later.": "action_head.map_to_cbet_preds_secondary_bin.0.",
    "offset_head.linear.": "action_head.map_to_cbet_preds_offset.0.",
    "vqvae.vq.layers.": "action_head.vqvae_model.vq_layer.layers.",
    "vqvae.encoder.": "action_head.vqvae_model.encoder.",
    "vqvae.decoder.": "action_head.vqvae_model.decoder.",
    ".codebook": "._codebook.embed",
    ".count": "._codebook.cluster_size",
    ".total": "._codebook.embed_avg",
    ".started": "._codebook.initted",
}
"""Parts of our names and what LeRobot's `VQBeTModel` calls them; applied from top to bottom."""

BOOKKEEPING = ("attn.bias", "pos_grid", "discretized", "freeze_codebook", "select_target_actions_indices")
"""How LeRobot's names end that hold no weight: masks, grids, indices, and whether stage 1 is over."""


def lerobot_name(ours: str) -> str:
    """The name of one of our tensors in LeRobot's `VQBeTModel`."""
    for part, theirs in NAMES.items():
        ours = ours.replace(part, theirs)
    return ours


def to_lerobot(policy: VQBeTPolicy) -> LeRobotPolicy:
    """Our policy as LeRobot's, which acts identically on normalised observations, in evaluation mode.

    Only what shapes learning stays behind (`offset_code`, `ema_decay`, batch sizes, and
    `pretrained_backbone_weights`, which LeRobot would fetch whenever it builds the policy). Raises BadInput,
    naming it, for what LeRobot's VQ-BeT has no place for: more or less than one camera with `observation.state`,
    other depths than two layers, relative actions, and other ways of acting than the whole chunk.
    """
    if len(policy.config.image_shapes) != 1:
        raise BadInput(
            f"image_shapes {list(policy.config.image_shapes)}: LeRobot's VQ-BeT policy takes exactly "
            "one camera; to_lerobot_model gives its network with several"
        )
    theirs = quietly(LeRobotPolicy, lerobot_config(policy.config))
    copy_weights(theirs.vqbet, policy.network)
    return theirs.eval()


def to_lerobot_model(policy: VQBeTPolicy) -> VQBeTModel:
    """The network inside LeRobot's policy with our weights: any number of cameras, at least one."""
    model = quietly(VQBeTModel, lerobot_config(policy.config))
    copy_weights(model, policy.network)
    return model.eval()


def copy_weights(model: VQBeTModel, network: VQBeT) -> None:
    """Give LeRobot's network our weights, and mark its first stage as finished."""
    tensors = model.state_dict()  # shares its memory with the model
    for name, values in network.state_dict().items():
        target = tensors[lerobot_name(name)]
        target.copy_(values.reshape(target.shape))
    tensors["action_head.vqvae_model.discretized"].fill_(True)
    tensors["action_head.vqvae_model.vq_layer.freeze_codebook"].fill_(True)


def from_lerobot(theirs: LeRobotPolicy | VQBeTModel) -> VQBeTPolicy:
    """LeRobot's policy, or the network inside it, as ours, in evaluation mode.

    It acts through the same `reset()` and `select_action(observation)`, on normalised {name: (B, ...)}.
    """
    model = theirs.vqbet if isinstance(theirs, LeRobotPolicy) else theirs
    return policy_from_tensors(model.config, model.state_dict())


def policy_from_tensors(config: LeRobotConfig, tensors: Mapping[str, Tensor]) -> VQBeTPolicy:
    """The tensors of a `VQBeTModel`, by LeRobot's names, as our policy.

    Raises BadInput, naming the tensor, when one is missing, has another shape, or has no place.
    """
    network = build_network(course_config(config))
    names = {lerobot_name(name): target for name, target in network.state_dict().items()}
    for name, target in names.items():
        if name not in tensors:
            raise BadInput(f"tensor {name} is missing")
        values = tensors[name]
        if [n for n in values.shape if n != 1] != [n for n in target.shape if n != 1]:
            raise BadInput(
                f"tensor {name} has shape {tuple(values.shape)}, where the configuration asks for {tuple(target.shape)}"
            )
        target.copy_(values.reshape(target.shape))
    unknown = [name for name in tensors if name not in names and not name.endswith(BOOKKEEPING)]
    if unknown:
        raise BadInput(f"tensor {unknown[0]} has no place in LeRobot 0.6's VQ-BeT")
    return VQBeTPolicy(network.eval())


def quietly[T](make: Callable[[LeRobotConfig], T], config: LeRobotConfig) -> T:
    """Call `make` with a configuration without the model size that LeRobot prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return make(config)


def lerobot_config(c: VQBeTConfig) -> LeRobotConfig:
    """Our configuration as LeRobot's. Raises BadInput as `to_lerobot` does."""
    shapes = list(c.image_shapes.values())
    checks = [
        (shapes, "image_shapes is empty: LeRobot's VQ-BeT cannot do without an image"),
        (len(set(shapes)) == 1, "image_shapes differ: LeRobot's VQ-BeT wants cameras of one shape"),
        (
            set(c.observation_sizes) == {OBS_STATE},
            f"observation_sizes {list(c.observation_sizes)}: LeRobot's VQ-BeT takes {OBS_STATE} and no other",
        ),
        (c.goal_shape is None, f"goal_shape {c.goal_shape}: LeRobot's VQ-BeT has no goals"),
        (c.action_queries, "action_queries false: LeRobot's VQ-BeT answers at action queries"),
        (c.vqvae_n_layers == 2, f"vqvae_n_layers {c.vqvae_n_layers}: LeRobot's VQ-BeT has 2"),
        (not c.use_relative_actions, "use_relative_actions: LeRobot's VQ-BeT has no place for it"),
        (
            c.steps_per_decision == c.action_chunk_size and not c.average_chunks,
            "n_action_steps, average_chunks: LeRobot's VQ-BeT acts out whole chunks",
        ),
        (c.bet_softmax_temperature > 0, "bet_softmax_temperature 0: LeRobot's VQ-BeT divides by it"),
    ]
    for fits, problem in checks:
        if not fits:
            raise BadInput(problem)
    images = {name: PolicyFeature(FeatureType.VISUAL, shape) for name, shape in c.image_shapes.items()}
    state = PolicyFeature(FeatureType.STATE, (c.observation_sizes[OBS_STATE],))
    return LeRobotConfig(
        **{name: getattr(c, name) for name in SHARED} | {"pretrained_backbone_weights": None},
        input_features=images | {OBS_STATE: state},
        device="cpu",
        push_to_hub=False,
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (c.action_dim,))},
    )


def course_config(theirs: LeRobotConfig) -> VQBeTConfig:
    """LeRobot's configuration as ours."""
    state, action = theirs.robot_state_feature, theirs.action_feature
    if state is None or action is None:
        raise BadInput(f"the configuration has no {OBS_STATE} or no {ACTION}")
    return VQBeTConfig(
        **{name: getattr(theirs, name) for name in SHARED},
        observation_sizes={OBS_STATE: state.shape[0]},
        action_dim=action.shape[0],
        image_shapes={name: tuple(feature.shape) for name, feature in theirs.image_features.items()},
    )
