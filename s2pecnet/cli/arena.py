"""`s2pecnet arena`: score files and submissions of the Speech Anti-Spoofing Arena."""

import argparse
import datetime
import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from s2pecnet.arena.adapter import HARNESS
from s2pecnet.arena.schema import (
    FIELDS,
    HARNESS_PACKAGE,
    SCHEMA_VERSIONS,
    harness_problems,
    missing_fields,
    read_submission,
    slug_of,
    write_submission,
    wrong_fields,
)
from s2pecnet.cli.command import accept_negative_numbers, check_output, make_parser
from s2pecnet.errors import InputError
from s2pecnet.files import sha256_of
from s2pecnet.text import read_text

if TYPE_CHECKING:
    from s2pecnet.arena.submission import Keys

log = logging.getLogger(__name__)

EXAMPLES = """examples:
  %(prog)s scores --cm our_scores.txt --output scores.txt
  %(prog)s submission --scores scores.txt --cm our_scores.txt \\
      --config AASIST --weights AASIST.pth --name AASIST --description "AASIST, trained on LA 2019" \\
      --code https://github.com/me/code --checkpoint https://huggingface.co/me/aasist \\
      --arxiv 2110.01200 --bibtex aasist.bib \\
      --dataset SpeechAntiSpoofingBenchmarks/ASVspoof2019_LA --revision 151aa4c6 \\
      --scores-url https://huggingface.co/me/aasist/resolve/0123abc/scores.txt \\
      --submitter me --contact me@example.org --output submission.yaml
  %(prog)s check submission.yaml --scores scores.txt --cm our_scores.txt

Spoofs alone, besides these fields:
  %(prog)s submission --scores scores.txt --cm spoofs.txt \\
      --config AASIST --weights AASIST.pth --output submission.yaml \\
      --calibration-dataset SpeechAntiSpoofingBenchmarks/DeepVoice --calibration-threshold -0.84
"""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet arena") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    arguments = build_parser(prog).parse_args(argv)
    commands = {"scores": make_scores, "submission": make_submission, "check": check}
    commands[arguments.command](arguments)
    return 0


def make_scores(arguments: argparse.Namespace) -> None:
    """Convert a score file of ours to `utterance score`."""
    from s2pecnet.arena.submission import MOST_SKIPPED
    from s2pecnet.score_files.cm_asv import read_cm_scores, write_plain_scores

    check_output(arguments.output, [arguments.cm])
    cm = read_cm_scores(arguments.cm, both_classes=False)
    n_trials = len(cm.scores) + cm.n_unscored
    write_plain_scores(arguments.output, dict(zip(cm.utterances.tolist(), cm.scores.tolist(), strict=True)))
    print(f"{arguments.output}: {len(cm.scores)} scores")
    different, written = (len(set(scores)) for scores in (cm.scores.tolist(), cm.scores.round(6).tolist()))
    if written < different:
        log.warning(
            "%d different scores are %d in six decimals, the Arena's format, and metrics change; give logits instead",
            different,
            written,
        )
    if cm.n_unscored:
        log.info("%d of %d trials are unscored and left out; they count as n_skipped", cm.n_unscored, n_trials)
    if cm.n_unscored > MOST_SKIPPED * n_trials:
        log.warning("the harness gives up where more than %.0f %% are skipped", 100 * MOST_SKIPPED)


def make_submission(arguments: argparse.Namespace) -> None:
    """Write the YAML of a submission, its results computed from the score file.

    Raises:
        InputError: a field is missing or wrong (all of them are named), or a file cannot be used.
    """
    from s2pecnet.arena.submission import compute_results
    from s2pecnet.score_files.cm_asv import read_plain_scores

    inputs = (arguments.scores, arguments.cm, arguments.protocol, arguments.config, arguments.weights)
    of_calibration = (arguments.calibration_scores, arguments.calibration_cm)
    check_output(arguments.output, [*inputs, *of_calibration, getattr(arguments, "system.paper.bibtex")])
    given, threshold = _given(arguments), _calibration_threshold(arguments)
    keys, scores = _keys(arguments), read_plain_scores(arguments.scores)
    assert keys is not None
    results = compute_results(scores, keys, threshold)
    if threshold is not None:
        given["calibration.threshold"] = threshold
    fields = given | {
        "schema_version": max((FIELDS[key].since for key in given), default=SCHEMA_VERSIONS[0]),
        **{f"scores.{name}": value for name, value in results._asdict().items()},
        "artifact.scores_sha256": sha256_of(arguments.scores),
        "submitted_at": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    # Counted last: it takes seconds, and missing fields should be named at once.
    unchecked = _nested(fields | {"system.params_millions": 0})
    _refuse("the submission", [*_missing_options(unchecked), *wrong_fields(unchecked)])
    fields["system.params_millions"] = _count_parameters(arguments.config, arguments.weights)
    write_submission(arguments.output, _nested(fields))
    print(f"{arguments.output}: {fields['system.slug']} on {fields['dataset.id']}, {results}")
    if "system.paper.arxiv_id" not in fields:
        log.info("no paper (--arxiv, --bibtex); the Arena lists a system without one as unpublished, unranked")


def check(arguments: argparse.Namespace) -> None:
    """Verify a submission against its score file.

    Raises:
        InputError: it is not in order; a line for each problem.
    """
    from s2pecnet.arena.submission import Results, compare

    submission = read_submission(arguments.submission)
    by_harness = harness_problems(submission)
    if by_harness is None:
        missing = missing_fields(submission)
        named = [f"missing: {', '.join(missing)}"] if missing else []
        _refuse(arguments.submission, [*named, *wrong_fields(submission)])
        log.info("the fields were checked by our list of them: %s or jsonschema is not installed", HARNESS_PACKAGE)
    else:
        _refuse(arguments.submission, by_harness)
        log.info("the fields were checked by the JSON Schema of the installed %s", HARNESS_PACKAGE)
    keys = _keys(arguments)
    _refuse(arguments.submission, compare(submission, arguments.scores, keys))
    claimed = Results(**{name: submission["scores"].get(name) for name in Results._fields})
    print(f"{arguments.submission}: fields and SHA-256 are in order, {claimed}")
    others = sorted(submission["scores"].keys() - set(Results._fields))
    if keys is None and claimed.eer_percent is not None:
        log.info("the metrics were not computed again; give --cm or --protocol for that")
    elif others:
        log.info("not computed again, as these metrics are not known here: %s", ", ".join(others))


def _refuse(origin: str, problems: Sequence[str]) -> None:
    if problems:
        raise InputError("\n".join(f"{origin}: {problem}" for problem in problems))


def _missing_options(submission: Mapping[str, Any]) -> list[str]:
    """A line with the missing fields and the options that give them; nothing where none is missing."""
    # A slug follows from the name.
    missing = [key for key in missing_fields(submission) if key != "system.slug" or "name" in submission["system"]]
    return [f"missing: {', '.join(f'{key} ({FIELDS[key].option})' for key in missing)}"] if missing else []


def _keys(arguments: argparse.Namespace) -> "Keys | None":
    from s2pecnet.arena.submission import keys_of_list, keys_of_scores

    if arguments.cm:
        return keys_of_scores(arguments.cm)
    return keys_of_list(arguments.protocol, arguments.scores) if arguments.protocol else None


def _calibration_threshold(arguments: argparse.Namespace) -> float | None:
    """The threshold that is given, or that of the EER of the calibration data set."""
    from s2pecnet.arena.submission import eer_threshold

    given: float | None = getattr(arguments, "calibration.threshold")
    pair = [arguments.calibration_scores, arguments.calibration_cm]
    if pair == [None, None]:
        return given
    if given is not None or None in pair:
        raise InputError("expected --calibration-threshold, or --calibration-scores with --calibration-cm")
    return eer_threshold(*pair)


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields that the command line gives, and what follows from them."""
    fields = {key: getattr(arguments, key) for key, field in FIELDS.items() if field.option}
    given: dict[str, Any] = {key: value for key, value in fields.items() if value is not None}
    if "system.name" in given:
        given.setdefault("system.slug", slug_of(given["system.name"]))
    given.setdefault("artifact.bench_version", _bench_version())
    if "system.paper.arxiv_id" in given:
        given.setdefault("system.paper.url", f"https://arxiv.org/abs/{given['system.paper.arxiv_id']}")
    if "system.trained_on" in given:
        given["system.trained_on"] = [name.strip() for name in given["system.trained_on"].split(",")]
    if "system.paper.bibtex" in given:
        given["system.paper.bibtex"] = read_text(given["system.paper.bibtex"], "a BibTeX entry")
    return given


def _nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as a dictionary of dictionaries, in the order of the schema."""
    nested: dict[str, Any] = {}
    for key in FIELDS:
        *parents, last = key.split(".")
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
        if fields.get(key) is not None:
            section[last] = fields[key]
    for section, name in ((nested["system"], "paper"), (nested, "calibration")):
        if not section[name]:
            del section[name]
    return nested


def _bench_version() -> str | None:
    """The version of the harness, if it is installed."""
    try:
        return f"{HARNESS}=={importlib.metadata.version(HARNESS)}"
    except importlib.metadata.PackageNotFoundError:
        return None


def _count_parameters(config: str, weights: str) -> float:
    """Parameters in millions of the system of `config`, after its weights have been loaded into it."""
    import torch

    from s2pecnet.config.experiment import load_config
    from s2pecnet.systems.build import System
    from s2pecnet.systems.registry import count_parameters

    return count_parameters(System.load(load_config(config), weights, torch.device("cpu")).model) / 1e6


def build_parser(prog: str = "s2pecnet arena") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(
        prog, "Files of the Speech Anti-Spoofing Arena: score files and submissions (see docs/arena.md).", EXAMPLES
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="scores|submission|check", help="what to make or to check"
    )

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sentence = f"{text[0].upper()}{text[1:]}."
        made = commands.add_parser(name, help=text, description=sentence, allow_abbrev=False)
        accept_negative_numbers(made)
        return made

    scores = command("scores", "convert a score file of ours to the Arena's, 'utterance score' a line")
    scores.add_argument("--cm", required=True, metavar="FILE", help="our scores, 'utterance attack key score' a line")
    scores.add_argument("--output", required=True, metavar="FILE", help="where to write")
    submission = command("submission", "write the YAML of a submission")
    submission.add_argument("--output", required=True, metavar="FILE", help="where to write the YAML")
    submission.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="config of the system: a file, or a name such as AASIST; for its size",
    )
    submission.add_argument(
        "--weights", required=True, metavar="FILE", help="its checkpoint, which must fit the config"
    )
    submission.add_argument("--calibration-scores", metavar="FILE",
        help="instead of --calibration-threshold: the Arena's score file of the calibration data set, for its EER's "
        "threshold")  # fmt: skip
    submission.add_argument("--calibration-cm", metavar="FILE", help="and our score file of it, for the keys")
    _add_fields(submission)
    checked = command("check", "verify a submission against its score file")
    checked.add_argument("submission", metavar="YAML", help="the submission")
    for one, keys_required in ((submission, True), (checked, False)):
        one.add_argument("--scores", required=True, metavar="FILE", help="the Arena's score file, 'utterance score'")
        keys = one.add_mutually_exclusive_group(required=keys_required)
        keys.add_argument("--cm", metavar="FILE", help="keys of all trials: our score file, which has them")
        keys.add_argument(
            "--protocol", metavar="FILE", help="keys of all trials: a protocol or table, as --keys of evaluate"
        )
    return parser


def _add_fields(parser: argparse.ArgumentParser) -> None:
    """An option for each field of the schema that a person has to give; checked together, not by argparse."""
    group = parser.add_argument_group("fields of the submission")
    defaults = {
        "system.slug": "default: from --name",
        "system.paper.url": "default: arXiv's page of --arxiv",
        "dataset.split": "default: test",
        "artifact.bench_version": "default: that of the installed harness",
        "notes": "may be left out",
        "system.trained_on": "between commas; may be left out",
        "calibration.source_dataset": "the data set that the threshold comes from; for spoofs alone",
        "calibration.threshold": "the score from which on a spoof counts as accepted",
    }
    for key, field in FIELDS.items():
        if not field.option:
            continue
        text = "file with the BibTeX entry of the paper" if key == "system.paper.bibtex" else field.expected
        text = f"{key}: {text}" + (f" ({defaults[key]})" if key in defaults else "")
        default = "test" if key == "dataset.split" else None
        kind = float if key == "calibration.threshold" else str
        metavar = key.rpartition(".")[2].upper()
        group.add_argument(field.option, dest=key, metavar=metavar, default=default, help=text, type=kind)
