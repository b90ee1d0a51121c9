"""How values are written: the same on every road, and as everybody writes numbers."""

from __future__ import annotations

import math

import pytest
import yaml

from memgen.config.values import read_yaml, settings
from memgen.errors import ParameterError


@pytest.mark.parametrize(
    "text, value",
    [
        ("1", 1),
        ("-3", -3),
        ("1_000", 1000),
        ("010", 10),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("1E+3", 1000.0),
        ("1.e3", 1000.0),
        ("-.inf", -math.inf),
        ("inf", math.inf),
        ("true", True),
        ("True", True),
        ("no", False),
        ("None", None),
        ("null", None),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1__0", "1__0"),
        ("ln_2", "ln_2"),
        ("'12'", "12"),
        ("[1e-3, 2, ln_2]", [0.001, 2, "ln_2"]),
        ("[1.0,4.0]", [1.0, 4.0]),
    ],
)
def test_a_value_is_what_it_looks_like(text, value):
    assert read_yaml(text) == value and type(read_yaml(text)) is type(value)


def test_not_a_number_is_one():
    assert math.isnan(read_yaml("nan")) and math.isnan(read_yaml(".nan"))


def test_an_anchor_lends_its_values_and_a_name_twice_is_an_error():
    assert read_yaml("a: &x {n: 1}\nb: {<<: *x, n: 2, m: 3}")["b"] == {"n": 2, "m": 3}
    with pytest.raises(yaml.YAMLError, match="'n' stands there twice"):
        read_yaml("a:\n  n: 1\n  n: 2\n")


@pytest.mark.parametrize(
    "words",
    [
        ["n_embd=64", "top_ns=[0.1,0.3]", "site=ln_2"],
        ["n_embd=64", "top_ns=[0.1,", "0.3]", "site=ln_2"],  # as a shell cuts it
        ["n_embd=64 top_ns=[0.1, 0.3]  site=ln_2"],  # as make passes it on
        ["", "n_embd=64", "top_ns=[ 0.1, 0.3 ] site=ln_2 "],
        ["n_embd=3", "n_embd=64", "top_ns=[0.1,0.3]", "site=ln_2"],  # the last one counts
    ],
)
def test_settings_are_the_same_however_a_shell_has_cut_them(words):
    assert settings(words) == {"n_embd": 64, "top_ns": [0.1, 0.3], "site": "ln_2"}


@pytest.mark.parametrize(
    "line, value",
    [
        ("base_model=/my models/it's [here]", "/my models/it's [here]"),
        ("base_model='a b=c'", "a b=c"),
        ("base_model=x=y", "x=y"),
        ("base_model=/a [b seed=3", "/a [b"),
    ],
)
def test_a_text_may_hold_what_else_would_cut_it(line, value):
    assert settings([line])["base_model"] == value


@pytest.mark.parametrize("line", ["n_embd", "=3", "n_embd=", "3=4", "a-b=3", "top_ns=[0.1", "a={b"])
def test_what_is_no_setting_is_named(line):
    with pytest.raises(ParameterError) as error:
        settings([line])
    assert repr(line) in str(error.value) and "\n" not in str(error.value)
