"""Keeps the built book light: small figures, tables without machine noise, pages without markup
that shows nothing.

Nothing here changes what a reader sees: a channel of a figure moves by at most 2 of 255, and only
tags without a style go.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from pathlib import Path

LEVELS = 64  # of each colour channel; with 32 the pale colours of the neuron maps turn greenish
FINER = [round(round(value / 255 * (LEVELS - 1)) * 255 / (LEVELS - 1)) for value in range(256)]
#: what Sphinx and its theme copy and no page asks for
UNUSED = (
    "**/*.map",
    "_static/vendor/**/*.ttf",
    "_static/locales/**/*.po",
    "_static/locales/**/*.mo",
)
#: classes that pygments gives to names, punctuation and spaces: they have the colour of plain code
#: in both themes of the book
PLAIN_CODE = re.compile(r'<span class="[npw]">([^<]*)</span>')
INDENT = re.compile(r"\n\s+(?=<)")
#: the theme loads the index of the whole book on every page, for a search as you type that this
#: book does not use
SEARCH = re.compile(
    r"<script"
    r' src="[^"]*(?:_static/searchtools\.js|_static/language_data\.js|searchindex\.js)"></script>\s*'
)
OLD_FONT = re.compile(
    r',\s*url\([^)]*\.ttf\)\s*format\("truetype"\)'
)  # beside it stands the same font as WOFF2, which every browser takes
SOURCE_MAP = re.compile(r"\s*(//# sourceMappingURL=\S+|/\*# sourceMappingURL=.*?\*/)\s*$")


class Figures:
    """WebP versions of PNG figures, kept in `folder` under the hash of the original: a figure is
    converted once, not at every build.
    """

    def __init__(self, folder: Path):
        self.folder, self.used = Path(folder), set()
        self.folder.mkdir(parents=True, exist_ok=True)

    def small(self, png: bytes) -> bytes:
        """The figure as WebP without loss, each channel rounded to one of 64 levels; less than a
        third of the bytes.
        """
        kept = self.folder / f"{hashlib.sha256(png).hexdigest()}.webp"
        self.used.add(kept)
        if not kept.is_file():
            aside = kept.with_suffix(
                f".{threading.get_ident()}"
            )  # threads may meet at the same figure
            aside.write_bytes(to_webp(png))
            aside.replace(kept)
        return kept.read_bytes()

    def forget_unused(self) -> None:
        """Delete what no figure of this build has asked for."""
        for path in set(self.folder.iterdir()) - self.used:
            path.unlink()


def to_webp(png: bytes, width: int | None = None) -> bytes:
    """A PNG of any kind, on white, as lossless WebP of at most 64 levels a channel; `width`: in
    pixels, if it shall shrink.
    """
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGBA")
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    if width and width < flat.width:
        flat = flat.resize(
            (width, round(flat.height * width / flat.width)), Image.Resampling.LANCZOS
        )
    out = io.BytesIO()
    flat.point(FINER * 3).save(out, "webp", lossless=True, quality=50, method=2)
    return out.getvalue()


def plain_table(html: str) -> str:
    """A table of pandas' Styler without the ids and classes that it gives to every cell, if no
    style refers to them.
    """
    bare = re.sub(r"<style[^>]*>\s*</style>\s*", "", html)
    if "<style" in bare:
        return html
    bare = re.sub(r'<(t[hdr]|table)((?:\s+(?:id="T_[^"]*"|class="[^"]*"))+)\s*>', r"<\1>", bare)
    return re.sub(r">\s*\n\s*<", ">\n<", bare)


def trim(html: Path) -> None:
    """Take out of a built book what no reader ever sees."""
    for pattern in UNUSED:
        for path in list(html.glob(pattern)):
            path.unlink()
    for folder in sorted((p for p in html.glob("_static/locales/**/") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    for path in [*html.glob("_static/scripts/*.js"), *html.glob("_static/styles/*.css")]:
        path.write_text(
            OLD_FONT.sub("", SOURCE_MAP.sub("\n", path.read_text(encoding="utf8"))), encoding="utf8"
        )
    for path in html.rglob("*.html"):
        if "_static" not in path.parts:
            page = lean(path.read_text(encoding="utf8"))
            path.write_text(
                page if path.name == "search.html" else SEARCH.sub("", page), encoding="utf8"
            )


def lean(page: str) -> str:
    """A page without empty lines, indentation and colourless spans; what stands in `<pre>`,
    `<script>` and `<textarea>` keeps its spaces.
    """
    parts = re.split(r"(<(pre|script|style|textarea)\b.*?</\2>)", page, flags=re.DOTALL)
    kept = []
    for text, block in zip(parts[::3], [*parts[1::3], ""]):
        kept += [
            INDENT.sub("\n", text),
            PLAIN_CODE.sub(r"\1", block) if block.startswith("<pre") else block,
        ]
    return "".join(kept)
