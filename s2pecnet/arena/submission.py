"""What a submission to the Speech Anti-Spoofing Arena says of its score file, and whether it is true.

    scores.txt       `utterance score` a line, six decimals, higher = bona fide; a trial that was skipped has no line
    submission.yaml  system, dataset, results, URL of scores.txt (`schema`)

The Arena downloads scores.txt, computes the EER again and refuses a submission that differs by more than 1e-6 per cent,
so that everything here is computed from scores.txt as it is written, and by `interpolated_eer`.

Source: the repository lab260ru/speech_spoof_bench, version 0.3.0 (`reproduce`, `runner`).
No torch here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from s2pecnet.corpora.published import read_protocol
from s2pecnet.errors import InputError
from s2pecnet.files import sha256_of
from s2pecnet.metrics.det import interpolated_eer
from s2pecnet.score_files.cm_asv import read_cm_scores, read_plain_scores
from s2pecnet.text import quoted

MOST_SKIPPED = 0.05  # the harness gives up where more of the trials are skipped
EER_TOLERANCE = 1e-6  # per cent
PathLike = str | Path


class Keys(NamedTuple):
    """The trials of a data set: whether each is bona fide, and how many there are, those without a score included."""

    is_bonafide: dict[str, bool]
    n_trials: int


def keys_of_scores(path: PathLike) -> Keys:
    """The trials of a score file of ours (`score_files.read_cm_scores`), which has a key in each line."""
    cm = read_cm_scores(path)
    return Keys(dict(zip(cm.utterances.tolist(), cm.is_bonafide.tolist(), strict=True)), len(cm.scores) + cm.n_unscored)


def keys_of_protocol(path: PathLike) -> Keys:
    """The trials of a protocol, "speaker utterance environment attack key" a line (`corpora.read_protocol`)."""
    is_bonafide = {trial.utterance: trial.key == "bonafide" for trial in read_protocol(path)}
    return Keys(is_bonafide, len(is_bonafide))


class Results(NamedTuple):
    """The `scores` section of a submission; `n_trials` counts the skipped ones too."""

    eer_percent: float
    n_trials: int
    n_skipped: int


def compute_results(scores: Mapping[str, float], keys: Keys) -> Results:
    """EER and numbers of trials of the harness' score file.

    Raises:
        InputError: a scored utterance has no key, or a class has no scored trial.
    """
    unknown = [utterance for utterance in scores if utterance not in keys.is_bonafide]
    if unknown:
        raise InputError(
            f"{len(unknown)} scored utterances are not among the trials, e.g. {quoted(unknown[0])}: are the keys of "
            "another split?"
        )
    bonafide = [score for utterance, score in scores.items() if keys.is_bonafide[utterance]]
    spoof = [score for utterance, score in scores.items() if not keys.is_bonafide[utterance]]
    for name, of_class in (("bona fide", bonafide), ("spoofed", spoof)):
        if not of_class:
            raise InputError(f"no {name} trial has a score, expected some of each class for an EER")
    return Results(100 * interpolated_eer(bonafide, spoof), keys.n_trials, keys.n_trials - len(scores))


def compare(submission: Mapping[str, Any], scores_path: PathLike, keys: Keys | None = None) -> list[str]:
    """Where a submission with valid fields does not agree with its score file, a line each.

    Args:
        keys: of all trials; without them the EER is not computed, and no coverage is checked.

    Raises:
        InputError: as `read_plain_scores` and `compute_results`.
    """
    scores = read_plain_scores(scores_path)
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
    if keys is not None:
        for name, value in compute_results(scores, keys)._asdict().items():
            if abs(value - claimed[name]) > (EER_TOLERANCE if name == "eer_percent" else 0):
                found.append(f"scores.{name}: {claimed[name]}, but {scores_path} gives {value}")
    return found
