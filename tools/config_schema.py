"""The JSON Schema of a config, made from the dataclasses that read it: editors complete and check configs by it.

    python config_schema.py > config.schema.json      the schema as it came with the framework

Draft 07, which VS Code and PyCharm know best. It takes what `experiment_config` and the systems' options classes take,
with these differences: a key that resembles none is an error here and a warning there, and what no schema can say (such
as lr_min <= base_lr) is checked there alone.
"""

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from s2pecnet.config.experiment import FILLED_IN, SCHEMA_KEY, SET_BY_THE_RUN, TAKEN_NAMES, Config
from s2pecnet.config.options import WORDS_FOR_FALSE, WORDS_FOR_TRUE
from s2pecnet.conventions import LONGEST_CROP
from s2pecnet.shipped import CONFIGS_FOLDER
from s2pecnet.text import CONTROL

Schema = dict[str, Any]
DRAFT = "http://json-schema.org/draft-07/schema#"
# ASCII alone, where the framework goes by Unicode: other letters pass here.
NAME = {"minLength": 1, "not": {"pattern": r"[\x00-,./:-@\[-^`{-\x9f\s]"}}
FILE_NAME = {"minLength": 1, "not": {"pattern": r"^[.-]|[\x00-,/:-@\[-^`{-\x9f\s]"}}


SCHEMA = CONFIGS_FOLDER / "config.schema.json"


def config_schema() -> Schema:
    """The schema of a whole config."""
    content = _object(Config, FILLED_IN)
    properties = content["properties"]
    properties[SCHEMA_KEY] = {"type": "string", "description": "this schema, for editors"}
    properties["track"] |= NAME
    properties["eval_output"] |= FILE_NAME
    properties["eval_output"]["not"] = {
        "anyOf": [FILE_NAME["not"], {"pattern": f"^({'|'.join(_any_case(name) for name in sorted(TAKEN_NAMES))})$"}]
    }
    properties["loss_weights"] |= {"contains": {"exclusiveMinimum": 0}}
    systems = system_options()
    properties["model_config"] |= _model_config(list(systems))
    properties["optim_config"] |= {
        "if": {"properties": {"scheduler": {"const": "multistep"}}, "required": ["scheduler"]},
        "then": {"required": ["milestones"], "properties": {"milestones": {"minItems": 1}}},
    }
    for item in properties["optim_config"]["properties"]["betas"]["items"]:
        item["exclusiveMaximum"] = item.pop("maximum")
    switched_on = {"anyOf": [{"const": True}, {"type": "string", "pattern": _words(WORDS_FOR_TRUE)}, {"const": 1}]}
    both = ("compile", "activation_checkpointing")
    definitions = {name: _object(options, (), name) for name, options in systems.items()}
    return {
        "$schema": DRAFT,
        "title": "S2pecNet experiment",
        **content,
        "not": {"required": list(both), "properties": dict.fromkeys(both, switched_on)},
        "definitions": definitions,
    }


def system_options() -> dict[str, type]:
    """The options class of each of our systems, by architecture: the one whose `architecture` it is."""
    from s2pecnet.shipped import MODELS, MODELS_FOLDER

    found = {}
    for name in sorted({path.stem for path in MODELS_FOLDER.glob("*.py")} - {"__init__"}):
        for _, cls in inspect.getmembers(importlib.import_module(f"{MODELS}.{name}"), dataclasses.is_dataclass):
            if getattr(cls, "architecture", None) == name:
                found[name] = typing.cast(type, cls)
    return found


def _model_config(systems: list[str]) -> Schema:
    """What all systems share, and a system's own definition where it is one of ours."""
    return {
        "required": ["architecture"],
        "properties": {
            "architecture": {
                "description": "the system: a file of models/, ours or your own",
                # Two ways, so that editors offer our names and take others.
                "anyOf": [{"enum": systems}, {"type": "string", "pattern": r"^[A-Za-z_]\w*$"}],
            },
            "nb_samp": {"type": "integer", "minimum": 1, "maximum": LONGEST_CROP, "description": "samples of a crop"},
        },
        "allOf": [
            {
                "if": {"properties": {"architecture": {"const": name}}, "required": ["architecture"]},
                "then": {"$ref": f"#/definitions/{name}"},
            }
            for name in systems
        ],
    }


def _object(cls: type, left_out: tuple[str, ...] = (), architecture: str | None = None) -> Schema:
    """The schema of a dataclass: each field a property, no others."""
    hints = typing.get_type_hints(cls)
    run_sets = {key.split(".")[1] for key in SET_BY_THE_RUN}
    properties: dict[str, Schema] = {}
    required = []
    for field in dataclasses.fields(cls):
        if field.name in left_out or field.name in run_sets:
            continue
        if field.name == "architecture":
            properties[field.name] = {"const": architecture}
            continue
        properties[field.name] = _field(field, hints[field.name])
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(field.name)
    about = {"description": inspect.getdoc(cls)} if architecture else {}
    return {**about, "type": "object", "required": required, "additionalProperties": False, "properties": properties}


def _field(field: "dataclasses.Field[Any]", kind: Any) -> Schema:
    described: Schema = {"description": field.metadata["help"], **_typed(kind, field.metadata)}
    if field.default is not dataclasses.MISSING:
        described["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    return described


def _typed(kind: Any, limits: Mapping[str, Any]) -> Schema:
    """What a value of this annotation looks like, as `schema._convert` and `schema._check_limits` have it."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _nullable(_typed(next(item for item in inner if item is not type(None)), limits))
    if limits.get("choices"):
        return {"enum": list(limits["choices"])}
    if dataclasses.is_dataclass(kind):
        return _object(typing.cast(type, kind))
    if origin is tuple and inner[-1] is Ellipsis:
        return {"type": "array", "items": _typed(inner[0], limits)}
    if origin is tuple:
        items = [_typed(item, limits) for item in inner]
        return {"type": "array", "items": items, "minItems": len(items), "maxItems": len(items)}
    if kind in (int, float):
        return {"type": "integer" if kind is int else "number", **_limits(limits)}
    if kind is bool:
        return {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": _words()}, {"enum": [0, 1]}]}
    if kind is str:
        return {"type": "string", "not": {"type": "string", "pattern": CONTROL}}
    return {"type": "object"}


def _nullable(schema: Schema) -> Schema:
    if "enum" in schema:
        return {"enum": [*schema["enum"], None]}
    return schema | {"type": [schema["type"], "null"]}


def _limits(limits: Mapping[str, Any]) -> Schema:
    names = {"at_least": "minimum", "above": "exclusiveMinimum", "at_most": "maximum", "sane": "maximum"}
    return {names[name]: limit for name, limit in limits.items() if name in names and limit is not None}


def _words(words: set[str] | None = None) -> str:
    """Pattern of the words that stand for true or false, in any case, with blanks around them."""
    return rf"^\s*({'|'.join(map(_any_case, sorted(words or WORDS_FOR_TRUE | WORDS_FOR_FALSE)))})\s*$"


def _any_case(word: str) -> str:
    """Pattern of a word in upper and lower case; JSON Schema has no flags."""
    letters = (f"[{letter.upper()}{letter}]" if letter.isalpha() else letter for letter in word.lower())
    return "".join(letters).replace(".", r"\.")
