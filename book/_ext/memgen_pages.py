"""What the book needs from Sphinx beyond its settings: pages that ask no other host for anything.

Jupyter Book loads every script and style below `_static` on every page. MathJax is loaded by its
own extension, here only on pages with formulas, and the live page loads its own scripts and models,
so both are taken off those lists. Figures are numbered by page.
"""

from __future__ import annotations

from docutils import nodes

ON_THEIR_PAGES = ("mathjax/", "live/")  # folders below _static whose pages ask for them


def keep_own_files(app, config):
    """Drop what only some pages need from the scripts and styles of every page; each file once."""
    for kind in ("html_js_files", "html_css_files"):
        names = [item if isinstance(item, str) else item[0] for item in getattr(config, kind)]
        setattr(
            config, kind, sorted({name for name in names if not name.startswith(ON_THEIR_PAGES)})
        )


def is_formula(node):
    return isinstance(node, (nodes.math, nodes.math_block))


def formulas_only_where_they_are(app, pagename, templatename, context, doctree):
    """Sphinx 7 loads MathJax on a page whose table of contents leads to formulas, so on the home
    page, too: take it off there. The page itself is asked, not Sphinx, which stopped counting in 9.
    """
    if doctree is None or not any(doctree.findall(is_formula)):
        context["script_files"][:] = [
            script
            for script in context["script_files"]
            if "mathjax/" not in str(getattr(script, "filename", script))
        ]


def read_in_parallel(app, config):
    """Numbering across parts is not used here, so that its extension (loaded by the table of
    contents) need not be asked.
    """
    if "sphinx_multitoc_numbering" in app.extensions:
        app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True


def count_figures(app, doctree):
    """Note the numbers of a page's figures, tables, listings and equations: from 1 on every page, since a
    book with a page for each executed lab would reach `Fig. 400`.
    """
    found = {}
    for node in doctree.findall(nodes.Element):
        kind = None if isinstance(node, nodes.section) else kind_of(app.env, node)
        if kind and node["ids"]:
            numbers = found.setdefault(kind, {})
            numbers.setdefault(node["ids"][0], (len(numbers) + 1,))
    counted(app.env)[app.env.docname] = found


def kind_of(env, node):
    """`figure`, `table`, ... if Sphinx numbers it: without a caption it does not."""
    for domain in env.domains.values():
        kind = domain.get_enumerable_node_type(node)
        if kind and (domain.name != "std" or domain.get_numfig_title(node)):
            return kind
    return None


def counted(env):
    """Page -> kind -> id -> number, kept with what Sphinx knows of the pages."""
    if not hasattr(env, "counted_by_page"):
        env.counted_by_page = {}
    return env.counted_by_page


def forget_figures(app, env, page):
    counted(env).pop(page, None)


def merge_figures(app, env, pages, other):
    counted(env).update({page: counted(other)[page] for page in pages if page in counted(other)})


def without_numbers_through_the_book(app, env):
    """Sphinx would load every page to number its figures through the book."""
    app.config.numfig = False
    return []


def number_figures_by_page(app, env):
    """Runs after Sphinx would have numbered them. Returns the pages to write again for it: none."""
    app.config.numfig = True
    env.toc_fignumbers = {page: found for page, found in counted(env).items() if found}
    return []


def setup(app):
    app.connect("doctree-read", count_figures, priority=900)
    app.connect("env-purge-doc", forget_figures)
    app.connect("env-merge-info", merge_figures)
    app.connect("env-get-updated", without_numbers_through_the_book, priority=100)
    app.connect("env-get-updated", number_figures_by_page, priority=900)
    app.connect("config-inited", read_in_parallel)
    app.add_config_value(
        "comments_config", {}, "html"
    )  # Jupyter Book sets it for an extension that is not used here
    app.connect("config-inited", keep_own_files)
    app.connect("html-page-context", formulas_only_where_they_are, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
