"""What PDF/UA-1 asks of a printed book and can be read off its objects: tags, texts, titles, fonts.

A stand-in for veraPDF, which no registry of Python, npm or Debian has. Each requirement is a
sentence that is true of the file or not; clauses are those of ISO 14289-1. Not looked at: whether
each piece of content is tagged or an artifact (7.1), contrast, and whether texts say what is seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pypdf import PdfReader

HEADINGS = {f"/H{level}": level for level in range(1, 7)}
#: what Chromium writes of none of its PDFs, whatever the page says: no option of its prints them
CHROMIUM_LACKS = {
    "metadata carries the identifier of PDF/UA (5)",
    "every link has a description in its annotation (7.18.5)",
}


def examined(path: Path) -> dict[str, bool]:
    """Every requirement and whether the file at `path` meets it."""
    reader = PdfReader(path)
    root = reader.trailer["/Root"]
    tree = root.get("/StructTreeRoot")
    nodes = list(elements(tree.get_object())) if tree is not None else []
    kinds = Counter(str(node.get("/S")) for node in nodes)
    levels = [HEADINGS[node["/S"]] for node in nodes if node.get("/S") in HEADINGS]
    metadata = root["/Metadata"].get_object().get_data() if "/Metadata" in root else b""
    shown = root.get("/ViewerPreferences", {})
    notes = [note for page in reader.pages for note in annotations(page)]
    links = [note for note in notes if note.get("/Subtype") == "/Link"]
    return {
        "the file says that it is tagged (7.1)": bool(root.get("/MarkInfo", {}).get("/Marked")),
        "there is a tree of tags (7.1)": bool(nodes),
        "the language is named (7.2)": bool(root.get("/Lang")),
        "there is a title (7.1)": bool(reader.metadata and reader.metadata.title),
        "the window shows the title (7.1)": bool(shown.get_object().get("/DisplayDocTitle"))
        if shown
        else False,
        "metadata carries the identifier of PDF/UA (5)": b"pdfuaid" in metadata,
        "every figure has an alternative text (7.3)": all(
            str(node.get("/Alt", node.get("/ActualText", ""))).strip()
            for node in nodes
            if node.get("/S") == "/Figure"
        )
        and kinds["/Figure"] > 0,
        "headings begin at 1 and skip no level (7.4)": levels[:1] == [1]
        and all(later <= earlier + 1 for earlier, later in zip(levels, levels[1:])),
        "header cells say what they head (7.5)": all(
            scope(node) for node in nodes if node.get("/S") == "/TH"
        ),
        "pages with links are read in the order of tags (7.18.3)": all(
            page.get("/Tabs") == "/S" for page in reader.pages if "/Annots" in page
        ),
        "every link is in the tree of tags (7.18.1)": all("/StructParent" in one for one in links),
        "every link has a description in its annotation (7.18.5)": all(
            str(one.get("/Contents", "")).strip() for one in links
        ),
        "every font is embedded (7.21)": not [
            font for page in reader.pages for font in loose_fonts(page)
        ],
    }


def elements(root) -> Iterator:
    """Every element of a tree of tags, in reading order."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if "/S" in node:
            yield node
        below = node.get("/K", [])
        below = below.get_object() if hasattr(below, "get_object") else below
        parts = below if isinstance(below, list) else [below]
        parts = [part.get_object() for part in parts]
        waiting += [part for part in reversed(parts) if hasattr(part, "get") and "/Type" in part]


def scope(cell) -> bool:
    """Does a header cell have a scope, or an id that cells refer to?"""
    given = cell.get("/A", [])
    given = given.get_object() if hasattr(given, "get_object") else given
    sets = given if isinstance(given, list) else [given]
    return "/ID" in cell or any("/Scope" in one.get_object() for one in sets)


def annotations(page) -> list:
    return [note.get_object() for note in page.get("/Annots", [])]


def loose_fonts(page) -> list[str]:
    """Fonts of a page without their file in the PDF."""
    fonts = page.get("/Resources", {}).get("/Font", {})
    loose = []
    for name, font in fonts.get_object().items() if fonts else []:
        font = font.get_object()
        if font["/Subtype"] == "/Type3":  # drawn by the PDF itself
            continue
        inner = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
        described = inner.get("/FontDescriptor", {}).get_object()
        if not {"/FontFile", "/FontFile2", "/FontFile3"} & set(described):
            loose.append(f"{name}: {font.get('/BaseFont')}")
    return loose
