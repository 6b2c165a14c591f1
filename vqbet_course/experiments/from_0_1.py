"""Bring result files of version 0.1 into the form of this version; nothing is measured again.

    python -m vqbet_course.experiments.from_0_1 FOLDER...

An ablation gets the full configuration that it was made with: in 0.1 a file told only what it changed in the laptop's
configuration, which has not changed since. A panel, and each of its jobs, gets the names of 0.2; a panel its tests and
its claims. The folder of a panel's jobs is PANEL/jobs.
"""

import json
from pathlib import Path
from typing import Any

import click

from vqbet_course.core.io import write_text
from vqbet_course.experiments.ablations import Variant, full_config, stored_form
from vqbet_course.experiments.panel import SCHEMA
from vqbet_course.experiments.verdicts import claims, paired_tests

RENAMED = {"rollouts": "episodes", "films": "videos"}


def in_todays_words(values: dict[str, Any]) -> dict[str, Any]:
    """The same with the names of 0.2, in the same order."""
    return {RENAMED.get(name, name): value for name, value in values.items()}


def convert(values: dict[str, Any]) -> dict[str, Any]:
    """A result file's content as this version writes it."""
    schema = values.get("schema")
    if schema == "vqbet_course/ablation/1" and "config" not in values:
        return values | {"config": stored_form(full_config(Variant(**values["variant"])))}
    if schema == "vqbet_course/panel/1":
        values = values | {"schema": SCHEMA}
        if "settings" in values:  # a job's file has them in its results only
            values["settings"] = in_todays_words(values["settings"])
        values["results"] = [
            in_todays_words(r) | {"schema": SCHEMA, "settings": in_todays_words(r["settings"])}
            for r in values["results"]
        ]
        for result in values["results"]:
            result["videos"] = [path.replace("films/", "videos/") for path in result["videos"]]
        if "tests" in values:
            values |= {"tests": paired_tests(values["results"]), "claims": claims(values["results"])}
    return values


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def convert_folders(folders: tuple[Path, ...]) -> None:
    """Convert the result files in some folders."""
    for path in sorted(path for folder in folders for path in folder.glob("*.json")):
        text = path.read_text(encoding="utf-8")
        before = json.loads(text)
        after = convert(before) if isinstance(before, dict) else before
        if after != before:
            write_text(path, json.dumps(after, indent=2 if text.startswith("{\n  ") else 1) + "\n")
            click.echo(f"converted: {path}")


if __name__ == "__main__":
    convert_folders()
