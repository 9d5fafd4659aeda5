"""The JSON Schema of a config, for editors: what the dataclasses that read it say, with what spans several keys.

Draft 07, which VS Code and PyCharm know best. Differences from the reader: a key that resembles none is an error here
and a warning there, and what no schema can say (such as lr_min <= base_lr) is checked there alone.
"""

from typing import Any

from s2pecnet.config.experiment import FILLED_IN, SCHEMA_KEY, TAKEN_NAMES, Config
from s2pecnet.config.files import EXTENDS
from s2pecnet.config.options import WORDS_FOR_TRUE, any_case, schema_of, words_pattern
from s2pecnet.conventions import LONGEST_CROP
from s2pecnet.shipped import CONFIGS_FOLDER, MODELS_FOLDER
from s2pecnet.systems.registry import options_of

Schema = dict[str, Any]
SCHEMA = CONFIGS_FOLDER / "config.schema.json"
# ASCII alone, where the framework goes by Unicode: other letters pass here.
NAME = {"minLength": 1, "not": {"pattern": r"[\x00-,./:-@\[-^`{-\x9f\s]"}}
FILE_NAME = r"^[.-]|[\x00-,/:-@\[-^`{-\x9f\s]"


def config_schema() -> Schema:
    """The schema of a complete config."""
    content = _draft07(schema_of(Config))
    properties = {name: one for name, one in content["properties"].items() if name not in FILLED_IN}
    properties[SCHEMA_KEY] = {"type": "string", "description": "this schema, for editors"}
    properties[EXTENDS] = {"type": "string", "description": "a config whose keys hold where this one has none"}
    properties["track"] |= NAME
    taken = f"^({'|'.join(any_case(name) for name in sorted(TAKEN_NAMES))})$"
    properties["eval_output"] |= {"minLength": 1, "not": {"anyOf": [{"pattern": FILE_NAME}, {"pattern": taken}]}}
    properties["loss_weights"] |= {"contains": {"exclusiveMinimum": 0}}
    optim = properties["optim_config"]
    optim |= {
        "if": {"properties": {"scheduler": {"const": "multistep"}}, "required": ["scheduler"]},
        "then": {"required": ["milestones"], "properties": {"milestones": {"minItems": 1}}},
    }
    for item in optim["properties"]["betas"]["items"]:
        item["exclusiveMaximum"] = item.pop("maximum")
    systems = {name: _draft07(schema_of(cls)) for name, cls in system_options().items()}
    for name, system in systems.items():
        system["properties"]["architecture"] = {"const": name}
    properties["model_config"] |= _model_config(list(systems))
    # What a config that extends another may leave to it.
    complete = {
        "required": content["required"],
        "properties": {
            "optim_config": {"required": optim.pop("required")},
            "model_config": {"required": ["architecture"]},
        },
    }
    switched_on = {
        "anyOf": [{"const": True}, {"type": "string", "pattern": words_pattern(WORDS_FOR_TRUE)}, {"const": 1}]
    }
    both = ("compile", "activation_checkpointing")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "S2pecNet experiment",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "if": {"required": [EXTENDS]},
        "then": {},
        "else": complete,
        "not": {"required": list(both), "properties": dict.fromkeys(both, switched_on)},
        "definitions": systems,
    }


def system_options() -> dict[str, type]:
    """The options class of each of our systems, by architecture."""
    names = sorted({path.stem for path in MODELS_FOLDER.glob("*.py")} - {"__init__"})
    return {name: cls for name in names if (cls := options_of(name)) is not None}


def _model_config(systems: list[str]) -> Schema:
    """What all systems share, and a system's own definition where it is one of ours."""
    return {
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


def _draft07(schema: Any) -> Any:
    """A schema of pydantic's in the words of draft 07: closed objects, lists of items, no titles."""
    if isinstance(schema, list):
        return [_draft07(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _draft07(value) for key, value in schema.items() if key != "title" or isinstance(value, dict)}
    if "prefixItems" in found:
        found["items"] = found.pop("prefixItems")
    if "properties" in found and found.get("type") == "object":
        found["additionalProperties"] = False
    elif found.get("type") == "object":
        found.pop("additionalProperties", None)
    return found
