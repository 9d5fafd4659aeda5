"""Columns are cut out of a text as they stand there, and every number is float()'s."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s2pecnet.score_files import columns
from s2pecnet.score_files.columns import MARGIN, IrregularText, Span

texts_of_numbers = st.one_of(
    st.from_regex(r"[+-]?[0-9]{0,25}\.?[0-9]{0,25}(e[+-]?[0-9]{1,3})?", fullmatch=True),
    st.floats().map(repr),
    st.floats(-50, 50).map(repr),
    st.floats(0, 1, width=32).map(repr),
    st.sampled_from(["nan", "-inf", "1_5", "--1", "-", ".", "e-06", "1e-0x", "0x10", "bonafide"]),
)


def column(fields: list[str]) -> tuple[columns.Characters, Span]:
    """A text of one column, and where its fields stand."""
    lines = "".join(f"{field}\n" for field in fields).encode()
    text = np.frombuffer(MARGIN + lines + MARGIN, dtype=np.uint8)
    (span,) = columns.find_spans(text, slice(len(MARGIN), len(MARGIN) + len(lines)), 1)
    return text, span


@given(st.lists(texts_of_numbers.filter(bool), min_size=1, max_size=6))
@example(["-0.0", "-.5", "5.", "000.00012345678"])
@example(["999999999999999", "0.00000000000001"])
@example(["94.93194499049777"])  # 16 digits: in float64 alone this would be rounded twice
@example(["9007199254740993", "9007199254740993.0", "0.9007199254740993"])  # halfway between two float64
@example(["9999999999999999999", "10000000000000000000", "18446744073709551616"])  # around 10**19 and 2**64
@example(["0.0000000000000000000001", "-0.00013529947318602353", "1.234567890123456789"])
@example(["5.096699240425551e-08", "1e-99", "-1.5e+05", "1e5", "1e-5", "4.9e-324", "1e400"])
@example(["7.981530", "--1"])
@example(["1-5", "1.2.3"])
@example(["1" * 200])
def test_numbers_are_what_float_gives(fields: list[str]) -> None:
    text, span = column(fields)
    try:
        values = [float(field.replace("_", "?")) for field in fields]
    except ValueError:
        with pytest.raises(IrregularText, match="number"):
            columns.parse_numbers(text, span)
        return
    assert columns.parse_numbers(text, span).tobytes() == np.array(values).tobytes()


def test_numbers_of_random_bits_are_what_float_gives() -> None:
    """More numbers than hypothesis draws: all digits of doubles near 1, and of single precision ones."""
    draws = np.random.default_rng(11)
    doubles = draws.normal(scale=3, size=20_000)
    fields = [*map(repr, doubles.tolist()), *map(repr, doubles.astype(np.float32).astype(float).tolist())]
    fields += [f"{value:.6f}" for value in doubles] + [f"{value:.18e}" for value in doubles]
    numbers = columns.parse_numbers(*column(fields))
    assert numbers.tobytes() == np.array([float(field) for field in fields]).tobytes()


def test_numbers_without_a_long_double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_LONG_POWERS", columns._LONG_POWERS.astype(np.float64))
    monkeypatch.setattr(columns, "_BRACKET", 2 * np.finfo(np.float64).eps)
    values = np.random.default_rng(5).normal(scale=3, size=500)
    numbers = columns.parse_numbers(*column([f"{value:.18e}" for value in values]))
    assert numbers.tobytes() == np.array([float(f"{value:.18e}") for value in values]).tobytes()


def test_few_numbers_are_left_to_float() -> None:
    """That is what makes it fast; a long double no wider than double leaves them all."""
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long double is double here")
    values = np.random.default_rng(3).normal(scale=3, size=5000)
    text, span = column([repr(value) for value in (*values.tolist(), *(np.exp(-np.abs(values)) * 1e-4).tolist())])
    _, decided = columns._divide(columns._read_decimals(text, span))
    assert decided.mean() > 0.95


@pytest.mark.parametrize(
    "lines", ["a b\nc\n", "a  b\n", " a b\n", "a b \n", "a\tb\n", "a b\n\nc d\n", "a " + "b" * 201 + "\n"]
)
def test_lines_of_another_form(lines: str) -> None:
    text = np.frombuffer(MARGIN + lines.encode() + MARGIN, dtype=np.uint8)
    with pytest.raises(IrregularText):
        columns.find_spans(text, slice(len(MARGIN), len(MARGIN) + len(lines)), 2)


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9), min_size=1)
)
def test_fields_are_cut_out_as_they_stand(fields: list[str]) -> None:
    cut = columns.cut_out(*column(fields))
    assert columns.as_text(cut).tolist() == fields
    assert columns.all_different(cut) == (len(set(fields)) == len(fields))


def test_keys_are_distinguished() -> None:
    keys = (b"target", b"spoof")
    assert columns.find_keys(*column(["spoof", "target", "spoof"]), keys).tolist() == [1, 0, 1]
    for wrong in ("spook", "target_", "t"):
        with pytest.raises(IrregularText):
            columns.find_keys(*column(["spoof", wrong]), keys)
