"""Units of measured numbers: one spelling for each, and one unit for a whole feature or one for each of its numbers."""

from collections.abc import Mapping, Sequence

from vqbet_course.core.errors import BadInput

UNSTATED = "unstated"

SYNONYMS = {
    "deg": "degree degrees °",
    "rad": "radian radians",
    "m": "meter meters metre metres",
    "cm": "centimeter centimeters centimetre centimetres",
    "mm": "millimeter millimeters millimetre millimetres",
    "px": "pixel pixels",
    "%": "percent pct",
    "1": "none unitless dimensionless normalized normalised",
    "deg/s": "degrees/s deg/sec degrees/second",
    "rad/s": "radians/s rad/sec radians/second",
    "m/s": "meters/s m/sec meters/second",
    "N": "newton newtons",
    "Nm": "n·m n*m newton-meter newton-meters",
    "A": "ampere amperes amp amps",
    "V": "volt volts",
    "s": "sec second seconds",
    "tick": "ticks steps",
}
"""{the spelling that contracts have: other usual ones, apart by spaces}; `1`: a number without unit, `tick`: a servo's."""

SPELLINGS = {word.lower(): unit for unit, others in SYNONYMS.items() for word in (unit, *others.split())}


def spelled(text: str) -> str:
    """A unit in the spelling of contracts, or as it is where it is not known; `deg,deg,%`, one for each number, too."""
    return unit_of_all([SPELLINGS.get(part.strip().lower(), part.strip()) for part in text.split(",")])


def known_unit(option: str, text: str) -> str:
    """A unit that somebody states, in the spelling of contracts. Raises BadInput, naming the known ones, for another."""
    unit = SPELLINGS.get(text.strip().lower())
    if unit is None:
        raise BadInput(f"{option}: {text!r} is not a known unit; known are {', '.join(SYNONYMS)}")
    return unit


def of_each(unit: str, size: int) -> list[str]:
    """The unit of each of a feature's numbers."""
    parts = unit.split(",")
    return parts if len(parts) == size else [unit] * size


def places_of(units: Sequence[str]) -> dict[str, list[int]]:
    """{unit: which of a feature's numbers are in it}, from the unit of each number."""
    return {unit: [i for i, found in enumerate(units) if found == unit] for unit in dict.fromkeys(units)}


def unit_of_all(parts: Sequence[str]) -> str:
    """The unit of a feature from those of its numbers: one where all are the same, else all of them, with commas."""
    return parts[0] if len(set(parts)) == 1 else ",".join(parts)


def short(unit: str) -> str:
    """What a mean over all numbers of a feature is called: their unit, or `mixed_units`."""
    return unit if len(set(unit.split(","))) == 1 else "mixed_units"


def spelled_number(feature: str, i: int, names: Mapping[str, Sequence[str]]) -> str:
    """What number i of a feature is called: by its name where it has one."""
    named = names.get(feature, ())[i : i + 1]
    return f"{named[0]} of {feature}" if named else f"number {i} of {feature}"


def with_stated(
    units: Mapping[str, str], sizes: Mapping[str, int], names: Mapping[str, Sequence[str]], stated: Sequence[str]
) -> dict[str, str]:
    """The units of features, and where they have none those that somebody states, each as `NAME=UNIT`: of all numbers of
    a feature, or of the number of this name in every feature that has one. sizes, names {feature: how many numbers,
    their names}.

    Raises BadInput for another form, a name that there is not, an unknown unit, and one against a unit that is known."""
    own = {name: of_each(units.get(name, UNSTATED), size) for name, size in sizes.items()}
    said: dict[tuple[str, int], tuple[str, str]] = {}  # (feature, which of its numbers) -> (unit, the option's text)
    parts = {part for each in names.values() for part in each}
    for text in sorted(stated, key=lambda text: text.partition("=")[0] not in sizes):  # whole features first
        name, _, unit = text.partition("=")
        if not unit or (name not in sizes and name not in parts):
            numbers = f", or a number out of {', '.join(sorted(parts))}" if parts else ""
            raise BadInput(f"--unit {text}: give NAME=UNIT, with a feature out of {', '.join(sizes)}{numbers}")
        unit = known_unit(f"--unit {text}", unit)
        for feature, each in own.items():
            # of a whole feature, what is said is of the numbers that have none yet, if there are such
            whole, missing = feature == name, UNSTATED in each
            for i, known in enumerate(each):
                if (whole and (known == UNSTATED or not missing)) or name in names.get(feature, ())[i : i + 1]:
                    said[feature, i] = unit, text
    for (feature, i), (unit, text) in said.items():
        if own[feature][i] not in (UNSTATED, unit):
            raise BadInput(f"--unit {text}: {spelled_number(feature, i, names)} is in {own[feature][i]} already")
        own[feature][i] = unit
    return {name: unit_of_all(each) for name, each in own.items() if set(each) != {UNSTATED}}
