"""Bytes that come out of the sandbox: what was packed comes back, and anything else is refused."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from labdiff.errors import Malformed
from labdiff.grading.sandbox.packing import LENGTH, pack, unpack

plain = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text()
dtypes = (
    arrays.boolean_dtypes()
    | arrays.integer_dtypes(endianness="=")
    | arrays.floating_dtypes(endianness="=", sizes=(32, 64))
)
leaves = plain | arrays.arrays(
    dtypes, arrays.array_shapes(min_dims=0, min_side=0, max_side=4), elements={"allow_nan": False}
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@settings(deadline=None, derandomize=True)
@given(trees)
def test_a_tree_comes_back_as_it_was(tree):
    assert same(tree, unpack(pack(tree)))


@settings(deadline=None, derandomize=True)
@given(trees, st.data())
def test_damaged_bytes_are_refused_or_still_a_tree_of_plain_values(tree, data):
    damaged = bytearray(pack(tree))
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed):
        unpack(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused(data):
    with pytest.raises(Malformed):
        unpack(data)


@pytest.mark.parametrize(
    "about",
    [
        b"[1]",
        b'{"array": 7}',
        b'{"dict": [["a"]]}',
        b'{"list": ' * 3000,
        b'{"tuple": 3}',
        b"{}",
        b'{"set": []}',
        b"9" * 9999,
    ],
)
def test_json_that_is_no_tree_is_refused(about):
    with pytest.raises(Malformed):
        unpack(LENGTH.pack(len(about)) + about + b"\x02\0\0\0\0\0\0\0{}")


def test_tensors_and_complex_numbers_survive_and_objects_do_not():
    tree = {"x": torch.arange(6).reshape(2, 3).T, "z": np.array([1 + 2j])}
    back = unpack(pack(tree))
    assert isinstance(back["x"], torch.Tensor) and torch.equal(back["x"], tree["x"])
    assert back["z"] == tree["z"]
    for foreign in (object(), {1: 2}, np.array([object()]), lambda: 0):
        with pytest.raises(TypeError):
            pack(foreign)
