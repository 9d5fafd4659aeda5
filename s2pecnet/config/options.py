"""Typed options out of JSON: a dictionary goes in, a frozen dataclass comes out, or every problem is named.

A dataclass *is* the schema: its fields are the keys, their annotations the types, `option(...)` adds the
permitted range, the choices and the sentence for the documentation. `read_options` checks a dictionary against
it once, converts the legacy strings of the released configs ("True", "False") here and nowhere else, and reports
all problems in one message. Both the experiment's config and each system's `model_config` are read this way.

Unknown keys: one that is nearly a known key is an error that names it (a typo must not become a silent default);
one that resembles nothing is handed back to the caller, who names it in a warning.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from s2pecnet.errors import InputError
from s2pecnet.text import LARGEST_INTEGER, clipped, is_plain, nearest, shown

Options = TypeVar("Options")
Place = Callable[[str], str]

# What people type for a key that goes by another name here.
SYNONYMS = {
    "lr": "base_lr",
    "learning_rate": "base_lr",
    "epochs": "num_epochs",
    "data_path": "database_path",
    "workers": "num_workers",
    "class_weight": "loss_weights",
    "weights": "model_path",
}

WORDS_FOR_TRUE = {"true", "yes", "y", "on", "t", "1"}
WORDS_FOR_FALSE = {"false", "no", "n", "off", "f", "0"}


def str_to_bool(val: Any) -> bool:
    """Truth of a config value: True/False as they are, or a word such as "True", "no", "1".

    Raises:
        ValueError: the word is neither.

    >>> str_to_bool("True"), str_to_bool("off"), str_to_bool(False)
    (True, False, False)
    """
    if isinstance(val, bool):
        return val
    word = str(val).strip().lower()
    if word in WORDS_FOR_TRUE:
        return True
    if word in WORDS_FOR_FALSE:
        return False
    raise ValueError(f"{val!r} is neither true nor false")


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    choices: tuple[Any, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    length: int | None = None,
    sane: float | None = None,
) -> Any:
    """A dataclass field with its documentation and its limits; without `default` the key is required.

    Args:
        sane: a largest value far beyond any use, which keeps slips from filling the memory; messages name it, the
            documentation does not.
    """
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "length": length, "sane": sane}
    metadata = {"help": help, "choices": choices, **limits}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read_options(
    cls: type[Options],
    given: Mapping[str, Any],
    place: Place = lambda key: "",
    prefix: str = "",
) -> tuple[Options, list[str]]:
    """Check `given` against the dataclass `cls`.

    Args:
        place: maps a dotted key to a text in front of its problems, such as "AASIST.conf:12: ".
        prefix: dotted prefix of the keys, such as "model_config.".

    Returns:
        the options, and the unknown keys that resemble no known one.

    Raises:
        InputError: one message, a line for each problem.
    """
    problems: list[str] = []
    unknown: list[str] = []
    options = _read(cls, given, place, prefix, problems, unknown)
    if problems:
        raise InputError("\n".join(problems))
    return typing.cast(Options, options), unknown


def read_model_options(cls: type[Options], model_config: Mapping[str, Any], system: str) -> Options:
    """Options of a system from its `model_config`.

    Keys that resemble none of the system's are passed over: released configs carry some that nothing reads,
    and `architecture` names the system itself.
    """
    options, _ = read_options(cls, model_config, lambda key: f"{system}: ", "model_config.")
    return options


def _nearest_key(word: str, known: Mapping[str, Any]) -> str | None:
    """The key that `word` is a synonym or a slip of, or None."""
    synonym = SYNONYMS.get(word.lower())
    return synonym if synonym in known else nearest(word, known)


def describe_options(cls: type, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Rows (key, type, default, help) of a schema and the schemas nested in it, for the documentation."""
    rows = []
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            rows += describe_options(typing.cast(type, kind), f"{prefix}{field.name}.")
            continue
        if not field.metadata.get("help"):
            continue
        documented = {name: limit for name, limit in field.metadata.items() if name != "sane"}
        rows.append((prefix + field.name, _expected(kind, documented), _default_text(field), field.metadata["help"]))
    return rows


def _default_text(field: "dataclasses.Field[Any]") -> str:
    if field.default is not dataclasses.MISSING:
        return json.dumps(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return json.dumps(field.default_factory())
    return "required"


def _read(
    cls: type, given: Mapping[str, Any], place: Place, prefix: str, problems: list[str], unknown: list[str]
) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in given.items():
        key = prefix + name
        if name in fields:
            values[name] = _read_value(hints[name], value, fields[name], place, key, problems, unknown)
        elif (guess := _nearest_key(name, fields)) is not None:
            problems.append(f"{place(key)}unknown key {clipped(repr(key))}; did you mean {prefix + guess!r}?")
        else:
            unknown.append(key)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            expected = _expected(hints[name], field.metadata)
            problems.append(f"{place(prefix + name)}key {prefix + name!r} is missing; expected {expected}")
    return None if problems else cls(**values)


def _read_value(
    kind: Any,
    value: Any,
    field: "dataclasses.Field[Any]",
    place: Place,
    key: str,
    problems: list[str],
    unknown: list[str],
) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _read(typing.cast(type, kind), value, place, f"{key}.", problems, unknown)
    try:
        converted = _convert(kind, value)
        _check_limits(converted, field.metadata)
    except (ValueError, OverflowError):
        expected = _expected(kind, field.metadata)
        if isinstance(value, str) and not is_plain(value):
            expected += " without control characters"
        problems.append(f"{place(key)}{key}: got {shown(value)}, expected {expected}")
        return None
    return converted


def _convert(kind: Any, value: Any) -> Any:
    """`value` as `kind`; ValueError where it is not one."""
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(typing.get_args(kind), value)
    if origin is tuple:
        return _convert_tuple(typing.get_args(kind), value)
    if dataclasses.is_dataclass(kind) or origin is dict or kind is dict:
        if not isinstance(value, Mapping):
            raise ValueError
        return dict(value)
    if kind is bool:
        return str_to_bool(value)
    if kind is str and isinstance(value, str) and is_plain(value):
        return value
    if kind in (int, float) and _is_number(value) and (kind is float or value == int(value)):
        return kind(value)
    raise ValueError


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    # Of integers first: the largest have no float.
    return abs(value) <= LARGEST_INTEGER if isinstance(value, int) else math.isfinite(value)


def _convert_union(kinds: tuple[Any, ...], value: Any) -> Any:
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _convert(kind, value)
        except ValueError:
            continue
    raise ValueError


def _convert_tuple(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_convert(kinds[0], item) for item in value)
    if len(kinds) != len(value):
        raise ValueError
    return tuple(_convert(kind, item) for kind, item in zip(kinds, value, strict=True))


def _check_limits(value: Any, limits: Mapping[str, Any]) -> None:
    if value is None:
        return
    if limits.get("choices") and value not in limits["choices"]:
        raise ValueError
    if limits.get("length") is not None and len(value) != limits["length"]:
        raise ValueError
    for number in _numbers(value):
        if limits.get("at_least") is not None and number < limits["at_least"]:
            raise ValueError
        if limits.get("above") is not None and number <= limits["above"]:
            raise ValueError
        for name in ("at_most", "sane"):
            if limits.get(name) is not None and number > limits[name]:
                raise ValueError


def _numbers(value: Any) -> Iterator[int | float]:
    """The numbers of a value: itself, or those of a list and the lists in it."""
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)):
        yield value


def _expected(kind: Any, limits: Mapping[str, Any]) -> str:
    """What a key takes, in words."""
    if limits.get("choices"):
        return "one of " + ", ".join(json.dumps(choice) for choice in limits["choices"])
    words = [_kind_name(kind)]
    if limits.get("length") is not None:
        words.append(f"of length {limits['length']}")
    if limits.get("at_least") is not None:
        words.append(f">= {limits['at_least']:g}")
    if limits.get("above") is not None:
        words.append(f"> {limits['above']:g}")
    for name in ("at_most", "sane"):
        if limits.get(name) is not None:
            words.append(f"<= {limits[name]:.10g}")
    return " ".join(words)


def _kind_name(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind_name(item) for item in typing.get_args(kind))
    if origin is tuple:
        kinds = typing.get_args(kind)
        if kinds[-1] is Ellipsis:
            return f"a list of {_kind_name(kinds[0]).removeprefix('a ').removeprefix('an ')}s"
        return "a list [" + ", ".join(_kind_name(item) for item in kinds) + "]"
    if dataclasses.is_dataclass(kind) or kind is dict or origin is dict:
        return "an object {...}"
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "a text",
        type(None): "null",
        Any: "a value",
    }
    return names.get(kind, getattr(kind, "__name__", str(kind)))
