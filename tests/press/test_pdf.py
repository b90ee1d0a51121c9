"""The printed book: `press pdf`. The book that is printed here is a small one, written
by hand in the theme's own form.
"""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pdf_structure
import pytest
from browser import needs_chromium
from pypdf import PdfReader

from press import errors, one_page, pdf

ROOT = Path(__file__).resolve().parents[2]
TOC = """format: jb-book
root: index
parts:
  - caption: First part
    chapters:
      - {file: chapters/one, sections: [{file: labs/one/a-seed0, sections: [{file: labs/one/a-seed1}]}]}
      - file: two
"""
WIDE = "".join(f"<td>column{n}</td>" for n in range(40))
PAGES = {
    "index": (
        '<h1>Home<a class="headerlink" href="#home">#</a></h1><p>Read <a'
        ' href="chapters/one.html#end">the end of one</a>.</p>'
    ),
    "chapters/one": (
        '<section id="one"><h1>One</h1><p>A sentence to find again.</p><button>Copy</button>'
        '<details><summary>Code</summary><pre>print("folded")</pre></details>'
        '<figure><img src="../picture.svg" alt="x"><figcaption>It is square.</figcaption></figure>'
        '<table><tr><th>n</th></tr><tr><td>1</td></tr></table><section id="end"><h2>The end</h2><p>'
        '<a href="../two.html">on to two</a> <a href="data.json">a file</a> '
        '<a href="https://arxiv.org/abs/1">elsewhere</a></p></section></section>'
    ),
    "labs/one/a-seed0": "<h1>Lab A &amp; B</h1><p>seed zero</p><h2>Result</h2>",
    "labs/one/a-seed1": "<h1>Lab C</h1><p>seed one</p>",
    "two": (
        f'<section id="one"><h1>Two</h1><table class="table"><tr>{WIDE}</tr></table><p><a'
        ' href="#one">up</a></p><script>document.write("no")</script></section>'
    ),
}
STYLE = '<link rel="stylesheet" href="_static/print.css">'
PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9"'
    ' height="9"/></svg>'
)


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    html = tmp_path_factory.mktemp("printed") / "html"
    for name, article in PAGES.items():
        page = html / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(
            f"<html><head><title>The book</title>{STYLE}</head><body><article"
            f' class="bd-article">{article}</article></body></html>'
        )
    (html / "picture.svg").write_text(PICTURE)
    (html / "_static").mkdir()
    shutil.copy(ROOT / "book" / "_static" / "print.css", html / "_static")
    (html.parent / "source").mkdir()
    (html.parent / "source" / "_toc.yml").write_text(TOC)
    return html


def outline(reader: PdfReader) -> list[tuple[int, str, int]]:
    """`(depth, title, number of its sheet)` of every entry."""

    def walk(entries, depth):
        for entry in entries:
            if isinstance(entry, list):
                yield from walk(entry, depth + 1)
            else:
                yield depth, entry.title, reader.get_destination_page_number(entry)

    return list(walk(reader.outline, 0))


def links(sheet) -> list[str]:
    """Where the links of a sheet lead: the name of a place in the PDF, or an address."""
    notes = [note.get_object() for note in sheet.get("/Annots", [])]
    return [
        str(note["/Dest"]) if "/Dest" in note else note["/A"]["/URI"]
        for note in notes
        if note["/Subtype"] == "/Link"
    ]


@needs_chromium
def test_one_pdf_with_contents_and_links_that_stay_inside(html, tmp_path):
    out = tmp_path / "book.pdf"
    assert pdf.print_book(html, out) == 5
    reader = PdfReader(io.BytesIO(out.read_bytes()))
    text = [sheet.extract_text() for sheet in reader.pages]
    titles = [(depth, title) for depth, title, _ in outline(reader)]
    assert titles == [
        (0, "Home"),
        (0, "One"),
        (1, "The end"),
        (1, "Lab A & B"),
        (2, "Result"),
        (2, "Lab C"),
        (0, "Two"),
    ]
    for _, title, sheet in outline(reader):
        assert title in text[sheet]
    starts = [
        sheet
        for _, title, sheet in outline(reader)
        if title in ("Home", "One", "Lab A & B", "Lab C", "Two")
    ]
    assert len(set(starts)) == 5  # each on a sheet of its own
    assert "A sentence to find again." in text[starts[1]] and "folded" in text[starts[1]]
    assert not any(word in "".join(text) for word in ("Copy", "#", "document.write"))
    assert reader.metadata.title == "The book"
    lacks = {name for name, met in pdf_structure.examined(out).items() if not met}
    assert lacks == pdf_structure.CHROMIUM_LACKS  # else as PDF/UA asks, for screen readers
    assert reader.pages[0].mediabox.width == pytest.approx(595, abs=1)  # A4

    inside = reader.named_destinations
    at = {name: reader.get_destination_page_number(place) for name, place in inside.items()}
    found = {number: links(sheet) for number, sheet in enumerate(reader.pages)}
    (to_end,) = found[0]
    assert at[to_end] == starts[1]
    assert [at[link] for link in found[1]] == starts[1:]  # the contents
    own, *numbers = [int(word) for word in text[1].split() if word.isdigit()]
    assert own == 2 and numbers == [start + 1 for start in starts[1:]]  # with their numbers
    to_two, elsewhere = found[starts[1]]
    assert at[to_two] == starts[4] and elsewhere == "https://arxiv.org/abs/1"
    assert "column39" in "".join(text[starts[4]].split())  # the wide table is all there
    (up,) = found[starts[4]]
    assert at[up] == starts[4]  # two pages have a place of the same name
    assert sorted(p.name for p in html.iterdir()) == [
        "_static",
        "chapters",
        "index.html",
        "labs",
        "picture.svg",
        "two.html",
    ]  # nothing is left there


@pytest.mark.parametrize(
    "labs, names",
    [
        ("all", ["index", "chapters/one", "labs/one/a-seed0", "labs/one/a-seed1", "two"]),
        ("first", ["index", "chapters/one", "labs/one/a-seed0", "two"]),
        ("none", ["index", "chapters/one", "two"]),
    ],
)
def test_which_labs(html, labs, names):
    assert [leaf.name for leaf in one_page.chosen(one_page.contents(html), labs)] == names


def test_files_and_pages_that_are_not_printed_are_no_links(html):
    page = one_page.assemble(html, one_page.chosen(one_page.contents(html), "none"))
    assert "data.json" not in page and ">a file</a>" in page
    assert 'src="picture.svg"' in page and "<details open" in page


def test_tables_that_pandas_styles_keep_their_names():
    leaf = one_page.Leaf("labs/x", 2)
    article = (
        "<style>#T_1a2b_row0_col0 { color: red } #T_1a2b th { color: blue }</style>"
        '<table id="T_1a2b"><td id="T_1a2b_row0_col0"></td></table><p id="mine"></p>'
    )
    page = one_page.parsed(f"<article>{article}</article>")
    assert (
        one_page.adapt(page.article, leaf, {"labs/x.html": "p7"}) == "labs/x"
    )  # it has no heading
    body = page.article.decode_contents()
    assert 'id="T_1a2b"' in body and 'id="T_1a2b_row0_col0"' in body and 'id="p7-mine"' in body


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "press.cli", "pdf", *arguments],
        capture_output=True,
        text=True,
        env=environment or None,
    )


def test_without_a_book(tmp_path):
    done = run("--html", str(tmp_path / "html"))
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        == f"pdf: no book in {tmp_path / 'html'}: build it first with `make book`"
    )


def test_without_chromium(html, tmp_path):
    done = run("--html", str(html), "--out", str(tmp_path / "a.pdf"), PATH=str(tmp_path))
    assert done.returncode == 1 and "Chromium is not installed" in done.stderr
    assert list(tmp_path.iterdir()) == [] and not (html / ".print.html").exists()


def test_a_page_is_missing(html, tmp_path):
    copy = shutil.copytree(html.parent, tmp_path / "book")
    (copy / "html" / "two.html").unlink()
    with pytest.raises(errors.PrintError, match="lacks two, which its contents name"):
        pdf.print_book(copy / "html", tmp_path / "a.pdf")
