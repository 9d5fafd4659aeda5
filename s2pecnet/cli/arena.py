"""`s2pecnet arena`: score files and submissions of the Speech Anti-Spoofing Arena."""

import argparse
import datetime
import importlib
import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2pecnet.arena.submission import (
    FIELDS,
    MOST_SKIPPED,
    SCHEMA_VERSION,
    Figures,
    compare,
    compute_figures,
    problems,
    read_arena_scores,
    read_keys,
    read_our_scores,
    read_submission,
    slug_of,
    write_arena_scores,
    write_submission,
)
from s2pecnet.cli.command import make_parser
from s2pecnet.errors import InputError
from s2pecnet.files import sha256_of

if TYPE_CHECKING:
    pass


HARNESS = "speech-spoof-bench"
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
"""


# ---- command line -------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet arena") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    arguments = build_parser(prog).parse_args(argv)
    commands = {"scores": make_scores, "submission": make_submission, "check": check}
    commands[arguments.command](arguments)
    return 0


def make_scores(arguments: argparse.Namespace) -> None:
    """Convert a score file of ours to `utterance score`."""
    trials = read_our_scores(arguments.cm)
    total, skipped = len(trials.is_bonafide), len(trials.is_bonafide) - len(trials.scores)
    write_arena_scores(arguments.output, trials.scores)
    print(f"{arguments.output}: {len(trials.scores)} scores")
    if skipped:
        print(f"note: {skipped} of {total} trials are unscored and left out; they count as n_skipped")
    if skipped > MOST_SKIPPED * total:
        print(f"warning: the harness itself gives up above {MOST_SKIPPED:.0%} skipped", file=sys.stderr)


def make_submission(arguments: argparse.Namespace) -> None:
    """Write the YAML of a submission, its figures computed from the score file.

    Raises:
        InputError: a field is missing or wrong (all of them are named), or a file cannot be used.
    """
    keys, scores = _keys(arguments) or {}, read_arena_scores(arguments.scores)
    fields = _given(arguments) | {
        "schema_version": SCHEMA_VERSION,
        "artifact.scores_sha256": sha256_of(arguments.scores),
        "submitted_at": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    figures = compute_figures(scores, keys)
    fields |= {f"scores.{name}": value for name, value in figures._asdict().items()}
    # Counted last: it takes seconds, and what is missing is to be said at once.
    _refuse("the submission", problems(_nested(fields | {"system.params_millions": 0}), name_options=True))
    fields["system.params_millions"] = _count_parameters(arguments.config, arguments.weights)
    write_submission(arguments.output, _nested(fields))
    print(f"{arguments.output}: {fields['system.slug']} on {fields['dataset.id']}, {_headline(figures)}")
    if "system.paper.arxiv_id" not in fields:
        print("note: no paper (--arxiv, --bibtex); the Arena lists a system without one as unpublished, unranked")


def check(arguments: argparse.Namespace) -> None:
    """Verify a submission against its score file.

    Raises:
        InputError: it is not in order; a line for each problem.
    """
    submission = read_submission(arguments.submission)
    _refuse(arguments.submission, problems(submission))
    keys = _keys(arguments)
    _refuse(arguments.submission, compare(submission, arguments.scores, keys))
    claimed = Figures(**{name: submission["scores"][name] for name in Figures._fields})
    print(f"{arguments.submission}: fields and SHA-256 are in order, {_headline(claimed)}")
    if keys is None:
        print("note: the EER was not computed again; give --cm or --protocol for that")


def _refuse(what: str, found: Sequence[str]) -> None:
    if found:
        raise InputError("\n".join(f"{what}: {problem}" for problem in found))


def _keys(arguments: argparse.Namespace) -> dict[str, bool] | None:
    if arguments.cm:
        return read_our_scores(arguments.cm).is_bonafide
    return read_keys(arguments.protocol) if arguments.protocol else None


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields that the command line gives, and what follows from them."""
    fields = {key: getattr(arguments, key) for key, field in FIELDS.items() if field.option}
    given: dict[str, Any] = {key: value for key, value in fields.items() if value is not None}
    if "system.name" in given:
        given.setdefault("system.slug", slug_of(given["system.name"]))
    given.setdefault("artifact.bench_version", _bench_version())
    if "system.paper.arxiv_id" in given:
        given.setdefault("system.paper.url", f"https://arxiv.org/abs/{given['system.paper.arxiv_id']}")
    if "system.paper.bibtex" in given:
        given["system.paper.bibtex"] = _read_text(given["system.paper.bibtex"])
    return given


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a UTF-8 text file, expected a BibTeX entry") from None


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
    if not nested["system"]["paper"]:
        del nested["system"]["paper"]
    return nested


def _bench_version() -> str | None:
    """The version of the harness, if it is installed."""
    try:
        return f"{HARNESS}=={importlib.metadata.version(HARNESS)}"
    except importlib.metadata.PackageNotFoundError:
        return None


def _count_parameters(config: str, weights: str) -> float:
    """Parameters in millions of the system of `config`, after its weights have been loaded into it."""
    from s2pecnet.config.experiment import load_config
    from s2pecnet.systems.build import get_model
    from s2pecnet.systems.registry import count_parameters
    from s2pecnet.systems.weights import load_weights

    loaded = load_config(config)
    model = get_model(loaded.model_config, "cpu", config_file=loaded.file)
    load_weights(model, weights)
    return count_parameters(model) / 1e6


def _headline(figures: Figures) -> str:
    return f"EER {figures.eer_percent:.4f} %, {figures.n_trials} trials, {figures.n_skipped} skipped"


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
        return commands.add_parser(name, help=text, description=sentence, allow_abbrev=False)

    scores = command("scores", "convert a score file of ours to the Arena's, 'utterance score' a line")
    scores.add_argument("--cm", required=True, metavar="FILE", help="our scores, 'utterance attack key score' a line")
    scores.add_argument("--output", required=True, metavar="FILE", help="where to write")
    submission = command("submission", "write the YAML of a submission")
    _add_score_files(submission, keys_required=True)
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
    _add_fields(submission)
    checked = command("check", "verify a submission against its score file")
    checked.add_argument("submission", metavar="YAML", help="the submission")
    _add_score_files(checked, keys_required=False)
    return parser


def _add_score_files(parser: argparse.ArgumentParser, keys_required: bool) -> None:
    parser.add_argument("--scores", required=True, metavar="FILE", help="the Arena's score file, 'utterance score'")
    keys = parser.add_mutually_exclusive_group(required=keys_required)
    keys.add_argument("--cm", metavar="FILE", help="keys of all trials: our score file, which carries them")
    keys.add_argument("--protocol", metavar="FILE", help="keys of all trials: a protocol, 'speaker utt - attack key'")


def _add_fields(parser: argparse.ArgumentParser) -> None:
    """An option for each field of the schema that a person has to give; checked together, not by argparse."""
    group = parser.add_argument_group("fields of the submission")
    defaults = {
        "system.slug": "default: from --name",
        "system.paper.url": "default: arXiv's page of --arxiv",
        "dataset.split": "default: test",
        "artifact.bench_version": "default: that of the installed harness",
        "notes": "may be left out",
    }
    for key, field in FIELDS.items():
        if not field.option:
            continue
        text = "file with the BibTeX entry of the paper" if key == "system.paper.bibtex" else field.expected
        text = f"{key}: {text}" + (f" ({defaults[key]})" if key in defaults else "")
        default = "test" if key == "dataset.split" else None
        group.add_argument(field.option, dest=key, metavar=key.rpartition(".")[2].upper(), default=default, help=text)
