"""Numbers as text whose order is the numbers' order.

Elasticsearch compares values of a `flattened` field as text, where "9" follows "10". This owns the one encoding
that the documents and the ranges of a query share.
"""

from __future__ import annotations

import struct

_SIGN = 1 << 63
_ALL = (1 << 64) - 1
_DOUBLE = struct.Struct(">d")
_BITS = struct.Struct(">Q")


def sortable(number: float) -> str:
    """The text of `number`: 16 hexadecimal digits, in the order of the numbers.

    The bits of the IEEE 754 double, the sign flipped for positive and every bit for negative numbers. -0 equals 0. An
    integer beyond 2^53 is rounded to its double, one beyond all doubles counts as infinite: the order is never
    reversed, but near numbers may become equal.
    """
    try:
        # Adding 0 turns -0.0 into 0.0.
        (bits,) = _BITS.unpack(_DOUBLE.pack(number + 0.0))
    except OverflowError:
        return sortable(float("inf") if number > 0 else float("-inf"))
    return f"{bits ^ _ALL if bits & _SIGN else bits ^ _SIGN:016x}"
