"""One table: every format through every operation."""

import json

import ml_dtypes
import numpy as np
import pytest

from eckart.adapter import load_adapter
from eckart.checkpoint import write_safetensors
from eckart.operations import combine, compare, convert, resize
from support.real_data import LORAS
from support.terminal import run

REAL = ("analog_svd_rank4", "lora_disney")
WRITTEN = ("peft", "kohya", "diffusers")
EPS32 = float(np.finfo(np.float32).eps)

# Modules of a U-Net and a text encoder: (d_out, d_in, window), rank, alpha
MODULES = {
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": ((12, 10, ()), 4, 2.0),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k": ((12, 10, ()), 3, 3.0),
    "unet.mid_block.attentions.0.proj_in": ((8, 8, (1, 1)), 2, 1.0),
    "unet.mid_block.resnets.0.conv1": ((8, 6, (3, 3)), 5, 7.0),
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": ((9, 9, ()), 3, 1.5),
}
STEM = {
    name: name.replace("text_encoder.", "lora_te_").replace("unet.", "lora_unet_").replace(".", "_")
    for name in MODULES
}


def factors(name, dtype=np.float32):
    (m, n, window), rank, _ = MODULES[name]
    random = np.random.default_rng(len(name))
    ones = (1,) * len(window)
    B, A = random.standard_normal((m, rank, *ones)), random.standard_normal((rank, n, *window))
    return B.astype(dtype), A.astype(dtype)


def as_peft(folder, dtype):
    for part in ("unet", "text_encoder"):
        (folder / part).mkdir(parents=True)
        names = [n for n in MODULES if n.startswith(f"{part}.")]
        inner = {n: n.removeprefix(f"{part}.") for n in names}
        config = {
            "peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": list(inner.values()),
            "rank_pattern": {inner[n]: MODULES[n][1] for n in names},
            "alpha_pattern": {inner[n]: MODULES[n][2] for n in names},
        }  # fmt: skip
        (folder / part / "adapter_config.json").write_text(json.dumps(config))
        arrays = {}
        for n in names:
            B, A = factors(n, dtype)
            key = f"base_model.model.{inner[n]}"
            arrays |= {f"{key}.lora_A.weight": A, f"{key}.lora_B.weight": B}
        write_safetensors(folder / part / "adapter_model.safetensors", arrays)
    return folder


def one_file(path, dtype, up, down, alpha, names):
    arrays = {}
    for n in MODULES:
        B, A = factors(n, dtype)
        arrays |= {
            f"{names[n]}.{up}": B,
            f"{names[n]}.{down}": A,
            f"{names[n]}.{alpha}": np.float32(MODULES[n][2]),
        }
    write_safetensors(path, arrays)
    return path


def build(format, folder, dtype=np.float32):
    """Write the table's adapter in a format, by its documentation and without the library's writers."""
    if format == "peft":
        return as_peft(folder / "peft", dtype)
    if format == "kohya":
        return one_file(folder / "k.safetensors", dtype, "lora_up.weight", "lora_down.weight", "alpha", STEM)
    return one_file(
        folder / "d.safetensors", dtype, "lora_B.weight", "lora_A.weight", "alpha", {n: n for n in MODULES}
    )


def expected(name, dtype=np.float32):
    """scale * B A in float64."""
    B, A = (f.astype(np.float64).reshape(len(f), -1) for f in factors(name, dtype))
    _, rank, alpha = MODULES[name]
    return alpha / rank * (B @ A)


def products(adapter):
    return {m.name: np.matmul(*m.product()) for m in adapter}


def place(folder, format, name="out"):
    return folder / (name if format == "peft" else f"{name}.safetensors")


def same_updates(adapter, factor=1.0, tolerance=10 * EPS32, dtype=np.float32):
    found = products(adapter)
    assert found.keys() == MODULES.keys()
    for name, update in found.items():
        whole = factor * expected(name, dtype)
        assert np.linalg.norm(update - whole) <= tolerance * np.linalg.norm(whole), name


# --- formats that are written ---


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("format", WRITTEN)
def test_load(format, dtype, tmp_path):
    adapter = load_adapter(build(format, tmp_path, dtype))
    assert (adapter.format, set(adapter.components)) == (format, {"unet", "text_encoder"})
    same_updates(adapter, tolerance=1e-12, dtype=dtype)
    assert {m.name: m.rank for m in adapter} == {n: rank for n, (_, rank, _) in MODULES.items()}
    assert {m.name: m.window for m in adapter} == {n: shape[2] for n, (shape, _, _) in MODULES.items()}


@pytest.mark.parametrize("format", WRITTEN)
def test_resize_lossless(format, tmp_path):
    source, out = build(format, tmp_path), place(tmp_path, format)
    done = resize(source, out, rank=99)
    adapter = load_adapter(out)
    assert adapter.format == format
    same_updates(adapter)
    assert done.statement.error < 10 * EPS32 and compare(adapter, load_adapter(source)).holds


@pytest.mark.parametrize("format", WRITTEN)
def test_resize_cut(format, tmp_path):
    source, out = build(format, tmp_path), place(tmp_path, format)
    done = resize(source, out, rank=2)
    lost = whole = 0.0
    for name, update in products(load_adapter(out)).items():
        U, s, Vh = np.linalg.svd(expected(name), full_matrices=False)
        np.testing.assert_allclose(update, (U[:, :2] * s[:2]) @ Vh[:2], rtol=0, atol=10 * EPS32 * s[0])
        lost, whole = lost + np.square(s[2:]).sum(), whole + np.square(s).sum()
    assert done.statement.error == pytest.approx(np.sqrt(lost / whole), rel=1e-5)


@pytest.mark.parametrize("format", WRITTEN)
def test_combine_with_itself(format, tmp_path):
    source = build(format, tmp_path)
    both = combine([source, source], weights=[0.5, 0.5]).adapter
    assert {m.name: m.rank for m in both} == {n: rank for n, (_, rank, _) in MODULES.items()}
    out = place(tmp_path, format)
    both.save(out)
    adapter = load_adapter(out)
    assert adapter.format == format
    same_updates(adapter)


@pytest.mark.parametrize("first", WRITTEN)
@pytest.mark.parametrize("second", WRITTEN)
def test_combine_two_formats(first, second, tmp_path):
    (tmp_path / "2").mkdir()
    both = combine([build(first, tmp_path), build(second, tmp_path / "2")], weights=[2.0, -0.5]).adapter
    same_updates(both, 1.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("to", WRITTEN)
@pytest.mark.parametrize("format", WRITTEN)
def test_convert_there_and_back(format, to, dtype, tmp_path):
    source = build(format, tmp_path, dtype)
    there, back = place(tmp_path, to, "there"), place(tmp_path, format, "back")
    convert(source, there, to)
    convert(there, back, format)
    one = load_adapter(source)
    for path, name in ((there, to), (back, format)):
        other = load_adapter(path)
        assert other.format == name and other.modules.keys() == one.modules.keys()
        for m in one:
            twin = other.modules[m.name]
            assert (twin.scale, twin.window, twin.dtype) == (m.scale, m.window, m.dtype)
            assert np.array_equal(twin.left, m.left) and np.array_equal(twin.right, m.right)


@pytest.mark.parametrize("consumer", ["peft", "diffusers", "comfyui"])
@pytest.mark.parametrize("format", WRITTEN)
def test_check(format, consumer, tmp_path):
    """Which program reads which format is said as it is; alphas vary, so diffusers misreads kohya's."""
    done = run("check", build(format, tmp_path), "--for", consumer)
    right = {("peft", "peft"), ("diffusers", "diffusers"), ("kohya", "comfyui"), ("diffusers", "comfyui")}
    assert done.code == (0 if (format, consumer) in right else 1), done.out + done.err


# --- real files, read only ---


@pytest.fixture(params=REAL)
def real(request):
    file = LORAS / f"{request.param}.safetensors"
    if not file.is_file():
        pytest.skip("the files are not beside this repository")
    return file


def test_real_load(real):
    adapter = load_adapter(real)
    assert adapter.format == "cloneofsimo" and len(adapter) == 192
    assert {m.rank for m in adapter} == {4 if "analog" in real.name else 1}
    assert not any(m.name.rpartition(".")[2].isdigit() and m.name.count(".") == 1 for m in adapter)


def test_real_resize_lossless_and_cut(real, tmp_path):
    adapter = load_adapter(real)
    done = resize(real, tmp_path / "same.safetensors", rank=4, dtype="F32")
    assert done.statement.error < 10 * EPS32
    assert compare(load_adapter(tmp_path / "same.safetensors"), adapter).error < 1e-6
    done = resize(real, tmp_path / "cut.safetensors", rank=1, dtype="F32")
    lost = whole = 0.0
    for m in adapter:
        left, right = m.product()
        # the squares of sigma are the eigenvalues of (B^T B)(A A^T)
        energies = np.sort(np.linalg.eigvals((left.T @ left) @ (right @ right.T)).real)[::-1]
        lost, whole = lost + energies[1:].sum(), whole + energies.sum()
    assert done.statement.error == pytest.approx(np.sqrt(lost / whole), abs=1e-6)
    assert compare(load_adapter(tmp_path / "cut.safetensors"), adapter).holds


def test_real_combine_with_itself(real):
    adapter = load_adapter(real)
    both = combine([adapter, adapter], weights=[0.5, 0.5], dtype="F32").adapter
    assert compare(both, adapter).error < 1e-6
    assert {m.rank for m in both} == {m.rank for m in adapter}


@pytest.mark.parametrize("to", WRITTEN)
def test_real_convert(to, real, tmp_path):
    out = place(tmp_path, to)
    done = convert(real, out, to)
    assert done.source == "cloneofsimo" and done.modules == 192
    one, other = load_adapter(real), load_adapter(out)
    assert one.modules.keys() == other.modules.keys()
    for m in one:
        twin = other.modules[m.name]
        assert twin.scale == m.scale == 1.0
        assert np.array_equal(twin.left, m.left) and np.array_equal(twin.right, m.right)


def test_real_check(real):
    done = run("check", real, "--for", "diffusers,comfyui")
    assert done.code == 1 and "this format is not read" in " ".join(done.out.split())
