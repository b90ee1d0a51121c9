"""One meaning a colour, and type that a phone shows: what the figures promise, and that it is noticed."""

from __future__ import annotations

import ast
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import memgen.figures
from memgen.figures import style
from memgen.figures.style import BEHAVIOR_MAP, COLOR, PALETTE, SMALL, WIDTH, plt, say_ends
from seen import CONTENT, LEAST, misused, small_type

MODULES = sorted(Path(memgen.figures.__file__).parent.glob("*.py"))
BEHAVIOR_WORDS = {
    "memorization": re.compile(r"memor|knows"),
    "generalization": re.compile(r"rule|text says"),
}
STATEMENT = (ast.Expr, ast.Assign, ast.Return)


def uses(source: str) -> list[tuple[str, str]]:
    """`(behaviour, words)` of every `COLOR["..."]` of a behaviour: the strings of the entry of its dict,
    or else of its statement."""
    found = []
    for statement in ast.walk(ast.parse(source)):
        if not isinstance(statement, STATEMENT):
            continue
        dicts = [one for one in ast.walk(statement) if isinstance(one, ast.Dict)]
        entries = [pair for one in dicts for pair in zip(one.keys, one.values) if pair[0]]
        looks = any(getattr(key, "value", "") == "color" for key, _ in entries)  # of one artist
        if looks or not entries:
            entries = [(None, statement)]
        for pair in entries:
            nodes = [node for part in pair if part is not None for node in ast.walk(part)]
            words = " ".join(
                str(node.value) for node in nodes if isinstance(node, ast.Constant) and node.value
            )
            for node in nodes:
                if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "COLOR":
                    name = getattr(node.slice, "value", None)
                    if name in BEHAVIOR_WORDS:
                        found.append((name, words.replace(str(name), "", 1)))
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_module_takes_a_behaviours_colour_for_anything_else(module):
    source = module.read_text(encoding="utf8")
    if module.stem != "style":
        codes = {code.lower() for code in re.findall(r"#[0-9A-Fa-f]{6}", source)}
        assert not codes & {COLOR[name].lower() for name in BEHAVIOR_WORDS}
        assert not re.search(
            r"""["'](C\d|tab:\w+|blue|red|darkorange|Blues|Reds|Oranges)["']""", source
        )
        for name, words in uses(source):
            assert BEHAVIOR_WORDS[name].search(words), f"{module.name}: {name} beside {words!r}"


def test_a_colour_that_means_something_else_is_noticed():
    one = 'look = {"color": COLOR["memorization"], "label": "what it knows"}'
    assert all(BEHAVIOR_WORDS[name].search(words) for name, words in uses(one))
    kept = 'SHOWN = {"rule": ("rule", COLOR["generalization"]), "trained": COLOR["generalization"]}'
    assert [bool(BEHAVIOR_WORDS[name].search(words)) for name, words in uses(kept)] == [True, False]
    figure, ax = plt.subplots()
    ax.plot([0], [0], color=COLOR["generalization"], label="supported")
    ax.plot([0], [0], color=COLOR["memorization"], label="memory")
    ax.legend()
    assert misused(figure) == [f"'supported' in {COLOR['generalization'].lower()}"]
    plt.close(figure)


def test_small_type_is_noticed():
    figure, ax = plt.subplots(figsize=(WIDTH, 2))
    ax.text(0.5, 0.5, "small", fontsize=8)
    assert [found.partition(":")[0] for found in small_type(figure)] == ["'small'"]
    plt.close(figure)
    wide, _ = plt.subplots(figsize=(2 * WIDTH, 2))
    assert small_type(wide)  # the type of the axes, in a figure that no phone shows in full
    plt.close(wide)
    assert SMALL / 72 * CONTENT / (WIDTH + 0.06) >= LEAST


def _lab(color: str) -> np.ndarray:
    """CIE L*a*b* of a colour (D65)."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(matrix) @ linear / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_palette_is_told_from_the_behaviours_and_in_itself():
    behaviors = [COLOR["memorization"], COLOR["generalization"]]
    pairs = [*product(PALETTE, behaviors), *((a, b) for a, b in product(PALETTE, PALETTE) if a < b)]
    for one, other in pairs:
        assert np.linalg.norm(_lab(one) - _lab(other)) > 30, (one, other)
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert list(cycle) == list(PALETTE) and not set(behaviors) & set(cycle)


def test_a_map_goes_from_memory_to_rule_and_says_so():
    ends = [COLOR["memorization"], COLOR["generalization"]]
    np.testing.assert_allclose([BEHAVIOR_MAP(x)[:3] for x in (0.0, 1.0)], [to_rgb(c) for c in ends])
    figure, ax = plt.subplots()
    say_ends(figure, ax.imshow([[0, 1]]), ax, "larger when it remembers", "larger by the rule")
    said = figure.axes[1].get_xlabel()
    assert said.startswith("← larger when it remembers") and said.endswith("larger by the rule →")
    plt.close(figure)


def test_every_map_says_its_ends():
    """A module that draws a map names the ends of its colours in words."""
    drawing = {m.stem for m in MODULES if ".imshow(" in m.read_text(encoding="utf8")}
    saying = {m.stem for m in MODULES if "say_ends(" in m.read_text(encoding="utf8")}
    assert drawing and drawing <= saying and style.__name__.endswith("style")
