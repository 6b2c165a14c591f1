"""Our configuration as LeRobot's command line wants it: `--policy.type=vqbet_course`."""

from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any

from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.optim import AdamWConfig, VQBeTSchedulerConfig

from vqbet_course.core.configuration import LAPTOP, VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import read_json
from vqbet_course.core.specs import Contract, Field
from vqbet_course.datasets.readers.lerobot_dataset import component_names
from vqbet_course.demos import load_demos
from vqbet_course.tasks import open_source
from vqbet_course.training.data import RELATIVE, laptop_changes, stated_changes

TOLD_BY_FEATURES = ("observation_sizes", "image_shapes", "action_dim")
"""Our fields that LeRobot knows from `input_features` and `output_features`."""

LEFT_OUT = ("goal_shape",)
"""Our fields that nothing in LeRobot feeds: its environments and datasets show no goals."""

RENAMED = {"use_relative_actions": "relative_chunks"}
"""LeRobot's trainer reads `use_relative_actions` as a request for processor steps of its own."""

OWN_FIELDS = {
    f.name: RENAMED.get(f.name, f.name) for f in fields(VQBeTConfig) if f.name not in TOLD_BY_FEATURES + LEFT_OUT
}
"""{our name: its name here}"""

Fields: Any = make_dataclass(
    "Fields",
    [
        (OWN_FIELDS[f.name], f.type, field(default=LAPTOP.get(f.name, f.default)))
        for f in fields(VQBeTConfig)
        if f.name in OWN_FIELDS
    ],
)
"""All of them with the laptop's values as defaults, so that every field is described in one place."""


@PreTrainedConfig.register_subclass("vqbet_course")
@dataclass
class VQBeTCourseConfig(Fields, PreTrainedConfig):
    """This course's VQ-BeT: numbers (`observation.state`, `observation.environment_state`), images, or both.

    What is None here is fitted to the dataset when a training begins: `relative_chunks` is decided as `vqbet-course train`
    does, and `crop_shape` is `crop_ratio` of the camera's height and width (1: the whole image). `clip_actions`: no
    number of a command leaves `action_bounds`, lowest and highest of all, in the robot's unit, or, where that is None,
    its own range in the demonstrations. `batch_size` and `vqvae_batch_size` tell how an exported run was trained; here
    both stages take `lerobot-train --batch_size`. `discover_packages_path` is here because LeRobot's parser takes its own
    flag for a field of the policy when it stands beside `--policy.path`.
    """

    relative_chunks: bool | None = None
    crop_shape: tuple[int, int] | None = None
    crop_ratio: float = 0.875
    batch_size: int | None = None
    vqvae_batch_size: int | None = None
    clip_actions: bool = True
    action_bounds: tuple[float, float] | None = None
    discover_packages_path: str | None = None
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MIN_MAX,
            "ENV": NormalizationMode.MIN_MAX,
            "ACTION": NormalizationMode.MIN_MAX,
        }
    )

    @classmethod
    def of(cls, config: VQBeTConfig, **lerobots: Any) -> "VQBeTCourseConfig":
        """Our configuration as LeRobot's; `lerobots` are fields that only LeRobot has. Raises BadInput for goals."""
        if config.goal_shape:
            raise BadInput(f"goal_shape {config.goal_shape}: LeRobot's environments and datasets show no goals")
        kinds = {"observation.environment_state": FeatureType.ENV}
        numbers = {
            name: PolicyFeature(kinds.get(name, FeatureType.STATE), (size,))
            for name, size in config.observation_sizes.items()
        }
        images = {name: PolicyFeature(FeatureType.VISUAL, shape) for name, shape in config.image_shapes.items()}
        action = {"action": PolicyFeature(FeatureType.ACTION, (config.action_dim,))}
        return cls(
            **{theirs: getattr(config, ours) for ours, theirs in OWN_FIELDS.items()},
            crop_ratio=1.0,  # the crop is fixed
            input_features=images | numbers,
            output_features=action,
            **lerobots,
        )

    def course_config(self) -> VQBeTConfig:
        """The same as our configuration. Raises BadInput for values that do not fit together."""
        modes = {kind: self.normalization_mapping.get(kind) for kind in ("STATE", "ACTION")}
        if self.relative_chunks and set(modes.values()) != {NormalizationMode.MIN_MAX}:
            found = ", ".join(f"{kind} {mode and mode.value}" for kind, mode in modes.items())
            raise BadInput(
                f"relative_chunks needs one scale for states and actions, MIN_MAX; normalization_mapping has {found}"
            )
        images = {name: tuple(feature.shape) for name, feature in self.image_features.items()}
        numbers = {name: f.shape[0] for name, f in self.input_features.items() if name not in images}
        own = {ours: getattr(self, theirs) for ours, theirs in OWN_FIELDS.items()}
        own = {name: value for name, value in own.items() if value is not None or "batch_size" not in name}
        return VQBeTConfig(
            **own | {"use_relative_actions": bool(self.relative_chunks)},
            observation_sizes=numbers,
            image_shapes=images,
            action_dim=self.action_feature.shape[0],
        )

    def fit_to(self, dataset: LeRobotDatasetMetadata) -> None:
        """Settle `relative_chunks` and `crop_shape`, where they are None, by a dataset.

        Raises BadInput for batch sizes, which are not this policy's here."""
        if self.batch_size is not None or self.vqvae_batch_size is not None:
            raise BadInput("batch sizes are those of the trainer: give --batch_size instead of --policy.batch_size")
        if self.relative_chunks is None:
            self.relative_chunks = relative_by(dataset)
        for camera in [*self.image_features.values()][:1]:
            if self.crop_shape is None and self.crop_ratio != 1:
                height, width = (max(1, int(n * self.crop_ratio)) for n in camera.shape[1:])
                self.crop_shape = (height, width)

    def validate_features(self) -> None:
        """Raise BadInput for features and values that do not fit together."""
        self.course_config()

    @property
    def observation_delta_indices(self) -> list[int]:
        """The window; relative chunks of future queries also ask where the robot is then."""
        return list(range(1 - self.n_obs_steps, 1 if self.relative_chunks is False else self.n_action_pred_token))

    @property
    def action_delta_indices(self) -> list[int]:
        """The actions of all chunks of a window."""
        return list(range(1 - self.n_obs_steps, self.n_action_pred_token + self.action_chunk_size - 1))

    @property
    def reward_delta_indices(self) -> None:
        """None: imitation uses no rewards."""
        return None

    @property
    def drop_n_last_frames(self) -> int:
        """Frames without a whole chunk to come teach nothing that was demonstrated."""
        return self.n_action_pred_token + self.action_chunk_size - 2

    def get_optimizer_preset(self) -> AdamWConfig:
        """AdamW as stage 2 uses it."""
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=self.optimizer_betas,
            eps=self.optimizer_eps,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=1.0,
        )

    def get_scheduler_preset(self) -> VQBeTSchedulerConfig:
        """LeRobot's schedule for its own VQ-BeT: constant in stage 1, then warm-up and a cosine."""
        return VQBeTSchedulerConfig(
            num_warmup_steps=self.scheduler_warmup_steps, num_vqvae_training_steps=self.n_vqvae_training_steps
        )


def relative_by(dataset: LeRobotDatasetMetadata) -> bool:
    """Whether chunks are relative, as `train` decides it on the same dataset: by what it states, else by its actions.

    Raises BadInput where these are needed and cannot be read."""
    stated = stated_changes(stated_contract(dataset))
    if RELATIVE not in stated:
        stated = laptop_changes(load_demos(open_source(str(dataset.root))))
    return bool(stated[RELATIVE])


def stated_contract(dataset: LeRobotDatasetMetadata) -> Contract:
    """`observation.state` and the action of a dataset: the contract of one that this course has written, else names."""
    stated = Path(dataset.root) / "meta" / "contract.json"
    if stated.exists():
        return read_json(stated, Contract.from_dict)
    known = {name: feature for name, feature in dataset.features.items() if name in ("observation.state", "action")}
    numbers = {name: Field(f["shape"][0], names=tuple(component_names(f))) for name, f in known.items()}
    return Contract(numbers, numbers.pop("action"), dataset.fps)
