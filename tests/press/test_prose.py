"""Prose decides nothing: templates are read for decisions, and pages say what the ledger says."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from fake_run import make_run
from jinja2 import nodes

from memgen.stages import LABS, labs_of
from memgen.terms import VERDICTS
from press import prose, words
from press.machine import Made, of_seed
from press.run import Run
from press.scale import SPANNED, Sweep, sweep
from running import ROOT

PARTS = sorted(p.relative_to(ROOT / "book").as_posix() for p in (ROOT / "book").rglob("*.jinja"))
PAGES = sorted(p.relative_to(ROOT / "book").as_posix() for p in (ROOT / "book").rglob("*.md"))

# -- no decision in a template ---------------------------------------------------------------------
ORDER = {"lt", "lteq", "gt", "gteq"}
#: they count, choose or compare; `plural`, `span`, `share`... of `press` do it with a test
DECIDING = {
    "max",
    "min",
    "sum",
    "len",
    "length",
    "count",
    "namespace",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
}


def decisions(template: str) -> list[str]:
    """What a template decides by itself: comparisons of numbers, counters, extremes, choices."""
    tree = prose.templates(ROOT / "book").parse(template)
    found = []
    for node in tree.find_all(nodes.Compare):
        numeric = any(
            isinstance(one, nodes.Const) and isinstance(one.value, (int, float))
            for one in (node.expr, *(operand.expr for operand in node.ops))
        )
        found += [one.op for one in node.ops if one.op in ORDER or numeric]
    found += [one.name for one in tree.find_all(nodes.Filter) if one.name in DECIDING]
    found += [one.name for one in tree.find_all(nodes.Name) if one.name in DECIDING]
    found += [one.attr for one in tree.find_all(nodes.Getattr) if one.attr in DECIDING]
    found += [type(one).__name__ for one in tree.find_all((nodes.Add, nodes.Sub, nodes.NSRef))]
    return found


@pytest.mark.parametrize("page", [*PAGES, *PARTS])
def test_no_template_decides_anything(page):
    """Sentences that count or compare call a helper of `press`; templates write values and rows."""
    assert decisions((ROOT / "book" / page).read_text(encoding="utf8")) == []


@pytest.mark.parametrize(
    "template",
    [
        "{% if m.low > sm %}above{% endif %}",
        "{{ 'is' if x <= 0.2 else 'is not' }}",
        "{{ verdicts.count('supported') }}",
        "{% set n = namespace(won=0) %}",
        "{% for c in x %}{% set n.won = 1 %}{% endfor %}",
        "{{ controls | map(attribute='success') | max }}",
        "{{ min(rates) }}",
        "{{ len(tasks) }} tasks",
        "{{ tasks | length }}",
        "{{ 'task' if n == 1 else 'tasks' }}",
        "{{ cases | selectattr('verdict', 'equalto', 'supported') | list }}",
        "{{ far + 1 }}",
        "{% macro most(a) %}{{ 'yes' if 2 * a >= b }}{% endmacro %}",
    ],
)
def test_a_decision_in_a_template_is_found(template):
    assert decisions(template)


# -- what pages say --------------------------------------------------------------------------------
def change(folder, path, **changes) -> None:
    """Overwrite entries of a stage's `result.json`."""
    path = folder / path / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_every_page_of_both_tracks_can_be_written(tmp_path, notebook, rendered):
    tasks = ["arithmetic-tagged", "arithmetic-matched", "inference"]
    for track in ("scratch", "lora"):
        folder = make_run(tmp_path / "runs", tasks, [0, 1], notebook, track=track)
    for page, text in rendered(folder, "scratch", "lora").items():
        assert page == "cite.md" or "{{" not in text and "{%" not in text, (
            page
        )  # BibTeX has {{...}}
        assert "<press." not in text and "Undefined" not in text, page
        if page == "chapters/06_intervention.md":
            assert '<a class="live-link" href="../live.html#task=arithmetic-tagged&amp;' in text
        prose_of, _, _ = text.partition("## Check yourself")
        assert "None" not in prose_of or page in ("parameters.md", "reexecute.md"), page
        assert not re.search(r"\b1 (tasks|claims|models|cases|seeds|hold|are)\b", text), page


def test_rates_of_steering_are_the_same_on_every_page(tmp_path, notebook, rendered):
    tasks = ["arithmetic-tagged", "arithmetic-matched"]
    for track in ("scratch", "lora"):
        folder = make_run(tmp_path / "runs", tasks, [0], notebook, track=track)
    path = folder / "lora" / "study" / "all" / "08_synthesis" / "steering.parquet"
    table = pd.read_parquet(path)
    chosen = (table.task == "arithmetic-matched") & (table.direction == "m2g")
    for kind, rate in (("steered", 0.71), ("best_of_random", 0.26), ("forbid_source", 0.64)):
        table.loc[chosen & (table.kind == kind), "rate"] = rate
    table.to_parquet(path)
    pages = rendered(folder, "lora", only={"adapters.md", "results.md"})
    (row,) = [
        one
        for one in pages["adapters.md"].splitlines()
        if one.startswith("| arithmetic-matched |") and "| 71\u00a0% |" in one
    ]
    assert "| 1 of 1 | 71\u00a0% | 26\u00a0% | 64\u00a0% |" in row
    assert "| arithmetic-matched |" in pages["results.md"] and "26\u00a0% (" in pages["results.md"]


def limited(path) -> None:
    """No cell of either direction stays within the limit in this run; the one that was run costs much."""
    found = json.loads(path.read_text())
    for direction in ("m2g", "g2m"):
        found[direction] |= {"kept_exists": False, "cell": "max", "kept": None, "success": 0.777}
        found[direction]["max"] |= {"success": 0.777, "free_accuracy_after": 0.123}
    path.write_text(json.dumps(found))


def test_a_cell_beyond_the_limit_stands_only_beside_its_cost(tmp_path, notebook, rendered):
    """What steering turned beyond the limit is in no table of successes, and no page hides the price."""
    for track in ("scratch", "lora"):
        folder = make_run(tmp_path / "runs", ["inference"], [0, 1], notebook, track=track)
    for run in (folder, folder / "lora"):
        limited(run / "inference" / "seed1" / "06_intervention" / "result.json")
        path = run / "study" / "all" / "08_synthesis" / "steering.parquet"
        pd.read_parquet(path).assign(n_kept=1).to_parquet(path)
    pages = rendered(folder, "scratch", "lora", only={"results.md", "adapters.md"})
    rows = [
        row
        for page in ("results.md", "adapters.md")
        for row in pages[page].splitlines()
        if row.startswith("| inference | 1 of 2 |")
    ]
    assert len(rows) == 4  # two directions, two pages
    assert all(re.search(r"\| [0-9]+.% → [0-9]+.% \|", row) for row in rows)
    (last,) = [
        one for one in pages["results.md"].splitlines() if one.startswith("| inference | 1 |")
    ]
    assert last.count("none (") == 2
    assert "78\u00a0%" not in pages["results.md"] + pages["adapters.md"]
    spans = [row for row in rows if " 0\u00a0% to " in row]
    assert len(spans) == 2  # over the seeds, on the page of results


def test_the_paper_stands_beside_like(tmp_path, notebook, rendered):
    tasks = ["inference", "arithmetic-tagged", "arithmetic-matched"]
    folder = make_run(tmp_path / "runs", tasks, [0], notebook)
    path = folder / "study" / "all" / "08_synthesis" / "steering.parquet"
    table = pd.read_parquet(path)
    planted = zip(tasks, (0.11, 0.91, 0.06), strict=True)
    for task, rate in planted:
        rows = (table.task == task) & (table.direction == "m2g") & (table.kind == "steered")
        table.loc[rows, ["rate", "low", "high"]] = [rate, rate - 0.02, rate + 0.02]
    table.to_parquet(path)
    name = "chapters/08_synthesis.md"
    page = rendered(folder, only={name})[name].replace("\u00a0", " ")
    assert "| memory to rule (v1, inference) | 83.7 % | 11 % (9 % to 13 %) |" in page
    both = "tagged 91 %; answers that look alike 6 % to 11 %"
    assert f"| memory to rule (v2, all tasks and models) | 65.9 to 92.3 % | {both} |" in page
    assert page.count("it stands on ") == 7 and "tried on no task" in page


def test_home_says_what_one_forbidden_token_does(tmp_path, notebook, rendered):
    tasks = ["inference", "arithmetic-tagged"]
    folder = make_run(tmp_path / "runs", tasks, [0], notebook)
    claims = json.loads((folder / "study/all/08_synthesis/result.json").read_text())["claims"]
    for claim in claims:
        if claim["id"] == "steer_m2g.forbid":
            claim["cases"]["inference"]["verdict"] = "supported"
    number = json.loads((folder / "study/all/08_synthesis/result.json").read_text())
    number = number["headline_number"] | {
        "controls": {"best_of_random": 0.36, "forbid_source": 0.41},
        "counterpart": {"task": "arithmetic-tagged", "rate": 0.95, "forbid_source": 0.99},
    }
    change(folder, "study/all/08_synthesis", claims=claims, headline_number=number)
    home = " ".join(words.prose(rendered(folder, only={"index.md"})["index.md"]).split())
    for said in (
        "88 %",
        "86 % to 91 %",
        "36 %",
        "41 %",
        "95 %",
        "99 %",
        "an AUC of 0.92; the strongest forecast without this model's states has 0.84",
        "2 of 3 models have one; any other counts as turning nothing",
    ):
        assert said in home, said
    assert "one forbidden token on 1 of 2 tasks towards the rule (inference)" in home
    assert "on 0 of 2 tasks towards memory." in home
    tests = re.search(r"([0-9]+) of ([0-9]+) tests support a claim, ([0-9]+) rule it out", home)
    assert tests and 0 < int(tests[1]) <= int(tests[2])


@pytest.mark.parametrize("verdict", VERDICTS)
def test_chapter_6_says_what_the_ledger_says_whatever_the_rates(
    tmp_path, notebook, rendered, verdict
):
    tasks = ["cipher-tagged", "cipher-matched"]
    folder = make_run(tmp_path / "runs", tasks, [0], notebook)
    claims = json.loads((folder / "study/all/08_synthesis/result.json").read_text())["claims"]
    case = {"effect": 0.1, "interval": [0.0, 0.2], "detectable": 0.1, "n": 9} | {
        "n_keys": 3,
        "n_seeds": 3,
    }
    for claim in claims:
        on = {"format": ["cipher"], "steer_m2g.forbid": tasks, "steer_g2m.forbid": tasks[:1]}
        if claim["id"] in on:
            claim["cases"] = {name: case | {"verdict": verdict} for name in on[claim["id"]]}
            claim["verdict"] = verdict
    change(folder, "study/all/08_synthesis", claims=claims)
    name = "chapters/06_intervention.md"
    page = " ".join(rendered(folder, only={name})[name].split())
    said = {
        "supported": "Much of that success is then the output's format.",
        "reversed": "The matched variant is the easier one",
    }
    unclear = "the format is not shown to be the cause"
    assert [text in page for text in said.values()] == [name == verdict for name in said]
    assert (unclear in page) == (verdict not in said)
    assert f"by the ledger's interval over seeds, {verdict}." in page


def test_home_and_chapter_8_count_the_claims_that_could_be_tested(tmp_path, notebook, rendered):
    folder = make_run(tmp_path / "runs", ["inference"], [0], notebook)
    claims = json.loads((folder / "study/all/08_synthesis/result.json").read_text())["claims"]
    tested = sum(bool(claim["cases"]) for claim in claims)
    assert tested < len(claims)
    counting = {"index.md", "chapters/08_synthesis.md", "ledger.md"}
    pages = rendered(folder, only=counting)
    counted = (
        f"{tested} claims that this run can test, 1 is supported on every task, {tested - 1} are"
        " contradicted on every task, 0 are reversed"
    )
    for page in sorted(counting):
        flat = " ".join(pages[page].split())
        flat = re.sub(r" \([^()]*\)", "", flat)
        on_ledger = counted.replace("on every task", "in every case")
        assert (on_ledger if page == "ledger.md" else counted) in flat, page


# -- what a page is told about machines and sizes --------------------------------------------------
def test_time_and_memory_are_added_up_by_lab(tmp_path, notebook):
    folder = make_run(tmp_path, ["inference"], [0, 1], notebook)
    path = folder / "inference" / "seed1" / "02_training" / "manifest.json"
    manifest = json.loads(path.read_text()) | {
        "cpu_seconds": 19.2,
        "wall_seconds": 20.3,
        "peak_memory_bytes": 9e8,
    }
    path.write_text(json.dumps(manifest))
    run = Run(folder)
    made = Made(run)
    training = made.by_lab["02_training"]
    assert (training.runs, training.longest, training.peak) == (2, 20.3, 9e8)
    assert (
        training.mean == pytest.approx(15.2) and training.longest == 20.3 and made.spent.peak == 9e8
    )
    assert made.spent.runs == len(run.labs) == sum(one.runs for one in made.by_lab.values())
    others = sum(1 in LABS[name].of_seeds([0, 1]) for name in labs_of("run")) - 1
    assert of_seed(run, "inference", 1).total == pytest.approx(others * 11.2 + 19.2)
    assert made.machine["cores"] == 2 and made.versions["python"] == "3.11.7"


def test_the_sweep_counts_rows_and_sizes():
    def row(width, m2g, forbidden, passed=2):
        known = dict.fromkeys(SPANNED, 0.1) | {"n_parameters": 1000 * width, "auc": 0.9}
        known |= {"m2g": m2g, "m2g_forbidden": forbidden}
        size = {"task": "t", "width": width, "depth": 2, "passed": passed, "seeds": 2}
        return (known if passed else {}) | size

    found = Sweep([row(64, 0.5, 0.4), row(32, 0.4, 0.4), row(16, 0.1, None), row(8, 0, 0, 0)])
    assert found.n_sizes == 4 and found.seeds == 2 and [r["width"] for r in found.failed] == [8]
    assert [r["width"] for r in found.known] == [16, 32, 64]
    assert str(found.leads("m2g", "m2g_forbidden")) == "1 of 3"
    spans = found.by_task()["t"]
    assert spans["auc"] == [0.9] * 3 and spans["m2g"] == [0.1, 0.4, 0.5]
    assert "128 × 4" in found.missing and Sweep().rows == []


def test_the_committed_sweep_has_a_figure_and_a_row_per_size(tmp_path):
    (tmp_path / "figures").mkdir()
    found = sweep(ROOT, tmp_path)
    assert (tmp_path / "figures" / "scale.png").is_file() and found.alt and found.caption
    assert len(found.rows) == 2 * found.n_sizes
    assert len(found.turned) == 2 * len(found.known)
    commands = "\n".join(one["commands"] for one in found.by_machine).splitlines()
    assert len(commands) == found.n_sizes and all("make scale SIZES=" in one for one in commands)
    assert sweep(tmp_path, tmp_path).rows == []
