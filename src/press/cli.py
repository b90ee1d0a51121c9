"""The command line of the book: build it, print it, write the students' notebooks and a class's pages.

python -m press.cli book --runs data/runs/laptop --out _build
python -m press.cli pdf --html _build/html
python -m press.cli students _build/exercises
python -m press.cli class --html _build/html --address http://192.168.1.7:8000
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from memgen.config.base import ROOT
from memgen.errors import StudyError
from memgen.store.ours import expanded
from memgen.tasks.table_file import task_name
from press.build import build_book
from press.class_kit import ENTRY, PHONES, checked, own_address, port_of, write_kit
from press.exercises import write_students
from press.lessons import PAGE, plans
from press.numbers import seconds
from press.one_page import PRINTED_LABS
from press.pdf import print_book


def main(arguments: list[str] | None = None) -> int:
    command = "press"
    try:
        options = parser().parse_args(arguments)
        command = options.command
        options.do(options)
    except StudyError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        said = f"{error.filename or 'a file'}: {error.strerror}; choose another folder with OUT=..."
        print(f"{command}: {said} or make this one writable", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{command}: interrupted; what was there before is untouched", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="press", description="The book of a study.")
    commands = top.add_subparsers(required=True, dest="command")

    book = commands.add_parser("book", help="build the book of a finished run")
    book.add_argument("--runs", type=_path, required=True, help="run folder: data/runs/laptop")
    book.add_argument("--out", type=_path, default=Path("_build"), help="default: _build")
    book.add_argument("--root", type=_path, default=ROOT, help="of the repository, if another one")
    book.add_argument("--tracks", nargs="+", default=["scratch"], help="the main one first")
    chosen = book.add_mutually_exclusive_group()
    chosen.add_argument("--tasks", nargs="+", help="only these (default: all of the run)")
    chosen.add_argument("--task-file", help="only the task that this table of prompts is")
    book.add_argument("--seeds", nargs="+", type=int, help="only these (default: all of the run)")
    book.set_defaults(do=_book)

    pdf = commands.add_parser("pdf", help="print the built book to one PDF")
    pdf.add_argument(
        "--html", type=_path, default=Path("_build/html"), help="folder of the built book"
    )
    pdf.add_argument("--out", type=_path, help="default: think-or-remember.pdf beside that folder")
    labs = "which executed labs: all, that of each task's first seed, none (default: all)"
    pdf.add_argument("--labs", choices=PRINTED_LABS, default="all", help=labs)
    pdf.set_defaults(do=_pdf)

    students = commands.add_parser("students", help="write the exercise notebooks with gaps")
    students.add_argument("folder", type=_path)
    students.set_defaults(do=_students)

    kit = commands.add_parser("class", help="the pages of the lesson plans for a class's phones")
    kit.add_argument("--html", type=_path, default=Path("_build/html"), help="the built book")
    kit.add_argument("--address", default="", help="where phones find it (default: this machine)")
    kit.set_defaults(do=_class)
    return top


def _path(text: str) -> Path:
    """A folder or file; `~` is the home, also where no shell has read it so."""
    return expanded(text)


def _book(o) -> None:
    tasks = [task_name(o.task_file)] if o.task_file else o.tasks
    build_book(o.runs, o.out, o.root, tasks, o.seeds, o.tracks)


def _pdf(o) -> None:
    started, out = time.monotonic(), o.out or o.html.parent / "think-or-remember.pdf"
    n = print_book(o.html, out, o.labs)
    size, spent = out.stat().st_size / 1e6, seconds(time.monotonic() - started)
    print(f"pdf: {n} pages of the book, {size:.0f} MB, printed in {spent}: {out}")


def _students(o) -> None:
    for path in write_students(o.folder):
        print(f"written: {path}")


def _class(o) -> None:
    pages = [
        page for plan in plans((ROOT / "book" / PAGE).read_text("utf8")) for page in plan.pages
    ]
    folder, address = o.html.parent / "class", o.address or own_address()
    written = write_kit(o.html, folder, pages, address)
    packed = folder.with_name("class.zip")
    print(
        f"class: {len(written)} pages in {folder}, and {packed} ({packed.stat().st_size / 1e6:.0f} MB)"
    )
    print(f"serve: {Path(sys.executable)} -m http.server {port_of(address)} --directory {folder}")
    print(f"phones: {checked(address)}/{ENTRY} (its QR code for the projector: {folder / PHONES})")


if __name__ == "__main__":
    sys.exit(main())
