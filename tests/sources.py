"""A small sound source of every kind, with the numbers that must come out of it."""

import datetime
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import zarr
from PIL import Image

from vqbet_course.tasks.pusht.geometry import block_keypoints

LENGTHS = (6, 4)
ENDS = np.cumsum(LENGTHS)


@dataclass(frozen=True)
class Truth:
    """What a source holds: numbers {feature: (N, size)}, images {feature: (N, H, W, 3)}, frames a second, 0: unstated."""

    numbers: dict[str, np.ndarray]
    fps: float
    images: dict[str, np.ndarray]


def states(n: int = sum(LENGTHS), seed: int = 0) -> np.ndarray:
    """Random states (n, 5) of PushT, as its authors keep them."""
    draw = np.random.default_rng(seed)
    return np.column_stack([draw.uniform(50, 450, (n, 4)), draw.uniform(0, 2 * np.pi, n)]).astype(np.float32)


def pusht(images: bool = False) -> Truth:
    state = states()
    numbers = {
        "observation.environment_state": block_keypoints(state[:, 2:].astype(np.float64)).astype(np.float32),
        "observation.state": state[:, :2],
        "action": state[:, :2] + 5,
        "source.state": state,
    }
    return Truth(numbers, 10.0, {"observation.image": photos()} if images else {})


def photos(n: int = sum(LENGTHS), height: int = 8, width: int = 12, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def some_numbers(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(sum(LENGTHS), size)).astype(np.float32)


def spans() -> list[tuple[int, int, int]]:
    return [(i, int(end) - length, int(end)) for i, (end, length) in enumerate(zip(ENDS, LENGTHS, strict=True))]


def npz(folder: Path, **changes: object) -> tuple[Path, Truth]:
    arrays = {"state": states(), "action": states()[:, :2] + 5, "episode_ends": ENDS} | changes
    np.savez(folder / "demos.npz", **{k: v for k, v in arrays.items() if v is not None})  # type: ignore[arg-type]
    return folder / "demos.npz", pusht()


def fill_replay_buffer(store: object) -> None:
    group = zarr.create_group(store, zarr_format=2)  # type: ignore[arg-type]
    for name, values in {
        "data/state": states(),
        "data/action": states()[:, :2] + 5,
        "meta/episode_ends": ENDS,
        "data/img": photos().astype(np.float32),
    }.items():
        array = group.create_array(name, shape=values.shape, chunks=(3, *values.shape[1:]), dtype=values.dtype)
        array[:] = values


def replay_zarr(folder: Path) -> tuple[Path, Truth]:
    fill_replay_buffer(folder / "demos.zarr")
    return folder / "demos.zarr", pusht(images=True)


def zipped_zarr(folder: Path) -> tuple[Path, Truth]:
    with zarr.storage.ZipStore(folder / "demos.zarr.zip", mode="w") as store:
        fill_replay_buffer(store)
    return folder / "demos.zarr.zip", pusht(images=True)


def robomimic(folder: Path) -> tuple[Path, Truth]:
    position, grip, world, action = (some_numbers(size, seed) for seed, size in enumerate((3, 2, 4, 7)))
    with h5py.File(folder / "demos.hdf5", "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps(
            {"env_name": "Lift", "env_kwargs": {"control_freq": 20, "robots": "Panda"}}
        )
        for i, start, end in spans():
            demo = file.create_group(f"data/demo_{2 + 8 * i}")  # demo_2, demo_10: by number, not by letter
            demo["actions"] = action[start:end].astype(np.float64)
            for name, values in {"eef_pos": position, "gripper": grip, "object": world, "eye_image": photos()}.items():
                demo[f"obs/{name}"] = values[start:end]
        for name, demos in {"train": [b"demo_10"], "valid": [b"demo_2"], "all": [b"demo_2", b"demo_10"]}.items():
            file[f"mask/{name}"] = demos
    numbers = {
        "observation.state": np.hstack([position, grip]),
        "observation.environment_state": world,
        "action": action,
    }
    return folder / "demos.hdf5", Truth(numbers, 20.0, {"observation.images.eye_image": photos()})


def aloha(folder: Path) -> tuple[Path, Truth]:
    position, velocity, action = (some_numbers(14, seed) for seed in range(3))
    (folder / "aloha").mkdir()
    for i, start, end in spans():
        with h5py.File(folder / "aloha" / f"episode_{9 + i}.hdf5", "w") as file:  # 9, 10
            for name, values in {
                "observations/qpos": position,
                "observations/qvel": velocity,
                "action": action,
                "observations/images/top": photos(),
            }.items():
                file[name] = values[start:end]
    numbers = {"observation.state": position, "observation.velocity": velocity, "action": action}
    return folder / "aloha", Truth(numbers, 50.0, {"observation.images.top": photos()})


def csv_folder(folder: Path) -> tuple[Path, Truth]:
    state, action = some_numbers(3, 0), some_numbers(2, 1)
    for i, start, end in spans():
        place = folder / "teleop" / f"episode_{i:03d}"
        (place / "wrist").mkdir(parents=True)
        columns = {"timestamp": np.arange(end - start) / 20} | {f"joint_{j}": state[start:end, j] for j in range(3)}
        columns |= {f"action_{j}": action[start:end, j] for j in range(2)}
        pyarrow.csv.write_csv(pa.table(columns), place / "log.csv")
        for row, image in enumerate(photos()[start:end]):
            Image.fromarray(image).save(place / "wrist" / f"{row}.png")
    numbers = {"observation.state": state, "action": action}
    return folder / "teleop", Truth(numbers, 20.0, {"observation.images.wrist": photos()})


def parquet_folder(folder: Path) -> tuple[Path, Truth]:
    state, action = some_numbers(3, 0), some_numbers(2, 1)
    for i, start, end in spans():
        place = folder / "logs" / f"episode_{i}"
        place.mkdir(parents=True)
        table = {
            "time": 0.5 + np.arange(end - start) / 30,
            "frame_index": np.arange(end - start),
            "joints": state[start:end].tolist(),
            "action": action[start:end].tolist(),
        }
        pq.write_table(pa.table(table), place / "log.parquet")
    return folder / "logs", Truth({"observation.state": state, "action": action}, 30.0, {})


def lerobot(folder: Path) -> tuple[Path, Truth]:
    """Written by hand; its second episode is cut in two by the end of a file."""
    numbers = {
        "observation.state": some_numbers(2, 0),
        "observation.effort": some_numbers(1, 1),
        "action": some_numbers(2, 2),
    }
    episode, frame = np.repeat([0, 1], LENGTHS), np.concatenate([np.arange(n) for n in LENGTHS])
    columns: dict[str, pa.Array] = {k: pa.array(v.tolist() if v.shape[1] > 1 else v[:, 0]) for k, v in numbers.items()}
    columns |= {
        "timestamp": pa.array((frame / 30).astype(np.float32)),
        "frame_index": pa.array(frame),
        "episode_index": pa.array(episode),
        "index": pa.array(np.arange(len(frame))),
        "task_index": pa.array(np.zeros(len(frame), int)),
    }
    table, place = pa.table(columns), folder / "dataset"
    (place / "data" / "chunk-000").mkdir(parents=True)
    pq.write_table(table.slice(0, 8), place / "data" / "chunk-000" / "file-000.parquet")
    pq.write_table(table.slice(8), place / "data" / "chunk-000" / "file-001.parquet")
    features = {
        k: {
            "dtype": "int64" if "index" in k else "float32",
            "shape": [numbers[k].shape[1] if k in numbers else 1],
            "names": None,
        }
        for k in columns
    }
    (place / "meta").mkdir()
    (place / "meta" / "info.json").write_text(
        json.dumps({"fps": 30, "total_frames": len(frame), "total_episodes": 2, "features": features})
    )
    return place, Truth(numbers, 30.0, {})


def write_lossless_video(path: Path, images: np.ndarray, rate: int) -> None:
    """Write images (N, H, W, 3) as a video that loses nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=rate, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], "rgb24"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))  # type: ignore[arg-type]
        container.mux(stream.encode())


def in_videos(folder: Path, version: int) -> tuple[Path, Truth]:
    """The dataset of `lerobot`, with a camera whose images are kept as videos, as most datasets of the hub have them."""
    place, truth = lerobot(folder)
    camera, images = "observation.images.top", photos(height=16, width=24)
    layout = (
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    )[version - 2]
    info = json.loads((place / "meta" / "info.json").read_text())
    info["features"][camera] = {"dtype": "video", "shape": [16, 24, 3], "names": ["height", "width", "channel"]}
    (place / "meta" / "info.json").write_text(json.dumps(info | {"video_path": layout}))
    if version == 2:
        for i, start, end in spans():
            write_lossless_video(
                place / "videos" / "chunk-000" / camera / f"episode_{i:06d}.mp4", images[start:end], 30
            )
    else:
        write_lossless_video(place / "videos" / camera / "chunk-000" / "file-000.mp4", images, 30)
        rows = [
            {
                "episode_index": i,
                "length": end - start,
                f"videos/{camera}/chunk_index": 0,
                f"videos/{camera}/file_index": 0,
                f"videos/{camera}/from_timestamp": start / 30,
            }
            for i, start, end in spans()
        ]
        (place / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), place / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    return place, Truth(truth.numbers, truth.fps, {camera: images})


def lerobot_videos(folder: Path) -> tuple[Path, Truth]:
    return in_videos(folder, 3)


def lerobot_v2_videos(folder: Path) -> tuple[Path, Truth]:
    return in_videos(folder, 2)


def maniskill(folder: Path) -> tuple[Path, Truth]:
    """An observation more than there are actions, as ManiSkill keeps them."""
    joints, speeds, goal, action = (some_numbers(size, seed) for seed, size in enumerate((3, 2, 4, 7)))
    with h5py.File(folder / "trajectory.h5", "w") as file:
        for i, start, end in spans():
            one_more = np.minimum(np.arange(start, end + 1), end - 1)
            trajectory = file.create_group(f"traj_{2 + 8 * i}")
            trajectory["actions"], trajectory["success"] = action[start:end], np.ones(end - start, bool)
            for name, values in {
                "agent/qpos": joints,
                "agent/qvel": speeds,
                "extra/goal_pos": goal,
                "sensor_data/eye/rgb": photos(),
            }.items():
                trajectory[f"obs/{name}"] = values[one_more]
            trajectory["obs/sensor_data/eye/depth"] = np.zeros((end - start + 1, 8, 12, 1), np.int16)
    (folder / "trajectory.json").write_text(
        json.dumps({"env_info": {"env_id": "PickCube-v1", "env_kwargs": {"sim_config": {"control_freq": 20}}}})
    )
    numbers = {
        "observation.state": np.hstack([joints, speeds]),
        "observation.environment_state": goal,
        "action": action,
    }
    return folder / "trajectory.h5", Truth(numbers, 20.0, {"observation.images.eye": photos()})


def gello(folder: Path, protocol: int = 4) -> tuple[Path, Truth]:
    """A pickle for each frame, named by its time; the first second has no fraction, as isoformat writes it."""
    joints, hand, action = (some_numbers(size, seed) for seed, size in enumerate((7, 1, 7)))
    for i, start, end in spans():
        place = folder / "gello" / f"1125_10{i}000"
        place.mkdir(parents=True)
        for row in range(start, end):
            time = datetime.datetime(2025, 11, 25, 10, i) + datetime.timedelta(seconds=(row - start) / 10)
            frame = {
                "joint_positions": joints[row],
                "gripper_position": np.float32(hand[row, 0]),
                "control": action[row],
                "base_rgb": photos()[row],
                "base_depth": np.zeros((8, 12, 1), np.uint16),
            }
            (place / f"{time.isoformat()}.pkl").write_bytes(pickle.dumps(frame, protocol))
    numbers = {"observation.state": joints, "observation.gripper_position": hand, "action": action}
    return folder / "gello", Truth(numbers, 10.0, {"observation.images.base": photos()})


def recorded(folder: Path) -> tuple[Path, Truth]:
    """A real robot's replay buffer: numbers without a second axis, and a clock of seconds since 1970."""
    pose, stage, action = some_numbers(6, 0), some_numbers(1, 1), some_numbers(6, 2)
    group = zarr.create_group(folder / "robot.zarr", zarr_format=2)
    for name, values in {
        "data/robot_eef_pose": pose,
        "data/stage": stage[:, 0],
        "data/action": action,
        "data/timestamp": 1672955667.4 + np.arange(len(pose)) / 10,
        "meta/episode_ends": ENDS,
    }.items():
        array = group.create_array(name, shape=values.shape, chunks=(3, *values.shape[1:]), dtype=values.dtype)
        array[:] = values
    numbers = {"observation.robot_eef_pose": pose, "observation.stage": stage, "action": action}
    return folder / "robot.zarr", Truth(numbers, 10.0, {})


def authors(folder: Path) -> tuple[Path, Truth]:
    """Arrays of the authors of VQ-BeT: episodes side by side, each as long as its mask says."""
    seen, action = some_numbers(5, 0), some_numbers(3, 1)
    place, longest = folder / "authors", max(end - start for _, start, end in spans())
    place.mkdir()
    stacked = {name: np.zeros((2, longest, size), np.float32) for name, size in (("observations", 5), ("actions", 3))}
    mask = np.zeros((2, longest), bool)
    for i, start, end in spans():
        stacked["observations"][i, : end - start], stacked["actions"][i, : end - start] = (
            seen[start:end],
            action[start:end],
        )
        mask[i, : end - start] = True
    for name, values in stacked.items():
        np.save(place / f"{name}_seq.npy", values.transpose(1, 0, 2))
    np.save(place / "existence_mask.npy", mask.T)
    return place, Truth({"observation.state": seen, "action": action}, 0.0, {})


Make = Callable[[Path], tuple[Path, Truth]]

MAKERS: dict[str, Make] = {
    f.__name__: f
    for f in (
        npz,
        replay_zarr,
        zipped_zarr,
        robomimic,
        aloha,
        csv_folder,
        parquet_folder,
        lerobot,
        lerobot_videos,
        lerobot_v2_videos,
        maniskill,
        gello,
        recorded,
    )
}
