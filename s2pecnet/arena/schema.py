"""The YAML of a submission to the Speech Anti-Spoofing Arena: its fields, what is wrong with them, reading and writing.

Schema versions 4 and 5 of `speech-spoof-bench` (repository lab260ru/speech_spoof_bench, version 0.4,
`submission.schema.json`); 5 has `system.trained_on` and the block `calibration` too. Where the harness is installed,
its own JSON Schema decides (`harness_problems`). Keys are dotted: "system.name" is `name` in the section `system`.
"""

import datetime
import importlib.resources
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from s2pecnet.errors import InputError
from s2pecnet.extras import require
from s2pecnet.files import atomic_write
from s2pecnet.text import quoted, read_text

# The newest; a submission without fields that are new in it is written as the oldest, which every harness takes.
SCHEMA_VERSIONS = (4, 5)
HARNESS_PACKAGE = "speech_spoof_bench"
PathLike = str | Path


class Field(NamedTuple):
    """A field of a submission: whether a value is valid, what is expected, the option that gives it, and since when."""

    valid: Callable[[Any], bool]
    expected: str
    option: str = ""
    since: int = SCHEMA_VERSIONS[0]


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


_text = _matches(r"(?s).*\S.*")


def _url(value: Any) -> bool:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and "." in parts.netloc.strip(".") and not re.search(r"\s", value)


def _finite(value: Any) -> bool:
    # By type: True is an int, too.
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _day(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


_dataset = _matches(r"[^/\s]+/[^/\s]+")
_MATCHES = ("scoring", "inference", "organizer", "closed-eval")
_COMMIT = "[0-9a-f]{7,40}"
_A_URL = "a URL, https://..."
FIELDS = {
    "schema_version": Field(
        lambda value: type(value) is int and value in SCHEMA_VERSIONS, " or ".join(map(str, SCHEMA_VERSIONS))
    ),
    "system.name": Field(_text, "a text", "--name"),
    "system.slug": Field(_matches("[a-z0-9][a-z0-9-]*"), "small letters, digits and '-', such as aasist-l", "--slug"),
    "system.description": Field(_text, "a text", "--description"),
    "system.code": Field(_url, _A_URL, "--code"),
    "system.checkpoint": Field(_url, _A_URL, "--checkpoint"),
    "system.paper.arxiv_id": Field(_matches(r"\S+"), "an arXiv number, such as 2308.09302", "--arxiv"),
    "system.paper.url": Field(_url, _A_URL, "--paper-url"),
    "system.paper.bibtex": Field(_text, "a BibTeX entry, @...", "--bibtex"),
    "system.params_millions": Field(lambda value: _finite(value) and value >= 0, "a number >= 0"),
    "system.trained_on": Field(
        lambda value: isinstance(value, list) and all(map(_dataset, value)),
        "a list of <organisation>/<dataset>",
        "--trained-on",
        5,
    ),
    "dataset.id": Field(_dataset, "<organisation>/<dataset>", "--dataset"),
    "dataset.revision": Field(
        _matches(_COMMIT), "a commit of the dataset in quotes, 7 to 40 small hexadecimal digits", "--revision"
    ),
    "dataset.split": Field(_text, "a text", "--split"),
    "scores.eer_percent": Field(lambda value: _finite(value) and 0 <= value <= 100, "a number from 0 to 100"),
    "scores.srr_complement": Field(lambda value: _finite(value) and 0 <= value <= 100, "a number from 0 to 100"),
    "scores.n_trials": Field(lambda value: type(value) is int and value >= 0, "an integer >= 0"),
    "scores.n_skipped": Field(lambda value: type(value) is int and value >= 0, "an integer >= 0"),
    "artifact.scores_url": Field(
        _matches(rf"https://huggingface\.co/[^/\s]+/[^/\s]+/resolve/{_COMMIT}/\S+"),
        "https://huggingface.co/<owner>/<model>/resolve/<commit>/<file>, with a commit and not a branch",
        "--scores-url",
    ),
    "artifact.scores_sha256": Field(_matches("[0-9a-f]{64}"), "64 small hexadecimal digits"),
    "artifact.bench_version": Field(
        _text, "the harness' version, such as speech-spoof-bench==0.3.0", "--bench-version"
    ),
    "reproduction.reproduced_by": Field(_text, "a text"),
    "reproduction.reproduced_at": Field(_day, "a day, YYYY-MM-DD"),
    "reproduction.reproduced_bench_version": Field(_text, "a text"),
    "reproduction.match": Field(lambda value: value in _MATCHES, " or ".join(_MATCHES)),
    "calibration.source_dataset": Field(_dataset, "<organisation>/<dataset>", "--calibration-dataset", 5),
    "calibration.threshold": Field(_finite, "a number", "--calibration-threshold", 5),
    "submitter.hf_username": Field(_text, "a text", "--submitter"),
    "submitter.contact": Field(_text, "a text, such as an e-mail address", "--contact"),
    "submitted_at": Field(_day, "a day, YYYY-MM-DD"),
    "notes": Field(_text, "a text", "--notes"),
}
# Sections that may be left out; the maintainers of the Arena fill in `reproduction`.
_OPTIONAL = (
    *("system.paper", "system.params_millions", "system.trained_on", "scores.eer_percent", "scores.srr_complement"),
    *("reproduction", "calibration", "notes"),
)


def missing_fields(submission: Mapping[str, Any]) -> list[str]:
    """The fields that a submission needs and does not have, by their dotted keys."""
    given = dict(_leaves(submission))
    # What may be left out is needed in part where a part of it is given.
    left_out = [section for section in _OPTIONAL if not any(key.startswith(f"{section}.") for key in given)]
    missing = [key for key in FIELDS if given.get(key) is None]
    return [key for key in missing if not any(f"{key}.".startswith(f"{section}.") for section in left_out)]


def wrong_fields(submission: Mapping[str, Any]) -> list[str]:
    """What is wrong with the fields that a submission has, a line each; nothing where they are in order."""
    missing, found, version = missing_fields(submission), [], submission.get("schema_version")
    if version not in SCHEMA_VERSIONS:
        version = SCHEMA_VERSIONS[-1]
    for key, value in _leaves(submission):
        if key in missing:
            continue
        field = FIELDS.get(key)
        if field is None and key.startswith("scores."):
            field = Field(_finite, "a number")
        if any(known.startswith(f"{key}.") for known in FIELDS):
            found.append(f"{key}: got {quoted(value)}, expected a section with fields")
        elif field is None or field.since > version:
            found.append(f"{key}: there is no such field in schema version {version}")
        elif not field.valid(value):
            found.append(f"{key}: got {quoted(value)}, expected {field.expected}")
    return found


def harness_problems(submission: Mapping[str, Any]) -> list[str] | None:
    """What the JSON Schema of the installed harness finds wrong, a line each; None where it is not installed."""
    try:
        import jsonschema

        file = importlib.resources.files(HARNESS_PACKAGE) / "schema" / "submission.schema.json"
        schema = json.loads(file.read_text(encoding="utf-8"))
    except (ImportError, OSError, TypeError):
        # Not installed, or without this file, or no package.
        return None
    found = sorted(jsonschema.Draft7Validator(schema).iter_errors(submission), key=lambda one: str(one.json_path))
    return [f"{one.json_path.removeprefix('$.')}: {' '.join(one.message.split())}" for one in found]


def _leaves(section: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        # A key that holds a dot itself is none of ours.
        name = repr(key) if "." in str(key) else str(key)
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def slug_of(name: str) -> str:
    """The slug of a system's name.

    >>> slug_of("S2pecNet (paper, Größe 2)")
    's2pecnet-paper-grosse-2'
    """
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")


def write_submission(path: PathLike, submission: Mapping[str, Any]) -> None:
    """Write a submission as YAML, in the order of its keys."""
    yaml = require("yaml", "arena", "a submission")
    with atomic_write(path) as stream:
        yaml.safe_dump(dict(submission), stream, sort_keys=False, allow_unicode=True, width=120)


def read_submission(path: PathLike) -> dict[str, Any]:
    """Read a submission; days come back as text.

    Raises:
        InputError: it is not text, not YAML, refers to itself, or is not a mapping.
        OSError: the file cannot be read.
    """
    yaml = require("yaml", "arena", "a submission")
    text = read_text(path, "the YAML of a submission", largest=1 << 20)
    try:
        # A kilobyte of aliases of aliases unfolds to gigabytes, and a submission has none.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise ValueError("it has aliases")
        content = _days_as_text(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not YAML, or not plain YAML ({' '.join(str(error).split())})") from None
    number = _key_without_quotes(content)
    if number is not None:
        raise InputError(f"{path}: the key {number} is no text; put it between quotes")
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, expected the fields of a submission")
    return content


def _key_without_quotes(value: Any) -> Any:
    """A key of a mapping, at any depth, that YAML does not read as text; None: there is none."""
    if not isinstance(value, dict):
        return None
    own = next((key for key in value if not isinstance(key, str)), None)
    within = (_key_without_quotes(item) for item in value.values())
    return own if own is not None else next((key for key in within if key is not None), None)


def _days_as_text(value: Any) -> Any:
    """YAML reads 2026-01-31 without quotes as a day; the schema means its text."""
    if isinstance(value, dict):
        return {key: _days_as_text(item) for key, item in value.items()}
    return value.isoformat() if isinstance(value, datetime.date) else value
