"""The study says who it is in three places for machines, and they agree: CITATION.cff, codemeta.json
and pyproject.toml. Public checkers of the first and of the licences: `make archive-check`.
"""

from __future__ import annotations

import json
import re
import tomllib

import yaml

from memgen.config.base import ROOT

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf8"))
CODEMETA = json.loads((ROOT / "codemeta.json").read_text("utf8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]


def test_codemeta_says_what_the_citation_says():
    for name, key in {"name": "title", "version": "version", "keywords": "keywords"}.items():
        assert CODEMETA[name] == CITATION[key]
    assert [author["name"] for author in CODEMETA["author"]] == [
        author["name"] for author in CITATION["authors"]
    ]
    assert CODEMETA["license"] == f"https://spdx.org/licenses/{CITATION['license']}"
    (paper,) = CITATION["references"]
    about = CODEMETA["referencePublication"]
    assert (about["name"], about["url"]) == (paper["title"], paper["url"])
    assert about["datePublished"] == str(paper["year"])


def test_codemeta_says_what_the_package_says():
    assert CODEMETA["identifier"] == PROJECT["name"]
    assert CODEMETA["version"] == PROJECT["version"]
    assert CODEMETA["description"] == PROJECT["description"]
    assert CODEMETA["programmingLanguage"]["version"] == PROJECT["requires-python"]
    assert CITATION["license"] == PROJECT["license"]
    for key in ("readme", "softwareHelp", "softwareRequirements"):
        assert (ROOT / CODEMETA[key]).is_file()


def test_every_licence_that_is_named_has_its_text():
    """Copied files: the pages' formulas and the tests' accessibility checker keep their own."""
    rights = tomllib.loads((ROOT / "REUSE.toml").read_text("utf8"))["annotations"]
    named = {one["SPDX-License-Identifier"] for one in rights}
    assert named == {path.stem for path in (ROOT / "LICENSES").iterdir()}
    assert PROJECT["license"] in named
    by_path = {str(one["path"]): one["SPDX-License-Identifier"] for one in rights}
    assert by_path["book/_static/mathjax/**"] == "Apache-2.0"
    head = (ROOT / "tests" / "press" / "axe.min.js").read_text("utf8")[:500]
    assert by_path["tests/press/axe.min.js"] == "MPL-2.0" and re.search("Mozilla Public", head)


def test_every_source_stands_in_a_part_of_the_bibliography():
    """One without a part would stand nowhere, and a citation of it would lead nowhere."""
    page = (ROOT / "book" / "bibliography.md").read_text("utf8")
    parts = set(re.findall(r'^:filter: keywords % "(\w+)"$', page, re.M))
    entries = (ROOT / "book" / "references.bib").read_text("utf8").split("\n@")[1:]
    names = {entry.split("{", 1)[1].split(",", 1)[0]: entry for entry in entries}
    lost = {
        name
        for name, entry in names.items()
        if not parts & set(re.findall(r"^ *keywords *= \{(\w+)\}", entry, re.M))
    }
    assert len(names) > 60 and not lost
