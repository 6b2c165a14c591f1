"""Every small change of every solution is told from the solution, or is listed here as equal to it, with the reason."""

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor

from vqbet_course.grading import judging
from vqbet_course.grading.checks import Check, all_checks
from vqbet_course.grading.lessons import lab_of
from vqbet_course.grading.mutation import DETACHED, EXCHANGED, Mutant, mutants
from vqbet_course.grading.runner import Outputs, ask

SEEDS = (0, 1, 2)
LONGEST_S = 60
SYMMETRIC = ("max", "min", "maximum", "minimum", "l1_loss", "mse_loss", "transpose")

TWO_AXES = "all values that are asked have two axes, so that the last axis is number 1"
NOTHING_PROMISED = "the docstring promises nothing about it"
REFUSED_ANYWAY = "what is called afterwards refuses it"
LENIENT = "a number may come as any kind of number"

EQUIVALENT: dict[str, dict[str, str]] = {
    "1.2": {"chunks.ndim != 2 or codebook.ndim != 2 or chunks.shape[1] != codebook.shape[1] -> ": NOTHING_PROMISED},
    "1.3": {
        "len(points) == 0 or n_codes < 1 -> len(points) == 0": REFUSED_ANYWAY,
        "1 -> 0": REFUSED_ANYWAY,
        "points[order[torch.arange(n_codes) % len(points)]].clone() -> ": "indexing with a tensor copies",
        "0 -> 1": "which points a code wins alone depends on the start, which is the student's to draw",
        "counts.clamp(min=1) -> counts": "`where` takes the old code there",
        "torch.arange(n_codes) -> ": "which points are drawn first is the student's choice",
        "range(n_iters) -> range(0 ": "as many steps",
    },
    "1.4": {
        "0 -> 1": "a single token outside is refused by bincount or indexing, or not at all: nobody has one alone",
        "counts.double() -> counts": LENIENT,
        "counts.sum().clamp(min=1) -> counts.sum()": "without tokens the share is not used",
        "1 -> 2": "without tokens the share is not used",
        "1 -> 0": "without tokens the share is not used",
        "(counts > 0).float().mean().item() -> ": LENIENT,
        "torch.nonzero(counts == 0).flatten().tolist() -> ": LENIENT,
    },
    "2.1": {"quantized -> ": "it is detached around it", "x -> ": "it is detached around it"},
    "2.2": {
        "if x.ndim != 2": REFUSED_ANYWAY,
        "x.ndim != 2 or x.shape[1] != self.codebook.shape[1] -> ": REFUSED_ANYWAY,
        "x.detach() -> x": "codes have no gradient, and buffers are asked for their values",
    },
    "2.3": {"x -> x.detach()": "only its shape is used", "(codes, losses) -> ": "two empty lists"},
    "3.2": {"self.embed(chunks) -> ": "codes have no gradient"},
    "4.1": {"part.view(B, T, self.n_head, -1).transpose(1, 2) -> ": "transpose takes its two axes in any order"},
    "4.3": {"torch.arange(T, device=x.device) -> torch.arange(T)": "the check runs on the processor alone"},
    "5.1": {
        "F.log_softmax(logits, dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1) -> ": TWO_AXES,
        "F.log_softmax(logits, dim=-1) -> ": TWO_AXES,
        "-1 -> 1": TWO_AXES,
        "1 -> 2": TWO_AXES,
        "1 -> 0": TWO_AXES,
    },
    "5.2": {
        "temperature < torch.finfo(logits.dtype).tiny -> ": "the smallest number itself is as good as 0",
        "torch.finfo(logits.dtype) -> ": "all logits that are asked have the default type",
        "logits = logits - logits.amax": "softmax subtracts it, too",
        "logits - logits.amax": "softmax subtracts it, too",
        "logits.amax(dim=-1, keepdim=True) -> ": "softmax subtracts it, too",
    },
    "5.3": {
        "uniform[:, 0].long() -> ": "the joint form tells it to nobody",
        ": -> ": "the joint form tells it to nobody",
        "0 -> ": "the joint form tells it to nobody",
        "logits -> ": "a drawn code has no gradient",
        "primary_logits -> ": "a drawn code has no gradient",
        "F.one_hot(primary, self.n_codes).to(features.dtype) -> ": "cat makes one type of both",
    },
    "5.4": {"offsets.gather(2, index).squeeze(2) -> offsets.gather(2, index).squeeze()": "no other axis has length 1"},
    "6.1": {
        "0 -> -1": "that axis has length 1",
        "range(n, end, n + 1) -> range(n, end + 1, n + 1)": "no place between",
    },
    "6.3": {"0 -> ": "all chunks have one length"},
    "7.2": {
        "1 -> 0": "no window asks for fewer queries than it has observations",
        "0 -> -1": "V below 1 says that the episode is too short",
    },
    "7.3": {
        "zip(demos.episode_starts": "both always have one length",
        "True -> False": "both always have one length",
    },
    "7.4": {
        "if values.ndim != 2": REFUSED_ANYWAY,
        "values.ndim != 2 or values.shape[1] % 2 -> ": REFUSED_ANYWAY,
        "2 -> 1": REFUSED_ANYWAY,
        "1 -> 2": REFUSED_ANYWAY,
        "values.reshape(len(values), -1, 2).astype(np.float64) -> ": LENIENT,
        "points[:, order.get(name, slice(None))].reshape(values.shape).astype(values.dtype) -> ": LENIENT,
        "order.get(name, slice(None)) -> ": "None adds an axis of length 1, which reshape takes away",
        "slice(None) -> ": "None adds an axis of length 1, which reshape takes away",
    },
    "8.3": {"torch.optim.AdamW(groups, fused=True, **options) -> ": "only faster", "True -> False": "only slower"},
    "8.4": {"zip(average": "both modules have one shape", "True -> False": "both modules have one shape"},
    "9.1": {"action.clamp(*bounds).double()": LENIENT},
    "10.2": {
        "self.encoder(window).squeeze(2) -> ": "no other axis has length 1",
        "draw_uniform(len(features), 1, self.generators).to(features.device) -> ": "the check runs on the processor alone",
        "len(features) -> ": NOTHING_PROMISED,
        "features -> ": "what is decided teaches nothing",
        "self.offset_head(features, codes) -> ": "what is decided teaches nothing",
        "self.offset_head(features, codes.unsqueeze(1)).squeeze(1) -> ": "no other axis has length 1",
        "0 -> -1": "there is one layer",
    },
    "11.1": {"-1 -> 1": "of one step there are two axes, so that the last is number 1"},
    "11.2": {
        "torch.arange(1, n + 1, device=now.device) -> ": "the check runs on the processor alone",
        "(first[:, None] + share * (last - first)[:, None]).round().long() -> ": LENIENT,
    },
    "12.1": {
        "torch.linspace(-1, 1, n, dtype=torch.float64) -> ": "the difference is one of rounding",
        "torch.cartesian_prod(y, x).flip(1).float() -> ": LENIENT,
    },
    "12.2": {
        "pixel_grid(*maps.shape[2:]).to(maps) -> ": "all numbers that are asked have the default type",
        "maps -> ": "only its type is used",
    },
}
"""{exercise: {how a change begins, as `before -> after`: why it is no mistake}}."""


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """A TimeoutError after so many seconds: a change can make a loop endless."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answers(check: type[Check], names: dict[str, Any], seed: int) -> tuple[Outputs, int]:
    """The outputs of a definition, and how often it detached something that had a gradient."""
    cut: list[bool] = []
    detach = Tensor.detach
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "detach", lambda self: (cut.append(self.requires_grad), detach(self))[1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ask(check.probe, names[check.answer], check.inputs(seed)), sum(cut)


def survives(
    mutant: Mutant, check: type[Check], names: dict[str, Any], expected: dict[int, tuple[Outputs, int]]
) -> bool:
    """Whether a change is not told from the solution, though it changes something."""
    names = dict(names)
    cut_alike = True
    try:
        with alarm(LONGEST_S):
            exec(mutant.source, names)
            for seed, (right, cuts) in expected.items():
                got, own_cuts = answers(check, names, seed)
                cut_alike &= own_cuts == cuts
                if judging.difference(right, got, check):
                    return False
    except Exception:
        return False
    if mutant.kind == DETACHED and (cut_alike or not any("gradient" in name for name in expected[0][0])):
        return False  # it detached what had no gradient, or the exercise has nothing that learns
    return not (mutant.kind == EXCHANGED and mutant.change.split("(")[0].split(".")[-1] in SYMMETRIC)


def surviving(exercise_id: str) -> list[Mutant]:
    """The changes of a solution that the check does not notice."""
    check, lab = all_checks()[exercise_id], lab_of(exercise_id)
    names = dict(vars(judging.released_module(lab)))
    expected = {seed: answers(check, names, seed) for seed in SEEDS}
    changed = mutants(lab.exercises[exercise_id].solution, check.blanks())
    return [mutant for mutant in changed if survives(mutant, check, names, expected)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("exercise_id", list(all_checks()))
def test_every_change_of_a_solution_is_noticed_or_is_listed_with_its_reason(exercise_id: str) -> None:
    listed, left = EQUIVALENT.get(exercise_id, {}), [mutant.change for mutant in surviving(exercise_id)]
    unknown = [change for change in left if not any(change.startswith(begin) for begin in listed)]
    assert not unknown, "\n".join(unknown)
    gone = [begin for begin in listed if not any(change.startswith(begin) for change in left)]
    assert not gone, f"listed as equal, but noticed or no longer there: {gone}"


@pytest.mark.parametrize("exercise_id", ["4.2", "5.4", "6.1", "6.2"])
def test_a_result_that_is_detached_is_noticed(exercise_id: str) -> None:
    check, lab = all_checks()[exercise_id], lab_of(exercise_id)
    names = dict(vars(judging.released_module(lab)))
    changed = [
        mutant for mutant in mutants(lab.exercises[exercise_id].solution, check.blanks()) if mutant.kind == DETACHED
    ]
    expected = {0: answers(check, names, 0)}
    assert changed and not any(survives(mutant, check, names, expected) for mutant in changed)
