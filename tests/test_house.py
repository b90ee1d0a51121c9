"""The house keeps its own rules: tools, limits, one place for each thing, and a map that equals the tree.

A limit is a number that a reader feels: how much fits on a screen, how many arguments fit in a head.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml

from memgen.stages import LABS
from press.prose import changelog

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))
SOURCES = sorted((ROOT / "src").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
ANYONE = [*SOURCES, *(ROOT / "book" / "_ext").glob("*.py")]
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

# Who opens files of its own, and why that is not a stage's file that `store.reader` reads.
OWN_FILES = {
    "memgen.training.state": "the checkpoint that an interrupted training goes on from",
}


def name(path: Path) -> str:
    """`memgen.stats.auc`, or the path of what is no module."""
    if path.suffix != ".py" or "src" not in path.parts:
        return str(path.relative_to(ROOT))
    return ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)


def nodes(path: Path, kind: type | tuple[type, ...]) -> Iterator[ast.AST]:
    tree = ast.parse(path.read_text(encoding="utf8"))
    return (node for node in ast.walk(tree) if isinstance(node, kind))


def none(offenders: Iterable[str]) -> None:
    found = list(offenders)
    assert not found, "\n" + "\n".join(found)


def called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


@pytest.mark.parametrize(
    "command",
    [
        "ruff check --quiet .",
        "ruff format --quiet --check .",
        "mypy",
        "importlinter.cli lint",
    ],
)
def test_tools_have_nothing_to_say(command):
    tool, *arguments = command.split()
    module = [sys.executable, "-m", tool]
    if tool == "importlinter.cli":  # `lint-imports`: a script without a module that can be run
        module = [str(Path(sys.executable).with_name("lint-imports"))]
        arguments = ["--no-cache"]
    done = subprocess.run([*module, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]


def test_modules_are_short_enough_to_read_in_one_sitting():
    lengths = {name(path): len(path.read_text("utf8").splitlines()) for path in SOURCES}
    none(f"{module}: {n} lines" for module, n in lengths.items() if n > 400)


def test_lines_fit_on_a_screen():
    long = []
    for path in [*SOURCES, *(ROOT / "tests").rglob("*.py")]:
        for i, line in enumerate(path.read_text("utf8").splitlines(), 1):
            if len(line) > 110:
                long.append(f"{path.relative_to(ROOT)}:{i}: {len(line)}")
    for path in NOTEBOOKS:
        for i, cell in enumerate(json.loads(path.read_text("utf8"))["cells"]):
            for line in "".join(cell["source"]).splitlines():
                if len(line) > 110:
                    long.append(f"{path.relative_to(ROOT)}, cell {i}: {len(line)}")
    none(long)


def test_few_functions_have_many_arguments():
    many = []
    for path in SOURCES:
        for function in nodes(path, FUNCTION):
            a = function.args
            n = len([*a.posonlyargs, *a.args, *a.kwonlyargs]) + bool(a.vararg) + bool(a.kwarg)
            own = a.args[:1] and a.args[0].arg in ("self", "cls")
            if n - bool(own) > 6:
                many.append(f"{name(path)}.{function.name}: {n - bool(own)}")
    assert len(many) <= 10, "\n".join(many)


def test_few_modules_of_ours_are_imported_late_and_each_says_why():
    late = []
    for path in SOURCES:
        lines = path.read_text("utf8").splitlines()
        for function in nodes(path, FUNCTION):
            for node in ast.walk(function):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if any(n.split(".")[0] in ("memgen", "press") for n in names):
                    late.append(f"{name(path)}:{node.lineno}")
                    around = lines[node.lineno - 2] + lines[node.end_lineno - 1]
                    assert "#" in around, f"{late[-1]} does not say why it is imported so late"
    assert len(late) <= 6, "\n".join(late)


def test_one_table_lists_the_labs():
    """Any other literal that names three labs is a list that the next lab would have to be added to."""
    others = []
    for path in ANYONE:
        if name(path) == "memgen.stages":
            continue
        for node in nodes(path, (ast.Tuple, ast.List, ast.Set, ast.Dict)):
            keys, values = getattr(node, "keys", []), getattr(node, "values", [])
            parts = [*keys, *values, *getattr(node, "elts", [])]
            words = {part.value for part in parts if isinstance(part, ast.Constant)}
            if len(words & (set(LABS) | {row.short for row in LABS.values()})) >= 3:
                others.append(f"{name(path)}:{node.lineno}")
    none(others)


def test_one_module_reads_finished_stages():
    readers, needed = [], set()
    for path in ANYONE:
        module = name(path)
        if module.startswith("memgen.store."):
            continue
        found = [
            f"{module}:{call.lineno} {called(call)}"
            for call in nodes(path, ast.Call)
            if called(call) in ("read_parquet", "load_file", "safe_open")
        ]
        found += [
            f"{module}:{node.lineno} {node.value}"
            for node in nodes(path, ast.Constant)
            if node.value in ("result.json", "manifest.json")
        ]
        if module in OWN_FILES:
            needed |= {module} if found else set()
        else:
            readers += found
    none(readers)
    assert needed == set(OWN_FILES), "an exception that nobody needs"


def test_one_module_makes_a_steering_from_the_names_of_arrays():
    """`Steering.of(run)` does it; `NeuronMaps` alone knows what lab 04 calls its arrays."""
    made, spelled = set(), set()
    for path in ANYONE:
        for call in nodes(path, ast.Call):
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            named = any(isinstance(one, (ast.JoinedStr, ast.Constant)) for one in given)
            made |= {name(path)} if called(call) == "Steering" and named else set()
        for text in nodes(path, (ast.JoinedStr, ast.Constant)):
            first = text.values[0] if isinstance(text, ast.JoinedStr) and text.values else text
            if str(getattr(first, "value", "")).startswith("nmd."):
                spelled.add(name(path))
    assert not made  # it takes maps, never the name of a site
    assert spelled == {"memgen.neurons.nmd"}


def test_the_map_in_the_readme_is_the_house():
    """One row a floor, from the roof down, as the import rule has them (which names every room)."""
    readme = (ROOT / "README.md").read_text("utf8")
    table = readme[readme.index("| room |") :].split("\n\n")[0].splitlines()[2:]
    floors = [re.findall(r"`([\w/]+)`", row.split("|")[1]) for row in table]
    (layers,) = (c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert floors == [["press"], *(layer.split(" | ") for layer in layers["layers"])]
    memgen = {p.stem for p in (ROOT / "src" / "memgen").iterdir() if not p.name.startswith("_")}
    assert {room for floor in floors for room in floor} == memgen | {"press"}
    packages = {p.parent.name for p in (ROOT / "src").glob("*/__init__.py")}
    assert packages == {"memgen", "press"}


def test_one_name_in_all_places():
    """`06_intervention` is a notebook, a file in labs, one in figures, a chapter and an exercise."""
    for lab, row in LABS.items():
        for place in (
            f"notebooks/{lab}.ipynb",
            f"book/chapters/{lab}.md",
            f"src/memgen/labs/{row.short}.py",
            f"src/memgen/figures/{row.short}.py",
        ):
            assert (ROOT / place).is_file(), f"{lab} has no {place}"


def test_notebooks_hold_no_outputs():
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text("utf8"))["cells"]:
            assert not cell.get("outputs") and not cell.get("execution_count"), path.name


def test_requirements_are_those_of_pyproject_pinned_and_hashed():
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    assert set(extras) == {"book", "cluster", "dev"}

    def plain(requirement: str) -> str:
        return re.sub(r"\[.*\]", "", requirement).replace("_", "-").lower()

    groups = {
        f"requirements-{group}.txt": {plain(requirement) for requirement in requirements}
        for group, requirements in PYPROJECT["dependency-groups"].items()
    }
    entries, of_groups = {}, {name: set() for name in groups}
    for file in sorted(ROOT.glob("requirements*.txt")):
        text = file.read_text("utf8")
        assert not re.search(r"^\s*-|://", text.replace("    --hash=", ""), re.M), file.name
        for entry in re.findall(r"^\w.*\n(?:\s.*\n)*", text, re.M):
            assert "--hash=sha256:" in entry, f"{file.name}: {entry.split()[0]} has no hash"
            if file.name in groups:
                of_groups[file.name].add(plain(entry.split()[0]))
            else:
                entries.setdefault(plain(entry.split()[0]), file.name)
    assert all(groups[name] <= of_groups[name] for name in groups)
    direct = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    assert all("==" in requirement for requirement in direct)
    assert {plain(r) for r in direct} - set(entries) == set()
    assert set(entries.values()) == {
        "requirements.txt",
        "requirements-cluster.txt",
        "requirements-cpu.txt",
        "requirements-cuda.txt",
    }


def test_hooks_before_a_commit_need_no_network():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf8"))
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    ids = {hook["id"] for hook in hooks["repos"][0]["hooks"]}
    assert {"ruff-check", "ruff-format", "nbstripout", "import-linter"} <= ids


def test_the_changelog_is_the_books_page_of_changes():
    assert (ROOT / "book" / "changelog.md").read_text("utf8") == "{{ changelog() }}\n"
    links = re.findall(r"\]\((?!https)([^)]+)\)", changelog(ROOT))
    assert links and all((ROOT / "book" / link).is_file() for link in links)


def test_what_make_runs_is_there():
    """A script that was never committed is missed by whoever types its target, and by no other test."""
    named = re.findall(
        r"(?<![\w/])(?:tests|src|\.ci)/[\w./-]+", (ROOT / "Makefile").read_text("utf8")
    )
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    there = set(files.split()) if files else None  # a copy without git has only its files
    assert len(named) > 10
    for path in set(named) - {"tests/archive/checked.json", "tests/archive/offline.json"}:
        assert (ROOT / path).exists(), path
        assert not there or any(one == path or one.startswith(path) for one in there), path


#: each script as make starts it, no further than its imports: a neighbour is found only if it says where
IMPORTS = """
import runpy, sys
path, known = list(sys.path), set(sys.modules)
for script in sys.argv[1:]:
    runpy.run_path(script, run_name="looked_at")
    sys.path[:] = path
    for name in {n for n in sys.modules if "tests" in str(getattr(sys.modules[n], "__file__", ""))} - known:
        del sys.modules[name]
"""


def test_what_make_runs_finds_its_neighbours(tmp_path):
    """make starts Python without the folder of the script, so that no file there is taken for a module."""
    scripts = re.findall(
        r"(?:BIN\)/python|PYTHON\)\)) (tests/\S+\.py)", (ROOT / "Makefile").read_text("utf8")
    )
    assert len(scripts) >= 10
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *(str(ROOT / script) for script in scripts)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
