"""`s2pecnet fuse`: one score file of several systems'."""

import argparse
import itertools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from s2pecnet.cli.command import check_output, is_same_file, make_parser
from s2pecnet.conventions import KEYS, SUBSETS
from s2pecnet.errors import InputError

if TYPE_CHECKING:
    from s2pecnet.score_files.cm_asv import CMScores

log = logging.getLogger(__name__)
METHODS = ("logistic", "mean")
EXAMPLES = """examples:
  %(prog)s --cm dev_A.txt --cm dev_B.txt --apply eval_A.txt eval_B.txt --output fused.txt
  %(prog)s --method mean --apply eval_A.txt eval_B.txt --output fused.txt
  s2pecnet evaluate --cm fused.txt --llr
"""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet fuse") -> int:
    """Fuse score files; see `s2pecnet fuse --help`."""
    options = build_parser(prog).parse_args(argv)
    if not options.cm and options.method == "logistic":
        raise InputError("--cm is missing: logistic regression needs each system's dev scores (or --method mean)")
    if options.cm and len(options.cm) != len(options.apply):
        raise InputError(f"{len(options.cm)} --cm but {len(options.apply)} files behind --apply, expected as many")
    from s2pecnet.metrics.countermeasure import evaluate
    from s2pecnet.metrics.fusion import fit_mean
    from s2pecnet.metrics.logistic import fit_logistic
    from s2pecnet.score_files.cm_asv import common_trials, write_cm_scores
    from s2pecnet.score_files.joined import read_keys, read_scores

    check_output(options.output, (*options.apply, *(options.cm or ()), options.keys, options.apply_keys))
    for option, paths in (("--cm", options.cm or []), ("--apply", options.apply)):
        for first, second in itertools.combinations(paths, 2):
            if is_same_file(first, second):
                raise InputError(f"{option}: {second} is given twice; expected the scores of a system once")

    files = (options.apply_keys or (None if options.cm else options.keys), options.keys)
    apply_keys, keys = (read_keys(file, options.subset) if file else None for file in files)
    complete = [read_scores(path, apply_keys, both_classes=False) for path in options.apply]
    systems = training = common_trials(complete, options.apply, both_classes=False)
    if options.cm:
        of_dev = options.method == "logistic"
        of_systems = [read_scores(path, keys, both_classes=of_dev) for path in options.cm]
        training = common_trials(of_systems, options.cm, both_classes=of_dev)
    names = options.cm or options.apply
    fit = fit_logistic if options.method == "logistic" else fit_mean
    fused_map = fit(training, names)
    fused = fused_map.apply(systems, options.apply)
    for name, scores in [*zip(names, training, strict=True), ("their fusion", fused_map.apply(training, names))]:
        for remark in evaluate(scores).remarks() if len(set(scores.is_bonafide.tolist())) > 1 else ():
            log.warning("%s: %s", name, remark)
    if apply_keys:
        unscored = apply_keys.unscored(options.apply[0], fused.utterances.tolist())
    else:
        unscored = _unscored(complete, fused, options.apply)
    write_cm_scores(options.output, fused, unscored)
    method = "log-likelihood ratios by logistic regression"
    if options.method == "mean":
        method = f"mean of scores standardised on {'the --cm files' if options.cm else 'the files themselves'}"
    print(f"{options.output}: {fused.scores.size} trials, {method}")
    for weight, path in zip(fused_map.weights, options.apply, strict=True):
        print(f"  {weight:12.6g} * {path}")
    print(f"  {fused_map.offset:+12.6g}")
    return 0


def _unscored(systems: "Sequence[CMScores]", fused: "CMScores", paths: Sequence[str]) -> "list[tuple[str, str, str]]":
    """Utterance, attack and key of trials that not every file has a score of, so that they are counted."""
    from s2pecnet.score_files.cm_asv import read_unscored

    found = {name: (name, attack, key) for path in paths for name, attack, key in read_unscored(path)}
    for system in systems:
        for name, attack, real in zip(system.utterances, system.attacks, system.is_bonafide, strict=True):
            found.setdefault(str(name), (str(name), str(attack), KEYS[0] if real else KEYS[1]))
    scored = set(fused.utterances.tolist())
    return [trial for name, trial in found.items() if name not in scored]


def build_parser(prog: str = "s2pecnet fuse") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, "Fuse the scores of several systems into one score file.", EXAMPLES)
    add = parser.add_argument
    add("--cm", action="append", metavar="DEV_SCORES",
        help="scores of dev to fit on, one --cm for each system")  # fmt: skip
    add("--apply", nargs="+", required=True, metavar="SCORES",
        help="scores to fuse, one file for each system, in the same order")  # fmt: skip
    add("--keys", metavar="FILE",
        help="keys of the --cm files (without --cm, of the --apply files), where these are 'utterance score': a "
        "protocol, or a table with columns such as filename, label")  # fmt: skip
    add("--apply-keys", metavar="FILE", help="keys of the --apply files, as --keys")
    add("--subset", choices=(*SUBSETS, "all"),
        help="trials of keys that count where these have subsets (default: eval)")  # fmt: skip
    add("--output", required=True, metavar="FILE", help="the fused scores, 'utterance attack key score' a line")
    add("--method", choices=METHODS, default="logistic",
        help="logistic (default): regression on dev, gives log-likelihood ratios; mean: of standardised scores, "
        "without --cm standardised on the files themselves")  # fmt: skip
    return parser
