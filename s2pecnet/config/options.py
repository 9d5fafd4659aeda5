"""Typed options out of JSON: a dictionary goes in, a frozen dataclass comes out, or every problem is named.

A pydantic dataclass *is* the schema: its fields are the keys, their annotations the types, `Field(...)` adds the range
and the sentence for the documentation. `read_options` checks a dictionary against it and reports all problems in one
message, each with file, line and key; the JSON Schema and the tables of docs/config.md come from the same dataclass.
Both the experiment's config and each system's `model_config` are read this way.

Types for the annotations, which accept what the released configs contain and nothing by accident:

    Int, Float   numbers that a machine holds; no text, no true or false
    Bool         true, false, or a word such as "True" or "no" (`str_to_bool`)
    Text         without control characters

Unknown keys: one that is nearly a known key is an error that names it (a typo must not become a silent default);
one that resembles nothing is returned to the caller, who names it in a warning.
"""

import dataclasses
import functools
import json
import logging
import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar, cast

from pydantic import AfterValidator, BeforeValidator, TypeAdapter, ValidationError, WithJsonSchema

from s2pecnet.errors import InputError
from s2pecnet.text import CONTROL, LARGEST_INTEGER, clipped, is_plain, nearest, shown

log = logging.getLogger(__name__)

Options = TypeVar("Options")
Schema = dict[str, Any]
Location = Callable[[str], str]

# What people type for a key that has another name here.
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


def any_case(word: str) -> str:
    """Pattern of a word in upper and lower case; JSON Schema has no flags."""
    letters = (f"[{letter.upper()}{letter}]" if letter.isalpha() else letter for letter in word.lower())
    return "".join(letters).replace(".", r"\.")


def words_pattern(words: set[str]) -> str:
    """Pattern of any of the words, in any case, with blanks around it."""
    return rf"^\s*({'|'.join(map(any_case, sorted(words)))})\s*$"


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("not a number")
    # Of integers first: the largest have no float.
    if not (abs(value) <= LARGEST_INTEGER if isinstance(value, int) else math.isfinite(value)):
        raise ValueError("too large")
    return value


def _plain(value: str) -> str:
    if not is_plain(value):
        raise ValueError("control characters")
    return value


_TRUTH = {"type": "string", "pattern": words_pattern(WORDS_FOR_TRUE | WORDS_FOR_FALSE)}
# Behind the limits where an item of a list, or what may be null, has some: Annotated[int, Field(ge=1), NUMBER].
NUMBER = BeforeValidator(_number)
Int = Annotated[int, NUMBER]
Float = Annotated[float, NUMBER]
Bool = Annotated[
    bool, BeforeValidator(str_to_bool), WithJsonSchema({"anyOf": [{"type": "boolean"}, _TRUTH, {"enum": [0, 1]}]})
]
Text = Annotated[
    str,
    AfterValidator(_plain),
    WithJsonSchema({"type": "string", "not": {"type": "string", "pattern": CONTROL}}),
]


def read_options(
    cls: type[Options],
    given: Mapping[str, Any],
    location: Location = lambda key: "",
    prefix: str = "",
) -> tuple[Options, list[str]]:
    """Check `given` against the pydantic dataclass `cls`.

    Args:
        location: maps a dotted key to a text in front of its problems, such as "AASIST.conf:12: ".
        prefix: dotted prefix of the keys, such as "model_config.".

    Returns:
        the options, and the unknown keys that resemble no known one.

    Raises:
        InputError: one message, a line for each problem.
    """
    problems: list[str] = []
    unknown: list[str] = []
    meant: set[str] = set()
    known = _known(cls, given, location, prefix, problems, unknown, meant)
    options = None
    try:
        options = TypeAdapter(cls).validate_python(known)
    except ValidationError as error:
        found = (_problem(cls, known, one["loc"], location, prefix) for one in error.errors(include_url=False))
        # One problem has several errors where there is a choice of types; a key that was misspelt is not missing too.
        problems += dict.fromkeys(text for key, text in found if key not in meant)
    if problems:
        raise InputError("\n".join(problems))
    return cast(Options, options), unknown


def read_model_options(cls: type[Options], model_config: Mapping[str, Any], system: str) -> Options:
    """Options of a system from its `model_config`.

    Keys that resemble none of the system's are ignored with a warning; `architecture` names the system itself.
    """
    options, unknown = read_options(cls, model_config, lambda key: f"{system}: ", "model_config.")
    _warn_of(system, tuple(sorted(set(unknown) - {"model_config.architecture"})))
    return options


@functools.cache
def _warn_of(system: str, unknown: tuple[str, ...]) -> None:
    """Warn of keys that a system does not read, once however often it is built."""
    if unknown:
        log.warning("%s does not read %s; ignored", system, ", ".join(unknown))


def describe_options(cls: type, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Rows (key, type, default, description) of a dataclass and those nested in it, for the documentation."""
    rows = []
    properties = schema_of(cls)["properties"]
    for field in dataclasses.fields(cls):
        schema = properties.get(field.name, {})
        if dataclasses.is_dataclass(field.type):
            rows += describe_options(cast(type, field.type), f"{prefix}{field.name}.")
        elif "description" in schema:
            default = json.dumps(schema["default"]) if "default" in schema else "required"
            rows.append((prefix + field.name, expected(schema), default, schema["description"]))
    return rows


@functools.cache
def schema_of(cls: type) -> Schema:
    """The JSON Schema of a pydantic dataclass, without references."""
    content = TypeAdapter(cls).json_schema()
    definitions = content.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        found = {key: resolved(inner) for key, inner in value.items() if key not in ("$ref", "discriminator")}
        if "$ref" in value:
            found = resolved(definitions[value["$ref"].rpartition("/")[2]]) | found
        return found

    return cast(Schema, resolved(content))


def expected(schema: Schema) -> str:
    """What a JSON Schema takes, in words.

    >>> expected({"type": "integer", "minimum": 1, "maximum": 1000000})
    'an integer from 1 to 1,000,000'
    >>> expected({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]})
    'a number above 0 or null'
    """
    if "x-expected" in schema:
        return str(schema["x-expected"])
    if "const" in schema or "enum" in schema:
        choices = schema.get("enum", [schema.get("const")])
        return "one of " + ", ".join(json.dumps(choice) for choice in choices)
    if "anyOf" in schema:
        if {"type": "boolean"} in schema["anyOf"]:
            return "true or false"
        return " or ".join(expected(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"a list [{', '.join(expected(one) for one in schema['prefixItems'])}]"
        if "enum" in schema["items"]:
            return expected(schema["items"]).replace("one of", "a list of", 1)
        noun, blank, limits = expected(schema["items"]).removeprefix("an ").removeprefix("a ").partition(" ")
        return f"a list of {noun}s{blank}{limits}"
    if "oneOf" in schema:
        return "an object {...}"
    names = {
        "integer": "an integer",
        "number": "a number",
        "string": "a text",
        "null": "null",
        "object": "an object {...}",
    }
    return names.get(schema.get("type", ""), "a value") + _range(schema)


def _range(schema: Schema) -> str:
    low, above, high = (schema.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    if low is not None and high is not None:
        return f" from {low:,g} to {high:,.10g}"
    words = [f"of at least {low:,g}"] if low is not None else [f"above {above:,g}"] if above is not None else []
    words += [f"up to {high:,.10g}"] if high is not None else []
    return "".join(f"{' ' if number == 0 else ', '}{word}" for number, word in enumerate(words))


def _known(
    cls: type,
    given: Mapping[str, Any],
    location: Location,
    prefix: str,
    problems: list[str],
    unknown: list[str],
    meant: set[str],
) -> dict[str, Any]:
    """The keys of `given` that the dataclass has; the others are problems (`meant`: the right key), or unknown."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    known = {}
    for name, value in given.items():
        key = prefix + name
        if name in fields:
            nested = fields[name].type
            if dataclasses.is_dataclass(nested) and isinstance(value, Mapping):
                value = _known(cast(type, nested), value, location, f"{key}.", problems, unknown, meant)
            elif (listed := _kinds_of_items(nested)) and isinstance(value, (list, tuple)):
                value = _items(listed, value, location, key, problems)
            elif (item := _class_of_objects(nested)) and isinstance(value, (list, tuple)):
                before, value = len(problems), _objects(item, value, location, key, problems)
                # A list without those that are wrong may be too short.
                meant |= {key} if len(problems) > before else set()
            known[name] = value
        elif (guess := _nearest_key(name, fields)) is not None:
            meant.add(prefix + guess)
            problems.append(f"{location(key)}unknown key {clipped(repr(key))}; did you mean {prefix + guess!r}?")
        else:
            unknown.append(key)
    return known


def _kinds_of_items(field_type: Any) -> dict[str, type]:
    """Of a field that is a list of dataclasses, told apart by their first field's word: the classes by that word."""
    item = typing.get_args(field_type)[0] if typing.get_origin(field_type) is tuple else None
    classes = typing.get_args(typing.get_args(item)[0]) if typing.get_origin(item) is Annotated else ()
    if not (classes and all(dataclasses.is_dataclass(cls) for cls in classes)):
        return {}
    return {typing.get_args(dataclasses.fields(cls)[0].type)[0]: cls for cls in classes}


def _items(
    kinds: Mapping[str, type], given: Sequence[Any], location: Location, key: str, problems: list[str]
) -> list[Any]:
    """The items of such a list, read; of those that are wrong, the problems instead."""
    items, tag = [], dataclasses.fields(next(iter(kinds.values())))[0].name
    for index, item in enumerate(given):
        place = f"{key}[{index}]"
        if isinstance(item, tuple(kinds.values())):
            items.append(item)
            continue
        if not isinstance(item, Mapping):
            problems.append(f'{location(place)}{place}: got {shown(item)}, expected an object {{"{tag}": ...}}')
            continue
        word = item.get(tag)
        if not isinstance(word, str) or word not in kinds:
            guess = nearest(word, kinds) if isinstance(word, str) else nearest(tag, item) if tag not in item else None
            hint = f"; did you mean {guess!r}?" if guess else ""
            got = f"got {shown(word)}" if tag in item else "the key is missing"
            problems.append(
                f"{location(f'{place}.{tag}')}{place}.{tag}: {got}, expected one of {', '.join(kinds)}{hint}"
            )
            continue
        try:
            options, unknown = cast(Any, read_options)(kinds[word], item, location, f"{place}.")
        except InputError as error:
            problems.append(str(error))
            continue
        if unknown:
            names = ", ".join(field.name for field in dataclasses.fields(kinds[word]))
            problems += [f"{location(one)}{one}: {word} has no such key (have: {names})" for one in unknown]
        items.append(options)
    return items


def _class_of_objects(field_type: Any) -> type | None:
    """Of a field that may be a list of texts and of objects of one dataclass: that class."""
    if dataclasses.is_dataclass(field_type):
        return cast(type, field_type)
    of_lists = typing.get_origin(field_type) is tuple or typing.get_origin(field_type) is Annotated
    inner = typing.get_args(field_type)[:1] if of_lists else typing.get_args(field_type)
    return next((found for one in inner if (found := _class_of_objects(one))), None)


def _objects(cls: type, given: Sequence[Any], location: Location, key: str, problems: list[str]) -> list[Any]:
    """The items of such a list, its objects read; of those that are wrong, the problems instead."""
    items, first = [], dataclasses.fields(cls)[0].name
    for index, item in enumerate(given):
        place = f"{key}[{index}]"
        if isinstance(item, Mapping):
            try:
                item, unknown = cast(Any, read_options)(cls, item, location, f"{place}.")
            except InputError as error:
                problems.append(str(error))
                continue
            names = ", ".join(field.name for field in dataclasses.fields(cls))
            problems += [f"{location(one)}{one}: there is no such key (have: {names})" for one in unknown]
        elif not isinstance(item, (str, cls)):
            problems.append(f'{location(place)}{place}: got {shown(item)}, expected a text or {{"{first}": ...}}')
            continue
        items.append(item)
    return items


def _nearest_key(word: str, known: Mapping[str, Any]) -> str | None:
    """The key that `word` is a synonym or a slip of, or None."""
    synonym = SYNONYMS.get(word.lower())
    return synonym if synonym in known else nearest(word, known)


def _problem(
    cls: type, given: Mapping[str, Any], loc: tuple[int | str, ...], location: Location, prefix: str
) -> tuple[str, str]:
    """Dotted key and message of a pydantic error: `loc` leads through keys and lists to the value that is wrong."""
    schema, value, key, where = schema_of(cls), cast(Any, given), prefix.removesuffix("."), ""
    for step in loc:
        if isinstance(step, str) and step in schema.get("properties", {}):
            schema, key = schema["properties"][step], f"{key}.{step}".removeprefix(".")
            value = value.get(step, dataclasses.MISSING)
        elif isinstance(step, int) and isinstance(value, (list, tuple)) and step < len(value) and _is_list(schema):
            items = schema.get("prefixItems", [])
            schema, where = items[step] if step < len(items) else schema["items"], f"{where}[{step}]"
            value = value[step]
        else:  # a name of pydantic's for one of several types, or an item of what may be no list
            break
    wanted = expected(schema)
    if value is dataclasses.MISSING:
        return key, f"{location(key)}key {key!r} is missing; expected {wanted}"
    if isinstance(value, str) and not is_plain(value):
        wanted = "a text without control characters"
    return key, f"{location(key)}{key}{where}: got {shown(value)}, expected {wanted}"


def _is_list(schema: Schema) -> bool:
    """Whether a value with this schema is a list, and nothing else."""
    return "items" in schema or "prefixItems" in schema


def walk(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested dictionaries, innermost values only."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
