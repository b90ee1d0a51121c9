"""The book's settings for plain Sphinx (`make sphinx`): those of `_config.yml`, without Jupyter Book.

Jupyter Book 1.x is in maintenance and holds Sphinx at 7. It adds no directive and no page to this
book: it reads `_config.yml` and hands it to Sphinx. This file does the same, so that the staged
sources (`_build/source`) build with `sphinx-build` alone. What Jupyter Book calls otherwise than
Sphinx is translated here; everything below `sphinx: config:` is Sphinx's own.
"""

from pathlib import Path

import yaml

HERE = Path(__file__).parent
_given = yaml.safe_load((HERE / "_config.yml").read_text(encoding="utf8"))
_html = _given["html"]

project = html_title = _given["title"]
author = _given["author"]
copyright = _given["copyright"]
html_theme = "sphinx_book_theme"
html_logo = _given["logo"]
html_favicon = _html["favicon"]
html_static_path = ["_static"]
html_sourcelink_suffix = ""
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
external_toc_exclude_missing = _given["only_build_toc_files"]
myst_enable_extensions = _given["parse"]["myst_enable_extensions"]
myst_url_schemes = ["mailto", "http", "https"]
nb_execution_mode = _given["execute"]["execute_notebooks"]
nb_output_stderr = _given["execute"]["stderr_output"]
bibtex_bibfiles = _given["bibtex_bibfiles"]
use_multitoc_numbering = _html["use_multitoc_numbering"]
nitpicky = True

globals().update(_given["sphinx"]["config"])
extensions = [name for name in _given["sphinx"]["config"]["extensions"] if name != "jupyter_book"]
html_theme_options = {
    **_given["sphinx"]["config"]["html_theme_options"],
    "extra_footer": _html["extra_footer"],
    "announcement": _html.get("announcement", ""),
    "home_page_in_toc": _html["home_page_in_navbar"],
}


def _below_static(ending):
    return [
        path.relative_to(HERE / "_static").as_posix()
        for path in sorted((HERE / "_static").rglob(f"*{ending}"))
    ]


# every script and style of ours on every page; `memgen_pages` takes off what only some pages need
html_css_files = _below_static(".css")
html_js_files = _below_static(".js")
