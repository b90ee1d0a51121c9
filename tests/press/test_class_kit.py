"""What a class opens on its phones: no dead link, nothing foreign, the address as text and as a code."""

from __future__ import annotations

import zipfile
from pathlib import Path

import checks
import pytest
from browser import needs_chromium, reading

from memgen.config.base import ROOT
from press import class_kit, cli
from press.browser import chromium
from press.class_kit import ALWAYS, ENTRY, PHONES, checked, own_address, port_of, write_kit
from press.errors import TeachingError
from press.lessons import PAGE, plans

ADDRESS = "http://192.168.1.7:8000"
HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
    '<link rel="icon" href="{up}_static/favicon.svg"><link rel="search" href="{up}search.html">'
    '<link rel="next" href="{up}results.html"><script src="{up}_static/book.js"></script></head><body>'
    '<form class="bd-search" action="{up}search.html"></form>'
)
NAV = (
    '<nav><p class="caption">Here</p><ul><li><a href="{up}intro.html">question</a></li>'
    '<li><a href="{up}results.html">results</a><ul><li><a href="{up}labs/a.html">lab</a></li></ul></li>'
    '</ul><p class="caption">Gone</p><ul><li><a href="{up}results.html">results</a></li></ul></nav>'
)
BODY = (
    '<div class="sd-col"><div class="sd-card"><a class="sd-stretched-link" href="{up}results.html">'
    "door</a></div></div>"
    '<div class="sd-col"><div class="sd-card"><a class="sd-stretched-link" href="{up}live.html">'
    "open</a></div></div>"
    '<p id="here">The <a class="reference" href="{up}results.html#here">other <em>page</em></a>,'
    ' <a href="{up}live.html#here">this one</a>, <a href="#here">here</a>.</p>'
    '<img src="{up}_images/a.webp" alt="a figure"><a class="download" href="{up}_downloads/n.ipynb">n</a>'
    '<a class="right-next" href="{up}results.html">next page</a></body></html>'
)


@pytest.fixture
def book(tmp_path) -> Path:
    """A planted book of a few pages, each with a link that leads out of what a class needs."""
    html = tmp_path / "_build" / "html"
    for page in (*ALWAYS, "chapters/06_intervention", "results", "labs/a", "search"):
        path, up = html / f"{page}.html", "../" * page.count("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((HEAD + NAV + BODY).format(name=page, up=up), encoding="utf8")
    for file in ("_static/favicon.svg", "_static/book.js", "_images/a.webp", "_downloads/n.ipynb"):
        (html / file).parent.mkdir(exist_ok=True)
        (html / file).write_text(
            "<svg xmlns='http://www.w3.org/2000/svg'/>" if "svg" in file else ""
        )
    return html


def test_the_pages_stand_alone(book):
    out = book.parent / "class"
    written = write_kit(book, out, ["chapters/06_intervention", "live"], f"{ADDRESS}/")
    assert written == [*ALWAYS, "chapters/06_intervention"]
    assert checks.broken_links(book) == [] and checks.broken_links(out) == []
    assert not (out / "results.html").exists() and (out / "_images" / "a.webp").is_file()
    page = checks.page(out / "chapters" / "06_intervention.html")
    assert page.get_text().count("door") == 0 and page.get_text().count("open") == 1
    assert "The other page, this one, here." in page.get_text()
    assert [a["href"] for a in page.p.find_next("p", id="here").find_all("a")] == [
        "../live.html#here",
        "#here",
    ]
    assert not page.find("form") and "next page" not in page.get_text()
    assert [p.get_text() for p in page.nav.find_all("p")] == ["Here"] and len(
        page.nav.find_all("li")
    ) == 1
    assert (out / "_downloads" / "n.ipynb").is_file()


def test_the_zip_holds_the_folder_and_comes_out_the_same(book, tmp_path):
    out = book.parent / "class"
    write_kit(book, out, [], ADDRESS)
    first = out.with_name("class.zip").read_bytes()
    with zipfile.ZipFile(out.with_name("class.zip")) as packed:
        assert packed.testzip() is None
        packed.extractall(tmp_path / "there")
    there = {
        p.relative_to(tmp_path / "there").as_posix() for p in (tmp_path / "there").rglob("*.html")
    }
    assert there == {f"class/{name}" for name in (*(f"{p}.html" for p in ALWAYS), PHONES)}
    (out / "old.html").write_text("left over")
    write_kit(book, out, [], ADDRESS)
    assert out.with_name("class.zip").read_bytes() == first and not (out / "old.html").exists()


def test_the_address_is_written_and_coded(book):
    out = book.parent / "class"
    write_kit(book, out, [], ADDRESS)
    page = checks.page(out / PHONES)
    assert page.a.get_text() == f"{ADDRESS}/{ENTRY}" and page.a["href"] == ENTRY
    assert f"{ADDRESS}/{ENTRY}" in page.img["alt"]
    code = (out / page.img["src"]).read_text()
    write_kit(book, out, [], "http://192.168.1.8:8000")
    assert code.startswith("<svg") and (out / page.img["src"]).read_text() != code


@pytest.mark.parametrize(
    "address, said",
    [
        ("", "no address of a server"),
        ("192.168.1.7:8000", "no address of a server"),
        ("ftp://192.168.1.7", "no address of a server"),
        ('http://a.example/"><script>', "no address of a server"),
        ("http://a.example:123456", "no address of a server"),
        ("http://localhost:8000", "this machine's name for itself"),
        ("http://127.0.0.1:8000", "this machine's name for itself"),
    ],
)
def test_an_address_that_no_phone_opens_is_refused(book, address, said):
    with pytest.raises(TeachingError, match=said):
        write_kit(book, book.parent / "class", [], address)
    assert not (book.parent / "class").exists()


def test_addresses_that_phones_open():
    for address in (
        ADDRESS,
        "https://school.example/class",
        "http://[fd00::7]:8000",
        "http://laptop.local",
    ):
        assert checked(f"{address}/") == address == checked(address)
    assert [port_of(a) for a in (ADDRESS, "http://a.example", "https://a.example")] == [
        8000,
        80,
        443,
    ]


def test_what_is_missing_or_somebody_elses_is_named(book):
    with pytest.raises(TeachingError, match=r"no page chapters/01_dataset_design\.html"):
        write_kit(book, book.parent / "class", ["chapters/01_dataset_design"], ADDRESS)
    mine = book.parent / "class"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    with pytest.raises(TeachingError, match="no folder of `make class`"):
        write_kit(book, mine, [], ADDRESS)
    assert (mine / "thesis.txt").read_text() == "mine"


def test_this_machines_own_address_is_one_or_is_asked_for(monkeypatch):
    class Socket:
        def __init__(self, own):
            self.own = own

        def __call__(self, *_):
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def connect(self, _):
            if not self.own:
                raise OSError("Network is unreachable")

        def getsockname(self):
            return self.own, 40000

    monkeypatch.setattr(class_kit.socket, "socket", Socket("10.0.0.5"))
    assert own_address() == checked(own_address()) == "http://10.0.0.5:8000"
    for own in ("", "127.0.0.1"):
        monkeypatch.setattr(class_kit.socket, "socket", Socket(own))
        with pytest.raises(TeachingError, match=r"make class ADDRESS=http://192\.168\.1\.7:8000"):
            own_address()


def test_the_command_prints_the_address_for_phones(book, capsys):
    for plan in plans((ROOT / "book" / PAGE).read_text("utf8")):
        for page in plan.pages:
            target = book / f"{page}.html"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("<!DOCTYPE html><title>planted</title>")
    assert cli.main(["class", "--html", str(book), "--address", ADDRESS]) == 0
    said = capsys.readouterr().out
    assert f"phones: {ADDRESS}/{ENTRY}" in said
    assert f"-m http.server 8000 --directory {book.parent / 'class'}" in said
    assert cli.main(["class", "--html", str(book), "--address", "phone"]) == 1
    assert "ADDRESS='phone'" in capsys.readouterr().err


# -- a real book ----------------------------------------------------------------------------------------
def test_the_pages_of_a_real_book_open_from_the_zip(built_book, tmp_path):
    """No dead link or place, and nothing foreign."""
    pages = [
        page for plan in plans((ROOT / "book" / PAGE).read_text("utf8")) for page in plan.pages
    ]
    write_kit(built_book, tmp_path / "class", pages, ADDRESS)
    with zipfile.ZipFile(tmp_path / "class.zip") as packed:
        packed.extractall(tmp_path / "there")
    there = tmp_path / "there" / "class"
    assert checks.broken_links(there) == []
    assert checks.external_requests(there) == []


@needs_chromium
def test_no_page_of_a_class_complains(built_book, tmp_path):
    pages = [
        page for plan in plans((ROOT / "book" / PAGE).read_text("utf8")) for page in plan.pages
    ]
    written = write_kit(built_book, tmp_path / "class", pages, ADDRESS)
    assert checks.in_browser(tmp_path / "class", written, turns=2) == []
    with chromium() as browser, reading(browser, tmp_path / "class" / PHONES) as reader:
        assert reader.visit.complaints() == []
