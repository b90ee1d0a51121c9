"""A Sphinx extension: a page is written again only if something that it shows has changed.

Sphinx itself reads again what changed, and writes those pages; it does not see that a page quotes another's
title, caption or number. So every page has a digest of what it shows of others (`outlook`), and a page whose
digest is another than that of the book before is written, too. The others are taken from that book.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from sphinx.addnodes import pending_xref
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.util import FilenameUniqDict, docname_join
from sphinxcontrib.bibtex.citation_target import parse_citation_targets
from sphinxcontrib.bibtex.nodes import bibliography

from press.kept_build import WRITTEN, digest_of

#: domains whose names `Known` looks up; a reference into another one has its page written every time
DOMAINS = {"", "std", "doc", "math", "cite"}


class Pages(StandaloneHTMLBuilder):
    """Sphinx's HTML pages, those alone that differ from the book in `config.kept_book` ("": none)."""

    name = "html"

    def get_outdated_docs(self) -> Iterator[str]:
        """What is outdated is known after reading (`write`); the first page is written in any case."""
        return iter([self.config.root_doc])

    @property
    def kept(self) -> Path | None:
        return Path(self.config.kept_book) if self.config.kept_book else None

    def write(self, build_docnames, updated_docnames, method="update") -> None:
        record = Path(self.doctreedir) / WRITTEN
        before = json.loads(record.read_text("utf8"))["outlooks"] if self.kept else {}
        known = Known(self.env)
        now = {page: known.outlook(page) for page in sorted(self.env.found_docs)}
        chosen = set(updated_docnames) | {page for page in now if now[page] != before.get(page)}
        if self.kept:
            shutil.copyfile(self.kept / self.searchindex_filename, self.index_file)
        super().write(sorted(chosen), [], "specific")
        outcome = {"written": sorted(self.written), "outlooks": now}
        record.write_text(json.dumps(outcome), encoding="utf8")

    @property
    def index_file(self) -> Path:
        return Path(self.outdir) / self.searchindex_filename

    def prepare_writing(self, docnames: set[str]) -> None:
        super().prepare_writing(docnames)
        self.written = set(docnames)

    # -- the index of the search ------------------------------------------------------------------
    def load_indexer(self, docnames: Iterable[str]) -> None:
        """As Sphinx does; and the entries of glossaries, which it forgets."""
        if not self.kept:
            return
        super().load_indexer(docnames)
        frozen = json.loads(self.index_file.read_text("utf8").split("(", 1)[1].rsplit(")", 1)[0])
        names = frozen["docnames"]
        for entry, places in frozen["indexentries"].items():
            for number, anchor, is_main in places:
                if names[number] in self.env.all_docs and names[number] not in docnames:
                    kept = self.indexer._index_entries.setdefault(names[number], [])
                    kept.append((entry, anchor, "main" if is_main else ""))

    def dump_search_index(self) -> None:
        """As Sphinx does, in an order that does not depend on which pages were written."""
        for words in (self.indexer._mapping, self.indexer._title_mapping):
            for word in [word for word, pages in words.items() if not pages]:
                del words[word]
        entries = self.indexer._index_entries
        for page in sorted(entries):
            entries[page] = sorted((name.lower(), *rest) for name, *rest in entries.pop(page))
        super().dump_search_index()

    # -- figures ----------------------------------------------------------------------------------
    def copy_image_files(self) -> None:
        """Also those of the pages that are not written."""
        for place, (pages, name) in self.env.images.items():
            if pages - self.written:
                self.images.setdefault(place, name)
        super().copy_image_files()


class Known:
    """What a page may show of other pages, as an environment of Sphinx has it."""

    def __init__(self, env: Any) -> None:
        self.env, self.std = env, env.domains["std"]
        self.equations = env.domains["math"].data["objects"]
        self.named: dict[str, list[Any]] = {}
        for (kind, name), place in self.std.objects.items():
            self.named.setdefault(name, []).append((kind, place))
        self.cited: dict[str, list[Any]] = {}
        for one in env.domains["cite"].citations:
            about = (one.citation_id, list(one.bibliography_key), one.formatted_entry.label)
            self.cited.setdefault(one.key, []).append(about)
        titles = {page: str(title) for page, title in env.titles.items()}
        self.site = digest_of([titles, env.toctree_includes, env.config.root_doc])
        self.pages: dict[str, str] = {}

    def outlook(self, page: str) -> str:
        """A digest of all that a page shows and that is not its own."""
        asked = self.env.asked_of_others.get(page, [])
        numbers = self.env.toc_fignumbers.get(page)
        images = [name for pages, name in self.env.images.values() if page in pages]
        return digest_of(
            [self.site, numbers, sorted(images), [self.answer(page, *a) for a in asked]]
        )

    def answer(self, page: str, domain: str, kind: str, target: str) -> Any:
        """What a reference finds under its target, whatever it is."""
        if domain not in DOMAINS:
            return uuid4().hex
        if domain == "cite":
            keys = [one.key for one in parse_citation_targets(target)] if target else self.cited
            return [self.cited.get(key) for key in keys]
        low = target.lower()
        labels = [self.std.labels.get(low), self.std.anonlabels.get(low)]
        equations = [self.equations.get(name) for name in (target, low)]
        places = [docname_join(page, target), target]
        places += [one[0] for one in (*labels, *equations) if one]
        return [
            [str(part) for label in labels if label for part in label],
            [self.named.get(name) for name in (target, low)],
            self.std._terms.get(low),
            equations,
            [self.page(place) for place in places if place in self.env.all_docs],
        ]

    def page(self, name: str) -> str:
        """A digest of what others may show of a page: numbers of figures, names of sections."""
        if name not in self.pages:
            slugs = self.env.metadata[name].get("myst_slugs")
            self.pages[name] = digest_of([name, self.env.toc_fignumbers.get(name), slugs])
        return self.pages[name]


# -- what a page asks, noted when it is read ----------------------------------------------------------
def note(app, doctree) -> None:
    """Which names of others a page asks for."""
    found = {
        (node.get("refdomain") or "", node["reftype"], node["reftarget"])
        for node in doctree.findall(pending_xref)
    }
    if any(True for _ in doctree.findall(bibliography)):
        found.add(("cite", "bibliography", ""))
    app.env.asked_of_others[app.env.docname] = sorted(found)


def read_again(app, env, added, changed, removed) -> list[str]:
    """Pages of which a file has another content than in the book before, whatever its time says."""
    others = set(app.config.kept_changed)
    needs = {
        page: {Path(env.doc2path(page, False)), *map(Path, env.dependencies.get(page, ()))}
        for page in env.all_docs
    }
    return [page for page, files in needs.items() if others & {path.as_posix() for path in files}]


def begin(app) -> None:
    if not hasattr(app.env, "asked_of_others"):
        app.env.asked_of_others = {}


def forget(app, env, page: str) -> None:
    env.asked_of_others.pop(page, None)


def merge(app, env, pages, other) -> None:
    env.asked_of_others |= {page: other.asked_of_others[page] for page in pages}


def name_images(app, env) -> list[str]:
    """Names of images in the book, which Sphinx gives in the order of reading, in that of their places."""
    named = FilenameUniqDict()
    for place in sorted(env.images):
        for page in env.images[place][0]:
            named.add_file(page, place)
    env.images = named
    return []


def in_order(app, config) -> None:
    """The files that are no pages, sorted: listed in the order of a folder, they look like a new setting."""
    config.exclude_patterns = sorted(set(config.exclude_patterns))


def setup(app) -> dict[str, Any]:
    app.add_config_value("kept_book", "", "")
    app.add_config_value("kept_changed", [], "")
    app.add_builder(Pages, override=True)
    app.connect("config-inited", in_order, priority=950)
    app.connect("builder-inited", begin)
    app.connect("env-get-outdated", read_again)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("doctree-read", note, priority=990)
    app.connect("env-updated", name_images)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
