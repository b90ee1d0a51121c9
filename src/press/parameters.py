"""The parameters for the reader: the reference of all, and those of an executed lab beside its preset."""

from __future__ import annotations

import functools
import inspect
import itertools
import json

from memgen.config.base import MOST, ROOT, StageParameters
from memgen.config.sources import own_files
from memgen.config.values import read_yaml
from memgen.errors import ParameterError
from memgen.presets import stage_parameters
from memgen.stages import LABS
from memgen.tasks import GIVEN, TASKS
from press.run import ExecutedLab


@functools.cache
def parameter_reference() -> dict[str, list[dict]]:
    """Every stage's parameters as text: `name`, `meaning`, `values` and `default`."""
    found = {}
    for stage, row in LABS.items():
        schema = row.parameters.model_json_schema()
        required = set(schema.get("required", ()))
        found[stage] = [
            {
                "name": name,
                "meaning": field["description"],
                "values": _values(field),
                "default": "" if name in required else json.dumps(field.get("default")),
            }
            for name, field in schema["properties"].items()
        ]
    return found


def _values(field: dict) -> str:
    """What a parameter may be, in words, from its JSON schema."""
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return ("list, not empty; each: " if field.get("minItems") else "list; each: ") + _values(
            field["items"]
        )
    kind = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "`true` or `false`",
    }[field["type"]]
    limits = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    )
    # the end of all counts keeps typing errors out, and tells a reader nothing
    known = [(word, field[key]) for key, word in limits if field.get(key, MOST) != MOST]
    return ", ".join([kind, *(f"{word} {value:,.12g}" for word, value in known)])


def choices_reference() -> dict[str, list[dict]]:
    """`tasks` and `tracks` (`name`, `meaning`), and `presets` (also `inherits`, another's name or
    "", and its own `blocks`: block -> values).
    """
    known = {**TASKS, **GIVEN}
    about = {name: inspect.getmodule(cls).__doc__.split("\n\n")[0] for name, cls in known.items()}
    tasks = [{"name": name, "meaning": " ".join(text.split())} for name, text in about.items()]
    tracks = [
        dict(zip(("name", "meaning"), words.split(": ")))
        for words in StageParameters.model_fields["track"].description.split("; ")
    ]
    presets = []
    for path in own_files(ROOT / "notebooks" / "presets", "*.yaml"):
        text = path.read_text(encoding="utf8")
        blocks = read_yaml(text)
        head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
        presets.append(
            {
                "name": path.stem,
                "meaning": " ".join(line.strip("# ") for line in head).split(". ")[0].rstrip("."),
                "inherits": blocks.pop("inherits", ""),
                "blocks": blocks,
            }
        )
    return {"tasks": tasks, "tracks": tracks, "presets": presets}


IDENTITY = ("task", "seed", "preset", "track")  # they say which run it is, so no preset sets them


def lab_parameters(lab: ExecutedLab) -> list[dict]:
    """A lab's parameters: `name`, `meaning`, `values`, `preset`'s value, `used`, `changed`."""
    reference = parameter_reference()[lab.stage]
    spent = {**lab.manifest.get("parameters", {}), **lab.manifest.get("overrides", {})}
    own, rows = of_preset(lab), []
    for about in reference:
        name = about["name"]
        if name == "runs":  # a folder of the machine it ran on
            continue
        used = spent.get(name, own.get(name))
        changed = name in own and name not in IDENTITY and differs(used, own[name])
        preset = "" if name in IDENTITY else _plain(own[name]) if name in own else "not known"
        rows.append({**about, "used": _plain(used), "preset": preset, "changed": changed})
    return rows


def of_preset(lab: ExecutedLab) -> dict:
    """What the preset gives this lab, by parameter; {} if preset or task are no longer there."""
    spent = lab.manifest.get("parameters", {})
    try:
        given = {name: spent[name] for name in IDENTITY if name in spent}
        return stage_parameters(lab.stage, given).model_dump()
    except ParameterError:
        return {}


def differs(used, preset) -> bool:
    """Is this another value than the preset's? What a machine chose where it says `auto` is not."""
    return used != preset and preset != "auto"


def _plain(value) -> str:
    """A value as it is written on the command line, without quotes."""
    return ("(empty)" if value == "" else value) if isinstance(value, str) else json.dumps(value)
