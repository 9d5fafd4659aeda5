"""`s2pecnet crosseval`: systems over corpora, in one table and one picture."""

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2pecnet.cli.command import check_output, make_parser
from s2pecnet.conventions import DEFAULT_OUTPUT, SUBSETS
from s2pecnet.errors import InputError

if TYPE_CHECKING:
    from s2pecnet.metrics.calibration import Calibration
    from s2pecnet.metrics.crosseval import SharedThreshold
    from s2pecnet.score_files.cm_asv import ASVScores, CMScores

TRACKS = ("LA", "PA", "DF")
EXAMPLES = """examples:
  %(prog)s --config AASIST LA=/data/LA DF=/data/ASVspoof2021@DF wild=/data/wild --threshold-of LA
  %(prog)s --config AASIST --weights AASIST.pth --calibration calibration.json LA mine.csv --plot all.png
  %(prog)s --scores A:LA=a1.txt --scores A:wild=a2.txt --scores B:LA=b1.txt --scores B:wild=b2.txt \\
      --threshold-of LA --format markdown
  %(prog)s --scores A:LA=A_LA.txt --scores A:DF=DF.txt --keys DF=trial_metadata.txt --threshold -1.5
"""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet crosseval") -> int:
    """Evaluate systems over corpora; see `s2pecnet crosseval --help`."""
    options = build_parser(prog).parse_args(argv)
    _check_options(options)
    given = [_score_option(text) for text in options.scores]
    named = [text.rpartition("=")[2] for text in (*options.keys, *options.asv, *options.calibration, *options.corpora)]
    inputs = [*(path for *_, path in given), *named, *options.calibration, *options.config, *options.weights]
    check_output(options.output, inputs)
    check_output(options.plot, inputs, "--plot")
    from s2pecnet.files import atomic_write
    from s2pecnet.metrics.crosseval import check_corpora, evaluate_over
    from s2pecnet.reporting.crosseval import FORMATS, check_picture, save_picture
    from s2pecnet.reporting.html.runs import replicates_of
    from s2pecnet.score_files.cm_asv import read_asv_scores
    from s2pecnet.score_files.joined import read_keys, read_scores

    if options.plot:
        check_picture(options.plot)
    check_corpora(corpus for _, corpus, _ in given)
    keys = {name: read_keys(path, options.subset) for name, path in _pairs(options.keys, "--keys", "CORPUS").items()}
    asv: dict[str, ASVScores] = {
        name: read_asv_scores(path) for name, path in _pairs(options.asv, "--asv", "CORPUS").items()
    }
    scores: dict[str, dict[str, CMScores]] = {}
    for system, corpus, path in given:
        if corpus in scores.setdefault(system, {}):
            raise InputError(f"--scores {system}:{corpus}: given twice")
        scores[system][corpus] = read_scores(path, keys.get(corpus), both_classes=False)
    stored = _score_systems(options, scores, asv)
    corpora = {corpus for by_corpus in scores.values() for corpus in by_corpus}
    for option, names in (("--keys", keys), ("--asv", asv), ("--threshold-of", [options.threshold_of or ""])):
        unknown = [name for name in names if name and name not in corpora]
        if unknown:
            raise InputError(f"{option} {unknown[0]}: no such corpus, have {', '.join(sorted(corpora))}")
    _keep_common_trials(scores)
    shared = _shared_thresholds(options, list(scores), stored)
    largest = max(cm.scores.size for by_corpus in scores.values() for cm in by_corpus.values())
    replicates = replicates_of(largest) if options.bootstrap is None else options.bootstrap
    found = evaluate_over(scores, shared, options.threshold_of, asv, replicates)
    text = FORMATS[options.format](found)
    if options.output:
        with atomic_write(options.output) as stream:
            stream.write(text + "\n")
    if options.plot:
        save_picture(found, options.plot)
    print(text)
    return 0


def _keep_common_trials(scores: "dict[str, dict[str, CMScores]]") -> None:
    """Leave the systems those trials of each corpus that all have scored.

    Raises:
        InputError: they have scored other trials, or have other keys of the same ones.
    """
    from s2pecnet.score_files.cm_asv import align_trials, common_trials

    for corpus in dict.fromkeys(corpus for by_corpus in scores.values() for corpus in by_corpus):
        having = [name for name in scores if corpus in scores[name]]
        common = common_trials([scores[name][corpus] for name in having], having, both_classes=False)
        align_trials(common, [f"{name}:{corpus}" for name in having])
        for name, one in zip(having, common, strict=True):
            scores[name][corpus] = one


def build_parser(prog: str = "s2pecnet crosseval") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(
        prog,
        "Systems over corpora, each corpus at its own threshold (EER) and all of them at one, with intervals, pooled, "
        "averaged.\nEither the systems score the corpora, or their score files are given: docs/crosseval.md",
        EXAMPLES,
    )
    add = parser.add_argument
    add("corpora", nargs="*", metavar="[NAME=]PATH[@TRACK]",
        help="a corpus whose eval split is scored: any database_path that configs know; @LA, @PA or @DF: its "
        "track")  # fmt: skip
    add("--scores", action="append", default=[], metavar="SYSTEM:CORPUS=FILE",
        help="scores, 'utterance attack key score' a line, or with --keys 'utterance score'; repeatable")  # fmt: skip
    add("--keys", action="append", default=[], metavar="CORPUS=FILE",
        help="the keys of a corpus' trials where the score files have none, as evaluate --keys")  # fmt: skip
    add("--subset", choices=(*SUBSETS, "all"),
        help="trials of --keys that count where it has subsets (default: eval)")  # fmt: skip
    add("--asv", action="append", default=[], metavar="CORPUS=FILE",
        help="the organisers' ASV scores of a corpus, for its min t-DCF")  # fmt: skip
    shared = parser.add_argument_group("the threshold that all corpora share (default: the llr 0 of the calibration "
                                       "that is stored with the weights, if one is)").add_argument  # fmt: skip
    shared("--threshold", action="append", default=[], metavar="[SYSTEM=]NUMBER|llr|eer|min-dcf",
           help="a score, or a threshold of the calibration")  # fmt: skip
    shared("--threshold-of", metavar="CORPUS",
           help="each system's EER threshold on this corpus, which is then in neither pooled nor mean; dev: the dev "
           "split of the config's own corpus")  # fmt: skip
    shared("--calibration", action="append", default=[], metavar="[SYSTEM=]FILE",
           help="a calibration fitted on dev scores, of the only system or of one of several: its threshold, and "
           "actDCF and Cllr of its ratios")  # fmt: skip
    scoring = parser.add_argument_group("scoring of corpora").add_argument
    scoring("--config", action="append", default=[], metavar="FILE",
            help="config of the system: a file, or a name such as AASIST; repeatable")  # fmt: skip
    scoring("--weights", action="append", default=[], metavar="FILE",
            help="its weights, one for each --config (default: the config's model_path)")  # fmt: skip
    scoring("--names", metavar="A,B", help="what to call the systems of --config (default: the names of the configs)")
    scoring("--set", action="append", default=[], metavar="KEY=VALUE",
            help="override a config value, in all configs; repeatable")  # fmt: skip
    scoring("--output_dir", default=DEFAULT_OUTPUT, metavar="DIR",
            help="score files are kept in DIR/crosseval/SYSTEM, and used again for the same weights and trials "
            "(default: %(default)s)")  # fmt: skip
    scoring("--cache_dir", metavar="DIR", help="cache of audio headers (default: <output_dir>/cache)")
    scoring("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="where to compute (default: %(default)s)")
    add("--bootstrap", type=int, metavar="N", help="draws of the intervals (default: 1000, fewer of large corpora)")
    add("--format", choices=("text", "json", "csv", "markdown", "latex"), default="text",
        help="what is printed (default: %(default)s)")  # fmt: skip
    add("--output", metavar="FILE", help="write what is printed to this file too")
    add("--plot", metavar="FILE.png", help="draw EER, FRR and FAR over the corpora")
    return parser


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that cannot be combined."""
    if not options.scores and not options.corpora:
        raise InputError("nothing to evaluate: give corpora with --config, or --scores SYSTEM:CORPUS=FILE")
    if bool(options.corpora) != bool(options.config):
        missing, given = ("--config FILE", "corpora") if options.corpora else ("corpora to score", "--config")
        raise InputError(f"{given} without {missing}: a system scores corpora; score files need neither")
    if options.weights and len(options.weights) != len(options.config):
        raise InputError(
            f"{len(options.weights)} --weights, expected one for each of {len(options.config)} --config, or none"
        )
    if options.threshold_of and (options.threshold or options.calibration):
        other = "--threshold" if options.threshold else "--calibration"
        raise InputError(f"--threshold-of and {other}: give one of the two; either is where the threshold comes from")
    if options.bootstrap is not None and options.bootstrap < 1:
        raise InputError(f"--bootstrap {options.bootstrap}: expected at least 1")


def _score_option(text: str) -> tuple[str, str, str]:
    """SYSTEM:CORPUS=FILE."""
    names, _, path = text.partition("=")
    system, _, corpus = names.partition(":")
    if not (system and corpus and path):
        raise InputError(f"--scores {text}: expected SYSTEM:CORPUS=FILE, such as AASIST:LA=scores.txt")
    return system, corpus, path


def _pairs(texts: Sequence[str], option: str, what: str) -> dict[str, str]:
    """NAME=VALUE, any number of them."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value):
            raise InputError(f"{option} {text}: expected {what}=FILE")
        if name in found:
            raise InputError(f"{option} {name}: given twice")
        found[name] = value
    return found


def _of_systems(texts: Sequence[str], option: str, systems: Sequence[str]) -> dict[str, str]:
    """Values by system, of [SYSTEM=]VALUE: without a system it is that of all which have none of their own."""
    found, everybody = dict[str, str](), list[str]()
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name in systems:
            found[name] = value
        elif option == "--threshold" and equals:
            raise InputError(f"{option} {text}: no such system, have {', '.join(systems)}")
        else:
            everybody.append(text)
    if len(everybody) > 1:
        raise InputError(f"{option} {everybody[1]}: given twice; with several systems as SYSTEM=VALUE")
    if everybody and option == "--calibration" and len(systems) > 1:
        have = ", ".join(systems)
        raise InputError(
            f"{option} {everybody[0]}: a calibration is of one system; expected SYSTEM=FILE, where SYSTEM is of {have}"
        )
    return dict.fromkeys(systems, everybody[0]) | found if everybody else found


def _score_systems(
    options: argparse.Namespace,
    scores: "dict[str, dict[str, CMScores]]",
    asv: "dict[str, ASVScores]",
) -> "dict[str, Calibration]":
    """Score the corpora by the systems of the configs, into `scores` and `asv`; the calibrations of the systems.

    They are those that are given, else those of the weights.
    """
    from s2pecnet.metrics.calibration import read_calibration

    if not options.config:
        return {
            name: read_calibration(file)
            for name, file in _of_systems(options.calibration, "--calibration", list(scores)).items()
        }
    from s2pecnet.config.experiment import load_config
    from s2pecnet.crosseval import Place, check_names, score_corpora
    from s2pecnet.scoring.verdicts import load_calibration
    from s2pecnet.systems.build import load_system

    places = []
    for text in options.corpora:
        name, equals, path = text.partition("=")
        if not equals or "/" in name or os.path.exists(text):
            name, path = "", text
        path, _, track = path.rpartition("@") if path.rpartition("@")[2] in TRACKS else (path, "", None)
        places.append(Place(name or f"{Path(path).resolve().stem}{f'-{track}' if track else ''}", path, track))
    if options.threshold_of == "dev" and "dev" not in [place.name for place in places]:
        places.append(Place("dev", None, split="dev"))
    check_names([place.name for place in places], "corpus")
    configs = [load_config(name, options.set) for name in options.config]
    names = [name.strip() for name in options.names.split(",")] if options.names else [one.name for one in configs]
    if len(names) != len(configs):
        raise InputError(f"--names {options.names}: expected a name for each of {len(configs)} --config")
    check_names(names, "system")
    files = _of_systems(options.calibration, "--calibration", list(dict.fromkeys([*scores, *names])))
    stored = {name: read_calibration(file) for name, file in files.items() if name not in names}
    for index, (name, config) in enumerate(zip(names, configs, strict=True)):
        system = load_system(config, options.weights[index] if options.weights else None, options.device)
        folder, cache = Path(options.output_dir) / "crosseval" / name, options.cache_dir
        found = score_corpora(system, places, folder, Path(cache or Path(options.output_dir) / "cache"))
        for corpus, one in found.items():
            if corpus in scores.setdefault(name, {}):
                raise InputError(f"{name} has scores of {corpus} by --scores, and scores it; choose another name")
            scores[name][corpus] = one.scores
            if one.asv is not None:
                asv.setdefault(corpus, one.asv)
        calibration = load_calibration(files.get(name), str(system.weights), config.eval_crop)
        if calibration is not None:
            stored[name] = calibration
    return stored


def _shared_thresholds(
    options: argparse.Namespace, systems: Sequence[str], calibrations: "dict[str, Calibration]"
) -> "dict[str, SharedThreshold]":
    """Each system's threshold, as far as it has one; none where a corpus gives it."""
    from s2pecnet.metrics.crosseval import SharedThreshold
    from s2pecnet.scoring.verdicts import make_rule

    if options.threshold_of:
        return {}
    words = _of_systems(options.threshold, "--threshold", systems)
    shared = {}
    for name in systems:
        rule = make_rule(words.get(name), calibrations.get(name))
        if rule.threshold is not None and math.isfinite(rule.threshold):
            shared[name] = SharedThreshold(rule.threshold, rule.reason, rule.calibration)
    return shared
