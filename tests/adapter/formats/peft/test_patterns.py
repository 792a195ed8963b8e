"""`target_modules` and `rank_pattern`, interpreted by PEFT's rules."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from eckart.adapter.formats.peft.patterns import rank_pattern, target_modules


def wrapped(targets, existing):
    """Return the modules that PEFT wraps: an entry is the whole name, or its end after a dot."""
    return {n for n in existing if any(n == t or n.endswith(f".{t}") for t in targets)}


def rank_of(pattern, name, default):
    """Look up a rank as PEFT does (`get_pattern_key`): the first key that matches the name or its end."""
    return next((r for key, r in pattern.items() if re.match(rf"(.*\.)?({key})$", name)), default)


PARTS = ("q", "qq", "k.0.w", "k.1.w", "mlp.experts.0.up", "mlp.experts.10.up", "q+", "a(b", "h")
NAMES = st.one_of(
    st.builds("m.h.{}.{}".format, st.integers(0, 12), st.sampled_from(PARTS)),
    st.builds("n.{}.h.{}".format, st.integers(0, 12), st.sampled_from(PARTS)),
    st.sampled_from(["m.head", "n.head", "m.layers", "m.1", "m.mlp.0", "m_h.1.q", "mxh.1.q"]),
)


@given(st.dictionaries(NAMES, st.integers(1, 4), min_size=1), st.integers(1, 5))
@example({"m.h.1.q": 2, "m.h.11.q": 3, "m.h.0.q": 1}, 4)
@example({"m_h.1.q": 2, "mxh.1.q": 3}, 1)
@example({"m.h.1.q": 2, "m.h.1.q+": 3, "m.h.1.qq": 4}, 1)
def test_every_module_gets_its_rank(ranks, default):
    pattern = rank_pattern(ranks, default)
    assert {name: rank_of(pattern, name, default) for name in ranks} == ranks
    assert sorted(pattern.values()) == sorted(set(ranks.values()) - {default})  # a key per rank


@given(st.sets(NAMES, min_size=1), st.data())
def test_exactly_the_adapted_modules_are_wrapped(existing, data):
    adapted = data.draw(st.sets(st.sampled_from(sorted(existing)), min_size=1))
    targets = target_modules(adapted, existing)
    assert wrapped(targets, existing) == adapted
    assert targets == sorted(set(targets)) and len(targets) <= len(adapted)


def test_a_last_part_is_listed_if_all_its_modules_are_adapted_and_full_paths_otherwise():
    names = [f"h.{i}.{leaf}" for i in range(12) for leaf in ("q", "v")]
    assert target_modules(names, names) == ["q", "v"]
    some = [n for n in names if n != "h.11.v"]
    assert target_modules(some, names) == sorted([f"h.{i}.v" for i in range(11)] + ["q"])


def test_five_hundred_layers_make_one_short_key():
    ranks = {f"model.layers.{i}.self_attn.q_proj": 8 for i in range(500)} | {"lm_head": 16}
    (key,) = rank_pattern(ranks, 16)
    assert key.count("q_proj") == 1 and len(key) < 500 * 5
    assert rank_of({key: 8}, "model.layers.500.self_attn.q_proj", 16) == 16


def test_default_ranks_need_no_key():
    assert rank_pattern({"a": 4, "b.0.c": 4}, 4) == {}


# --- a name that is the end of another ---


def test_a_name_that_is_the_end_of_another_gets_its_own_rank():
    ranks = {"q": 2, "h.q": 4}
    pattern = rank_pattern(ranks, 8)
    assert {name: rank_of(pattern, name, 8) for name in ranks} == ranks


def test_a_target_that_is_the_end_of_another_does_not_wrap_it():
    existing = {"layers.0.q", "encoder.layers.0.q"}
    targets = target_modules({"layers.0.q"}, existing)
    assert isinstance(targets, str)  # no list can tell the two apart
    assert {name for name in existing if re.fullmatch(targets, name)} == {"layers.0.q"}
