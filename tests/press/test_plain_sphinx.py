"""`make sphinx`: the book without Jupyter Book. Its settings are those that Jupyter Book would make."""

from __future__ import annotations

import runpy
import shutil
import sys
from types import SimpleNamespace

import pytest
from docutils.utils import new_document
from jupyter_book.config import get_final_config
from myst_parser.docutils_ import Parser

from memgen.config.base import ROOT

#: what Jupyter Book sets and plain Sphinx has no use for, and why
NOT_NEEDED = {
    "comments_config": "of an extension that this book does not load",
    "html_baseurl": "empty",
    "latex_engine": "no LaTeX is made",
    "use_jupyterbook_latex": "no LaTeX is made",
    "pygments_style": "the theme has its own setting, which this book uses",
    "nb_execution_allow_errors": "nothing is executed",
    "nb_execution_cache_path": "nothing is executed",
    "nb_execution_excludepatterns": "nothing is executed",
    "nb_execution_in_temp": "nothing is executed",
    "nb_execution_timeout": "nothing is executed",
}


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """What `make book` stages of the settings."""
    source = tmp_path_factory.mktemp("staged")
    shutil.copytree(ROOT / "book" / "_static", source / "_static")
    shutil.copy(ROOT / "book" / "conf.py", source)
    shutil.copy(ROOT / "_config.yml", source)
    return source


def test_its_settings_are_those_that_jupyter_book_makes_of_the_same_file(staged, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])  # Jupyter Book adds the extensions' folder
    jupyter_book, _ = get_final_config(
        user_yaml=staged / "_config.yml",
        sourcedir=staged,
        cli_config={"latex_individualpages": False},
    )
    plain = runpy.run_path(str(staged / "conf.py"))
    assert {key for key in jupyter_book if key not in plain} == set(NOT_NEEDED)

    def settled(config: dict) -> dict:
        shown = {key: config[key] for key in jupyter_book if key in plain}
        for key in ("html_css_files", "html_js_files", "exclude_patterns"):
            shown[key] = sorted(set(shown[key]) - {".DS_Store", "Thumbs.db"})
        shown["extensions"] = [name for name in shown["extensions"] if name != "jupyter_book"]
        # of hosts and buttons that this book does not have: what is empty there is left away here
        return shown | {"html_theme_options": {**given(shown["html_theme_options"])}}

    def given(options: dict) -> dict:
        ours = plain["html_theme_options"]
        return {key: value for key, value in options.items() if key in ours}

    assert settled(plain) == settled(jupyter_book)


@pytest.mark.parametrize("text, asked", [("$a$", True), ("$$a$$", True), ("a", False)])
def test_formulas_are_set_on_the_pages_that_have_some(monkeypatch, text, asked):
    """By the page itself: what Sphinx knows of a page's formulas is kept elsewhere in each version."""
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import memgen_pages

    page = new_document("page")
    page.settings.myst_enable_extensions = ["dollarmath"]
    Parser().parse(text, page)
    context = {"script_files": ["_static/mathjax/tex-chtml.js", "_static/book.js"]}
    memgen_pages.formulas_only_where_they_are(SimpleNamespace(), "page", "", context, page)
    assert ("_static/mathjax/tex-chtml.js" in context["script_files"]) is asked
    assert "_static/book.js" in context["script_files"]
