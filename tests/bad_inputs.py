"""The bad inputs that the tests try, as a table that a reader can see.

    python tests/bad_inputs.py > tests/BAD_INPUTS.md

Every entry comes from the list or the generator of the test that tries it; each is refused in one sentence
that names the thing.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent / "src"), str(TESTS)]

from memgen.stages import PARAMETER_CLASSES  # noqa: E402

HEAD = """# Bad inputs that are tried

Made by `python tests/bad_inputs.py`. Each is refused in one sentence that names the thing and says what to
do, before anything is computed from it; nothing is lost, and nobody sees a traceback.
"""
#: the files of tests that try them
MAKE, PRESETS = "unit/store/test_ours.py", "unit/config/test_config.py"
ASKED, LACKING = "unit/pipeline/test_bad_inputs.py", "unit/pipeline/test_lacking.py"
TABLES = "unit/tasks/test_table_file.py"
WHEELS, PACKAGED = "unit/models/test_download.py", "unit/pipeline/test_pretrained.py"
MODELS, FILES = "unit/models/test_bad_models.py", "unit/store/test_flipped_bytes.py"


def module_of(name: str) -> ModuleType:
    """A file of tests, as a module."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, TESTS / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generated(wrong: Callable[[dict[str, Any]], Iterator[Any]]) -> list[str]:
    """What a parameter's own schema does not allow, one line a parameter of a stage."""
    return [
        f"{stage} {name} = {value!r}"
        for stage, cls in PARAMETER_CLASSES.items()
        for name, schema in cls.model_json_schema()["properties"].items()
        if name not in ("preset", "runs")
        for value in wrong(schema)
    ]


def kinds() -> dict[str, tuple[str, list[str]]]:
    """By kind: the file that tries them, and the inputs."""
    asked, models, files = module_of(ASKED), module_of(MODELS), module_of(FILES)
    by_hand = [*asked.CASES, *asked.TABLES]
    damages = [f"{one}: each file {d}" for one in files.KINDS for d in (*files.DAMAGES, "a folder")]
    folders = [f"{one}, {damage}" for one in models.KINDS for damage in models.DAMAGES]
    folders += [f"base_model={given[:40]!r}" for given in models.NO_FOLDERS]
    told = [" ".join(words) for words, _ in module_of(MAKE).BAD_SETTINGS]
    variables = [f"{name}={value!r}" for name, value in module_of(LACKING).BAD_VARIABLES]
    presets = [repr(text) for text, _ in module_of(PRESETS).BAD_PRESETS]
    table = module_of(TABLES)
    tables = [f"CSV: {one}" for one in table.DAMAGES]
    tables += [f"JSON Lines: {one}" for one in table.JSON_DAMAGES]
    tables += [f"TASK_FILE={one!r}" for one in table.NAMES]
    return {
        "options and settings, by hand": (ASKED, [" ".join(words) for words, _ in by_hand]),
        "values outside a parameter's schema, generated": (ASKED, generated(asked.wrong)),
        "what `make` is told": (MAKE, [repr(text) for text in told]),
        "a preset's file": (PRESETS, presets),
        "tables of prompts": (TABLES, tables),
        "files of a finished run and of a training": (FILES, damages),
        "folders of models": (MODELS, folders),
        "wheels of a packaged model": (WHEELS, [*module_of(WHEELS).FAULTS]),
        "folders of a packaged model": (PACKAGED, [*module_of(PACKAGED).DAMAGES]),
        "variables of the environment": (LACKING, variables),
    }


def _by_name(tried: list[str]) -> list[str]:
    """The values of one parameter on one line."""
    values: dict[str, list[str]] = {}
    for one in tried:
        name, _, value = one.partition(" = ")
        values.setdefault(name, []).append(value)
    return [f"{name}: {', '.join(of)}" if any(of) else name for name, of in values.items()]


def listing() -> str:
    """The table of counts, then every input."""
    found = kinds()
    rows = [f"| {kind} | {len(tried)} | `tests/{file}` |" for kind, (file, tried) in found.items()]
    total = sum(len(tried) for _, tried in found.values())
    table = ["| kind | tried | test |", "|---|---:|---|", *rows, f"| all | {total} | |"]
    parts = [HEAD, *table]
    for kind, (_, tried) in found.items():
        parts += ["", f"## {kind[0].upper()}{kind[1:]}", "", "```text", *_by_name(tried), "```"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(listing(), end="")
