"""Build the book of a run: stage a clean copy of its sources, fill in the numbers, hand it to
Jupyter Book.

    python -m memgen.book --runs data/runs/laptop --out _build

`_build/source` holds what Sphinx reads (rendered prose, executed labs, generated contents),
`_build/html` the book. The hash of all that the pages depend on lies beside the book: an unchanged
book is not built again. A book that fails to build, or builds with a warning, never replaces a good
one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from memgen.config.base import ROOT
from memgen.errors import StudyError
from press.build import build_book


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m memgen.book", description="Build the book of a run."
    )
    parser.add_argument(
        "--runs", type=Path, required=True, help="run folder, e.g. data/runs/laptop"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("_build"), help="where to build (default: _build)"
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="repository root (default: the one of this package)"
    )
    parser.add_argument(
        "--tracks",
        nargs="+",
        default=["scratch"],
        help="tracks to show, the main one first (default: scratch)",
    )
    parser.add_argument("--tasks", nargs="+", help="only these tasks (default: all of the run)")
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="only these seeds (default: all of the run)"
    )
    options = parser.parse_args(arguments)
    try:
        build_book(
            options.runs, options.out, options.root, options.tasks, options.seeds, options.tracks
        )
    except StudyError as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("book: interrupted; the former book, if any, is untouched", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
