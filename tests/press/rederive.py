"""Draw 100 numbers of a built book, find each in its result, write it again: HTML [seed]."""

import hashlib, html, itertools, json, math, random, re, sys  # noqa: E401, I001
from pathlib import Path
from urllib.parse import unquote

book, seed, gap = Path(sys.argv[1]), int((sys.argv[2:] or [0])[0]), "\u00a0"
graph = json.loads((book / "ro-crate-metadata.json").read_text("utf8"))["@graph"]
files = {one["identifier"]: one for one in graph if {"identifier", "sha256"} <= set(one)}
known = {  # how the book writes numbers; the rest of `data-how` is Python
    "mean": lambda v: sum(v) / len(v),
    "per_cent": lambda v, n=0: f"{math.floor(100 * v * 10**n + 0.5 + 1e-9) / 10**n:.{n}f}",
    "percent": lambda v, n=0: known["per_cent"](v, n) + gap + "%",
    "decimal": lambda v, n=2: f"{v if round(v, n) else 0:,.{n}f}".replace(",", gap).replace("-", "−"),
}


def every(address: str) -> list[str]:  # seed{23,24}/... stands for two
    parts = [p.split(",") if i % 2 else [p] for i, p in enumerate(re.split("{(.*?)}", address))]
    return ["".join(one) for one in itertools.product(*parts)]


def value(address: str) -> object:
    name, _, pointer = address.partition("#")
    content = (book / unquote(files[name]["@id"])).read_bytes()
    assert hashlib.sha256(content).hexdigest() == files[name]["sha256"], f"{name} was altered"
    found = json.loads(content)
    for part in map(unquote, pointer.split("/")[1:]):
        key = part.replace("~1", "/").replace("~0", "~")
        found = found[int(key) if isinstance(found, list) else key]
    return found


span, agree = re.compile('<span data-source="(.+?)" data-how="(.+?)">(.*?)</span>', re.DOTALL), 0
found = [one for page in sorted(book.rglob("*.html")) for one in span.findall(page.read_text("utf8"))]
for source, how, text in random.Random(seed).sample(found, 100):
    x = [value(one) for address in html.unescape(source).split() for one in every(address)]
    made = str(eval(html.unescape(how), known | {"x": x}))
    agree += made == html.unescape(text) or print(f"{text!r} is printed, {made!r} is {how} of {source}") or 0
sys.exit(print(f"{agree} of 100 numbers agree with their results; {len(found)} have one") or agree < 100)
