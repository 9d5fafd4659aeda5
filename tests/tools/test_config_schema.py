"""The JSON Schema says what the framework says: each key is tried with many values on both."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from s2pecnet.config.experiment import Config, as_config
from s2pecnet.config.options import describe_options, read_model_options
from s2pecnet.errors import InputError
from s2pecnet.systems.registry import available
from tests.helpers import ROOT
from tests.helpers.samples import TINY
from tools.config_schema import config_schema, system_options

SCHEMA = config_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)

VALUES: list[Any] = [
    None, True, False, "True", "False", " yes ", "maybe", "1", "", "LA", "a b", "../x", "x.txt", "results.json",
    "Weights", "t-DCF_EER.txt", "LA\n", "LA\u0000", "adam", "cosine", "fp32", "auto", "csv", "eval", "CCE", "pth",
    "error", "lfcc", "max", 0, 1, -1, 2, 3, 0.5, 1.0, 1.5, -0.5, 1e7, 2e6, 300, 9_600_001, 10**12, [], [1], [1, 2],
    [0.5, 0.5], [0, 0], [0.9, 1], [1, 2, 3], ["a", "b"], [None, 1], {}, {"a": 1}, [70, [1, 8], [8, 8], [8, 8], [8,
    8]], [20, [1, 8], [8, 8], [8, 8]], "all", "none", "sdpa", "weighted", [8, 4], {"model_type": "wavlm"},
]  # fmt: skip


def changed(key: str, value: Any) -> dict[str, Any]:
    content: dict[str, Any] = copy.deepcopy(TINY)
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return content


def read_both(content: dict[str, Any]) -> None:
    """Read a config and the options of its system."""
    config = as_config(content)
    read_model_options(system_options()[config.architecture], config.model_config, config.architecture)


def accepted(content: dict[str, Any]) -> bool:
    try:
        as_config(content)
    except InputError:
        return False
    return True


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.conf")), ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path: Path) -> None:
    VALIDATOR.validate(json.loads(path.read_text()))


def beyond_a_schema(key: str, kind: str, value: Any) -> bool:
    """What no schema says: that 1.0 is another number than 1, and that a key's limit is another key's value."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (kind == "true or false" and isinstance(value, float)) or (
        key in ("optim_config.lr_min", "loss_config.m_real", "loss_config.m_fake") and number
    )


@pytest.mark.parametrize(("key", "kind"), [row[:2] for row in describe_options(Config)])
def test_each_key_takes_what_the_framework_takes(key: str, kind: str) -> None:
    for value in VALUES:
        if not beyond_a_schema(key, kind, value):
            content = changed(key, value)
            assert VALIDATOR.is_valid(content) == accepted(content), (key, value)


@pytest.mark.parametrize(
    ("system", "key", "kind"),
    [(name, *row[:2]) for name, cls in system_options().items() for row in describe_options(cls)],
)
def test_each_key_of_a_system_takes_what_the_system_takes(system: str, key: str, kind: str) -> None:
    cls = system_options()[system]
    filts = [20, [1, 8], [8, 8], [8, 8], *([[8, 8]] if system != "RawNet2Spoof" else [])]
    sizes = TINY["model_config"] if system in ("AASIST", "S2pecNet") else {"nb_samp": 4800}
    known = {row[0] for row in describe_options(cls)}
    base = {name: value for name, value in sizes.items() if name in known} | {"architecture": system, "filts": filts}
    if system.startswith("SSL"):
        base = {"architecture": system, "front_end": {"model": {"model_type": "wav2vec2"}}}
    for value in VALUES:
        if beyond_a_schema(key, kind, value):
            continue
        model_config: dict[str, Any] = copy.deepcopy(base)
        place, last = (model_config["front_end"], key[10:]) if key.startswith("front_end.") else (model_config, key)
        place[last] = value
        try:
            read_model_options(cls, model_config, system)
            taken = True
        except InputError:
            taken = False
        assert VALIDATOR.is_valid(TINY | {"model_config": model_config}) == taken, (system, key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batchsize", 3),
        ("num_epoch", 3),
        ("optim_config.lr", 0.1),
        ("optim_config.wight_decay", 0.1),
        ("optim_config", {"optimizer": "adam"}),
        ("optim_config", 3),
        ("model_config.architecture", 3),
        ("model_config.nb_sampp", 3),
        ("model_config.pool_ratio", [0.5]),
        ("model_config", {"nb_samp": 64600}),
        ("model_config", {"architecture": "Mine", "nb_samp": "64600"}),
        ("optim_config", {"base_lr": 0.1, "scheduler": "multistep"}),
        ("optim_config", {"base_lr": 0.1, "scheduler": "multistep", "milestones": []}),
    ],
)
def test_typos_and_wrong_types_are_refused_by_both(key: str, value: Any) -> None:
    content = changed(key, value)
    assert not VALIDATOR.is_valid(content)
    with pytest.raises(InputError):
        read_both(content)


def test_options_that_exclude_each_other() -> None:
    for one in (True, "True", "yes", 1):
        both = TINY | {"compile": one, "activation_checkpointing": "on"}
        assert not VALIDATOR.is_valid(both)
        assert not accepted(both)
        assert VALIDATOR.is_valid(both | {"compile": "no"})
        assert accepted(both | {"compile": "no"})


def test_other_systems_are_open() -> None:
    content = TINY | {"model_config": {"architecture": "Mine", "nb_samp": 4800, "anything": ["goes"]}}
    VALIDATOR.validate(content)
    assert accepted(content)


def test_a_config_may_name_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    content = TINY | {"$schema": "./config.schema.json"}
    VALIDATOR.validate(content)
    assert as_config(content).batch_size == 6
    assert capsys.readouterr().err == ""


def test_every_key_and_every_system_is_described() -> None:
    assert set(system_options()) == set(available())
    for name, definition in [("config", SCHEMA), *SCHEMA["definitions"].items()]:
        for key, value in definition["properties"].items():
            assert value.get("description") or key == "architecture", (name, key)
