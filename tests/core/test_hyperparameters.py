"""Fields of the configuration are documented whole, and set from a file and the command line with clear refusals."""

from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from vqbet_course.cli import cli, main
from vqbet_course.core.configuration import LAPTOP, VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.hyperparameters import FROM_DATA, MEANINGS, changes_from, hyperparameters, in_words

pytestmark = pytest.mark.fast


def test_every_field_has_a_unit_and_a_meaning() -> None:
    assert list(MEANINGS) == [f.name for f in fields(VQBeTConfig)]
    assert all(unit and meaning for unit, meaning in MEANINGS.values())


def test_what_is_listed_can_be_set_again() -> None:
    """Default and laptop value of every field, read back as they are printed, are the values themselves."""
    blank = VQBeTConfig(observation_sizes={"observation.state": 2})
    for row in hyperparameters():
        if row.name not in FROM_DATA:
            assert changes_from(None, [f"{row.name}={row.default}"])[row.name] == getattr(blank, row.name)
            laptop = LAPTOP.get(row.name, getattr(blank, row.name))
            assert changes_from(None, [f"{row.name}={row.laptop}"])[row.name] == laptop


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), st.tuples(st.integers(0))))
def test_values_survive_being_written(value: object) -> None:
    from vqbet_course.core.configuration import from_json
    from vqbet_course.core.hyperparameters import parse

    read = from_json(parse(in_words(value), "here"))
    assert read == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    for name, text in {
        "c.yaml": "dropout: 0.2\noptimizer_lr: 1e-3\n",
        "c.json": '{"dropout": 0.2, "optimizer_lr": 1e-3}',
    }.items():
        (tmp_path / name).write_text(text)
        found = changes_from(tmp_path / name, ["dropout=0"])
        assert found == {"dropout": 0, "optimizer_lr": 1e-3}


BAD_SETTINGS = [
    "dropout",
    "drop_out=0.1",
    "action_dim=3",
    "observation_sizes={}",
    "action_chunk_size=four",
    "action_chunk_size=4.5",
    "action_chunk_size=true",
    "optimizer_lr=.nan",
    "optimizer_betas=[0.9]",
    "dropout=[",
    "dropout=!!python/object:os.system",
    "crop_shape=84",
    "=",
]


@pytest.mark.parametrize("setting", BAD_SETTINGS)
def test_a_bad_setting_is_refused_by_name(setting: str) -> None:
    with pytest.raises(BadInput, match="--set"):
        changes_from(None, [setting])


@pytest.mark.parametrize(
    "text", ["", "- 1", "dropout: [", "dropout: 0.1\n? : x", "1: 2", "\x00", "dropout: 2020-01-01"]
)
def test_a_bad_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(BadInput, match="c.yaml"):
        changes_from(tmp_path / "c.yaml", [])


def test_a_bad_setting_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Impossible values are found before a run begins: one line, exit status 2, no folder."""
    for bad in (
        ["--set", "action_chunk_size=0"],
        ["--set", "dropout=0", "--set", "dropout=0"],
        ["--config", str(tmp_path / "missing.yaml")],
        ["--config", str(tmp_path)],
        ["--threads", "0"],
    ):
        assert main(["train", "--steps", "3", "--out", str(tmp_path / "run"), *bad]) == 2
        assert not (tmp_path / "run").exists()
    assert "missing.yaml" in capsys.readouterr().err


def test_config_lists_every_field() -> None:
    text = CliRunner().invoke(cli, ["config"]).output
    assert all(f"{f.name}: " in text for f in fields(VQBeTConfig))
