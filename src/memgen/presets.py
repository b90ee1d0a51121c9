"""Presets, and the validated parameters of a stage that take their defaults from one.

A preset is data (`notebooks/presets/<name>.yaml`): a block `all` and, where needed, one named after
the task (`inference`) or its family (`arithmetic`). With a line `inherits: <other>` its blocks are
laid over those of another preset, block by block. On the tracks with a shared base the blocks
`shared`, the track's name (`lora`) and `lora/<family>`, `lora/<task>` follow; on track `given` those
with its name alone. Precedence, weakest
first: the defaults of the class, `all`, family, task, shared, track, what the caller passes. Code
never asks which preset runs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from memgen.config.base import ROOT, StageParameters
from memgen.config.sources import own_files
from memgen.config.values import read_yaml
from memgen.errors import ParameterError
from memgen.stages import PARAMETER_CLASSES
from memgen.tasks import GIVEN, TASKS, Table
from memgen.terms import GIVEN_TRACK, TRACKS


def preset_path(preset: str) -> Path:
    folder = ROOT / "notebooks" / "presets"
    path = folder / f"{preset}.yaml"
    known = [p.stem for p in own_files(folder, "*.yaml")]
    if preset not in known:  # a path is no preset: results would lie where it leads
        raise ParameterError(f"preset={preset!r} is unknown; choose one of {', '.join(known)}")
    return path


def preset_files(preset: str) -> list[Path]:
    """The preset's file and, after it, those that it inherits from. Errors: `ParameterError`."""
    files: list[Path] = []
    name: str | None = preset
    while name:
        path = preset_path(name)
        if path in files:
            raise ParameterError(f"preset {preset!r} inherits from itself")
        files.append(path)
        name = _blocks(name, path, path.stat().st_mtime_ns)[1]
    return files


@cache
def _blocks(preset: str, path: Path, changed: int) -> tuple[dict[str, dict[str, Any]], str | None]:
    """The blocks of a preset's file, checked, and what it inherits; read anew when it has changed."""

    try:
        blocks = read_yaml(path.read_text(encoding="utf8")) or {}
        parent = blocks.pop("inherits", None)
        blocks = {block: dict(values or {}) for block, values in blocks.items()}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        problem = getattr(error, "problem", None)  # YAML's own words
        why = f" ({problem})" if problem else ""
        raise ParameterError(
            f"preset {preset!r}: {path} is not a file of blocks with name: value lines{why}"
        ) from None
    known = set().union(*(stage.model_fields for stage in PARAMETER_CLASSES.values()))
    tasks = [*TASKS, *GIVEN, Table.name]
    named = {*tasks, *(name.split("-")[0] for name in tasks)}
    places = {
        "all",
        "study",
        "shared",
        *named,
        *TRACKS,
        *(f"{track}/{name}" for track in TRACKS for name in named),
    }
    for block, values in blocks.items():
        if block not in places:
            raise ParameterError(
                f"preset {preset!r}: block {block!r} is neither 'all' nor a task, a family of tasks"
                " or a track ('shared', 'lora', 'lora/cipher')"
            )
        for name in values:
            if name not in known:
                raise ParameterError(
                    f"preset {preset!r}, block {block!r}: there is no parameter {name!r}"
                )
    return blocks, parent


def load_preset(preset: str, task: str, track: str = "scratch") -> dict[str, Any]:
    """The preset's values for one task of one track, every name checked against the parameters."""
    blocks: dict[str, dict[str, Any]] = {}
    for path in reversed(preset_files(preset)):
        for block, values in _blocks(path.stem, path, path.stat().st_mtime_ns)[0].items():
            blocks[block] = blocks.get(block, {}) | values
    merged: dict[str, Any] = {}
    names = ["all", task.split("-")[0], task]
    if track != "scratch":
        names += [] if track == GIVEN_TRACK else ["shared"]
        names += [track, f"{track}/{task.split('-')[0]}", f"{track}/{task}"]
    for block in names:
        merged |= blocks.get(block, {})
    return merged


def stage_parameters(stage: str, given: dict[str, Any]) -> StageParameters:
    """Validated parameters of one stage. `given`: what the caller passes; None: "the preset's".

    Raises `ParameterError`, one sentence a problem, before anything is computed.
    """
    if stage not in PARAMETER_CLASSES:
        raise ParameterError(
            f"stage={stage!r} is unknown; choose one of {', '.join(PARAMETER_CLASSES)}"
        )
    cls = PARAMETER_CLASSES[stage]
    given = {name: value for name, value in given.items() if value is not None}
    unknown = [name for name in given if name not in cls.model_fields]
    if unknown:
        raise ParameterError(
            f"{unknown[0]!r} is not a parameter of {stage}; it takes {', '.join(cls.model_fields)}"
        )
    defaults = load_preset(
        given.get("preset", "laptop"),
        str(given.get("task", "")),
        str(given.get("track", "scratch")),
    )
    values = {k: v for k, v in defaults.items() if k in cls.model_fields} | given
    values = {name: _read(value, cls.model_fields[name]) for name, value in values.items()}
    try:
        return cls(**values)
    except ValidationError as error:
        raise ParameterError(
            "; ".join(_sentence(stage, problem) for problem in error.errors())
        ) from None


def _read(value: Any, field: FieldInfo) -> Any:
    """A text for a parameter that is no text, as papermill's `-p` leaves `1e-3`, `true` or `[1, 2]`."""
    if not isinstance(value, str) or field.is_required() or isinstance(field.default, str):
        return value
    try:
        return read_yaml(value)
    except (yaml.YAMLError, ValueError):
        return value  # and it is refused as it was written


def _sentence(stage: str, problem: ErrorDetails) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return f"{message} (parameters of {stage})"
    name = ".".join(map(str, problem["loc"]))
    return f"{name}={problem['input']!r}: {message[0].lower() + message[1:]} (parameter of {stage})"


def split_overrides(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings such as `{"n_embd": 64, "site": "ln_2"}` by stage; unknown names raise."""
    per_stage: dict[str, dict[str, Any]] = {stage: {} for stage in PARAMETER_CLASSES}
    for name, value in given.items():
        takers = [stage for stage, cls in PARAMETER_CLASSES.items() if name in cls.model_fields]
        if not takers:
            known = sorted(set().union(*(cls.model_fields for cls in PARAMETER_CLASSES.values())))
            raise ParameterError(
                f"{name!r} is not a parameter of any stage; known are {', '.join(known)}"
            )
        for stage in takers:
            per_stage[stage][name] = value
    return per_stage
