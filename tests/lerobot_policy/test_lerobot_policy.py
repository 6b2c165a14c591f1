"""The plugin in LeRobot's own commands, and checkpoints both ways."""

import copy
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig as LeRobotConfig
from lerobot.scripts import lerobot_eval, lerobot_train
from safetensors.torch import load_file, save
from small import CONFIG, KEYPOINTS, same
from test_lerobot_bridge import CAMERA, STATE, make_batch, make_policy

import vqbet_course.lerobot_policy
from vqbet_course import cli, rollout
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract, Field
from vqbet_course.datasets.readers import DEMO_FOLDER
from vqbet_course.demos import Normalizer, load_demos
from vqbet_course.lerobot_policy import VQBeTCourseConfig, export_run, import_checkpoint
from vqbet_course.lerobot_policy.modeling_vqbet_course import VQBeTCoursePolicy
from vqbet_course.lerobot_policy.processor_vqbet_course import shared_bounds
from vqbet_course.policy import VQBeTPolicy
from vqbet_course.tasks import open_source
from vqbet_course.tasks.pusht.contract import PUSHT, PUSHT_TASK, SUCCESS_COVERAGE
from vqbet_course.tasks.pusht.environment import make_pusht
from vqbet_course.tasks.pusht.observation_wrappers import WithCamera
from vqbet_course.training.data import fitting
from vqbet_course.training.runs import Run, TrainingPlan, load_run

PLUGIN = "--policy.discover_packages_path=vqbet_course.lerobot_policy"
PUSHT_ENV = ["--env.type=pusht", "--env.obs_type=environment_state_agent_pos", "--eval.use_async_envs=false"]
ENV = "observation.environment_state"
KINDS: dict[str, dict[str, Any]] = {
    "numbers": {"image_shapes": {}, "observation_sizes": {ENV: 16, STATE: 2}},
    "image": {"observation_sizes": {}},
    "both": {"observation_sizes": {ENV: 16, STATE: 2}},
}


def run_lerobot(main: Callable[[], object], *arguments: str) -> None:
    """One of LeRobot's commands, in this process: importing it anew would take longer than its work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lerobot", *arguments])
        main()


def image_run(path: Path, **changes: Any) -> Run:
    """A run whose policy sees an image and its own place, as LeRobot's VQ-BeT does."""
    policy = make_policy(**changes)
    sizes = policy.config.observation_sizes | {"action": policy.config.action_dim}
    bounds = {name: (torch.rand(size), 1 + torch.rand(size)) for name, size in sizes.items()}
    contract = Contract({STATE: Field(2, "px")}, Field(2, "px"), 10.0)
    return Run(path, policy, Normalizer(bounds), contract, TrainingPlan("nowhere", 3, 1, 0, False, 1))


def laptop(**changes: Any) -> VQBeTConfig:
    return VQBeTConfig.laptop(observation_sizes=KEYPOINTS, **changes)


# the configuration


@pytest.mark.parametrize(
    "config",
    [
        VQBeTConfig(observation_sizes=KEYPOINTS),
        laptop(),
        laptop(image_shapes={CAMERA: (3, 96, 96)}, crop_shape=None),
        laptop(n_action_steps=2, average_chunks=True, ema_decay=0.5, offset_code="sampled"),
    ],
)
def test_every_field_survives_lerobots_json(config: VQBeTConfig, tmp_path: Path) -> None:
    VQBeTCourseConfig.of(config, device="cpu").save_pretrained(tmp_path)
    read = PreTrainedConfig.from_pretrained(tmp_path)
    assert isinstance(read, VQBeTCourseConfig) and read.course_config() == config


def test_values_that_do_not_fit_are_refused() -> None:
    config = VQBeTCourseConfig.of(laptop(), device="cpu")
    config.gpt_n_head = 5
    with pytest.raises(BadInput, match="gpt_n_head"):
        VQBeTCoursePolicy(config)
    config = VQBeTCourseConfig.of(laptop(), device="cpu")
    config.normalization_mapping["STATE"] = NormalizationMode.MEAN_STD
    with pytest.raises(BadInput, match="STATE MEAN_STD, ACTION MIN_MAX"):
        VQBeTCoursePolicy(config)


@pytest.mark.parametrize("positions", [True, False])
def test_relative_chunks_are_decided_as_train_does(positions: bool, tmp_path: Path) -> None:
    """State and action have one unit; only the numbers tell positions from displacements."""
    t = np.arange(80)[:, None] / 10
    state = 40 * np.sin(t * [1.0, 2.0, 3.0])
    action = state + 1 if positions else np.diff(state, axis=0, append=state[-1:])
    np.savez(tmp_path / "raw.npz", state=state, action=action, episode_ends=[40, 80])
    units = ["--unit", "observation.state=deg", "--unit", "action=deg"]
    asked = ["demos", "convert", str(tmp_path / "raw.npz"), "--fps", "30", *units, "--out", str(tmp_path / "data")]
    assert cli.main(asked) == 0
    config = VQBeTCourseConfig(device="cpu")
    config.fit_to(LeRobotDatasetMetadata("local/data", root=tmp_path / "data"))
    trained = fitting(load_demos(open_source(str(tmp_path / "data"))))
    assert config.relative_chunks is trained.use_relative_actions is positions


# the policy


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_in_two_stages_and_acts_whatever_it_sees(kind: str) -> None:
    config = make_policy(n_vqvae_training_steps=2, ema_decay=0.5, **KINDS[kind]).config
    policy = VQBeTCoursePolicy(VQBeTCourseConfig.of(config, device="cpu")).train()
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    states = []
    for step in range(4):
        seen, actions = make_batch(config, seed=step)
        loss, parts = policy.train()(seen | {"action": actions})
        assert ("reconstruction" in parts) == (step < 2) and all(isinstance(v, float | int) for v in parts.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        policy.update()
        states.append(copy.deepcopy(policy.learning.state_dict()))
    moved = {name for name in states[0] if not torch.equal(states[1][name], states[3][name])}
    assert moved and not any(name.startswith("vqvae.") for name in moved)  # the second stage left the codes alone
    assert not same(dict(policy.average.state_dict()), states[3])  # type: ignore[union-attr]
    seen, _ = make_batch(config)
    now = {name: values[:, 0] for name, values in seen.items()}
    policy.eval().reset()
    assert policy.select_action(now).shape == (3, 2)


def test_a_chunk_is_predicted_without_touching_the_queues() -> None:
    """What acts afterwards acts as if nothing had been predicted; the chunk is that of the observation."""
    config = make_policy(
        bet_softmax_temperature=0.0, n_obs_steps=2, n_action_steps=3, ema_decay=0.0, **KINDS["both"]
    ).config
    policies = [VQBeTCoursePolicy(VQBeTCourseConfig.of(config, device="cpu")).eval() for _ in range(2)]
    policies[1].load_state_dict(policies[0].state_dict())
    moments = [{name: values[:, 0] for name, values in make_batch(config, seed)[0].items()} for seed in range(7)]
    for t, now in enumerate(moments):
        predicted = policies[0].predict_action_chunk(now)
        assert predicted.shape == (3, config.action_chunk_size, 2)
        action, expected = (policy.select_action(now) for policy in policies)
        torch.testing.assert_close(action, expected, atol=1e-6, rtol=1e-6)
        if t % 3 == 0:  # a decision is due: it is the one that was predicted
            torch.testing.assert_close(predicted, policies[0].acting.decision.actions, atol=1e-6, rtol=1e-6)  # type: ignore


def test_the_average_follows_as_in_our_own_training() -> None:
    """One update of the second stage: weights move by 1 - 1/10, as `ema_update` moves them in step 0."""
    config = make_policy(n_vqvae_training_steps=1, ema_decay=0.9, **KINDS["numbers"]).config
    policy = VQBeTCoursePolicy(VQBeTCourseConfig.of(config, device="cpu"))
    policy.update()
    before = policy.learning.gpt.head.weight.detach().clone()
    policy.learning.gpt.head.weight.data += 1
    policy.update()
    torch.testing.assert_close(policy.average.gpt.head.weight, before + 0.9)  # type: ignore[union-attr]


def test_relative_chunks_are_told_from_their_own_first_frame() -> None:
    config = make_policy(n_action_pred_token=2, use_relative_actions=True, **KINDS["numbers"]).config
    theirs = VQBeTCourseConfig.of(config, device="cpu")
    assert theirs.observation_delta_indices == list(range(-4, 2))
    policy = VQBeTCoursePolicy(theirs)
    actions, places = torch.rand(3, 10, 2), torch.rand(3, 6, 2)
    chunks = policy.chunks({"action": actions, STATE: places})
    assert chunks.shape == (3, 6, 5, 2)
    torch.testing.assert_close(chunks[:, 5], actions[:, 5:10] - places[:, 5:6])


def test_actions_and_places_share_their_bounds() -> None:
    def stats(low: float, high: float) -> dict[str, torch.Tensor]:
        return {"min": torch.tensor([low, 0.0]), "max": torch.tensor([high, 1.0])}

    shared = shared_bounds({"action": stats(-1, 5), STATE: stats(0, 9), ENV: stats(3, 4)})
    assert torch.equal(shared["action"]["min"], torch.tensor([-1.0, 0.0])) and shared["action"]["max"][0] == 9
    assert torch.equal(shared[STATE]["max"], shared["action"]["max"]) and shared[ENV]["max"][0] == 4


@pytest.mark.parametrize("relative", [False, True])
def test_training_on_with_other_data_clips_to_their_range(relative: bool, tmp_path: Path) -> None:
    """What `lerobot-train --policy.path` does: a checkpoint's processors get the statistics of another dataset."""

    def stats(low: float, high: float) -> dict[str, dict[str, torch.Tensor]]:
        ends = {"min": torch.tensor([low, low]), "max": torch.tensor([high, high])}
        return {"action": ends, STATE: {"min": ends["min"] - 3, "max": ends["max"]}, ENV: EVEN}

    EVEN = {"min": torch.zeros(16), "max": torch.ones(16)}
    config = VQBeTCourseConfig.of(laptop(use_relative_actions=relative), device="cpu")
    VQBeTCoursePolicy(config).save_pretrained(tmp_path)
    for processor in make_pre_post_processors(config, dataset_stats=stats(0, 1)):
        processor.save_pretrained(tmp_path)
    read, other = PreTrainedConfig.from_pretrained(tmp_path), SimpleNamespace(stats=stats(100, 300))
    read.pretrained_path = tmp_path
    VQBeTCoursePolicy.from_pretrained(tmp_path, config=read, dataset_meta=other)
    given = {"features": {**read.input_features, **read.output_features}, "norm_map": read.normalization_mapping}
    before, after = make_pre_post_processors(
        read,
        pretrained_path=str(tmp_path),
        preprocessor_overrides={"normalizer_processor": given | {"stats": other.stats}},
        postprocessor_overrides={"unnormalizer_processor": given | {"stats": other.stats}},
    )
    lowest = 97.0 if relative else 100.0
    commands = after(torch.tensor([[-50.0, 50.0]]))
    torch.testing.assert_close(commands, torch.tensor([[lowest, 300.0]]), atol=1e-3, rtol=0)
    seen = before({STATE: torch.tensor([[97.0, 300.0]]), ENV: torch.zeros(1, 16)})[STATE]
    torch.testing.assert_close(seen, torch.tensor([[-1.0, 1.0]]))
    torch.testing.assert_close(after(seen)[0, 1], torch.tensor(300.0), atol=1e-3, rtol=0)


# LeRobot's commands


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "pretrained_model" / "model.safetensors")


SMALL = [
    f"--policy.{name}={getattr(CONFIG, name)}"
    for name in (
        "gpt_n_layer",
        "gpt_n_head",
        "gpt_hidden_dim",
        "gpt_input_dim",
        "gpt_output_dim",
        "vqvae_embedding_dim",
    )
]
ON_DEMOS = [
    "--policy.type=vqbet_course",
    "--policy.device=cpu",
    "--policy.push_to_hub=false",
    "--dataset.repo_id=local/pusht",
    f"--dataset.root={DEMO_FOLDER}",
    "--num_workers=0",
    "--batch_size=8",
    *SMALL,
]


def resumed(run: Path, start: int, end: int) -> dict[str, torch.Tensor]:
    """The weights after step `end` when a finished training goes on from step `start` once more."""
    shutil.rmtree(run / f"checkpoints/{end:06}")
    start_config = run / f"checkpoints/{start:06}/pretrained_model/train_config.json"
    run_lerobot(lerobot_train.main, PLUGIN, "--resume=true", f"--config_path={start_config}")
    return weights(run / f"checkpoints/{end:06}")


def test_a_first_stage_that_was_stopped_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    """Codes that are not used move to drawn chunks at every step."""
    run = tmp_path / "run"
    steps = ["--policy.n_vqvae_training_steps=20", "--steps=4", "--save_freq=2", f"--output_dir={run}"]
    run_lerobot(lerobot_train.main, PLUGIN, *ON_DEMOS, *steps)
    finished = weights(run / "checkpoints/000004")
    assert same(resumed(run, 2, 4), finished) and finished["steps"] == 4


@pytest.mark.slow
def test_two_processes_train_one_policy(tmp_path: Path) -> None:
    """As on several GPUs or machines: both stages, and a checkpoint that loads. `--cpu` would start one process."""
    command = [str(Path(sys.executable).with_name("accelerate")), "launch", "--multi_gpu", "--num_processes=2"]
    command += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    train = [str(Path(sys.executable).with_name("lerobot-train")), PLUGIN, *ON_DEMOS]
    steps = ["--policy.n_vqvae_training_steps=2", "--steps=4", "--save_freq=4", f"--output_dir={tmp_path / 'run'}"]
    offline = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*command, *train, *steps], env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Effective batch size: 8 x 2 = 16" in done.stdout + done.stderr
    tensors = weights(tmp_path / "run/checkpoints/000004")
    assert tensors["steps"] == 4 and all(bool(values.isfinite().all()) for values in tensors.values())
    import_checkpoint(tmp_path / "run/checkpoints/000004/pretrained_model", tmp_path / "imported")


def test_a_batch_size_of_the_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--batch_size"):
        run_lerobot(lerobot_train.main, PLUGIN, *ON_DEMOS, "--policy.batch_size=3", f"--output_dir={tmp_path / 'run'}")


def test_lerobot_finds_the_policy_by_the_small_distribution(tmp_path: Path) -> None:
    """In a process that has been told nothing, as LeRobot's commands begin."""
    plugin = shutil.copytree(Path(__file__).parents[2] / "plugins/lerobot_policy_vqbet_course", tmp_path / "plugin")
    build = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=plugin, check=True, capture_output=True)
    ask = (
        "from lerobot.utils.import_utils import register_third_party_plugins as find; find()\n"
        "from lerobot.configs import PreTrainedConfig; from lerobot.processor import ProcessorStepRegistry\n"
        "assert 'vqbet_course' in PreTrainedConfig.get_known_choices()\n"
        "ProcessorStepRegistry.get('vqbet_course_clip_action')"
    )
    path = os.pathsep.join([str(plugin), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", ask], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_lerobot_trains_resumes_and_evaluates_it(tmp_path: Path) -> None:
    run_lerobot(
        lerobot_train.main,
        PLUGIN,
        *ON_DEMOS,
        "--policy.n_vqvae_training_steps=2",
        "--policy.dropout=0.0",
        "--policy.sequentially_select=false",
        *PUSHT_ENV,
        "--env_eval_freq=6",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
        "--env.episode_length=10",
        "--steps=6",
        "--save_freq=3",
        f"--output_dir={tmp_path / 'run'}",
    )
    finished = weights(tmp_path / "run/checkpoints/000006")
    # LeRobot does not promise the same draws after a resume, so here is nothing that draws
    assert same(resumed(tmp_path / "run", 3, 6), finished) and finished["steps"] == 6

    import_checkpoint(tmp_path / "run/checkpoints/000006/pretrained_model", tmp_path / "imported")
    run = load_run(tmp_path / "imported")
    acting = {k.removeprefix("average."): v for k, v in finished.items() if k.startswith("average.")}
    assert same(dict(run.policy.network.state_dict()), acting)
    assert run.contract.difference(PUSHT) is None  # units and rate are those of the dataset that it was trained on
    low, high = run.normalizer.bounds["action"]
    assert torch.equal(low, run.normalizer.bounds[STATE][0]) and (high > 400).all()


def short_pusht() -> gym.Env:
    env = make_pusht()
    setattr(env, "contract", dataclasses.replace(PUSHT_TASK, horizon=60))
    return env


def played_by_lerobot(checkpoint: Path, out: Path, env: list[str], seed: int, n: int) -> dict[str, Any]:
    """What lerobot-eval says of n short episodes, played together."""
    run_lerobot(
        lerobot_eval.main,
        PLUGIN,
        f"--policy.path={checkpoint}",
        "--policy.device=cpu",
        *env,
        f"--eval.n_episodes={n}",
        f"--eval.batch_size={n}",
        f"--seed={seed}",
        "--env.episode_length=60",
        f"--output_dir={out}",
    )
    metrics: dict[str, Any] = json.loads((out / "eval_info.json").read_text())["per_task"][0]["metrics"]
    return metrics


def test_both_evaluators_agree_episode_by_episode(tmp_path: Path) -> None:
    shipped = load_run("shipped")
    policy = VQBeTPolicy(shipped.policy.network, dataclasses.replace(shipped.policy.acting, temperature=0.0))
    export_run(dataclasses.replace(shipped, policy=policy), tmp_path / "cold")
    played = rollout.rollouts(policy, shipped.normalizer, range(100_002, 100_005), short_pusht)
    ours = [max(e.coverage) / SUCCESS_COVERAGE for e in played]
    theirs = played_by_lerobot(tmp_path / "cold", tmp_path / "eval", PUSHT_ENV, 100_002, 3)
    assert theirs["max_rewards"] == pytest.approx([min(1, reward) for reward in ours], abs=1e-6)
    assert theirs["successes"] == [reward > 1 for reward in ours]
    assert len(set(ours)) == 3 and max(ours) > 0.1


def test_both_evaluators_agree_on_a_policy_that_sees(tmp_path: Path) -> None:
    """Its weights are random, but in the first episode it pushes the T."""
    run = image_run(
        tmp_path,
        seed=7,
        image_shapes={CAMERA: (3, 96, 96)},
        bet_softmax_temperature=0.0,
        use_group_norm=True,
        n_action_steps=2,
    )
    board = {name: (torch.zeros(2), torch.full((2,), 512.0)) for name in (STATE, "action")}
    run = dataclasses.replace(run, normalizer=Normalizer(board), contract=PUSHT)
    export_run(run, tmp_path / "there")
    played = rollout.rollouts(run.policy, run.normalizer, range(2), lambda: WithCamera(short_pusht()))
    ours = [sum(e.coverage) / SUCCESS_COVERAGE for e in played]
    env = [
        "--env.type=pusht",
        "--env.observation_height=96",
        "--env.observation_width=96",
        "--eval.use_async_envs=false",
    ]
    theirs = played_by_lerobot(tmp_path / "there", tmp_path / "eval", env, 0, 2)
    assert theirs["sum_rewards"] == pytest.approx(ours, abs=1e-5)
    assert len(set(played[0].coverage)) > 5


# checkpoints


def test_export_and_import_give_the_run_back(tmp_path: Path) -> None:
    assert cli.main(["export", "shipped", "--out", str(tmp_path / "there")]) == 0
    assert cli.main(["import", str(tmp_path / "there"), "--out", str(tmp_path / "back")]) == 0
    shipped, back = load_run("shipped"), load_run(tmp_path / "back")
    assert back.policy.config == shipped.policy.config and back.contract == shipped.contract == PUSHT
    assert same(dict(back.policy.network.state_dict()), dict(shipped.policy.network.state_dict()))
    for name, bounds in shipped.normalizer.bounds.items():
        assert all(torch.equal(*pair) for pair in zip(bounds, back.normalizer.bounds[name], strict=True))


@pytest.fixture(scope="module")
def one_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of LeRobot's own VQ-BeT, made once."""
    folder = tmp_path_factory.mktemp("lerobot") / "there"
    export_run(image_run(folder), folder, kind="vqbet")
    return folder


@pytest.fixture
def checkpoint(one_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of it whose files are links: replace one, never write into it."""
    return Path(shutil.copytree(one_checkpoint, tmp_path / "there", copy_function=os.symlink))


@pytest.mark.parametrize(("kind", "relative"), [("vqbet_course", False), ("vqbet_course", True), ("vqbet", False)])
def test_a_number_that_never_changed_in_training_may_change_a_little(kind: str, relative: bool, tmp_path: Path) -> None:
    plain = image_run(tmp_path / "run", use_relative_actions=relative)
    state, action = (
        (torch.tensor([0.25, 0.0]), torch.tensor([0.25, 9.0])),
        (torch.tensor([3.0, 0.0]), torch.tensor([3.0, 9.0])),
    )
    run = dataclasses.replace(plain, normalizer=Normalizer({STATE: state, "action": state if relative else action}))
    export_run(run, tmp_path / kind, kind)
    config = PreTrainedConfig.from_pretrained(tmp_path / kind)
    before, after = make_pre_post_processors(config, pretrained_path=str(tmp_path / kind))
    seen = torch.tensor([[0.251, 4.0]])
    found = before({STATE: seen, CAMERA: torch.zeros(1, 3, 96, 96)})[STATE]
    torch.testing.assert_close(found, run.normalizer.normalize(STATE, seen), atol=1e-5, rtol=1e-5)
    decided = torch.tensor([[0.3, -0.5]])
    torch.testing.assert_close(after(decided), run.normalizer.unnormalize("action", decided), atol=1e-5, rtol=1e-5)


def test_a_checkpoint_of_lerobots_own_vqbet_comes_and_goes(checkpoint: Path, tmp_path: Path) -> None:
    import_checkpoint(checkpoint, tmp_path / "back")
    back = load_run(tmp_path / "back")
    assert json.loads((checkpoint / "config.json").read_text())["type"] == "vqbet"
    assert same(dict(back.policy.network.state_dict()), dict(image_run(tmp_path).policy.network.state_dict()))


def with_processors(checkpoint: Path, **modes: str) -> tuple[Any, Any]:
    """Processors of LeRobot's that normalise so, put into a checkpoint, too."""
    config = PreTrainedConfig.from_pretrained(checkpoint)
    assert isinstance(config, LeRobotConfig)
    config.normalization_mapping |= {kind: NormalizationMode(mode) for kind, mode in modes.items()}
    kinds = ("min", "q01", "q10", "mean", "std", "q90", "q99", "max")
    stats = {name: {what: i + torch.rand(2) for i, what in enumerate(kinds)} for name in (STATE, "action")}
    for file in checkpoint.glob("policy_p*"):
        file.unlink()
    processors = make_pre_post_processors(config, dataset_stats=stats)
    for processor in processors:
        processor.save_pretrained(checkpoint)
    return processors


@pytest.mark.parametrize("mode", ["MIN_MAX", "MEAN_STD", "IDENTITY", "QUANTILES", "QUANTILE10"])
def test_numbers_are_normalised_in_every_way_that_lerobot_knows(mode: str, checkpoint: Path, tmp_path: Path) -> None:
    before, after = with_processors(checkpoint, STATE=mode, ACTION=mode)
    import_checkpoint(checkpoint, tmp_path / "back")
    ours, values = load_run(tmp_path / "back").normalizer, 3 * torch.randn(5, 2)
    torch.testing.assert_close(ours.normalize(STATE, values), before({STATE: values})[STATE], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.unnormalize("action", values), after(values), atol=1e-5, rtol=1e-5)


def test_units_and_rate_of_a_checkpoint_that_states_none_are_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "contract.json").unlink()
    with pytest.raises(BadInput, match="--fps N"):
        import_checkpoint(checkpoint, tmp_path / "back")
    with pytest.raises(BadInput, match="--unit px"):
        import_checkpoint(checkpoint, tmp_path / "back", ["px"], 5)
    assert not (tmp_path / "back").exists()
    units = ["--unit", f"{STATE}=deg", "--unit", "action=rad", "--fps", "5"]
    assert cli.main(["import", str(checkpoint), "--out", str(tmp_path / "back"), *units]) == 0
    contract = load_run(tmp_path / "back").contract
    assert contract.fps == 5 and contract.units() == {CAMERA: "unstated", STATE: "deg", "action": "rad"}


def test_a_checkpoint_from_before_processors_is_read(checkpoint: Path, tmp_path: Path) -> None:
    """Its statistics lie among the weights, under names with underscores."""
    import_checkpoint(checkpoint, tmp_path / "new")
    stats = load_file(next(checkpoint.glob("policy_preprocessor*.safetensors")))
    older = {
        f"{part}.buffer_{name.replace('.', '_')}.{what}": stats[f"{name}.{what}"].clone()
        for part, name in (
            ("normalize_inputs", STATE),
            ("normalize_targets", "action"),
            ("unnormalize_outputs", "action"),
        )
        for what in ("min", "max")
    }
    change_tensors(checkpoint, lambda tensors: tensors.update(older))
    for file in checkpoint.glob("policy_p*"):
        file.unlink()
    import_checkpoint(checkpoint, tmp_path / "back")
    new, back = load_run(tmp_path / "new"), load_run(tmp_path / "back")
    assert back.normalizer.to_dict() == new.normalizer.to_dict()
    assert same(dict(back.policy.network.state_dict()), dict(new.policy.network.state_dict()))


def replaced(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def change_tensors(checkpoint: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    change(tensors)
    replaced(checkpoint / "model.safetensors", save(tensors))


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    replaced(path, json.dumps(values).encode())


def without_min_max(values: dict[str, Any]) -> None:
    values["steps"][3]["config"]["norm_map"]["STATE"] = "MEAN_STD"


HEAD = "vqbet.policy.lm_head.weight"
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "another policy": (lambda c: change_json(c / "config.json", lambda v: v.update(type="act")), "type act"),
    "no configuration": (lambda c: (c / "config.json").unlink(), "no config.json"),
    "a damaged configuration": (lambda c: replaced(c / "config.json", b"{"), "config.json"),
    "a field of another version": (
        lambda c: change_json(c / "config.json", lambda v: v.update(new_field=3)),
        "LeRobot 0.6 cannot read it",
    ),
    "no weights": (lambda c: (c / "model.safetensors").unlink(), "model.safetensors: missing"),
    "damaged weights": (lambda c: replaced(c / "model.safetensors", b"x" * 99), "damaged"),
    "a missing tensor": (lambda c: change_tensors(c, lambda t: t.pop(HEAD)), "policy.lm_head.weight is missing"),
    "another shape": (
        lambda c: change_tensors(c, lambda t: t.update({HEAD: torch.ones(3, 8)})),
        r"policy.lm_head.weight has shape \(3, 8\)",
    ),
    "a tensor of another version": (
        lambda c: change_tensors(c, lambda t: t.update({"normalize_inputs.min": torch.ones(3)})),
        "normalize_inputs.min",
    ),
    "weights that are not finite": (
        lambda c: change_tensors(c, lambda t: t[HEAD].view(-1)[:1].fill_(float("nan"))),
        "policy.lm_head.weight is not finite",
    ),
    "a damaged contract": (lambda c: replaced(c / "contract.json", b"{"), "contract.json: damaged"),
    "other normalisation": (lambda c: change_json(c / "policy_preprocessor.json", without_min_max), "MEAN_STD"),
    "pictures that are normalised": (lambda c: with_processors(c, VISUAL="MEAN_STD"), "observation.image by MEAN_STD"),
    "no normalisation": (lambda c: (c / "policy_preprocessor.json").unlink(), "policy_preprocessor.json"),
    "no bounds": (lambda c: next(c.glob("policy_pre*.safetensors")).unlink(), "normalizer_processor"),
}


@pytest.mark.parametrize("problem", BAD)
def test_a_bad_checkpoint_is_refused_in_one_line(
    problem: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, _ = BAD[problem]
    spoil(checkpoint)
    capsys.readouterr()
    assert cli.main(["import", str(checkpoint), "--out", str(tmp_path / "back")]) == 2
    said = capsys.readouterr().err.splitlines()[-1:]
    with pytest.raises(BadInput, match=BAD[problem][1]) as caught:
        import_checkpoint(checkpoint, tmp_path / "back")
    assert said == [f"error: {caught.value}"]
    assert not (tmp_path / "back").exists()


def test_nothing_is_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    before = (checkpoint / "model.safetensors").read_bytes()
    with pytest.raises(BadInput, match="exists already"):
        export_run(image_run(tmp_path), checkpoint)
    assert (checkpoint / "model.safetensors").read_bytes() == before
    import_checkpoint(checkpoint, tmp_path / "back")
    with pytest.raises(BadInput, match="already holds a run"):
        import_checkpoint(checkpoint, tmp_path / "back")


def test_what_lerobot_cannot_hold_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="vqvae_n_layers 3"):
        export_run(image_run(tmp_path, vqvae_n_layers=3), tmp_path / "there", kind="vqbet")
    assert list(tmp_path.iterdir()) == []


def test_another_lerobot_is_refused_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.7.1")
    with pytest.raises(BadInput, match=r"lerobot 0\.7\.1 is installed"):
        exec(Path(vqbet_course.lerobot_policy.__file__).read_text(), {"__name__": "vqbet_course.lerobot_policy"})
