"""Submissions to the Speech Anti-Spoofing Arena: score files, their figures, and the YAML that points to them.

    scores.txt       `utterance score` a line, six decimals, higher = bona fide; a trial that was skipped has no line
    submission.yaml  schema version 4 of `speech-spoof-bench`: system, dataset, figures, where scores.txt lies

The Arena downloads scores.txt, computes the figures again and refuses a submission whose EER differs by more than
1e-6 per cent, so that everything here is computed from scores.txt as it is written, and by `arena_eer`.

Source: the repository lab260ru/speech_spoof_bench, version 0.3.0 (`submission.schema.json`, `reproduce`, `runner`).
No torch here.
"""

import datetime
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from s2pecnet.conventions import KEYS, UNSCORED
from s2pecnet.corpora.published import read_protocol
from s2pecnet.errors import InputError
from s2pecnet.extras import require
from s2pecnet.files import atomic_write, sha256_of
from s2pecnet.metrics.det import arena_eer

SCHEMA_VERSION = 4
MOST_SKIPPED = 0.05  # the harness gives up where more of the trials are skipped
EER_TOLERANCE = 1e-6  # per cent
PathLike = str | Path


# ---- scores and keys ----------------------------------------------------------------------------


class Trials(NamedTuple):
    """Trials of a score file of ours: whether each is bona fide, and the score of each that has one."""

    is_bonafide: dict[str, bool]
    scores: dict[str, float]


def read_our_scores(path: PathLike) -> Trials:
    """Read a score file of ours, `utterance attack key score` a line; the score may be the word "unscored".

    Raises:
        InputError: no trials, or (with file and line) a wrong number of fields, an unknown key, a score that is no
            finite number, an utterance that came before.
        OSError: the file cannot be read.
    """
    trials = Trials({}, {})
    for place, (utterance, _, key, score) in _rows(path, "utterance attack key score", trials.is_bonafide):
        if key not in KEYS:
            raise InputError(f"{place}: key {key!r}, expected one of {', '.join(KEYS)}")
        trials.is_bonafide[utterance] = key == "bonafide"
        if score != UNSCORED:
            trials.scores[utterance] = _number(score, place)
    return trials


def read_arena_scores(path: PathLike) -> dict[str, float]:
    """Read a score file of the harness, `utterance score` a line.

    Raises:
        InputError, OSError: as `read_our_scores`; "unscored" is no score here.
    """
    scores: dict[str, float] = {}
    for place, (utterance, score) in _rows(path, "utterance score", scores):
        if score == UNSCORED:
            raise InputError(f"{place}: score {UNSCORED!r}; the harness reads numbers only, leave the line out")
        scores[utterance] = _number(score, place)
    return scores


def read_keys(path: PathLike) -> dict[str, bool]:
    """Whether each utterance of a protocol ("speaker utterance environment attack key" a line) is bona fide.

    Raises:
        InputError: as `protocols.read_protocol`.
    """
    return {trial.utterance: trial.key == "bonafide" for trial in read_protocol(path)}


def write_arena_scores(path: PathLike, scores: Mapping[str, float]) -> None:
    """Write `utterance score` a line with six decimals, in the order of `scores`."""
    with atomic_write(path) as stream:
        stream.writelines(f"{utterance} {score:.6f}\n" for utterance, score in scores.items())


def _rows(path: PathLike, layout: str, seen: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The place ("file:line") and the fields of each line that is not blank; the first field may not be in `seen`."""
    columns = len(layout.split())
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a UTF-8 text file, expected '{layout}' in each line") from None
    if not any(line.strip() for line in lines):
        raise InputError(f"{path}: empty, expected '{layout}' in each line")
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        place = f"{path}:{number}"
        if len(fields) != columns:
            raise InputError(f"{place}: {len(fields)} fields, expected {columns}: '{layout}'")
        if fields[0] in seen:
            raise InputError(f"{place}: utterance {fields[0]!r} again, expected each once")
        yield place, fields


def _number(text: str, place: str) -> float:
    try:
        score = float(text.replace("_", "?"))
    except ValueError:
        raise InputError(f"{place}: score {text!r}, expected a number") from None
    if not math.isfinite(score):
        raise InputError(f"{place}: score {text!r}, expected a finite number")
    return score


# ---- figures ------------------------------------------------------------------------------------


class Figures(NamedTuple):
    """What a submission says of its scores; `n_trials` counts the skipped ones too."""

    eer_percent: float
    n_trials: int
    n_skipped: int


def compute_figures(scores: Mapping[str, float], is_bonafide: Mapping[str, bool]) -> Figures:
    """EER and numbers of trials of a score file of the harness, given the keys of all trials.

    Raises:
        InputError: a scored utterance has no key, or a class has no scored trial.
    """
    strange = [utterance for utterance in scores if utterance not in is_bonafide]
    if strange:
        raise InputError(
            f"{len(strange)} scored utterances are not among the trials, {strange[0]!r} first; are the keys those of "
            "another split?"
        )
    by_class = {
        key: [score for utterance, score in scores.items() if is_bonafide[utterance] is wanted]
        for key, wanted in (("bona fide", True), ("spoofed", False))
    }
    for key, of_class in by_class.items():
        if not of_class:
            raise InputError(f"no {key} trial has a score, expected some of each class for an EER")
    eer = arena_eer(by_class["bona fide"], by_class["spoofed"])
    return Figures(100 * eer, len(is_bonafide), len(is_bonafide) - len(scores))


# ---- the YAML -----------------------------------------------------------------------------------


class Field(NamedTuple):
    """A field of a submission: whether a value will do, what is expected, and the option that gives it."""

    valid: Callable[[Any], bool]
    expected: str
    option: str = ""


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _url(value: Any) -> bool:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and "." in parts.netloc.strip(".") and not re.search(r"\s", value)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _finite(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _day(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


_COMMIT = "[0-9a-f]{7,40}"
_A_URL = "a URL, https://..."
FIELDS = {
    "schema_version": Field(lambda value: value == SCHEMA_VERSION, str(SCHEMA_VERSION)),
    "system.name": Field(_text, "a text", "--name"),
    "system.slug": Field(_matches("[a-z0-9][a-z0-9-]*"), "small letters, digits and '-', such as aasist-l", "--slug"),
    "system.description": Field(_text, "a text", "--description"),
    "system.code": Field(_url, _A_URL, "--code"),
    "system.checkpoint": Field(_url, _A_URL, "--checkpoint"),
    "system.paper.arxiv_id": Field(_matches(r"\S+"), "an arXiv number, such as 2308.09302", "--arxiv"),
    "system.paper.url": Field(_url, _A_URL, "--paper-url"),
    "system.paper.bibtex": Field(_text, "a BibTeX entry, @...", "--bibtex"),
    "system.params_millions": Field(lambda value: _finite(value) and value >= 0, "a number >= 0"),
    "dataset.id": Field(_matches(r"[^/\s]+/[^/\s]+"), "<organisation>/<dataset>", "--dataset"),
    "dataset.revision": Field(
        _matches(_COMMIT), "a commit of the dataset in quotes, 7 to 40 small hexadecimal digits", "--revision"
    ),
    "dataset.split": Field(_text, "a text", "--split"),
    "scores.eer_percent": Field(lambda value: _finite(value) and 0 <= value <= 100, "a number from 0 to 100"),
    "scores.n_trials": Field(_count, "a whole number >= 0"),
    "scores.n_skipped": Field(_count, "a whole number >= 0"),
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
    "reproduction.match": Field(lambda value: value in ("scoring", "inference"), "scoring or inference"),
    "submitter.hf_username": Field(_text, "a text", "--submitter"),
    "submitter.contact": Field(_text, "a text, such as an e-mail address", "--contact"),
    "submitted_at": Field(_day, "a day, YYYY-MM-DD"),
    "notes": Field(_text, "a text", "--notes"),
}
# Sections that may be left out as a whole; the maintainers of the Arena fill in `reproduction`.
_OPTIONAL = ("system.paper", "system.params_millions", "reproduction", "notes")


def problems(submission: Mapping[str, Any], name_options: bool = False) -> list[str]:
    """What is wrong with the fields of a submission, a line each; nothing where it is in order.

    Args:
        name_options: say by which option of the command line a missing field is given.
    """
    given = dict(_leaves(submission))
    missing = [key for key in FIELDS if given.get(key) is None and _is_required(key, given)]
    found = [f"missing: {', '.join(_with_options(missing, given) if name_options else missing)}"] if missing else []
    for key, value in given.items():
        if key in missing:
            continue
        field = FIELDS.get(key)
        if field is None and key.startswith("scores."):
            field = Field(_finite, "a number")
        if any(known.startswith(f"{key}.") for known in FIELDS):
            found.append(f"{key}: got {_shown(value)}, expected a section with fields of its own")
        elif field is None:
            found.append(f"{key}: there is no such field in schema version {SCHEMA_VERSION}")
        elif not field.valid(value):
            found.append(f"{key}: got {_shown(value)}, expected {field.expected}")
    return found


def _with_options(missing: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    # A slug follows from the name.
    return [f"{key} ({FIELDS[key].option})" for key in missing if key != "system.slug" or "system.name" in given]


def _leaves(section: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        # A key that holds a dot itself is none of ours.
        name = repr(key) if "." in str(key) else str(key)
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_required(key: str, given: Mapping[str, Any]) -> bool:
    for optional in _OPTIONAL:
        if key == optional or key.startswith(f"{optional}."):
            return any(other.startswith(f"{optional}.") for other in given)
    return True


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def slug_of(name: str) -> str:
    """The slug of a system's name.

    >>> slug_of("S2pecNet (paper, Größe 2)")
    's2pecnet-paper-grosse-2'
    """
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")


def compare(
    submission: Mapping[str, Any], scores_path: PathLike, is_bonafide: Mapping[str, bool] | None = None
) -> list[str]:
    """Where a submission with sound fields does not agree with its score file, a line each.

    Args:
        is_bonafide: keys of all trials; without them the EER is not computed, and no coverage is checked.

    Raises:
        InputError: as `read_arena_scores` and `compute_figures`.
    """
    scores = read_arena_scores(scores_path)
    claimed = submission["scores"]
    found = []
    sha = sha256_of(scores_path)
    if sha != submission["artifact"]["scores_sha256"]:
        found.append(f"artifact.scores_sha256: {submission['artifact']['scores_sha256']}, but {scores_path} has {sha}")
    if len(scores) + claimed["n_skipped"] != claimed["n_trials"]:
        found.append(
            f"scores: {len(scores)} in {scores_path} and n_skipped {claimed['n_skipped']} are not n_trials "
            f"{claimed['n_trials']}"
        )
    if is_bonafide is not None:
        figures = compute_figures(scores, is_bonafide)
        for name, value in figures._asdict().items():
            if abs(value - claimed[name]) > (EER_TOLERANCE if name == "eer_percent" else 0):
                found.append(f"scores.{name}: {claimed[name]}, but {scores_path} gives {value}")
    return found


def write_submission(path: PathLike, submission: Mapping[str, Any]) -> None:
    """Write a submission as YAML, in the order of its keys."""
    # Imported here: whoever only scores needs no YAML.
    yaml = _yaml()

    with atomic_write(path) as stream:
        yaml.safe_dump(dict(submission), stream, sort_keys=False, allow_unicode=True, width=120)


def read_submission(path: PathLike) -> dict[str, Any]:
    """Read a submission; days come back as text.

    Raises:
        InputError: it is not YAML, refers to itself, or is not a mapping.
        OSError: the file cannot be read.
    """
    yaml = _yaml()

    try:
        content = _days_as_text(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not YAML, or not of this kind ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, expected the fields of a submission")
    return content


def _yaml() -> ModuleType:
    return require("yaml", "arena", "a submission")


def _days_as_text(value: Any) -> Any:
    """YAML reads 2026-01-31 without quotes as a day; the schema means its text."""
    if isinstance(value, dict):
        return {key: _days_as_text(item) for key, item in value.items()}
    return value.isoformat() if isinstance(value, datetime.date) else value
