"""Dtypes: their names and spellings, conversion to float32, and the precision of each."""

import ml_dtypes
import numpy as np
import pytest

from eckart.checkpoint import (
    DTYPES,
    dtype_name,
    is_float,
    mantissa_bits,
    name_of,
    parse_dtype,
    to_float,
)
from eckart.checkpoint.dtypes import SPELLINGS
from eckart.errors import UsageError

FLOATS = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"]


@pytest.mark.parametrize("name", DTYPES)
def test_safetensors_name_round_trips(name):
    assert name_of(DTYPES[name]) == name


def test_safetensors_name_ignores_byte_order():
    assert name_of(">f4") == "F32"


def test_dtype_without_a_safetensors_name_is_refused():
    with pytest.raises(UsageError, match="complex128"):
        name_of(np.complex128)


@pytest.mark.parametrize(
    ("expected", "spellings"),
    [
        ("F64", "f64 F64 fp64 FP64 float64 torch.float64 double torch.double"),
        ("F32", "f32 F32 fp32 FP32 float32 Float32 torch.float32 float torch.float single"),
        ("F16", "f16 F16 fp16 FP16 float16 torch.float16 half torch.half"),
        ("BF16", "bf16 BF16 bfloat16 BFLOAT16 torch.bfloat16"),
        (
            "F8_E4M3",
            "F8_E4M3 f8_e4m3 f8_e4m3fn fp8_e4m3 fp8_e4m3fn FP8_E4M3 float8_e4m3 float8_e4m3fn "
            "torch.float8_e4m3fn fp8 FP8 float8 f8",
        ),
        ("F8_E5M2", "F8_E5M2 f8_e5m2 fp8_e5m2 FP8_E5M2 float8_e5m2 torch.float8_e5m2"),
        ("I64", "i64 I64 int64 torch.int64 long torch.long"),
        ("I32", "i32 I32 int32 torch.int32 int"),
        ("I16", "i16 I16 int16 torch.int16 short"),
        ("I8", "i8 I8 int8 torch.int8"),
        ("U64", "u64 U64 uint64 torch.uint64"),
        ("U32", "u32 U32 uint32 torch.uint32"),
        ("U16", "u16 U16 uint16 torch.uint16"),
        ("U8", "u8 U8 uint8 torch.uint8"),
        ("BOOL", "bool BOOL torch.bool"),
    ],
)
def test_every_spelling_of_a_dtype_is_accepted(expected, spellings):
    assert {parse_dtype(spelling) for spelling in spellings.split()} == {expected}
    # The list above is written out by hand, and must cover the whole table.
    assert {s.lower().removeprefix("torch.") for s in spellings.split()} >= set(SPELLINGS[expected])


def test_spelling_table_covers_every_dtype_without_ambiguity():
    assert SPELLINGS.keys() == DTYPES.keys()
    spellings = [spelling for row in SPELLINGS.values() for spelling in row]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize("name", DTYPES)
def test_shown_name_and_safetensors_name_and_numpy_dtype_are_accepted(name):
    assert parse_dtype(dtype_name(name)) == parse_dtype(name) == parse_dtype(DTYPES[name]) == name
    assert dtype_name(DTYPES[name]) == dtype_name(name)


@pytest.mark.parametrize("name", DTYPES)
def test_shown_name_is_that_of_torch(name):
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, dtype_name(name))
    assert str(dtype) == f"torch.{dtype_name(name)}"
    assert parse_dtype(dtype) == name
    assert dtype.itemsize == DTYPES[name].itemsize


def test_name_that_torch_lacks_is_shown_unchanged():
    assert dtype_name("F6_E2M3") == "F6_E2M3"
    assert dtype_name("Q9_K") == "Q9_K"


@pytest.mark.parametrize("text", ["", "bf17", "f", "floats", "torch", "complex64", "F4"])
def test_unknown_dtype_is_refused_with_the_list(text):
    with pytest.raises(UsageError) as caught:
        parse_dtype(text)
    assert f"dtype={text!r}" in str(caught.value)
    assert "float64, float32, float16, bfloat16, float8_e4m3fn" in caught.value.what


def test_dtype_that_is_not_allowed_is_refused_with_the_allowed_ones():
    allowed = ("F32", "F16", "BF16")
    assert parse_dtype("half", allowed) == "F16"
    with pytest.raises(UsageError) as caught:
        parse_dtype("float64", allowed)
    assert caught.value.what == "expected one of float32, float16, bfloat16"


def test_exactly_the_floating_point_dtypes_are_floating_point():
    assert [name for name in DTYPES if is_float(DTYPES[name])] == FLOATS
    assert not is_float(np.complex64)


@pytest.mark.parametrize("name", FLOATS)
def test_mantissa_bits_give_the_distance_from_one_to_its_successor(name):
    dtype, bits = DTYPES[name], mantissa_bits(DTYPES[name])
    assert np.float64(1 + 2.0**-bits).astype(dtype) > dtype.type(1)
    assert np.float64(1 + 2.0 ** -(bits + 2)).astype(dtype) == dtype.type(1)


def test_mantissa_bits_of_an_integer_dtype_are_refused():
    with pytest.raises(UsageError, match="expected a floating-point dtype, found int8"):
        mantissa_bits(np.int8)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_every_16_bit_number_is_converted_as_by_a_cast(dtype):
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    np.testing.assert_array_equal(to_float(every), every.astype(np.float32))


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_every_8_bit_number_is_converted_as_by_a_cast(dtype):
    every = np.arange(2**8, dtype=np.uint8).view(dtype)
    np.testing.assert_array_equal(to_float(every), every.astype(np.float32))


def test_bfloat16_conversion_by_hand():
    # 0x4049 is sign 0, exponent 2**1, fraction 1001001: 2 * (1 + 73/128)
    assert to_float(np.array(0x4049, np.uint16).view(ml_dtypes.bfloat16)) == np.float32(3.140625)


def test_strided_array_is_converted():
    array = np.arange(12).reshape(3, 4).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(to_float(array.T[::2]), np.arange(12.0).reshape(3, 4).T[::2])


def test_float32_and_float64_arrays_are_not_copied():
    for dtype in (np.float32, np.float64):
        array = np.ones(3, dtype)
        assert to_float(array) is array


@pytest.mark.parametrize("name", DTYPES)
def test_out_is_filled_and_returned(name):
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(DTYPES[name])
    out = np.full((2, 3), 7.0, np.float64 if name == "F64" else np.float32)
    assert to_float(array, out) is out
    assert out.tolist() == [[0, 1, 1], [1, 0, 1]]


@pytest.mark.parametrize("out", [np.empty(3, np.float64), np.empty(2, np.float32)])
def test_out_of_wrong_shape_or_dtype_is_refused(out):
    with pytest.raises(UsageError, match=r"expected out of shape \(3,\) and dtype float32"):
        to_float(np.ones(3, np.float16), out)
