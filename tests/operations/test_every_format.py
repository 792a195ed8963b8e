"""Every format through every operation: one table."""

import ml_dtypes
import numpy as np
import pytest

from eckart.adapter import load_adapter
from eckart.operations import combine, compare, resize
from support.lora_formats import (
    EPS32,
    MODULES,
    WRITTEN,
    assert_same_updates,
    expected,
    path_for,
    products,
    write_lora_as,
)
from support.real_data import LORAS
from support.terminal import run

REAL = ("analog_svd_rank4", "lora_disney")


# --- formats that are written ---


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("format", WRITTEN)
def test_every_format_is_read(format, dtype, tmp_path):
    adapter = load_adapter(write_lora_as(format, tmp_path, dtype))
    assert (adapter.format, set(adapter.components)) == (format, {"unet", "text_encoder"})
    assert_same_updates(adapter, tolerance=1e-12, dtype=dtype)
    assert {m.name: m.rank for m in adapter} == {n: rank for n, (_, rank, _) in MODULES.items()}
    assert {m.name: m.window for m in adapter} == {n: shape[2] for n, (shape, _, _) in MODULES.items()}


@pytest.mark.parametrize("format", WRITTEN)
def test_a_lossless_resize_keeps_format_and_updates(format, tmp_path):
    source, out = write_lora_as(format, tmp_path), path_for(tmp_path, format)
    resized = resize(source, out, rank=99)
    adapter = load_adapter(out)
    assert adapter.format == format
    assert_same_updates(adapter)
    assert resized.statement.error < 10 * EPS32 and compare(adapter, load_adapter(source)).holds


@pytest.mark.parametrize("format", WRITTEN)
def test_a_resize_gives_the_best_approximation(format, tmp_path):
    source, out = write_lora_as(format, tmp_path), path_for(tmp_path, format)
    resized = resize(source, out, rank=2)
    lost = whole = 0.0
    for name, update in products(load_adapter(out)).items():
        U, s, Vh = np.linalg.svd(expected(name), full_matrices=False)
        np.testing.assert_allclose(update, (U[:, :2] * s[:2]) @ Vh[:2], rtol=0, atol=10 * EPS32 * s[0])
        lost, whole = lost + np.square(s[2:]).sum(), whole + np.square(s).sum()
    assert resized.statement.error == pytest.approx(np.sqrt(lost / whole), rel=1e-5)


@pytest.mark.parametrize("format", WRITTEN)
def test_an_adapter_combined_with_itself_is_unchanged(format, tmp_path):
    source = write_lora_as(format, tmp_path)
    both = combine([source, source], weights=[0.5, 0.5]).adapter
    assert {m.name: m.rank for m in both} == {n: rank for n, (_, rank, _) in MODULES.items()}
    out = path_for(tmp_path, format)
    both.save(out)
    adapter = load_adapter(out)
    assert adapter.format == format
    assert_same_updates(adapter)


@pytest.mark.parametrize("first", WRITTEN)
@pytest.mark.parametrize("second", WRITTEN)
def test_adapters_of_two_formats_are_combined(first, second, tmp_path):
    (tmp_path / "2").mkdir()
    both = combine(
        [write_lora_as(first, tmp_path), write_lora_as(second, tmp_path / "2")], weights=[2.0, -0.5]
    ).adapter
    assert_same_updates(both, 1.5)


@pytest.mark.parametrize("consumer", ["peft", "diffusers", "comfyui"])
@pytest.mark.parametrize("format", WRITTEN)
def test_check_reports_which_programs_read_a_format(format, consumer, tmp_path):
    """The alphas vary, so diffusers misreads kohya's format."""
    done = run("check", write_lora_as(format, tmp_path), "--for", consumer)
    right = {("peft", "peft"), ("diffusers", "diffusers"), ("kohya", "comfyui"), ("diffusers", "comfyui")}
    assert done.code == (0 if (format, consumer) in right else 1), done.out + done.err


# --- real files ---


@pytest.fixture(params=REAL)
def real(request):
    file = LORAS / f"{request.param}.safetensors"
    if not file.is_file():
        pytest.skip("the files are not available")
    return file


def test_real_adapters_are_read(real):
    adapter = load_adapter(real)
    assert adapter.format == "cloneofsimo" and len(adapter) == 192
    assert {m.rank for m in adapter} == {4 if "analog" in real.name else 1}
    assert not any(m.name.rpartition(".")[2].isdigit() and m.name.count(".") == 1 for m in adapter)


def test_real_adapters_are_resized(real, tmp_path):
    adapter = load_adapter(real)
    resized = resize(real, tmp_path / "same.safetensors", rank=4, dtype="F32")
    assert resized.statement.error < 10 * EPS32
    assert compare(load_adapter(tmp_path / "same.safetensors"), adapter).error < 1e-6
    resized = resize(real, tmp_path / "cut.safetensors", rank=1, dtype="F32")
    lost = whole = 0.0
    for m in adapter:
        left, right = m.product()
        # the squares of sigma are the eigenvalues of (B^T B)(A A^T)
        energies = np.sort(np.linalg.eigvals((left.T @ left) @ (right @ right.T)).real)[::-1]
        lost, whole = lost + energies[1:].sum(), whole + energies.sum()
    assert resized.statement.error == pytest.approx(np.sqrt(lost / whole), abs=1e-6)
    assert compare(load_adapter(tmp_path / "cut.safetensors"), adapter).holds


def test_real_adapters_combined_with_themselves_are_unchanged(real):
    adapter = load_adapter(real)
    both = combine([adapter, adapter], weights=[0.5, 0.5], dtype="F32").adapter
    assert compare(both, adapter).error < 1e-6
    assert {m.rank for m in both} == {m.rank for m in adapter}


def test_real_adapters_in_an_unread_format_are_reported(real):
    done = run("check", real, "--for", "diffusers,comfyui")
    assert done.code == 1 and "this format is not read" in " ".join(done.out.split())
