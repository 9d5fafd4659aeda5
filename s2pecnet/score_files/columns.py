"""Columns of a text as arrays: names, keys and numbers of all lines at once, without a loop over them.

A text is an array of its bytes with a `MARGIN` before and behind it; a column is a `Span`, where its fields stand.
What is not of the form described here raises `IrregularText`, for the caller to look at line by line.

A number of the usual form is a sign, digits with one point among them, and an exponent of two digits: -7.981530,
0.00148861203342, 3.49437345903425e-06. Its digits make an integer, its point and exponent a power of ten, and the
number is their quotient, rounded as float() rounds it:

    integer up to 2**53, power up to 10**22   both are float64 values, and IEEE division rounds once
    integer below 10**19                      the quotient is formed in long double and bracketed by its rounding
                                              errors; where both ends round to one float64, that is the number

What is of another form, or undecided, goes to float() by itself. Where long double is no wider than double (Windows,
macOS on ARM), that is every number of the second kind: slower, and as right.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from s2pecnet.conventions import LONGEST_FIELD

Bools = NDArray[np.bool_]
Bytes = NDArray[np.bytes_]
Floats = NDArray[np.float64]
Characters = NDArray[np.uint8]
Indices = NDArray[np.intp]
Unsigned = NDArray[np.uint64]

MARGIN = b"0" * LONGEST_FIELD  # what is looked at before and behind a field is there

_ZERO = np.uint8(ord("0"))
_WIDTH = 24  # characters of a number looked at
_POWERS = np.array([10**power for power in range(20)], dtype=np.uint64)  # all there are below 2**64
_EXACT_POWERS = np.array([float(10**power) for power in range(23)])
_LONG_POWERS = np.array([np.longdouble(f"1e{power}") for power in range(_WIDTH + 99)])
# The power, the quotient and the bracket's end are rounded once each, by half an epsilon at most.
_BRACKET = 2 * np.finfo(_LONG_POWERS.dtype).eps


class IrregularText(ValueError):
    """Something in a text is not of the form that is read by columns."""


class Span(NamedTuple):
    """Where the n fields of a column stand in a text: starts and ends, (n,) each, no field empty."""

    starts: Indices
    ends: Indices

    @property
    def lengths(self) -> Indices:
        return self.ends - self.starts


def find_spans(text: Characters, lines: slice, n_columns: int) -> list[Span]:
    """The columns of some lines of a text.

    Raises:
        IrregularText: not every line is `n_columns` fields, single spaces between them and a newline, or a field is
            longer than `LONGEST_FIELD`.
    """
    ends = np.flatnonzero(text[lines] <= ord(" ")) + lines.start
    separators = np.frombuffer(b" " * (n_columns - 1) + b"\n", dtype=np.uint8)
    if ends.size % n_columns or (text[ends].reshape(-1, n_columns) != separators).any():
        raise IrregularText("separators")
    starts = np.concatenate(([lines.start], ends[:-1] + 1))
    lengths = ends - starts
    if lengths.min() < 1 or lengths.max() > LONGEST_FIELD:
        raise IrregularText("a field's length")
    return [Span(starts[column::n_columns], ends[column::n_columns]) for column in range(n_columns)]


# ---- names and keys ----------------------------------------------------------------------------


def find_keys(text: Characters, span: Span, keys: tuple[bytes, ...]) -> NDArray[np.uint8]:
    """Which of the keys stands in each field, by its index among them; no two keys are of one length.

    Raises:
        IrregularText: a field is none of the keys.
    """
    lengths = span.lengths
    kinds = np.full(lengths.size, len(keys), dtype=np.uint8)
    for kind, key in enumerate(keys):
        indices = np.flatnonzero(lengths == len(key))
        if (_windows(text, len(key))[span.starts[indices]] == key).all():
            kinds[indices] = kind
    if kinds.max() == len(keys):
        raise IrregularText("a key")
    return kinds


def cut_out(text: Characters, span: Span) -> Bytes:
    """The fields of a column as an array of bytes as wide as the longest."""
    lengths = span.lengths
    width = int(lengths.max())
    fields = _windows(text, width)[span.starts]
    # A window runs on behind a shorter field: blank what is not the field's.
    short = np.flatnonzero(lengths < width)
    fields.view(np.uint8).reshape(-1, width)[short] *= np.arange(width) < lengths[short, None]
    return fields


def _windows(text: Characters, width: int) -> Bytes:
    """The `width` characters of the text from each position on: overlapping views, not copies."""
    return np.ndarray(text.size - width + 1, f"S{width}", text, strides=(1,))


def as_text(fields: Bytes) -> NDArray[np.str_]:
    """UTF-8 as text."""
    codes = np.ascontiguousarray(fields).view(np.uint8)
    if codes.max() > 127:
        return np.char.decode(fields, "utf-8")
    # ASCII codes are code points: widened from 1 to 4 bytes they are numpy's text, and no decoder is as fast.
    return codes.astype(np.uint32).view(f"U{fields.itemsize}")


def all_different(names: Bytes) -> bool:
    """Whether no name comes twice; False may also be a mere collision of hashes."""
    n_words = -(-names.itemsize // 8)
    words = names.astype(f"S{8 * n_words}").view(np.uint64).reshape(names.size, n_words)
    hashes = np.zeros(names.size, dtype=np.uint64)
    for column in range(n_words):
        hashes ^= words[:, column]
        hashes *= np.uint64(0x9E3779B97F4A7C15)  # odd: no bit is lost
    hashes.sort()
    return bool((hashes[1:] != hashes[:-1]).all())


# ---- numbers -----------------------------------------------------------------------------------


class _Decimals(NamedTuple):
    """Numbers as integer / 10**power, the sign apart; where not `regular`, they mean nothing."""

    regular: Bools
    negative: Bools
    integers: Unsigned
    powers: Indices


def parse_numbers(text: Characters, span: Span) -> Floats:
    """What float() gives for each field of a column, bit for bit; "nan" and "inf" are numbers to it too.

    Raises:
        IrregularText: a field is no number, or holds an underscore, which float() lets stand between digits.
    """
    decimals = _read_decimals(text, span)
    numbers, decided = _divide(decimals)
    np.negative(numbers, out=numbers, where=decimals.negative)
    for index in np.flatnonzero(~decided).tolist():
        field = text[span.starts[index] : span.ends[index]].tobytes()
        try:
            numbers[index] = float(field.replace(b"_", b"?"))
        except ValueError:
            raise IrregularText("a number") from None
    return numbers


def _read_decimals(text: Characters, span: Span) -> _Decimals:
    mantissas, exponents = _split_exponents(text, span)
    lengths = mantissas.lengths.astype(np.uint8)
    # (width, n) characters before each end, the last one first; what stands before a short field is among them.
    width = min(-(-int(mantissas.lengths.max()) // 8) * 8, _WIDTH)
    rows = _windows(text, width)[mantissas.ends - width].view(np.uint8).reshape(-1, width)
    characters = np.ascontiguousarray(rows.T[::-1])
    indices = np.arange(width, dtype=np.uint8)[:, None]
    inside = indices < lengths
    is_point = (characters == ord(".")) & inside
    digits = characters - _ZERO  # wraps around below "0"
    is_digit = (digits < 10) & inside
    n_digits, n_points, point_at = (
        counts.sum(axis=0, dtype=np.uint8) for counts in (is_digit, is_point, is_point * indices)
    )
    negative = text[span.starts] == ord("-")
    powers = point_at - exponents
    joined, fits = _join_digits(digits * is_digit)
    regular = (n_digits >= 1) & (n_points <= 1) & (n_digits + n_points + negative == lengths) & (powers >= 0) & fits
    # 12034 -> 1234 for a point, read as 0, at position 2: what stands above it moves down by one. Nothing stands above
    # a position over 18: the integers are below 10**19.
    point = np.minimum(np.where(regular, point_at, 0), 18)
    above = np.where(n_points == 1, joined // _POWERS[point + 1], np.uint64(0))
    return _Decimals(regular, negative, joined - above * (np.uint64(9) * _POWERS[point]), np.where(regular, powers, 0))


def _split_exponents(text: Characters, span: Span) -> tuple[Span, Indices]:
    """The fields without their exponents (`e-06`), and these, 0 where there is none."""
    starts, ends = span
    exponents = np.zeros_like(ends)
    has_exponent = (text[ends - 4] == ord("e")) & (ends - 4 > starts)
    if not has_exponent.any():
        return span, exponents
    sign, tens, units = (text[ends - index] for index in (3, 2, 1))
    tens, units = tens - _ZERO, units - _ZERO
    has_exponent &= ((sign == ord("+")) | (sign == ord("-"))) & (tens < 10) & (units < 10)
    sizes = 10 * tens.astype(np.intp) + units
    np.copyto(exponents, np.where(sign == ord("-"), -sizes, sizes), where=has_exponent)
    return Span(starts, ends - 4 * has_exponent), exponents


def _join_digits(digits: Characters) -> tuple[Unsigned, Bools]:
    """The integers that digits by index, (8 or 16 or 24, n), units first, make; and which are below 10**19."""
    pairs = digits[0::2] + np.multiply(digits[1::2], 10, dtype=np.uint8)
    fours = pairs[0::2] + np.multiply(pairs[1::2], 100, dtype=np.uint16)
    eights = fours[0::2] + np.multiply(fours[1::2], 10_000, dtype=np.uint32)
    joined = np.zeros(digits.shape[1], dtype=np.uint64)
    for eight in eights[::-1]:
        joined = joined * np.uint64(10**8) + eight
    fits: Bools = np.logical_and.reduce(eights[2:] < 1000, axis=0)
    return joined, fits


def _divide(decimals: _Decimals) -> tuple[Floats, Bools]:
    """integer / 10**power as float64, and where that is decided."""
    regular, _, integers, powers = decimals
    numbers = integers.astype(np.float64) / _EXACT_POWERS[np.minimum(powers, 22)]
    decided = regular.copy()
    wide = np.flatnonzero(regular & ((integers > 2**53) | (powers > 22)))
    if wide.size:
        quotients = integers[wide].astype(_LONG_POWERS.dtype) / _LONG_POWERS[powers[wide]]
        numbers[wide] = (quotients * (1 - _BRACKET)).astype(np.float64)
        decided[wide] = numbers[wide] == (quotients * (1 + _BRACKET)).astype(np.float64)
    return numbers, decided
