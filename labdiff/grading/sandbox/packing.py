"""Trees of plain values as bytes, for the way in and out of the sandbox: JSON and safetensors, never pickle.

The reader takes the bytes for hostile: whatever is wrong with them is `Malformed`.
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
import time
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from labdiff.errors import Malformed

LENGTH = struct.Struct(">Q")
DEEPEST = 20
LONGEST = 4 << 20  # bytes of JSON


def pack(tree: Any) -> bytes:
    """A tree of dictionaries, lists, tuples, texts, numbers, None, arrays and tensors as bytes.

    Raises TypeError where something else is in it.
    """
    arrays: dict[str, np.ndarray] = {}
    about = json.dumps(_plain(tree, arrays)).encode()
    return LENGTH.pack(len(about)) + about + safetensors.save(arrays)


def unpack(data: bytes) -> Any:
    """The tree that `pack` made bytes of. Raises Malformed."""
    try:
        (size,) = LENGTH.unpack_from(data)
        if size > LONGEST:
            raise Malformed("too many values that are no arrays")
        arrays = safetensors.load(data[LENGTH.size + size :])
        return _tree(json.loads(data[LENGTH.size : LENGTH.size + size]), arrays, 0)
    except Malformed:
        raise
    except (struct.error, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise Malformed(f"{type(error).__name__}: {str(error)[:200]}") from error
    except (RecursionError, MemoryError, OverflowError) as error:
        raise Malformed(type(error).__name__) from error


def read_exactly(descriptor: int, size: int, deadline: float = math.inf) -> bytes:
    """So many bytes from a descriptor, until a time of time.monotonic(). Raises EOFError and TimeoutError."""
    pieces = []
    while size:
        left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
        if not select.select([descriptor], [], [], left)[0]:
            raise TimeoutError
        piece = os.read(descriptor, min(size, 1 << 20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _plain(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
        return value
    if isinstance(value, dict):
        return {"dict": [[_text(key), _plain(item, arrays)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_plain(item, arrays) for item in value]}
    if isinstance(value, (torch.Tensor, np.ndarray)):
        kind = "tensor" if isinstance(value, torch.Tensor) else "array"
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        if array.dtype.kind == "c":
            kind, array = f"complex {kind}", np.stack([array.real, array.imag], -1)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"values of type {array.dtype} cannot be compared")
        arrays[str(len(arrays))] = array.copy(order="C")
        return {kind: len(arrays) - 1}
    raise TypeError(f"{type(value).__name__} cannot be packed")


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key of a dictionary must be a text, not {type(key).__name__}")
    return key


def _tree(plain: Any, arrays: dict[str, np.ndarray], depth: int) -> Any:
    if plain is None or isinstance(plain, (bool, int, float, str)):
        return plain
    if depth > DEEPEST or not isinstance(plain, dict) or len(plain) != 1:
        raise Malformed("not a packed tree")
    ((kind, value),) = plain.items()
    if kind == "dict":
        return {_text(key): _tree(item, arrays, depth + 1) for key, item in value}
    if kind in ("list", "tuple") and isinstance(value, list):
        return (list if kind == "list" else tuple)(_tree(item, arrays, depth + 1) for item in value)
    array = arrays[str(value)]
    if kind.startswith("complex "):
        array = array[..., 0] + 1j * array[..., 1]
    if kind.endswith("tensor"):
        return torch.from_numpy(array.copy())
    if kind.endswith("array"):
        return array
    raise Malformed(f"not a packed tree: {kind[:20]}")
