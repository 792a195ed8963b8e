"""Converted adapters have the factors and scales of the original, bit by bit."""

import ml_dtypes
import numpy as np
import pytest

from eckart.adapter import load_adapter
from eckart.errors import UsageError
from eckart.operations import convert
from support.lora_formats import WRITTEN, path_for, write_lora_as
from support.real_data import LORAS

REAL = ("analog_svd_rank4", "lora_disney")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("to", WRITTEN)
@pytest.mark.parametrize("format", WRITTEN)
def test_converting_there_and_back_keeps_every_bit(format, to, dtype, tmp_path):
    source = write_lora_as(format, tmp_path, dtype)
    there, back = path_for(tmp_path, to, "there"), path_for(tmp_path, format, "back")
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


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("to", WRITTEN)
def test_real_adapters_are_converted_bit_by_bit(to, name, tmp_path):
    real = LORAS / f"{name}.safetensors"
    if not real.is_file():
        pytest.skip("the files are not available")
    out = path_for(tmp_path, to)
    result = convert(real, out, to)
    assert (result.source, result.format, result.modules) == ("cloneofsimo", to, 192)
    one, other = load_adapter(real), load_adapter(out)
    assert one.modules.keys() == other.modules.keys()
    for m in one:
        twin = other.modules[m.name]
        assert twin.scale == m.scale == 1.0
        assert np.array_equal(twin.left, m.left) and np.array_equal(twin.right, m.right)


def test_the_result_describes_itself(tmp_path):
    source = write_lora_as("peft", tmp_path)
    result = convert(source, tmp_path / "k.safetensors", "kohya")
    assert repr(result) == f"Converted({tmp_path / 'k.safetensors'}: 5 modules, peft to kohya)"
    assert (result.path, result.statement, str(result.ranks)) == (
        tmp_path / "k.safetensors",
        None,
        "ranks 2 to 5 (median 3)",
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"to": "gguf"}, "expected one of peft"),
        ({"to": "peft", "experts": "both"}, "expected one of fused, split"),
    ],
)
def test_invalid_options_are_refused_before_the_adapter_is_read(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        convert(tmp_path / "nowhere", tmp_path / "out", **options)
