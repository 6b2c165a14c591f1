"""Devices and precision: what is asked for, what is recorded, and that a network makes no tensor on another device."""

import copy
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from small import CONFIG, same, small_run, write_npz
from torch import nn

from vqbet_course.cli import main
from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import ActingConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.hooks import Hook
from vqbet_course.demos import load_demos
from vqbet_course.experiments import panel
from vqbet_course.experiments.panel import Settings, build, config_for
from vqbet_course.policy import VQBeTPolicy
from vqbet_course.tasks import get_task, open_source
from vqbet_course.train import label_codes, run_randomness
from vqbet_course.training import devices, quick
from vqbet_course.training.data import Setup, prepare
from vqbet_course.training.devices import Computing
from vqbet_course.training.factory import build_network
from vqbet_course.training.runs import load_run, read_plan
from vqbet_course.training.trainer import resume

META = Computing("meta")
HALF = Computing("cpu", "bfloat16")


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    demos = load_demos(open_source(write_npz(tmp_path_factory.mktemp("data") / "data.npz")))
    return prepare(demos, CONFIG, augment=False)


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without data answer no, or 0, where a check or a log asks for their values."""
    kept, item = torch.Tensor.__bool__, torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: not self.is_meta and kept(self))
    monkeypatch.setattr(torch.Tensor, "item", lambda self: 0.0 if self.is_meta else item(self))


def on_meta(result: Any) -> bool:
    return all(part.is_meta for part in result)


@pytest.mark.parametrize("offset_code", ["ground_truth", "sampled"])
def test_loss_gradients_and_decision_of_a_network_stay_on_its_device(
    setup: Setup, no_data: None, offset_code: str
) -> None:
    network = build_network(dataclasses.replace(CONFIG, offset_code=offset_code))
    codes = label_codes(network, setup.windows).to("meta")
    META.place(network)
    windows = setup.on(META).windows
    seen = windows.seen(torch.arange(8))
    asked = windows.chunk_index[:8]
    assert on_meta([*seen.values(), windows.chunks])
    loss, metrics = network.loss(seen, windows.chunks[asked], codes[asked])
    loss.backward()
    assert on_meta([loss, *metrics.values(), *(p.grad for p in network.gpt.parameters())])
    policy = VQBeTPolicy(network.eval())
    moment = {name: values[:, -1:] for name, values in seen.items()}
    policy.new.append(moment)
    assert on_meta(policy.decide(moment))


def baseline_loss(name: str, computing: Computing) -> torch.Tensor:
    """The loss of a baseline on eight windows, always of the same draws."""
    demos = load_demos(open_source("demo")).select([0])
    config = config_for(name, demos)
    windows = computing.windows(prepare(demos, config, augment=False).windows)
    torch.manual_seed(0)
    policy = cast(Any, computing.place(build(name, config)))
    return policy.loss(policy.frame.observe(windows.seen(torch.arange(8))), windows.chunks[windows.chunk_index[:8]])


BASELINES = ["bc", "bet", "act", "diffusion", "flow"]


@pytest.mark.parametrize("name", BASELINES)
def test_the_loss_of_every_baseline_stays_on_its_device(setup: Setup, no_data: None, name: str) -> None:
    assert baseline_loss(name, META).is_meta


@pytest.mark.parametrize("name", BASELINES)
def test_the_loss_of_every_baseline_is_nearly_the_same_in_bfloat16(name: str) -> None:
    exact, rounded = (baseline_loss(name, Computing("cpu", precision)) for precision in ("float32", "bfloat16"))
    assert torch.isclose(rounded, exact, rtol=0.1) and rounded != exact


def test_windows_on_a_device_keep_images_where_they_are(setup: Setup) -> None:
    images = torch.zeros(len(setup.windows.observation["observation.state"]), 3, 4, 4, dtype=torch.uint8)
    both = dataclasses.replace(setup.windows, observation=setup.windows.observation | {"observation.image": images})
    placed = META.windows(both)
    where = {name: values.device.type for name, values in placed.observation.items()}
    assert where == dict.fromkeys(setup.windows.observation, "meta") | {"observation.image": "cpu"}
    assert on_meta(placed.seen(torch.arange(3)).values())


def test_the_first_device_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, found in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=cuda: there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=mps: there)
        assert Computing.asked("auto", "float32").device == found


@pytest.mark.parametrize("command", ["train --out {0}", "eval {0}", "export {0}", "compare --out {0}"])
def test_a_device_that_is_not_there_is_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = [word.format(tmp_path / "run") for word in command.split()]
    assert main([*words, "--device", "cuda"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_auto_is_bfloat16_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    for faster, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(devices, "faster_in_bfloat16", lambda device, faster=faster: faster)
        assert Computing.asked("cpu", "auto") == Computing("cpu", precision)


def test_bfloat16_is_for_the_wide_parts_and_leaves_results_in_float32(setup: Setup) -> None:
    with run_randomness(0):
        network = build_network(dataclasses.replace(CONFIG, dropout=0.0)).train()
    windows, codes = setup.windows, label_codes(network, setup.windows)
    asked = windows.chunk_index[:32]

    def loss_and_gradients() -> tuple[torch.Tensor, torch.Tensor]:
        network.zero_grad()
        torch.manual_seed(0)  # which first codes are drawn, by which the second are chosen
        loss, _ = network.loss(windows.seen(torch.arange(32)), windows.chunks[asked], codes[asked])
        loss.backward()
        return loss.detach(), torch.cat([p.grad.flatten() for p in network.gpt.parameters() if p.grad is not None])

    exact, exact_gradient = loss_and_gradients()
    HALF.place(network)
    assert network.features(windows.seen(torch.arange(2))).dtype == torch.float32
    half, half_gradient = loss_and_gradients()
    assert half != exact and half.item() == pytest.approx(exact.item(), rel=0.01)
    assert torch.cosine_similarity(half_gradient, exact_gradient, dim=0) > 0.99
    quick.set_precision(network, "float32")
    assert loss_and_gradients()[0] == exact


def test_a_copy_of_a_network_in_bfloat16_computes_with_its_own_weights() -> None:
    network = HALF.place(build_network(CONFIG)).eval()
    twin, row = copy.deepcopy(network), torch.ones(1, 4, CONFIG.gpt_input_dim)
    before = twin.gpt(row)
    nn.init.zeros_(network.gpt.head.weight)
    assert torch.equal(twin.gpt(row), before) and not network.gpt(row).any()


def test_every_policy_has_wide_parts() -> None:
    demos = load_demos(open_source("demo")).select([0])
    for name in ("bc", "bet", "act", "diffusion", "flow", "vqbet"):
        module = build(name, config_for(name, demos))
        inside = {p for part in quick.wide_parts(module) for p in part.parameters()}
        own = [p for key, p in module.named_parameters() if not key.startswith("vqvae")]
        assert sum(p.numel() for p in inside) > 0.5 * sum(p.numel() for p in own), name


class Stop(Hook):
    """Ends the policy's stage after four steps, as a kill would."""

    def before(self, stage: Any, step: int) -> bool:
        if stage.name == "policy" and step == 4:
            raise KeyboardInterrupt
        return True


def test_a_run_in_bfloat16_is_recorded_and_resumed_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqbet_course.training.checkpoints.SECONDS_BETWEEN", -1.0)
    folders = [tmp_path / name for name in ("straight", "killed", "float32")]
    for folder in folders:
        folder.mkdir()
    straight = small_run(folders[0], computing=HALF)
    with pytest.raises(KeyboardInterrupt):
        small_run(folders[1], computing=HALF, hooks=[Stop()])
    plan, _ = read_plan(folders[1] / "run")
    assert (plan.device, plan.precision) == ("cpu", "bfloat16")
    resume(folders[1] / "run", quiet=True)
    weights = [load_file(folder / "model.safetensors") for folder in (straight, folders[1] / "run")]
    assert same(*weights)
    assert not same(weights[0], load_file(small_run(folders[2]) / "model.safetensors"))


@pytest.mark.usefixtures("short_evaluations")
def test_a_policy_in_bfloat16_acts_nearly_alike_and_says_so(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    exact, half = load_run(run), load_run(run, HALF)
    seen = {name: torch.full((4, size), 0.1) for name, size in CONFIG.observation_sizes.items()}
    actions = []
    for policy in (VQBeTPolicy(run.policy.network, ActingConfig(0.0, 1)) for run in (exact, half)):
        policy.reset([torch.Generator().manual_seed(i) for i in range(4)])
        actions.append(policy.select_action(seen))
    assert actions[1].dtype == torch.float32 and not torch.equal(*actions)
    assert torch.allclose(actions[0], actions[1], atol=0.05)
    evaluated = ["--episodes", "1", "--videos", "0", "--precision", "bfloat16", "--out", str(tmp_path / "eval")]
    assert main(["eval", str(run), *evaluated]) == 0
    found = json.loads((tmp_path / "eval" / "run.json").read_text())
    assert found["computing"] == {"device": "cpu", "precision": "bfloat16"}


def test_an_exported_policy_names_its_device_and_precision(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    assert main(["export", str(run), "--precision", "bfloat16", "--out", str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["device"], config["use_amp"]) == ("cpu", True)


def test_a_panel_of_before_is_one_on_the_cpu_in_float32(tmp_path: Path) -> None:
    """Its results say neither device nor precision, and go into one table with results on the CPU only."""
    settings = Settings("demo", 4, 1, Budget(steps=9))
    contract = get_task(settings.task).contract.to_dict()
    before = {name: value for name, value in settings.to_dict().items() if name not in ("device", "precision")}
    result = {"policy": "bc", "seed": 1, "contract": contract, "settings": before}
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "bc.json").write_text("{}")
    with patch.object(panel, "parse_job", lambda values: [result]):
        assert panel.results_of(tmp_path, settings) == [result]
        with pytest.raises(BadInput, match="made with precision float32, not bfloat16"):
            panel.results_of(tmp_path, dataclasses.replace(settings, precision="bfloat16"))


def test_threads_that_wait_do_not_spin() -> None:
    code = "import os, vqbet_course; print(os.environ['OMP_WAIT_POLICY'])"
    free = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for given, found in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        done = subprocess.run([sys.executable, "-c", code], env=free | given, capture_output=True, text=True)
        assert done.stdout.strip() == found
