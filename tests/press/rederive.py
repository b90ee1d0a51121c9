"""Draw 100 numbers of a built book, find each in its result, write it again: HTML [seed]."""

import hashlib, html, itertools, json, math, random, re, sys  # noqa: E401, I001
from pathlib import Path
from urllib.parse import unquote

book, seed, gap, agree = Path(sys.argv[1]), int((sys.argv[2:] or [0])[0]), "\u00a0", 0
graph = json.loads((book / "ro-crate-metadata.json").read_text("utf8"))["@graph"]
files = {one["identifier"]: one for one in graph if {"identifier", "sha256"} <= set(one)}
known = {  # how the book writes numbers; the rest of `data-how` is Python
    "mean": lambda v: sum(v) / len(v),
    "per_cent": lambda v, n=0: f"{math.floor(100 * v * 10**n + 0.5 + 1e-9) / 10**n:.{n}f}".replace(
        "-", "−"
    ),
    "percent": lambda v, n=0: known["per_cent"](v, n) + f"{gap}%",
    "decimal": lambda v, n=2: f"{round(v, n) or 0:,.{n}f}".translate({44: gap, 45: "−"}),
}


def every(address):  # seed{23,24}/... stands for two
    parts = re.split("{(.*?)}", address)
    return map("".join, itertools.product(*(p.split(",") for p in parts)))


def value(address):
    name, _, pointer = address.partition("#")
    content = (book / unquote(files[name]["@id"])).read_bytes()
    assert hashlib.sha256(content).hexdigest() == files[name]["sha256"], f"{name} was altered"
    found = json.loads(content)
    for key in (unquote(p).replace("~1", "/").replace("~0", "~") for p in pointer.split("/")[1:]):
        found = found[int(key) if isinstance(found, list) else key]
    return found


span = re.compile('<span data-source="(.+?)" data-how="(.+?)">(.*?)</span>', re.DOTALL)
found = [n for p in sorted(book.rglob("*.html")) for n in span.findall(p.read_text("utf8"))]
drawn = random.Random(seed).sample(found, 100)
for source, how, text in (map(html.unescape, one) for one in drawn):
    values = [value(one) for address in source.split() for one in every(address)]
    made = str(eval(how, known | {"x": values})).replace("'", "’")
    agree += made == text or print(f"{text!r} is printed, {made!r} is {how} of {source}") or 0
sys.exit(print(f"{agree} of 100 numbers agree; {len(found)} have a source") or agree < 100)
