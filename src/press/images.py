"""Small figures: WebP without loss, each channel rounded to 64 levels (it moves by at most 2 of 255)."""

from __future__ import annotations

import hashlib
import io
import threading
from pathlib import Path

from PIL import Image

LEVELS = 64  # of each colour channel; with 32 the pale colours of the neuron maps turn greenish
FINER = [round(round(value / 255 * (LEVELS - 1)) * 255 / (LEVELS - 1)) for value in range(256)]


class Figures:
    """PNG figures as WebP, kept in `folder` under the original's hash: each is converted once."""

    def __init__(self, folder: Path):
        self.folder, self.used = Path(folder), set()
        self.folder.mkdir(parents=True, exist_ok=True)

    def small(self, png: bytes) -> Path:
        """The figure as lossless WebP of 64 levels a channel: less than a third of the bytes."""
        kept = self.folder / f"{hashlib.sha256(png).hexdigest()}.webp"
        self.used.add(kept)
        if not kept.is_file():
            aside = kept.with_suffix(f".{threading.get_ident()}")  # threads may meet at one figure
            aside.write_bytes(to_webp(png))
            aside.replace(kept)
        return kept

    def forget_unused(self) -> None:
        """Delete what no figure of this build has asked for."""
        for path in set(self.folder.iterdir()) - self.used:
            path.unlink()


def to_webp(png: bytes, width: int | None = None) -> bytes:
    """Any PNG, on white, as lossless WebP of at most 64 levels a channel; `width` shrinks it."""
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
