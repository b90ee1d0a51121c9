"""The workflow that tests, builds and publishes runs the README's commands, with no more rights
than it needs.
"""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def workflow() -> dict:
    return yaml.load(
        (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf8"),
        Loader=yaml.BaseLoader,
    )  # "on" stays a word


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_commands_are_targets_of_the_makefile_that_the_readme_names(workflow):
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    assert commands == ["make test", "make book"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    for command in commands:
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)
        assert re.search(rf"^{command} ", readme, re.MULTILINE)


def test_what_is_published_is_what_make_book_writes(workflow):
    (upload,) = [
        step
        for step in steps(workflow)
        if step.get("uses", "").startswith("actions/upload-pages-artifact@")
    ]
    out = re.search(
        r"^OUT\s*=\s*(\S+)", (ROOT / "Makefile").read_text(encoding="utf8"), re.MULTILINE
    )[1]
    assert upload["with"]["path"] == f"{out}/html"


def test_only_main_is_published_and_only_after_the_tests(workflow):
    jobs = workflow["jobs"]
    assert workflow["on"] == {"push": ""}
    assert jobs["book"]["needs"] == "test" and jobs["publish"]["needs"] == "book"
    assert jobs["book"]["if"] == "github.ref == 'refs/heads/main'"
    assert int(jobs["book"]["timeout-minutes"]) <= 360


def test_rights_are_the_least_and_actions_are_pinned(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    assert {
        name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job
    } == {"publish": {"pages": "write", "id-token": "write"}}
    for step in steps(workflow):
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/none@v0"))
    assert "group" in workflow["concurrency"]


def test_python_is_new_enough(workflow):
    needed = re.search(
        r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf8")
    )[1]
    versions = [
        step["with"]["python-version"]
        for step in steps(workflow)
        if step.get("uses", "").startswith("actions/setup-python@")
    ]
    assert versions and all(version == f"3.{needed}" for version in versions)
