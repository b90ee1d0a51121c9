"""What the book needs from Sphinx beyond its settings: pages that ask no other host for anything.

Jupyter Book loads every script below `_static` on every page; MathJax is loaded by its own extension, only on pages
with formulas, so it is taken off that list. Figures are numbered by page.
"""

from __future__ import annotations


def keep_own_scripts(app, config):
    """Drop MathJax (loaded by `sphinx.ext.mathjax` where needed) from the scripts of every page; each script once."""
    names = [item if isinstance(item, str) else item[0] for item in config.html_js_files]
    config.html_js_files = sorted({name for name in names if not name.startswith("mathjax/")})


def read_in_parallel(app, config):
    """Numbering across parts is not used here, so that its extension (loaded by the table of contents) need not be asked."""
    if "sphinx_multitoc_numbering" in app.extensions:
        app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True


def number_figures_by_page(app, env):
    """Figures count from 1 on every page: a book with a page for each executed lab would reach `Fig. 400`.

    Runs after Sphinx has numbered them through the whole book. Returns the pages to read again: none.
    """
    for kinds in env.toc_fignumbers.values():
        for numbers in kinds.values():
            for place, name in enumerate(sorted(numbers, key=numbers.get), start=1):
                numbers[name] = (place,)
    return []


def setup(app):
    app.connect("env-get-updated", number_figures_by_page, priority=900)
    app.connect("config-inited", read_in_parallel)
    app.add_config_value("comments_config", {}, "html")  # Jupyter Book sets it for an extension that is not used here
    app.connect("config-inited", keep_own_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
