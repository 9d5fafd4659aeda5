"""`python main.py`, `s2pecnet train`, `s2pecnet score`: train a system on a corpus, or score its eval set."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from s2pecnet.cli.command import make_parser
from s2pecnet.conventions import DEFAULT_OUTPUT, DEFAULT_SEED
from s2pecnet.errors import InputError
from s2pecnet.text import clipped, is_plain

EXAMPLES = """examples:
  %(prog)s --config S2pecNet
  %(prog)s --config AASIST --set batch_size=16 --set optim_config.base_lr=0.0002 --comment lr2e-4
  %(prog)s --eval --config AASIST --eval_model_weights AASIST.pth --set database_path=/data/LA
  %(prog)s --eval --split dev --config AASIST --eval_model_weights AASIST.pth
"""
SCORE_EXAMPLES = """examples:
  %(prog)s --config AASIST --eval_model_weights AASIST.pth --set database_path=/data/LA
  %(prog)s --split dev --config AASIST --eval_model_weights AASIST.pth
"""


def main(argv: Sequence[str] | None = None, prog: str = "python main.py") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    arguments = parse_arguments(argv, prog)
    from s2pecnet.config.experiment import load_config

    config = load_config(arguments.config, arguments.set)
    seed = arguments.seed if arguments.seed is not None else config.seed if config.seed is not None else DEFAULT_SEED
    from s2pecnet import experiment

    options = experiment.RunOptions(
        arguments.device,
        Path(arguments.output_dir),
        Path(arguments.cache_dir) if arguments.cache_dir else None,
        arguments.comment,
        arguments.resume,
        arguments.eval_model_weights,
    )
    if arguments.seeds:
        experiment.train_series(config, arguments.seeds, options)
    elif arguments.eval:
        (experiment.calibrate if arguments.split == "dev" else experiment.evaluate)(config, seed, options)
    else:
        experiment.train(config, seed, options)
    return 0


def build_parser(prog: str = "python main.py") -> argparse.ArgumentParser:
    """The command line."""
    text, examples = "Train a countermeasure (the default), or score the eval set with one (--eval).", EXAMPLES
    if prog.endswith(" score"):
        text, examples = "Score the eval set, or dev, with trained weights.", SCORE_EXAMPLES
    parser = make_parser(prog, text, examples)
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="config of the experiment: a file, or a name such as AASIST")
    add("--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a config value; dotted keys reach into model_config and optim_config; repeatable")  # fmt: skip
    add("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="where to compute (default: %(default)s)")
    add("--seed", type=int, metavar="N", help=f"random seed (default: the config's, else {DEFAULT_SEED})")
    add("--output_dir", default=DEFAULT_OUTPUT, metavar="DIR", help="folder for results (default: %(default)s)")
    add("--comment", metavar="TEXT", help="put behind the name of the result folder")
    add("--cache_dir", metavar="DIR", help="cache of audio headers, and of decoded audio (default: <output_dir>/cache)")
    training = parser.add_argument_group("training alone").add_argument
    training("--resume", action="store_true",
        help="resume an unfinished training of this experiment (default: back it up, start again)")  # fmt: skip
    training("--seeds", metavar="N,N,...",
        help="train with each of these seeds, and write mean, spread and intervals of the metrics")  # fmt: skip
    scoring = parser.add_argument_group("scoring alone").add_argument
    scoring("--eval", action="store_true", help="score the eval set once instead of training")
    scoring("--split", choices=("eval", "dev"), default="eval",
        help="what --eval scores; on dev it fits a calibration of the weights, too (default: eval)")  # fmt: skip
    scoring("--eval_model_weights", metavar="PATH", help="weights for --eval (default: the config's model_path)")
    return parser


def parse_arguments(argv: Sequence[str] | None = None, prog: str = "python main.py") -> argparse.Namespace:
    """Read the command line."""
    arguments = build_parser(prog).parse_args(argv)
    if arguments.comment and not arguments.comment.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise InputError(
            f"--comment {clipped(repr(arguments.comment))}: expected letters, digits, '-', '_' and '.', as it names a "
            "folder"
        )
    for name in ("output_dir", "cache_dir"):
        if not is_plain(getattr(arguments, name) or ""):
            raise InputError(f"--{name} {getattr(arguments, name)!r}: expected a path without control characters")
    if arguments.seed is not None and not 0 <= arguments.seed < 2**64:
        raise InputError(f"--seed {clipped(str(arguments.seed))}: expected a number >= 0, of 64 bits at most")
    if arguments.eval_model_weights and not arguments.eval:
        raise InputError("--eval_model_weights is for --eval; add --eval, or leave it out to train")
    if arguments.split != "eval" and not arguments.eval:
        raise InputError("--split is for --eval; add --eval, or leave it out to train")
    if arguments.eval and (arguments.resume or arguments.seeds):
        raise InputError(f"--{'resume' if arguments.resume else 'seeds'} is for training; leave it out with --eval")
    if arguments.seeds and arguments.seed is not None:
        raise InputError("--seed and --seeds: give one of the two")
    return arguments
