"""`s2pecnet predict`: is this audio bona fide speech or a spoof?

Rows go to stdout, or to --output, as they come, in the order of the files; everything else goes to stderr. Scores and
log-likelihood ratios are higher for bona fide speech; the verdict is bonafide where the score is above the threshold.
"""

import argparse
import codecs
import contextlib
import csv
import io
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from s2pecnet.cli.command import check_output, make_parser
from s2pecnet.conventions import POLARITY, SAMPLE_RATE
from s2pecnet.errors import InputError
from s2pecnet.extras import require
from s2pecnet.text import printable, threshold_text

if TYPE_CHECKING:
    from s2pecnet.config.experiment import Config
    from s2pecnet.scoring.recordings import FileScorer, Prediction
    from s2pecnet.scoring.resume import Table
    from s2pecnet.scoring.verdicts import Rule

log = logging.getLogger(__name__)

EXIT_BAD_FILE = 1
# Characters of the column of paths; longer ones push their row to the right.
WIDEST = 40
EXAMPLES = """examples:
  %(prog)s --config AASIST clip.wav                fetches the published weights
  %(prog)s --config AASIST --weights AASIST.pth --format csv clips/ 'more/**/*.flac' > scores.csv
  find /data -name '*.mp3' | %(prog)s --config AASIST --weights AASIST.pth --format jsonl -
  %(prog)s --config AASIST --format csv --output scores.csv --resume /data
  %(prog)s --config AASIST --weights AASIST.pth --hop 1 --plot talk.png talk.mp3

exit status: 0 all files scored; 1 some file could not be used (a line each on stderr), the others were scored;
2 wrong arguments, or no file found"""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet predict") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    arguments = parse_arguments(argv, prog)
    from s2pecnet.config.experiment import load_config

    config = load_config(arguments.config, arguments.set)
    from s2pecnet import parallel
    from s2pecnet.runtime import resolve_device

    arguments.device = parallel.device_of(arguments.device)
    with parallel.joined(resolve_device(arguments.device)) as group:
        return _predict(arguments, config, group.rank)


def _predict(arguments: argparse.Namespace, config: "Config", rank: int) -> int:
    from s2pecnet.audio.paths import find_audio, require_files, skipped_in_words
    from s2pecnet.scoring.recordings import FileScorer, by_all
    from s2pecnet.scoring.verdicts import load_calibration, make_rule
    from s2pecnet.systems.build import load_system
    from s2pecnet.systems.published import find_weights

    skipped: Counter[str] = Counter()
    # Where several processes share the files, the first one finds them and has the last word.
    found = iter(()) if rank else require_files(find_audio(arguments.paths, skipped), arguments.paths)
    hop = _hop(arguments.hop, config.samples)
    weights = str(find_weights(arguments.weights, config))
    rule = make_rule(arguments.threshold, load_calibration(arguments.calibration, weights))
    system = load_system(config, weights, arguments.device)
    scorer = system.scorer()
    files = FileScorer(scorer, system.inputs, hop, scorer.chunk or config.batch_size)
    if rank:
        return sum(0 for _ in by_all(files, found))
    about = {
        "system": config.architecture,
        "config": config.source,
        "weights": weights,
        "polarity": POLARITY,
        "threshold": rule.threshold,
        "threshold_is": rule.reason,
        "window_seconds": files.inputs.samples / SAMPLE_RATE,
        "hop_seconds": files.hop / SAMPLE_RATE,
        "calibration": rule.calibration and rule.calibration.as_dict(),
    }
    log.debug("%s (%s, %s), %s", config.architecture, config.source, weights, POLARITY)
    log.debug("the mean over windows of %.3g s, one every %.3g s", about["window_seconds"], about["hop_seconds"])
    log.info("%s", _verdicts_in_words(rule))
    if isinstance(sys.stdout, io.TextIOWrapper) and codecs.lookup(sys.stdout.encoding).name == "utf-8":
        # Names of files need not be valid text; they leave as they came. Elsewhere what cannot be written is escaped.
        sys.stdout.reconfigure(errors="surrogateescape")
    tally: Counter[str | None] = Counter()
    with _progress(files, tally), _output(arguments) as (write, table):
        if table is not None:
            found = table.remaining(found, tally)
        predictions = _good_ones(by_all(files, found), rule, tally)
        if arguments.plot:
            predictions = _plotted(predictions, arguments.plot, rule)
        width = max(len(path) if os.path.isfile(path) else WIDEST for path in arguments.paths)
        for line in FORMATS[arguments.format](predictions, rule, about, min(width, WIDEST)):
            write(line)
    if skipped:
        log.info("skipped: %s", skipped_in_words(skipped))
    second = tally.pop("second", 0)
    if tally.total() > 1:
        judged = "" if rule.threshold is None else f" ({tally['bonafide']} bonafide, {tally['spoof']} spoof)"
        scored = tally.total() - tally["bad"]
        by_second = f"; read by the second decoder (PyAV): {second}" if second else ""
        print(f"files scored: {scored}{judged}; that could not be used: {tally['bad']}{by_second}", file=sys.stderr)
    return EXIT_BAD_FILE if tally["bad"] else 0


def _verdicts_in_words(rule: "Rule") -> str:
    """What the verdicts mean, or how to get some."""
    if rule.threshold is not None:
        return f"bonafide where the score is above {threshold_text(rule.threshold, 'f')}, {rule.reason}"
    return (
        f"no verdicts: {rule.reason}; fit a calibration on dev, python main.py --eval --split dev --config ..., and "
        "give it by --calibration, or give --threshold"
    )


def build_parser(prog: str = "s2pecnet predict") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(
        prog, "Score audio files of any format, rate and length: higher = bona fide, lower = spoof.", EXAMPLES
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="a file, a folder, a glob, or - for a list of paths on stdin")
    add("--config", required=True, metavar="FILE", help="config of the system: a file, or a name such as AASIST")
    add("--weights", metavar="FILE",
        help="its weights, or the name of published ones (default: the config's model_path)")  # fmt: skip
    add("--format", choices=sorted(FORMATS), default="table", help="what is printed (default: %(default)s)")
    add("--output", metavar="FILE",
        help="write the rows to this file instead, csv and jsonl row by row")  # fmt: skip
    add("--resume", action="store_true",
        help="go on where a killed run left --output; the same command ends with the same bytes")  # fmt: skip
    add("--threshold", metavar="NUMBER|llr|eer|min-dcf",
        help="verdict bonafide above this score, or above that threshold of the calibration (default: llr, where the "
             "log-likelihood ratio is 0; without a calibration there is no verdict)")  # fmt: skip
    add("--calibration", metavar="FILE",
        help="a calibration fitted on dev scores (default: what is stored with the weights)")  # fmt: skip
    add("--hop", type=float, metavar="SECONDS",
        help="from one window of a long file to the next (default: half a window)")  # fmt: skip
    add(
        "--plot", metavar="FILE.png", help="draw waveform, spectrogram and score over time; for one PATH that is a file"
    )
    add("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="where to compute (default: %(default)s)")
    add("--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a config value, such as database_path=/data/LA; repeatable")  # fmt: skip
    return parser


def parse_arguments(argv: Sequence[str] | None = None, prog: str = "s2pecnet predict") -> argparse.Namespace:
    """Read the command line."""
    arguments = build_parser(prog).parse_args(argv)
    if arguments.resume and (not arguments.output or arguments.format not in ("csv", "jsonl")):
        raise InputError("--resume continues a table: it needs --output FILE, and --format csv or jsonl")
    check_output(arguments.output, [*arguments.paths, arguments.weights, arguments.calibration, arguments.config])
    if arguments.plot and (len(arguments.paths) != 1 or not os.path.isfile(arguments.paths[0])):
        raise InputError("--plot draws one file; expected a single PATH that is a file")
    if arguments.plot and Path(arguments.plot).suffix.lower() != ".png":
        raise InputError(f"--plot {arguments.plot}: expected a name that ends in .png")
    if arguments.plot:
        require("matplotlib", "report", "--plot")
    return arguments


def _hop(seconds: float | None, window: int) -> int | None:
    """Samples from one window to the next; None: the default."""
    if seconds is None:
        return None
    if not 1 <= seconds * SAMPLE_RATE <= window:
        raise InputError(f"--hop {seconds:g}: expected seconds above 0, at most a window ({window / SAMPLE_RATE:g} s)")
    return round(seconds * SAMPLE_RATE)


# ---- rows --------------------------------------------------------------------------------------

Lines = Iterator[str]
Formatter = Callable[["Iterable[Prediction]", "Rule", dict[str, Any], int], Lines]


def as_record(prediction: "Prediction", rule: "Rule") -> dict[str, Any]:
    """A row by names: path, score, llr and verdict (or None), what the score is the summary of, and the windows."""
    below = prediction.share_rejected(rule.threshold)
    return {
        "path": prediction.path,
        "score": round(prediction.score, 6),
        "llr": rule.llr(prediction.score),
        "verdict": rule.verdict(prediction.score),
        "threshold": rule.threshold,
        "min": round(prediction.lowest, 6),
        "below_threshold": None if below is None else round(below, 6),
        "windows": [
            {"start": round(start, 4), "end": round(end, 4), "score": round(score, 6)}
            for start, end, score in prediction.windows
        ],
    }


def _as_table(predictions: "Iterable[Prediction]", rule: "Rule", about: dict[str, Any], width: int) -> Lines:
    yield f"{'file':{width}}  {'verdict':<8} {'llr':>12} {'score':>12}"
    for prediction in predictions:
        llr, verdict = rule.llr(prediction.score), rule.verdict(prediction.score) or "-"
        path = prediction.path if prediction.path.isprintable() else ascii(prediction.path)
        ratio = "-" if llr is None else f"{llr:.6f}"
        yield f"{path:{width}}  {verdict:<8} {ratio:>12} {prediction.score:12.6f}"


def _as_csv(predictions: "Iterable[Prediction]", rule: "Rule", about: dict[str, Any], width: int) -> Lines:
    from s2pecnet.scoring.resume import COLUMNS, plain

    columns = COLUMNS[:-1]
    yield _csv_line(COLUMNS)
    for prediction in predictions:
        record = as_record(prediction, rule)
        cells = (f"{value:.6f}" if isinstance(value, float) else value for value in map(record.get, columns))
        path, *rest = cells
        # A spreadsheet would take it for a formula: "./" in front leaves it the same path.
        path = plain(str(path), "csv")
        yield _csv_line([path, *rest, len(prediction.windows)])


def _as_jsonl(predictions: "Iterable[Prediction]", rule: "Rule", about: dict[str, Any], width: int) -> Lines:
    for prediction in predictions:
        yield json.dumps(as_record(prediction, rule), allow_nan=False)


def _as_json(predictions: "Iterable[Prediction]", rule: "Rule", about: dict[str, Any], width: int) -> Lines:
    """One object, `about` and a list `files`, written piece by piece: a file of the list is a line."""
    yield f'{json.dumps(about, indent=1, allow_nan=False)[:-2]},\n "files": ['
    for number, prediction in enumerate(predictions):
        yield f"{',' if number else ' '} {json.dumps(as_record(prediction, rule), allow_nan=False)}"
    yield " ]\n}"


FORMATS: dict[str, Formatter] = {"table": _as_table, "csv": _as_csv, "json": _as_json, "jsonl": _as_jsonl}


def _csv_line(fields: Sequence[Any]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerow(fields)
    return stream.getvalue().removesuffix("\r\n")


@contextlib.contextmanager
def _output(arguments: argparse.Namespace) -> "Iterator[tuple[Callable[[str], object], Table | None]]":
    """What takes the lines: stdout, a table that can be continued, or a file that appears when it is complete."""
    if not arguments.output:
        yield _print_line, None
    elif arguments.format in ("csv", "jsonl"):
        from s2pecnet.scoring.resume import Table

        table = Table(arguments.output, arguments.format, arguments.resume)
        try:
            yield table.write, table
        except BaseException:
            table.stream.close()
            raise
        table.close()
    else:
        from s2pecnet.files import atomic_write

        if os.path.isfile(arguments.output) and os.path.getsize(arguments.output):
            raise InputError(f"--output {arguments.output}: it is there already; choose another name")
        with atomic_write(arguments.output, "wb") as stream:
            yield lambda line: stream.write(f"{line}\n".encode(errors="surrogateescape")), None


# ---- on the way --------------------------------------------------------------------------------


def _good_ones(
    results: "Iterable[Prediction | InputError]", rule: "Rule", tally: Counter[str | None]
) -> "Iterator[Prediction]":
    """The predictions, counted by verdict, and as "second" by decoder; errors are printed in their place, as "bad"."""
    for result in results:
        if isinstance(result, InputError):
            tally["bad"] += 1
            # One line, even where the name of a file has more.
            _print_line(printable(f"error: {result}".replace("\n", "\\n")), sys.stderr)
        else:
            tally[rule.verdict(result.score)] += 1
            tally["second"] += result.second
            yield result


def _plotted(predictions: "Iterable[Prediction]", path_png: str, rule: "Rule") -> "Iterator[Prediction]":
    from s2pecnet.reporting.audio_plot import save_audio_plot

    for prediction in predictions:
        yield prediction
        save_audio_plot(Path(path_png), prediction, rule.threshold, rule.reason)


@contextlib.contextmanager
def _progress(files: "FileScorer", tally: Counter[str | None]) -> Iterator[None]:
    """A progress bar in windows, with the number of files; silent where stderr is not a terminal."""
    from tqdm import tqdm

    with tqdm(desc="score", unit=" windows", leave=False, disable=None, mininterval=0.5) as bar:

        def show(count: int) -> None:
            bar.set_postfix_str(f"{tally.total() - tally['second']} files", refresh=False)
            bar.update(count)

        files.on_scored = show
        yield


def _print_line(line: str, stream: TextIO | None = None) -> None:
    """Print a line at once, and around the progress bar where there is one."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        print(line, file=stream, flush=True)
