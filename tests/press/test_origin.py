"""A printed number says where it comes from and what was made of it."""

from __future__ import annotations

import html
import itertools
import re

import pytest
from fake_run import make_run

from press import origin
from press.numbers import Numbers, decimal, percent, span
from press.origin import At, bare, folded, greatest, made, mean, only_in_prose, traced
from press.run import Run
from press.sentences import Counts, Ledger

A = At("inference/seed0/06_intervention/result.json")
FOUND = traced({"m2g": {"success": 0.884, "n": 200, "in/two": 1}, "auc": [0.5, None, 0.7]}, A)


def parts(text: str) -> tuple[str, str, str]:
    """Source, what was made of it, and text of the one span in a text."""
    (found,) = re.findall(r'<span data-source="(.*?)" data-how="(.*?)">(.*?)</span>', text)
    return tuple(map(html.unescape, found))


def test_a_number_of_a_result_is_a_number_and_its_text_has_its_address():
    found = FOUND["m2g"]["success"]
    assert found == 0.884 and found > 0.8 and f"{found:.1f}" == "0.9" and repr(found) == "0.884"
    assert parts(str(found)) == (f"{A}#/m2g/success", "x[0]", "0.884")
    assert parts(f"{FOUND['m2g']['in/two']}")[0] == f"{A}#/m2g/in~1two"
    assert FOUND["auc"][1] is None


def test_writers_and_arithmetic_keep_the_origin():
    a, b = FOUND["auc"][0], FOUND["auc"][2]
    assert parts(percent(a)) == (f"{A}#/auc/0", "percent(x[0])", "50\u00a0%")
    assert parts(decimal(100 * (b - a), 0))[1:] == ("decimal((100 * (x[0] - x[1])), 0)", "20")
    assert parts(percent(mean([a, b])))[1:] == ("percent(mean(x))", "60\u00a0%")
    assert parts(decimal(greatest([b, a])))[:2] == (f"{A}#/auc/{{2,0}}", "decimal(max(x))")
    assert (
        percent(0.5) == "50\u00a0%" and mean([1, 3]) == 2 and not hasattr(made(3, "x", 1), "origin")
    )


def test_a_span_of_numbers_that_read_alike_is_one():
    a, b = FOUND["auc"][0], FOUND["auc"][2]
    assert (
        bare(span([a, b])) == "50\u00a0% to 70\u00a0%" and bare(span([a, a + 0.001])) == "50\u00a0%"
    )


def test_addresses_are_folded_in_their_order():
    cases = itertools.product(("aa", "bb"), (1, 2, 3), ("m2g", "g2m"))
    every = [f"{t}/seed{s}/03_pairs/result.json#/{d}/n" for t, s, d in cases]
    assert folded(every) == ["{aa,bb}/seed{1,2,3}/03_pairs/result.json#/{m2g,g2m}/n"]
    other = sorted(every, key=lambda one: one[-5:])  # direction first: no product in this order
    assert len(folded(other)) == 2 and folded(every[:1]) == every[:1]


def test_origins_stay_out_of_code_and_options():
    one = str(FOUND["m2g"]["n"])
    page = f":alt: {one} bars\n\n{one} prompts, `{one}` and {{term}}`{one}`\n\n```\n{one}\n```\n"
    assert only_in_prose(page) == (
        f":alt: 200 bars\n\n{one} prompts, `200` and {{term}}`200`\n\n```\n200\n```\n"
    )


@pytest.fixture
def sourced(tmp_path, notebook) -> Run:
    return Run(make_run(tmp_path / "runs", ["inference"], [0, 1], notebook)).sourced()


def test_counts_say_how_they_count(sourced):
    numbers = Numbers(sourced)
    share = Counts(numbers).beyond("06_intervention", "*.success", 0.3)
    rates = [
        lab.result[d]["success"] for d in ("m2g", "g2m") for lab in sourced.of("06_intervention")
    ]
    source, how, k = parts(str(share.k))
    assert eval(how, {"x": rates}) == share.k == int(k) and "seed{0,1}/06_intervention" in source
    claims = numbers.result("08_synthesis")["claims"]
    standing = Ledger(claims).standing
    for count in standing:
        assert eval(parts(str(count))[1], {"x": [claims]}) == count
    assert standing.tested > 1


def test_numbers_without_sources_are_plain(sourced, tmp_path):
    numbers = Numbers(Run(tmp_path / "runs" / "laptop"))
    assert "<" not in numbers.cell("inference", "06_intervention", "m2g.success")
    assert "<span" in Numbers(sourced).cell("inference", "06_intervention", "m2g.success")


#: their rates come from tables that are committed with the code, and from no run
COMMITTED = (
    "scale.md",
    "performance.md",
    "real_model.md",
    "chapters/02_training.md",
    "chapters/13_scoreboard.md",
)
#: parts of other pages whose rates do, too
PARTS = re.compile(r"^## (On a model of another task|Over all seeds)\n.*?(?=^## )", re.M | re.S)
#: a line of another page that says such a rate, and leads to its page
QUOTED = re.compile(r".*\(real_model\.md\).*")


def test_every_rate_on_every_page_has_a_source(tmp_path, notebook, rendered):
    run = make_run(tmp_path / "runs", ["arithmetic-tagged", "inference"], [0, 1], notebook)
    for page, text in rendered(run, write=str).items():
        rest = PARTS.sub("", QUOTED.sub("", origin._SPAN.sub("", text)))
        assert page in COMMITTED or not re.findall(r".*\d\u00a0%.*", rest), page
