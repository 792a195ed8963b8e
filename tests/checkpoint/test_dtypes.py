"""Formats: names, float32, and what each keeps of a number."""

import ml_dtypes
import numpy as np
import pytest

from eckart.checkpoint import DTYPES, is_float, mantissa_bits, name_of, to_float
from eckart.errors import UsageError

FLOATS = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"]


@pytest.mark.parametrize("name", DTYPES)
def test_a_name_survives_the_way_there_and_back(name):
    assert name_of(DTYPES[name]) == name


def test_byte_order_is_no_part_of_the_name():
    assert name_of(">f4") == "F32"


def test_a_dtype_without_a_name_is_refused():
    with pytest.raises(UsageError, match="complex128"):
        name_of(np.complex128)


def test_exactly_the_floating_formats_are_floating():
    assert [name for name in DTYPES if is_float(DTYPES[name])] == FLOATS
    assert not is_float(np.complex64)


@pytest.mark.parametrize("name", FLOATS)
def test_mantissa_bits_is_where_one_and_its_successor_part(name):
    dtype, bits = DTYPES[name], mantissa_bits(DTYPES[name])
    assert np.float64(1 + 2.0**-bits).astype(dtype) > dtype.type(1)
    assert np.float64(1 + 2.0 ** -(bits + 2)).astype(dtype) == dtype.type(1)


def test_mantissa_bits_of_an_integer_is_refused():
    with pytest.raises(UsageError, match="expected a floating dtype, found int8"):
        mantissa_bits(np.int8)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_every_16_bit_number_becomes_the_float32_that_a_cast_gives(dtype):
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    np.testing.assert_array_equal(to_float(every), every.astype(np.float32))


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_every_8_bit_number_becomes_the_float32_that_a_cast_gives(dtype):
    every = np.arange(2**8, dtype=np.uint8).view(dtype)
    np.testing.assert_array_equal(to_float(every), every.astype(np.float32))


def test_bfloat16_by_hand():
    # 0x4049 is sign 0, exponent 2**1, fraction 1001001: 2 * (1 + 73/128)
    assert to_float(np.array(0x4049, np.uint16).view(ml_dtypes.bfloat16)) == np.float32(3.140625)


def test_strides_do_not_matter():
    array = np.arange(12).reshape(3, 4).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(to_float(array.T[::2]), np.arange(12.0).reshape(3, 4).T[::2])


def test_wide_arrays_are_not_copied():
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
def test_an_out_that_does_not_fit_is_refused(out):
    with pytest.raises(UsageError, match=r"expected out of shape \(3,\) and dtype float32"):
        to_float(np.ones(3, np.float16), out)
