"""What public checkers say of the repository and its built book: `make archive-check`.

    python tests/archive/checked.py --tools .venv-archive --book _build/html

CITATION.cff (cffconvert), a licence for every file (reuse), every page's HTML (the Nu Html Checker,
of the W3C; `html_rules_off.txt` lists what is left unsaid and why), the prose of the pages (textlint:
our list of words, sentences beyond measure), every link and place inside the book, and the PDF where
one was printed (`pdf_structure.py`). Prints every finding; ends with `checked.json` beside this file,
and with 1 if anything was found that is not Chromium's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests" / "press"), str(HERE)]

import checks  # noqa: E402
import pdf_structure  # noqa: E402

from press.origin import bare  # noqa: E402

#: pages whose words are not ours to choose, or whose words are many on purpose
NOT_READ = ("changelog.md", "cite.md", "parameters.md")
#: beyond measure, in characters without brackets; `tests/press/reading_checks.py` counts words
LENGTH = {"sentence-length": {"max": 450, "skipPatterns": [r"/\(.*?\)/"]}}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--tools", type=Path, required=True, help="environment of the checkers")
    options.add_argument("--book", type=Path, default=Path("_build/html"), help="the built pages")
    given = options.parse_args()
    book, bin_ = given.book.resolve(), given.tools / "bin"
    jar = given.tools / "node_modules" / "vnu-jar" / "build" / "dist" / "vnu.jar"
    if not (book / "index.html").is_file():
        print(f"archive-check: no book in {book}: build it first with `make book`", file=sys.stderr)
        return 1
    printed = book.parent / "think-or-remember.pdf"
    findings = {
        "CITATION.cff": told([bin_ / "cffconvert", "--validate", "-i", ROOT / "CITATION.cff"]),
        "licences": told([bin_ / "python", "-m", "reuse", "--root", ROOT, "lint", "--lines"]),
        "HTML": list(html_findings(jar, book)),
        "prose": prose_findings(given.tools / "node_modules", book.parent / "source"),
        "links": checks.broken_links(book),
    }
    pdf = pdf_structure.examined(printed) if printed.is_file() else {}
    findings["PDF"] = [
        f"not so: {requirement}"
        for requirement, met in pdf.items()
        if not met and requirement not in pdf_structure.CHROMIUM_LACKS
    ]
    for what, found in findings.items():
        print(f"{what}: {len(found)} findings", *found[:20], sep="\n  ")
    seen = {
        "date": date.today().isoformat(),
        "commit": line(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"]),
        "versions": versions(bin_, jar, given.tools / "node_modules"),
        "pages": len(checks.pages(book)),
        "labs": len(list(book.glob("labs/*/*.html"))),
        "findings": {what: len(found) for what, found in findings.items()},
        "pdf": pdf or "not printed: `make pdf`",
    }
    HERE.joinpath("checked.json").write_text(json.dumps(seen, indent=1) + "\n", encoding="utf8")
    return int(any(findings.values()))


def told(command: list) -> list[str]:
    """What a checker says, a line each, if it ends badly; nothing if it ends well."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    said = (done.stdout + done.stderr).splitlines()
    return (said or [f"ended with {done.returncode}"]) if done.returncode else []


def html_findings(jar: Path, book: Path) -> Iterator[str]:
    """Errors and warnings of the Nu Html Checker, a line each, without the rules that are off."""
    rules = HERE / "html_rules_off.txt"
    # -Xss: long pages are deep; one process reads them all
    command = ["java", "-Xss8m", "-jar", jar, "--format", "json", "--filterfile", rules]
    pages = checks.pages(book)
    done = subprocess.run([*map(str, [*command, *pages])], capture_output=True, text=True)
    for said in json.loads(done.stderr)["messages"]:
        place = said.get("url", "").removeprefix(book.as_uri().replace("file:///", "file:/") + "/")
        yield f"{place}:{said.get('lastLine', '')}: {said['message']}"


def prose_findings(modules: Path, source: Path) -> list[str]:
    """What textlint says of the staged pages (Markdown, numbers filled in), a line each."""
    pages = [*sorted(source.glob("*.md")), *sorted((source / "chapters").glob("*.md"))]
    if not pages:
        return [f"no staged pages in {source}: build the book first with `make book`"]
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / page.name for page in pages if page.name not in NOT_READ]
        for page in pages:  # without the origins of numbers, which are no words
            text = bare(page.read_text(encoding="utf8"))
            (Path(folder) / page.name).write_text(text, encoding="utf8")
        rules = Path(folder) / "rules.json"
        words = json.loads((ROOT / "tests" / "press" / "words.json").read_text(encoding="utf8"))
        terminology = {"defaultTerms": False, "terms": words}
        rules.write_text(json.dumps({"rules": {**LENGTH, "terminology": terminology}}))
        command = [modules / ".bin" / "textlint", "--config", rules, "--format", "unix", *copies]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        said = (done.stdout + done.stderr).replace(f"{folder}/", "")
    said = said.replace("\nOver", " Over").splitlines()
    found = [one for one in said if one.endswith("]")]
    return found or ([*said, f"ended with {done.returncode}"] if done.returncode else [])


def versions(bin_: Path, jar: Path, modules: Path) -> dict[str, str]:
    """Of every checker."""
    return {
        "cffconvert": line([bin_ / "cffconvert", "--version"]),
        "reuse": line([bin_ / "python", "-m", "reuse", "--version"]).split()[-1],
        "Nu Html Checker": line(["java", "-jar", jar, "--version"]),
        "textlint": line([modules / ".bin" / "textlint", "--version"]),
    }


def line(command: list) -> str:
    """The first line that a command prints."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).splitlines()[0].strip()


if __name__ == "__main__":
    sys.exit(main())
