"""What a submission to the Speech Anti-Spoofing Arena says of its score file, and whether it is true.

    scores.txt       `utterance score` a line, six decimals, higher = bona fide; a trial that was skipped has no line
    submission.yaml  system, dataset, results, URL of scores.txt (`schema`)

The Arena downloads scores.txt, computes the metrics again and refuses a submission that differs by more than 1e-6 per
cent, so that everything here is computed from scores.txt as it is written. The metric depends on the data set:

    eer_percent      `interpolated_eer`, in per cent, of a set with both classes
    srr_complement   100 * (1 - spoof rejection rate), of spoofs alone: per cent of them with a score at or above a
                     threshold, that of the system's EER on another data set (`calibration` in the submission)

Source: the repository lab260ru/speech_spoof_bench, version 0.4 (`reproduce`, `runner`, `metrics`).
No torch here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from s2pecnet.errors import InputError
from s2pecnet.files import sha256_of
from s2pecnet.metrics.det import interpolated_eer, interpolated_eer_point
from s2pecnet.score_files.cm_asv import read_cm_scores, read_plain_scores
from s2pecnet.score_files.joined import read_keys
from s2pecnet.text import quoted

MOST_SKIPPED = 0.05  # the harness gives up where more of the trials are skipped
TOLERANCE = 1e-6  # per cent
PathLike = str | Path


class Keys(NamedTuple):
    """The trials of a data set: whether each is bona fide, and how many there are, those without a score included."""

    is_bonafide: dict[str, bool]
    n_trials: int


def keys_of_scores(path: PathLike) -> Keys:
    """The trials of a score file of ours (`score_files.read_cm_scores`), which has a key in each line."""
    cm = read_cm_scores(path, both_classes=False)
    return Keys(dict(zip(cm.utterances.tolist(), cm.is_bonafide.tolist(), strict=True)), len(cm.scores) + cm.n_unscored)


def keys_of_list(path: PathLike, scores_path: PathLike) -> Keys:
    """The trials of a list of keys, of any form that `score_files.joined.read_keys` takes, as the scores spell them."""
    keys, scored = read_keys(path, "all"), list(read_plain_scores(scores_path))
    rows, names = keys.rows_of(scores_path, scored)
    is_bonafide = dict(zip(names, keys.is_bonafide, strict=True))
    return Keys(is_bonafide | {name: keys.is_bonafide[row] for name, row in zip(scored, rows, strict=True)}, len(names))


class Results(NamedTuple):
    """The `scores` section of a submission; `n_trials` counts the skipped ones too, and a metric may be None."""

    eer_percent: float | None
    srr_complement: float | None
    n_trials: int
    n_skipped: int

    def __str__(self) -> str:
        metrics = []
        if self.eer_percent is not None:
            metrics.append(f"EER {self.eer_percent:.4f} %")
        if self.srr_complement is not None:
            metrics.append(f"1-SRR {self.srr_complement:.4f} %")
        return ", ".join([*metrics, f"{self.n_trials} trials", f"{self.n_skipped} skipped"])


def compute_results(scores: Mapping[str, float], keys: Keys, threshold: float | None = None) -> Results:
    """The metrics and numbers of trials of the harness' score file.

    Args:
        threshold: of `srr_complement`; None leaves it out.

    Raises:
        InputError: a scored utterance has no key, a set of both classes has no scored trial of one of them, or there is
            no metric: spoofs alone without a threshold, or no spoofs.
    """
    bonafide, spoof = _by_class(scores, keys)
    if bonafide or any(keys.is_bonafide.values()) or not spoof:
        for name, of_class in (("bona fide", bonafide), ("spoofed", spoof)):
            if not of_class:
                raise InputError(f"no {name} trial has a score, expected some of each class for an EER")
    elif threshold is None:
        raise InputError(
            "the trials are all spoofed: their metric is srr_complement, which needs a threshold, that of the EER on "
            "another data set: --calibration-dataset with --calibration-threshold, or with --calibration-scores and "
            "--calibration-cm"
        )
    eer = 100 * interpolated_eer(bonafide, spoof) if bonafide else None
    complement = None if threshold is None else 100 * sum(score >= threshold for score in spoof) / len(spoof)
    return Results(eer, complement, keys.n_trials, keys.n_trials - len(scores))


def eer_threshold(scores_path: PathLike, cm_path: PathLike) -> float:
    """The threshold of the EER as the Arena has it, of its score file for a calibration data set.

    Args:
        cm_path: our score file of the same data set, for the keys.

    Raises:
        InputError: as `read_plain_scores` and `compute_results`.
    """
    bonafide, spoof = _by_class(read_plain_scores(scores_path), keys_of_scores(cm_path))
    return interpolated_eer_point(bonafide, spoof)[1]


def _by_class(scores: Mapping[str, float], keys: Keys) -> tuple[list[float], list[float]]:
    unknown = [utterance for utterance in scores if utterance not in keys.is_bonafide]
    if unknown:
        raise InputError(
            f"{len(unknown)} scored utterances are not among the trials, e.g. {quoted(unknown[0])}: are the keys of "
            "another split?"
        )
    bonafide = [score for utterance, score in scores.items() if keys.is_bonafide[utterance]]
    return bonafide, [score for utterance, score in scores.items() if not keys.is_bonafide[utterance]]


def compare(submission: Mapping[str, Any], scores_path: PathLike, keys: Keys | None = None) -> list[str]:
    """Where a submission with valid fields does not agree with its score file, a line each.

    Args:
        keys: of all trials; without them no coverage is checked, and no metric is computed but that of spoofs alone.

    Raises:
        InputError: as `read_plain_scores` and `compute_results`.
    """
    scores = read_plain_scores(scores_path)
    claimed = submission["scores"]
    found = []
    if not claimed.keys() - {"n_trials", "n_skipped"}:
        found.append("scores: holds no metric, expected eer_percent or, for spoofs alone, srr_complement")
    without_threshold = "srr_complement" in claimed and "calibration" not in submission
    if without_threshold:
        found.append("scores.srr_complement: needs the section calibration with its threshold")
    sha = sha256_of(scores_path)
    if sha != submission["artifact"]["scores_sha256"]:
        found.append(f"artifact.scores_sha256: {submission['artifact']['scores_sha256']}, but {scores_path} has {sha}")
    if len(scores) + claimed["n_skipped"] != claimed["n_trials"]:
        found.append(
            f"scores: {len(scores)} in {scores_path} and n_skipped {claimed['n_skipped']} are not n_trials "
            f"{claimed['n_trials']}"
        )
    if keys is None and "srr_complement" in claimed and "eer_percent" not in claimed:
        keys = Keys(dict.fromkeys(scores, False), claimed["n_trials"])
    if keys is not None and not without_threshold:
        threshold = submission["calibration"]["threshold"] if "calibration" in submission else None
        for name, value in compute_results(scores, keys, threshold)._asdict().items():
            if value is None and name in claimed:
                found.append(f"scores.{name}: {claimed[name]}, but {scores_path} allows no such metric")
            elif name in claimed and abs(value - claimed[name]) > (0 if name.startswith("n_") else TOLERANCE):
                found.append(f"scores.{name}: {claimed[name]}, but {scores_path} gives {value}")
    return found
