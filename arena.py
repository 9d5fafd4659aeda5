"""The Speech Anti-Spoofing Arena: our systems under its harness, `speech-spoof-bench`, and submissions to it.

    speech-spoof-bench run --model-module arena:Adapter ...    the harness builds `Adapter()` and scores its datasets
    python arena.py scores | submission | check                its files from ours, see arena_submission.py

`Adapter` takes its config and weights from the environment, for the harness gives it no arguments:

    S2PEC_CONFIG   config of the system            S2PEC_DEVICE   auto (the default), cpu, cuda or cuda:N
    S2PEC_WEIGHTS  its checkpoint                  S2PEC_BATCH    utterances of a batch (default 16)

Conventions: audio is float32, mono, in [-1, 1]; a score is the logit of bona fide, what `main.py --eval` writes for the
same clip: higher = bona fide. What `--eval` refuses (silent, shorter than 10 ms, not finite) raises `BadAudio`; the
harness then scores the batch one by one and counts the clip as skipped.

The harness is imported when `arena.Adapter` is first asked for, and only by `_harness_model`: its class is taken to be
`speech_spoof_bench.model.AntiSpoofingModel` (version 0.3.0), or to stand in the package itself.
"""

import argparse
import datetime
import importlib
import importlib.metadata
import inspect
import math
import os
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from arena_submission import (
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
from commands import make_parser
from errors import InputError, run_command
from files import sha256_of

if TYPE_CHECKING:
    import numpy as np

    from features import FixedFrames
    from scorer import Scorer

SAMPLE_RATE = 16000
DEFAULT_BATCH = 16
HARNESS = "speech-spoof-bench"
HARNESS_MODULES = ("speech_spoof_bench.model", "speech_spoof_bench")
EXAMPLES = """examples:
  python arena.py scores --cm our_scores.txt --output scores.txt
  python arena.py submission --scores scores.txt --cm our_scores.txt \\
      --config config/AASIST.conf --weights AASIST.pth --name AASIST --description "AASIST, trained on LA 2019" \\
      --code https://github.com/me/code --checkpoint https://huggingface.co/me/aasist \\
      --arxiv 2110.01200 --bibtex aasist.bib \\
      --dataset SpeechAntiSpoofingBenchmarks/ASVspoof2019_LA --revision 151aa4c6 \\
      --scores-url https://huggingface.co/me/aasist/resolve/0123abc/scores.txt \\
      --submitter me --contact me@example.org --output submission.yaml
  python arena.py check submission.yaml --scores scores.txt --cm our_scores.txt
"""


# ---- the adapter --------------------------------------------------------------------------------


class Settings(NamedTuple):
    """What the environment says."""

    config: str
    weights: str
    device: str
    batch: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the variables at the top of this module.

        Raises:
            InputError: S2PEC_CONFIG or S2PEC_WEIGHTS is missing or empty, or S2PEC_BATCH is no number >= 1.
        """
        missing = [name for name in ("S2PEC_CONFIG", "S2PEC_WEIGHTS") if not environment.get(name)]
        if missing:
            raise InputError(
                f"{' and '.join(missing)} not set in the environment; the harness passes no arguments, so begin its "
                "command with S2PEC_CONFIG=config/AASIST.conf S2PEC_WEIGHTS=AASIST.pth"
            )
        batch = environment.get("S2PEC_BATCH") or str(DEFAULT_BATCH)
        if not (batch.isascii() and batch.isdigit() and int(batch) >= 1):
            raise InputError(f"S2PEC_BATCH: got {batch!r}, expected a whole number >= 1")
        device = environment.get("S2PEC_DEVICE") or "auto"
        return cls(environment["S2PEC_CONFIG"], environment["S2PEC_WEIGHTS"], device, int(batch))


class ArenaSystem:
    """All of `Adapter` but its base class: what the harness' AntiSpoofingModel asks for.

    Attributes:
        name: the config's, once there is an instance.
        expected_sample_rate: Hz; other rates are resampled as audio files are.
        batch_size: utterances that the harness is to give at a time; any number works.
    """

    name = "S2pecNet"
    expected_sample_rate = SAMPLE_RATE
    batch_size = DEFAULT_BATCH

    def __init__(self) -> None:
        super().__init__()
        self._settings = Settings.from_environment()
        self.name, self.batch_size = Path(self._settings.config).stem, self._settings.batch
        self._scorer: Scorer | None = None
        self._feature: FixedFrames | None = None
        self._samples = 0

    def load(self) -> None:
        """Build the system and load its weights.

        Raises:
            InputError: the config or the weights cannot be used, or there is no such device.
        """
        from experiment_config import load_config
        from main import load_scorer
        from models import utterance_feature

        config = load_config(self._settings.config)
        self._samples, self._feature = config.samples, utterance_feature(config.model_config)
        self._scorer = load_scorer(config, self._settings.weights, self._settings.device)

    def score_batch(self, audios: "Sequence[np.ndarray]", srs: Sequence[int]) -> list[float]:
        """Scores of float32 (samples,) arrays of any lengths, in their order: logits, higher = bona fide.

        Args:
            srs: sample rate of each, Hz.

        Raises:
            InputError: called before `load`, or a score is not finite.
            BadAudio: a clip cannot be used, see the top of this module; the message says which one and why.
        """
        import numpy as np
        import torch

        from data_utils import pad

        if self._scorer is None:
            raise InputError("score_batch: no system is loaded; call load() first")
        waveforms = [
            _as_waveform(audio, rate, f"clip {number} of the batch")
            for number, (audio, rate) in enumerate(zip(audios, srs, strict=True), start=1)
        ]
        if not waveforms:
            return []
        inputs = [torch.from_numpy(np.stack([pad(waveform, self._samples) for waveform in waveforms]))]
        if self._feature is not None:
            # Of the whole utterance, as the loader computes it.
            inputs.append(torch.stack([self._feature(torch.from_numpy(waveform)) for waveform in waveforms]))
        scores: list[float] = self._scorer(*inputs).tolist()
        broken = [number for number, score in enumerate(scores, start=1) if not math.isfinite(score)]
        if broken:
            raise InputError(f"clip {broken[0]} of the batch: its score is not finite; the weights are broken")
        return scores

    def unload(self) -> None:
        """Free the system; `load` brings it back."""
        import torch

        self._scorer = self._feature = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _as_waveform(audio: "np.ndarray", rate: int, what: str) -> "np.ndarray":
    """A clip as float32 (samples,) at 16 kHz, refused for what a file would be refused for (see audio.py)."""
    import numpy as np
    import torch

    from audio import SHORTEST, BadAudio

    waveform = np.asarray(audio)
    if waveform.ndim != 1 or waveform.dtype.kind != "f" or rate < 1:
        got = f"{waveform.dtype} {waveform.shape} at {rate} Hz"
        raise BadAudio(f"{what}: {got}, expected float32 (samples,) in [-1, 1] and its sample rate")
    if len(waveform) < SHORTEST * rate / SAMPLE_RATE:
        raise BadAudio(f"{what}: {len(waveform)} samples at {rate} Hz, less than 10 ms")
    if not np.isfinite(waveform).all():
        raise BadAudio(f"{what}: holds NaN or infinite samples")
    if not waveform.any():
        raise BadAudio(f"{what}: is silent, all of its samples are 0")
    waveform = np.ascontiguousarray(waveform, dtype=np.float32)
    if rate == SAMPLE_RATE:
        return waveform
    from torchaudio.functional import resample

    return np.asarray(resample(torch.from_numpy(waveform), int(rate), SAMPLE_RATE).numpy())


def _harness_model() -> Any:
    """The harness' AntiSpoofingModel; the one place that imports the harness.

    Raises:
        InputError: it is not installed, lacks a package of its own, or has no such class.
    """
    for name in HARNESS_MODULES:
        try:
            model = getattr(importlib.import_module(name), "AntiSpoofingModel", None)
        except ModuleNotFoundError as error:
            if error.name not in HARNESS_MODULES:
                raise InputError(f"{name} cannot be imported: {error}; install what {HARNESS} needs") from error
            continue
        if inspect.isclass(model):
            return model
    raise InputError(
        f"arena.Adapter needs the harness {HARNESS}, which is not installed (no AntiSpoofingModel in "
        f"{' or '.join(HARNESS_MODULES)}); it is on no package index: pip install "
        "git+https://github.com/lab260ru/speech_spoof_bench"
    )


def __getattr__(name: str) -> Any:
    """`Adapter`, made when it is first asked for, so that this module can be imported without the harness."""
    if name != "Adapter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    adapter = types.new_class("Adapter", (ArenaSystem, _harness_model()))
    adapter.__module__, adapter.__doc__ = __name__, "A system of ours as a model of the harness; see arena.py."
    globals()["Adapter"] = adapter
    return adapter


# ---- command line -------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, prog: str = "arena.py") -> int:
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
    from checkpoints import load_weights
    from experiment_config import load_config
    from main import get_model
    from models import count_parameters

    model = get_model(load_config(config).model_config, "cpu")
    load_weights(model, weights)
    return count_parameters(model) / 1e6


def _headline(figures: Figures) -> str:
    return f"EER {figures.eer_percent:.4f} %, {figures.n_trials} trials, {figures.n_skipped} skipped"


def build_parser(prog: str = "arena.py") -> argparse.ArgumentParser:
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


if __name__ == "__main__":
    run_command(main)
