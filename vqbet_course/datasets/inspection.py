"""What a source of demonstrations holds: its contract, what it yields, and which episodes are unlike the others."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_atomically
from vqbet_course.core.progress import progress
from vqbet_course.core.specs import Field
from vqbet_course.core.units import of_each, places_of, short
from vqbet_course.datasets.source import (
    UNSTATED,
    BadEpisode,
    Episode,
    Source,
    check_cameras,
    check_gaps,
    check_shapes,
    is_state_or_action,
)
from vqbet_course.demos import episode_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONG = 3.0  # interquartile ranges beyond the quartiles at which a length is an outlier
JUMP = 5.0  # times the median of the episodes' largest steps
SATURATED = 0.2  # share of frames whose action is at the end of its range
AT_END = 10  # frames at the end of its range that a number needs to be saturated at all
SWITCH = 3  # different values up to which a number is a switch, like a gripper, and its ends mean nothing
FEW = 5  # episodes below which none can be unlike the others
STUCK_SECONDS = 3.0  # of standing still
ASSUMED_FPS = 10.0  # for these seconds, where the source does not say

HARDLY = 1e-3  # of the widest range in its unit, or of its own size, below which a number hardly varies
LISTED = 40  # numbers of a feature that the table lists

WINDOW = ("n_obs_steps", "n_action_pred_token", "action_chunk_size")  # what of a configuration shapes windows

Report = dict[str, Any]

PlotScene = Callable[["Axes"], bool]
"""Plots what does not move, like `Task.plot_scene`; False where there is nothing to plot."""


class Tally:
    """Range and gaps of one feature, episode by episode; of numbers, the range of each."""

    def __init__(self, shape: list[int]) -> None:
        self.shape, self.missing = shape, 0
        n = shape[0] if len(shape) == 1 else 1
        self.low, self.high = np.full(n, np.inf), np.full(n, -np.inf)

    def add(self, values: np.ndarray) -> None:
        """Count the values of one episode, (T, size), or of an image."""
        if len(self.shape) > 1:
            values = values.reshape(-1, 1)
        finite = np.isfinite(values)
        self.missing += int((~finite).sum())
        self.low = np.minimum(self.low, np.where(finite, values, np.inf).min(0, initial=np.inf))
        self.high = np.maximum(self.high, np.where(finite, values, -np.inf).max(0, initial=-np.inf))

    def to_dict(self, field: Field) -> dict[str, Any]:
        """Shape, unit, range and missing values, and those of each number with its name, ready for JSON."""
        low, high = float(self.low.min()), float(self.high.max())
        known = {"low": low, "high": high} if low <= high else {"low": None, "high": None}
        return {"shape": self.shape, "unit": field.unit, **known, "missing": self.missing} | (
            {"numbers": list(self.numbers(field))} if len(self.shape) == 1 else {}
        )

    def numbers(self, field: Field) -> Iterator[dict[str, Any]]:
        """Name, unit and range of each number, and whether it is constant or hardly varies."""
        spans, sizes = self.high - self.low, np.maximum(np.abs(self.low), np.abs(self.high))
        units = of_each(field.unit, len(spans))
        widest = {unit: max(spans[places]) for unit, places in places_of(units).items()}
        hardly = spans <= HARDLY * np.maximum(sizes, [widest[unit] for unit in units])
        for i, name in enumerate(replace(field, size=len(spans)).name_of_each("number")):
            if spans[i] < 0:  # no value at all
                yield {"name": name, "unit": units[i], "low": None, "high": None, "varies": "no value"}
                continue
            varies = "constant" if spans[i] == 0 else "hardly varies" if hardly[i] else "varies"
            yield {
                "name": name,
                "unit": units[i],
                "low": float(self.low[i]) + 0.0,  # and not -0
                "high": float(self.high[i]) + 0.0,
                "varies": varies,
            }


@dataclass(frozen=True)
class Inspection:
    """A report, ready for JSON, and what its plots show: states and actions of each episode, (T, size), by the number
    that options take, and the intervals between frames in seconds, (T - 1,), of those with a clock."""

    report: Report
    states: dict[int, np.ndarray]
    actions: dict[int, np.ndarray]
    intervals: list[np.ndarray]


def inspect_source(source: Source, config: VQBeTConfig | None = None, quiet: bool = False) -> Inspection:
    """Look at every episode once, as it is: nothing is refused here but what cannot be read.

    The report: the source's facts; `features` with shape, unit, range and missing values, of images by the first of
    each episode; `windows` and `chunks` for a configuration (`laptop` unless given); `outliers`, each with its reason.
    Episodes have the numbers that --drop-episodes takes. Raises BadInput, too, where no episode can be used.
    """
    config = config or VQBeTConfig.laptop(observation_sizes={"observation.state": 2})  # of which only the window counts
    tallies: dict[str, Tally] = {}
    states, actions, intervals, lengths = {}, {}, [], []
    tasks: Counter[str] = Counter()
    found: list[tuple[int, str]] = []
    widths: dict[str, int] = {}
    episodes = progress("inspecting", "episode", source.episodes(), source.n_episodes, quiet=quiet)
    for position, episode in enumerate(episodes):
        number = source.stored_number(position)
        lengths.append(len(episode))
        tasks.update(source.tasks_of(episode))
        try:
            widths = check_shapes(episode, widths)
        except BadEpisode as error:
            found.append((number, error.reason))
            continue
        found += [(number, why) for why in troubles(source, episode, config)]
        intervals += [np.diff(episode.clock)] if episode.clock is not None else []
        tally_episode(tallies, source, episode)
        state = state_name(episode)
        states[number], actions[number] = episode.numbers[state], episode.numbers["action"]
    if not states:
        raise BadInput(f"{source.path}: no episode can be used; {found[0][0]} for one: {found[0][1]}")
    fields = source.contract.features()
    units = of_each(fields[state].unit, widths[state])
    names = replace(fields["action"], size=widths["action"]).name_of_each("action")
    unlike = outliers(states, actions, units, names, source.fps or ASSUMED_FPS)
    report = source_facts(source, np.array(lengths), tasks, config) | {
        "features": {name: tally.to_dict(fields.get(name, Field(0))) for name, tally in tallies.items()},
        "outliers": [
            {"episode": number, "reason": reason} for number, reason in sorted([*found, *unlike], key=itemgetter(0))
        ],
        "unusable": sorted(source.dropped | {number for number, _ in found}) if found else [],
    }
    return Inspection(report, states, actions, intervals)


def source_facts(source: Source, lengths: np.ndarray, tasks: Counter[str], config: VQBeTConfig) -> Report:
    """What a source says of itself, how long its episodes (E,) are, in how many of them each task is done, and what they
    yield for a configuration."""
    return {
        "source": source.path,
        "kind": source.kind,
        "episodes": len(lengths),
        "frames": int(lengths.sum()),
        "fps": source.fps or UNSTATED,
        "task": source.task,
        "tasks": dict(tasks),
        "left_out": source.left_out,
        "splits": {name: len(numbers) for name, numbers in source.splits.items()},
        "robot": source.robot,
        "cameras": list(source.image_sizes),
        "operator": source.operator,
        "license": source.license,
        "lengths": {"shortest": int(lengths.min()), "median": float(np.median(lengths)), "longest": int(lengths.max())},
        "config": {name: getattr(config, name) for name in WINDOW},
        **yields(lengths, config),
    }


def tally_episode(tallies: dict[str, Tally], source: Source, episode: Episode) -> None:
    """Count the states and actions of an episode, and the first image of each camera, into the tally of each."""
    for name in filter(is_state_or_action, episode.numbers):
        tallies.setdefault(name, Tally([episode.numbers[name].shape[1]])).add(episode.numbers[name])
    for name, frames in episode.images.items():
        first = next(frames(), np.full(1, np.nan))
        tallies.setdefault(name, Tally(list(source.image_sizes.get(name, ())))).add(first)


def state_name(episode: Episode) -> str:
    """The feature that is the state of an episode: `observation.state`, else the first numbers that are observed, else
    the action."""
    observed = [name for name in episode.numbers if name.startswith("observation.")]
    return "observation.state" if "observation.state" in observed else [*observed, "action"][0]


def troubles(source: Source, episode: Episode, config: VQBeTConfig) -> Iterator[str]:
    """Why an episode whose numbers have the right shapes would be refused: a camera that others have or have not, frames
    that come late, numbers that are not finite, or too few frames for a window."""
    for check in (
        lambda: check_cameras(episode, source.image_sizes),
        *([] if source.ignore_gaps else [lambda: check_gaps(episode)]),
    ):
        try:
            check()
        except BadEpisode as error:
            yield error.reason
    missing = int((~np.isfinite(np.concatenate([*episode.numbers.values()], axis=1))).any(1).sum())
    if missing:
        yield f"{missing} rows with missing values"
    if not yields(np.array([len(episode)]), config)["windows"]:
        yield f"{len(episode)} frames, too few for a window"


def yields(lengths: np.ndarray, config: VQBeTConfig) -> dict[str, int]:
    """How many windows and chunks there are for a configuration, and how many episodes are too short for one."""
    counts = [
        [len(rows) for rows in episode_rows(0, int(n), config.n_obs_steps, config.n_queries, config.action_chunk_size)]
        for n in lengths
    ]
    whole = np.array([count for count in counts if count[0]] or [[0, 0, 0]])
    return {
        "windows": int(whole[:, 0].sum()),
        "chunks": int(whole[:, 1].sum()),
        "too_short": sum(not count[0] for count in counts),
    }


def outliers(
    states: dict[int, np.ndarray],
    actions: dict[int, np.ndarray],
    units: Sequence[str],
    names: Sequence[str],
    fps: float,
) -> Iterator[tuple[int, str]]:
    """Number and reason for each episode that is unlike the others, from {number: its states (T, S), actions (T, A)}, the
    unit of each number of a state, and the name of each number of an action."""
    lengths = np.array([len(action) for action in actions.values()])
    low, high = np.quantile(lengths, [0.25, 0.75])
    moves = {unit: state_moves([*states.values()], places) for unit, places in places_of(units).items()}
    shares, counts = at_ends([*actions.values()])
    usually = np.median(shares, axis=0)  # a joint that rests at an end in most episodes is not unlike the others
    for position, (number, action) in enumerate(actions.items()):
        if len(lengths) >= FEW and not low - LONG * (high - low) <= len(action) <= high + LONG * (high - low):
            yield number, f"length: {len(action)} frames, the median is {np.median(lengths):.0f}"
        for unit, (steps, largest, usual) in moves.items() if len(lengths) >= FEW else ():
            if largest[position] > JUMP * usual:
                in_unit = "" if unit == UNSTATED else f" {unit}"
                row = int(np.nanargmax(steps[position])) + 1
                most = f"{usual:.3g}{in_unit} at most"
                yield (
                    number,
                    f"jump: the state moves by {largest[position]:.3g}{in_unit} at once in row {row}, elsewhere by {most}",
                )
        saturated = (counts[position] >= AT_END) & (shares[position] > SATURATED + usually)
        if saturated.any():
            place = int(np.where(saturated, shares[position], 0).argmax())
            share = f"{shares[position, place]:.0%} of the frames, usually in {usually[place]:.0%}"
            yield number, f"saturated: {names[place]} is at the end of its range in {share}"
        resting = [steps[position] < 0.01 * max(usual, 1e-12) for steps, _, usual in moves.values()]
        still = longest_run(np.all(resting, axis=0))
        if still > STUCK_SECONDS * fps:
            yield number, f"stuck: the state stands still for {still / fps:.1f} s"


def at_ends(actions: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """In which share (E, A) of an episode's frames, and in how many, each number of its actions (T, A) is at the end of the
    range that it has in all of them; 0 for switches."""
    together = np.concatenate(actions)
    bottom, top = np.nanmin(together, axis=0), np.nanmax(together, axis=0)
    graded = np.array([len(np.unique(values)) > SWITCH for values in together.T])
    counts = np.array([(((action == bottom) | (action == top)) & graded).sum(0) for action in actions])
    return counts / np.array([[len(action)] for action in actions]), counts


def state_moves(states: list[np.ndarray], places: list[int]) -> tuple[list[np.ndarray], np.ndarray, float]:
    """How far the numbers at these places move at once, of all episodes: each step (T - 1,), the largest of each episode
    (E,), and the median of these."""
    steps = [np.linalg.norm(np.diff(state[:, places], axis=0), axis=1) for state in states]
    largest = np.array([np.nanmax(step, initial=0.0) for step in steps])
    return steps, largest, float(np.median(largest))


def longest_run(flags: np.ndarray) -> int:
    """The most True in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def table_of(report: Report) -> str:
    """The report as text."""
    facts = {
        "source": f"{report['source']} ({report['kind']})",
        "episodes": f"{report['episodes']}, {report['frames']} frames, {report['fps']} frames a second",
        "length": "{shortest} to {longest} frames, median {median:g}".format(**report["lengths"]),
        "task": report["task"] if len(report["tasks"]) < 2 else f"{len(report['tasks'])} tasks",
        "robot": report["robot"],
        "cameras": ", ".join(report["cameras"]) or "none",
        "operator": report["operator"],
        "license": report["license"],
        **({"splits": ", ".join(f"{name} {n}" for name, n in report["splits"].items())} if report["splits"] else {}),
        "yields": "{windows} windows, {chunks} chunks; {too_short} episodes are too short".format(**report),
        "with": ", ".join(f"{name} {value}" for name, value in report["config"].items()),
    }
    lines = [f"{name:10} {value}" for name, value in facts.items()]
    if len(report["tasks"]) > 1:
        lines += ["", *(f"  {n} {'episode' if n == 1 else 'episodes'}: {task}" for task, n in report["tasks"].items())]
    width, wide = (
        max(map(len, report["features"])),
        max(8, *(len(short(f["unit"])) for f in report["features"].values())),
    )
    lines += [
        "",
        f"{'feature':{width}}  {'shape':>12}  {'unit':>{wide}}  {'lowest':>9}  {'highest':>9}  {'missing':>7}",
    ]
    for name, f in report["features"].items():
        unit, shape = short(f["unit"]), " x ".join(map(str, f["shape"]))
        comparable = f["low"] is not None and unit == f["unit"]
        low, high = (f"{f[end]:.4g}" if comparable else "" for end in ("low", "high"))
        lines.append(f"{name:{width}}  {shape:>12}  {unit:>{wide}}  {low:>9}  {high:>9}  {f['missing']:>7}")
    lines += table_of_numbers(report["features"])
    if report["left_out"]:
        lines += ["", "left out:", *(f"  {name}: {why}" for name, why in report["left_out"].items())]
    lines += ["", f"{len(report['outliers'])} outliers" + (":" if report["outliers"] else "")]
    lines += [f"  episode {outlier['episode']}: {outlier['reason']}" for outlier in report["outliers"]]
    if report["unusable"]:
        numbers = ",".join(map(str, report["unusable"]))
        lines += ["", f"leave out what cannot be used with: vqbet-course demos convert ... --drop-episodes {numbers}"]
    return "\n".join(lines)


def table_of_numbers(features: dict[str, dict[str, Any]]) -> list[str]:
    """The range of every number, feature after feature, and what of them hardly varies."""
    many = {name: feature["numbers"] for name, feature in features.items() if len(feature.get("numbers", ())) > 1}
    width = max((len(row["name"]) for rows in many.values() for row in rows[:LISTED]), default=0)
    lines: list[str] = []
    for feature, rows in many.items():
        lines += ["", f"numbers of {feature}"]
        for row in rows[:LISTED]:
            low, high = ("" if row[end] is None else f"{row[end]:.4g}" for end in ("low", "high"))
            mark = "" if row["varies"] == "varies" else f"  {row['varies']}"
            lines.append(f"  {row['name']:{width}}  {row['unit']:>8}  {low:>9}  {high:>9}{mark}")
        if len(rows) > LISTED:
            lines.append(f"  and {len(rows) - LISTED} more, which --json lists")
    return lines


def plot(inspection: Inspection, path: Path, plot_scene: PlotScene | None = None) -> None:
    """What `draw_inspection` draws as a PNG, written whole or not at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    draw_inspection(figure, inspection, plot_scene)
    write_atomically(path, lambda partial: figure.savefig(partial, dpi=110, format="png"))


def draw_inspection(figure: "Figure", inspection: Inspection, plot_scene: PlotScene | None = None) -> None:
    """The lengths, the actions and a few traces; over the scene, where the first two numbers are positions in one that
    `plot_scene` plots."""
    lengths, heat, traces, *more = figure.subplots(1, 4 if inspection.intervals else 3)
    report = inspection.report
    lengths.hist([len(action) for action in inspection.actions.values()], bins=30, color="#0072B2")
    lengths.yaxis.get_major_locator().set_params(integer=True)
    lengths.set(xlabel="frames", ylabel="episodes", title=f"lengths of {report['episodes']} episodes")
    for axes in more:
        draw_intervals(axes, inspection.intervals)
    draw_actions(heat, np.concatenate([*inspection.actions.values()]), plot_scene)
    planar = plot_scene is not None and plot_scene(traces)
    numbers = [*inspection.states]
    chosen = [numbers[i] for i in np.linspace(0, len(numbers) - 1, min(4, len(numbers))).astype(int)]
    for number, colour in zip(chosen, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False):
        state = inspection.states[number]
        across = state.T[:2] if planar else (np.arange(len(state)), state[:, 0])
        traces.plot(*across, color=colour, lw=1.2, label=f"episode {number}")
        traces.plot(across[0][0], across[1][0], "o", color=colour)
    traces.set(
        title="some traces; a dot is the start",
        **({} if planar else {"xlabel": "frame", "ylabel": "first number of the state"}),
    )
    traces.legend(fontsize=8)


def draw_intervals(axes: "Axes", intervals: list[np.ndarray]) -> None:
    """The seconds from each frame to the next, episode after episode: a gap is a spike."""
    together = np.concatenate(intervals)
    axes.plot(1000 * together, color="#0072B2", lw=0.8)
    axes.set(
        xlabel="frame, episode after episode",
        ylabel="milliseconds since the frame before",
        title="intervals",
        ylim=(0, None),
    )


def draw_actions(axes: "Axes", actions: np.ndarray, plot_scene: PlotScene | None) -> None:
    """Where the first two numbers of the actions lie."""
    finite = actions[np.isfinite(actions).all(1)]
    second = finite[:, min(1, finite.shape[1] - 1)]
    planar = plot_scene is not None and plot_scene(axes)
    limits = (axes.get_xlim(), axes.get_ylim())
    within = [sorted(ends) for ends in limits] if planar else None
    *_, image = axes.hist2d(finite[:, 0], second, bins=40, cmin=1, range=within)
    axes.figure.colorbar(image, ax=axes, label="frames per cell")
    if planar:
        axes.set(xlim=limits[0], ylim=limits[1])  # the histogram has turned the y axis over
    else:
        axes.set(xlabel="first number", ylabel="second number")
    axes.set(title=f"{len(actions)} actions")
