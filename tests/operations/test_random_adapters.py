"""Random adapters of any shape, rank, dtype and scale, also with zeros, through every operation and format.

The results are compared with float64 products of the stored numbers.
"""

import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.adapter import Adapter, Module, load_adapter
from eckart.errors import AdapterError, OutputError
from eckart.operations import combine, overlaps, resize
from eckart.serving import check

DTYPES = [np.dtype(t) for t in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)]
# Half an ulp of the largest factor entries for each factor, and a few sums.
ROUNDING = {"float64": 1e-13, "float32": 2e-6, "float16": 2e-2, "bfloat16": 5e-2}
FORMATS = ("peft", "kohya", "diffusers")
NAMES = [f"unet.down_blocks.{i}.attentions.0.proj_in" for i in range(4)]


def stored(values, dtype, size):
    with np.errstate(over="ignore", under="ignore"):
        array = (values * size).astype(dtype)
    return np.where(np.isfinite(array.astype(np.float64)), array, np.zeros((), dtype)).astype(dtype)


@st.composite
def modules(draw, names=NAMES, shapes=None):
    """Draw modules with random factors, some with zero columns, repeated columns or other magnitudes."""
    made = {}
    dtype = draw(st.sampled_from(DTYPES))
    for name in draw(st.lists(st.sampled_from(names), min_size=1, unique=True)):
        shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
        m, n = shape if shapes is None else shapes.setdefault(name, shape)
        r = draw(st.integers(1, 6))
        random = np.random.default_rng(draw(st.integers(0, 2**20)))
        left, right = random.standard_normal((m, r)), random.standard_normal((r, n))
        left *= draw(st.sampled_from([1.0, 10.0 ** -np.arange(r), (np.arange(r) % 2).astype(float)]))
        if r > 1 and draw(st.booleans()):
            left[:, -1] = left[:, 0]
        tilt = draw(st.sampled_from([1.0, 2.0**-6, 2.0**7]))
        scale = draw(st.sampled_from([1.0, 0.5, -2.0, 1 / 3, 16 / np.sqrt(32)]))
        made[name] = Module(name, "linear", stored(left, dtype, tilt), stored(right, dtype, 1 / tilt), scale)
    return made


def dense(adapter):
    return {m.name: m.scale * m.left.astype(np.float64) @ m.right.astype(np.float64) for m in adapter}


def norm(updates):
    return float(np.sqrt(sum((x**2).sum() for x in updates.values())))


def apart(one, two):
    return norm({n: np.asarray(one.get(n, 0.0) - two.get(n, 0.0)) for n in one.keys() | two.keys()})


def sizes(adapter):
    """Return the norms of the factors. Rounding is relative to them, even if the product cancels."""
    return sum(
        abs(m.scale) * np.linalg.norm(m.left.astype(float)) * np.linalg.norm(m.right.astype(float))
        for m in adapter
    )


def best(updates, rank):
    """Return the error of the best approximation of a rank, over all modules."""
    tails = [np.linalg.svd(x, compute_uv=False)[rank:] for x in updates.values()]
    return float(np.sqrt(sum((t**2).sum() for t in tails)))


quick = settings(max_examples=60, derandomize=True)


@quick
@given(made=modules(), rank=st.integers(1, 8), out=st.sampled_from(["F32", "BF16", "F16", "F64"]))
def test_resizing_gives_the_best_approximation_of_its_rank(made, rank, out):
    adapter, meant = Adapter(made, components=("unet",)), dense(Adapter(made))
    whole, size = norm(meant), sizes(Adapter(made))
    try:
        cut = adapter.resize(rank=rank, dtype=out)
    except (AdapterError, OutputError) as reason:
        assert whole <= 1e-14 * size or "overflow" in str(reason)
        return
    rounding = ROUNDING[cut.dtype.name] * whole + 1e-12 * size
    missed = apart(dense(cut), meant)
    assert best(meant, rank) - 1e-12 * size <= missed <= best(meant, rank) + rounding
    assert all(m.rank <= min(rank, *m.shape) and m.scale == 1.0 for m in cut)
    # The stated error is an estimate up to rounding. In float16, small numbers lose digits.
    if whole > 1e-9 * size and out != "F16":
        stated = cut.statement.error * whole
        assert stated == pytest.approx(missed, rel=2e-3, abs=1e-6 * whole + 1e-9 * size)


@quick
@given(data=st.data(), count=st.integers(1, 3))
def test_combining_gives_the_dense_sum(data, count):
    shapes = {}
    adapters = [Adapter(data.draw(modules(shapes=shapes))) for _ in range(count)]
    if data.draw(st.booleans()):
        adapters.append(adapters[0])
    weights = [data.draw(st.sampled_from([1.0, -1.0, 0.0, 0.3, -2.5])) for _ in adapters]
    if not any(weights):
        weights[0] = 1.0
    meant = {}
    for adapter, weight in zip(adapters, weights, strict=True):
        for name, update in dense(adapter).items():
            meant[name] = meant.get(name, 0.0) + weight * update
    size = sum(abs(w) * sizes(a) for a, w in zip(adapters, weights, strict=True))
    try:
        both = combine(adapters, weights=weights, dtype="F64").adapter
    except AdapterError as reason:
        assert "holds no update" in str(reason) and norm(meant) <= 1e-13 * size
        return
    assert apart(dense(both), meant) <= 1e-12 * size
    assert both.statement.error * norm(meant) <= 1e-12 * size + 1e-13
    for one in overlaps(adapters):
        assert -1 <= one.cosine <= 1 and 0 <= one.left <= 1 and 0 <= one.right <= 1
        first, second = dense(adapters[one.first])[one.name], dense(adapters[one.second])[one.name]
        lengths = np.linalg.norm(first) * np.linalg.norm(second)
        scale = sizes(Adapter({"x": adapters[one.first].modules[one.name]}))
        scale *= sizes(Adapter({"x": adapters[one.second].modules[one.name]}))
        if lengths > 1e-6 * scale:
            assert one.cosine == pytest.approx(float((first * second).sum() / lengths), abs=1e-6)


@quick
@given(made=modules(), path=st.lists(st.sampled_from(FORMATS), min_size=1, max_size=3))
def test_any_path_through_the_formats_keeps_every_bit(made, path):
    adapter = Adapter(made, components=("unet",))
    with tempfile.TemporaryDirectory() as folder:
        for step, format in enumerate(path):
            target = Path(folder) / (f"{step}" if format == "peft" else f"{step}.safetensors")
            adapter.save(target, format)
            adapter = load_adapter(target)
            assert adapter.format == format and not adapter.unknown
        for name, module in made.items():
            read = adapter.modules[name]
            assert read.left.dtype == module.left.dtype and read.left.tobytes() == module.left.tobytes()
            assert np.ascontiguousarray(read.right).tobytes() == module.right.tobytes()
            assert read.scale == pytest.approx(module.scale, rel=1e-15)
        assert adapter.modules.keys() == made.keys()


LAYERS = [f"model.layers.{i}.self_attn.{leaf}_proj" for i in range(3) for leaf in "qkvo"]
SERVERS = ["peft", "vllm", "vllm-0.30", "sglang", "llama.cpp", "tgi", "tensorrt-llm"]


@quick
@given(data=st.data(), servers=st.lists(st.sampled_from(SERVERS), min_size=1, unique=True))
def test_an_adapter_written_for_servers_is_correct_for_all_of_them(data, servers):
    shapes = {
        name: (6, 5) if name.endswith("o_proj") else (4, 6) if name[-6] in "kv" else (5, 6) for name in LAYERS
    }
    made = data.draw(modules(LAYERS, shapes))
    adapter, meant = Adapter(made), dense(Adapter(made))
    if norm(meant) <= 1e-9 * sizes(adapter):
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out"
        try:
            done = resize(adapter, target, rank=6, dtype="F64", consumers=servers)
        except AdapterError as reason:
            # There is no similar module, and no base was given.
            assert "its shape is not known" in str(reason)
            assert not target.exists()
            return
        read = load_adapter(target)
        result = check(read, servers)
        assert result.holds, [v.problems for v in result.verdicts]
        assert all(v.error == 0 for v in result.verdicts)
        assert apart(dense(read), meant) <= 1e-12 * sizes(adapter) and done.statement.error < 1e-6
