"""The config of an experiment: a JSON file, checked once, read as a frozen dataclass.

The files of the released AASIST and S2pecNet repositories are accepted as they stand. A misspelt key, a wrong type or
an impossible value is an error that names file, line and key; a key that resembles nothing known is named in a warning.
A name such as "AASIST" stands for the config of that name that came with the framework, unless there is a file of that
name. docs/config.md has the reference of all keys (`config_reference.py` makes it).

No torch here: a config is checked before anything slow is imported.
"""

import dataclasses
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s2pecnet.config.options import describe_options, option, read_options
from s2pecnet.conventions import LONGEST_CROP, SPLITS
from s2pecnet.corpora.detect import CORPORA
from s2pecnet.errors import InputError
from s2pecnet.shipped import CONFIGS_FOLDER
from s2pecnet.text import check_depth, clipped, is_plain, load_json, load_json_object, nearest, shown

OPTIMIZERS = ("adam", "adamw", "sgd")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
SCHEDULERS = ("cosine", "keras_decay", "multistep", "sgdr", "none")

# Larger than any config by far; a corpus or an endless device given in its place is not read into the memory.
MOST_BYTES = 1 << 18
LONGEST_KEY = 200
# Names the JSON Schema of the file, for editors; means nothing else.
SCHEMA_KEY = "$schema"
# What a run writes itself into the folder of its results.
TAKEN_NAMES = {
    "config.conf", "weights", "metrics", "state", "metric_log.txt", "t-dcf_eer.txt", "t-dcf_eer_swa.txt",
    "dev_scores.txt", "t-dcf_eer_dev.txt", "calibration.json",
    "results.json", "figures.png", "nonfinite_batches.json", *(f"skipped_audio_{name}.txt" for name in SPLITS),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule."""

    base_lr: float = option(help="learning rate at the start", above=0, sane=1e6)
    optimizer: str = option("adam", "optimizer", choices=OPTIMIZERS)
    lr_min: float = option(0.0, "learning rate that `cosine` and `sgdr` end at", at_least=0)
    betas: tuple[float, float] = option((0.9, 0.999), "betas of adam and adamw", at_least=0, at_most=1)
    amsgrad: bool = option(False, "amsgrad of adam and adamw")
    momentum: float = option(0.9, "momentum of sgd", at_least=0, sane=1)
    nesterov: bool = option(False, "Nesterov momentum of sgd")
    weight_decay: float = option(0.0, "weight decay", at_least=0, sane=1e6)
    scheduler: str | None = option("none", "learning-rate schedule, a step a batch", choices=SCHEDULERS)
    milestones: tuple[int, ...] = option(
        (), "epochs after which `multistep` multiplies the rate by lr_decay", at_least=1
    )
    lr_decay: float = option(0.1, "factor of `multistep`", above=0, sane=1)
    T0: int = option(10, "epochs of the first cycle of `sgdr`", at_least=1)
    Tmult: int = option(1, "each cycle of `sgdr` is so many times as long as the one before", at_least=1)
    # Set by the run, not by the file; the released loop passes them in the same dictionary.
    epochs: int | None = option(None, at_least=1)
    steps_per_epoch: int | None = option(None, at_least=1)


@dataclasses.dataclass(frozen=True)
class Config:
    """An experiment. `model_config` goes to the system as it stands."""

    database_path: str = option(
        help="the corpus: a folder, such as the one that holds ASVspoof2019_<track>_cm_protocols, or a CSV or TSV file"
    )
    model_config: dict[str, Any] = option(help="`architecture` (a file of models/) and what that system reads")
    optim_config: OptimConfig = option(help="optimizer and schedule, see below")
    batch_size: int = option(help="utterances of a batch", at_least=1, sane=1e6)
    num_epochs: int = option(help="epochs of training", at_least=1)
    asv_score_path: str | None = option(
        None, "ASV scores of eval for min t-DCF, relative to database_path; null: taken from the layout if there"
    )
    asv_score_path_dev: str | None = option(
        None, "ASV scores of dev, relative to database_path; null: taken from the layout if there"
    )
    model_path: str | None = option(None, "weights that --eval loads (a state dict)")
    track: str = option("LA", "the <track> in the corpus's file names: LA, PA, DF, or your own; names result folders")
    corpus: str = option("auto", "kind of the corpus; auto: told from what is there", choices=("auto", *CORPORA))
    unsplit: str = option(
        "divide",
        "a corpus that names no splits: divide it by a hash of the speakers, 70 : 15 : 15 %, or take it all as eval",
        choices=("divide", "eval"),
    )
    eval_subset: str = option(
        "eval", "which trials of ASVspoof2021 are scored", choices=("eval", "progress", "hidden", "all")
    )
    loss: str = option(
        "CCE", "loss of systems without a loss of their own: class-weighted cross-entropy", choices=("CCE",)
    )
    loss_weights: tuple[float, float] = option(
        (0.1, 0.9), "class weights of the loss: spoof, bona fide", at_least=0, sane=1e6
    )
    eval_all_best: bool = option(False, "score eval at every new best dev EER too (logged, never selected on)")
    eval_output: str = option("eval_scores_using_best_dev_model.txt", "name of the eval score file")
    freq_aug: bool = option(False, "mask a random band of sinc filters in training")
    seed: int | None = option(None, "seed of everything random; --seed wins; null: 1234", at_least=0)
    num_workers: int | None = option(
        None, "processes that load audio; null: one a core, at most 8, with CUDA; none without", at_least=0, sane=256
    )
    prefetch: int = option(2, "batches that each loading process has ready ahead", at_least=1, sane=1000)
    audio_cache: bool = option(
        False, "decode each file once and keep the samples in --cache_dir; 2 bytes a sample for 16-bit audio"
    )
    precision: str = option(
        "fp32",
        "number format: float32; the same with TF32 products (CUDA); autocast to bfloat16; to float16, the loss scaled",
        choices=PRECISIONS,
    )
    channels_last: bool = option(True, "keep maps with the channels last in memory: the same results, faster")
    compile: bool = option(False, "compile the model with torch.compile: minutes at the start, faster afterwards")
    activation_checkpointing: bool = option(
        False, "compute the blocks' maps again in the backward pass instead of keeping them: less memory, more time"
    )
    micro_batch_size: int | None = option(
        None,
        "utterances of a batch that pass the model at a time, their gradients add up; null: all",
        at_least=1,
        sane=1e6,
    )
    resume: str = option(
        "never",
        'go on with an unfinished training of this experiment ("auto", as --resume), or keep it aside and start anew',
        choices=("never", "auto"),
    )
    save_every_minutes: float | None = option(
        10.0, "save the training's state at least so often; null: once an epoch", at_least=0
    )
    save_every_steps: int | None = option(None, "save the training's state every so many steps too", at_least=1)
    weights_format: str = option("pth", "format of the weights: torch or safetensors", choices=("pth", "safetensors"))
    on_bad_audio: str = option(
        "error",
        "audio that cannot be decoded, is silent, below 10 ms or not finite: end the run, or leave it out and list it",
        choices=("error", "skip"),
    )
    skip_nonfinite: int = option(0, "batches with a loss that is not finite that a training passes over", at_least=0)
    cudnn_deterministic_toggle: bool = option(True, "deterministic cuDNN algorithms")
    cudnn_benchmark_toggle: bool = option(False, "let cuDNN time its algorithms first")
    # Filled in by `load_config`: where the config came from, and the JSON it was read from.
    name: str = option("experiment")
    source: str = option("config")
    raw: dict[str, Any] = option({})

    @property
    def architecture(self) -> str:
        """Name of the system."""
        return str(self.model_config["architecture"])

    @property
    def samples(self) -> int:
        """Samples of a crop."""
        return int(self.model_config.get("nb_samp", 64600))

    @property
    def file(self) -> Path | None:
        """The file it was read from; None of a dictionary."""
        return Path(self.source) if os.path.isfile(self.source) else None

    @property
    def split_policy(self) -> str:
        """Temporary."""
        return self.unsplit

    @property
    def keep_checkpoints(self) -> int:
        """Temporary."""
        return 3

    @property
    def eval_output_swa(self) -> str:
        """Name of the eval score file of the averaged weights."""
        stem, dot, ending = self.eval_output.rpartition(".")
        return f"{stem}_swa.{ending}" if dot else f"{ending}_swa"

    def identity(self) -> dict[str, Any]:
        """What decides about the results, as JSON values by dotted key: two equal ones are the same experiment."""
        flat: dict[str, Any] = {}

        def add(prefix: str, values: Mapping[str, Any]) -> None:
            for key, value in values.items():
                if not prefix and key in NO_MATTER:
                    continue
                if isinstance(value, Mapping):
                    add(f"{prefix}{key}.", value)
                else:
                    flat[f"{prefix}{key}"] = value

        add("", dataclasses.asdict(self))
        plain: dict[str, Any] = json.loads(json.dumps(flat, default=str))
        return plain


FILLED_IN = ("name", "source", "raw")
# Keys that change how a run goes about its work, but not what comes out of it.
NO_MATTER = {
    *FILLED_IN, "database_path", "model_path", "num_workers", "prefetch", "audio_cache", "resume", "save_every_minutes",
    "save_every_steps",
}  # fmt: skip
SET_BY_THE_RUN = ("optim_config.epochs", "optim_config.steps_per_epoch")


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Read and check a config file.

    Args:
        path: a file; or the name of a config of ./config/ or of the framework, with or without ".conf".
        overrides: "key=value" each; dotted keys reach into the sub-dictionaries; values are JSON, or text.

    Raises:
        InputError: the file is missing or not JSON, or all its problems, a line each.
    """
    path = find_config(path)
    text = _read_text(path)
    content = load_json_object(text, str(path))
    overridden = [_override(content, assignment) for assignment in overrides]
    check_depth(content, str(path))
    if not is_plain(path.stem):
        raise InputError(f"{str(path)!r}: this name would name the folder of the results; rename the config")

    def place(key: str) -> str:
        if any(key == given or key.startswith(f"{given}.") for given in overridden):
            return f"--set {key}: "
        line = _line_of(text, key)
        return f"{path}:{line}: " if line else f"{path}: "

    return _check(content, place, name=path.stem, source=str(path), strict=overridden)


def find_config(given: str | os.PathLike[str]) -> Path:
    """The file that a path or a name stands for; what is found by its name is said on stderr.

    A path that names a file is that file. Else `NAME`, `NAME.conf` and `config/NAME.conf` are sought in ./config/, then
    among the framework's own; what is nowhere comes back as it was given.
    """
    path = Path(given)
    by_name = path.parent in (Path(), Path("config"))
    # A folder of that name is no config.
    if not by_name or (path.exists() and not path.is_dir()):
        return path
    name = path.name if path.suffix == ".conf" else f"{path.name}.conf"
    for folder in (Path("config"), CONFIGS_FOLDER):
        if (folder / name).is_file():
            print(f"note: config {given} is {folder / name}", file=sys.stderr)
            return folder / name
    return path


def shipped_configs() -> list[str]:
    """Names of the configs that came with the framework."""
    return sorted(path.stem for path in CONFIGS_FOLDER.glob("*.conf"))


def _read_text(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        # Some editors put a byte order mark before the text.
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such config{_near_config(path)}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected a JSON config") from None
    if len(data) > MOST_BYTES:
        raise InputError(f"{path}: larger than {MOST_BYTES // 1024} KiB; expected a JSON config")
    return text


def as_config(config: "Config | Mapping[str, Any] | str | os.PathLike[str]") -> Config:
    """A `Config` from whatever stands for one: itself, a dictionary as the released code passes it, or a path."""
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        return _check(dict(config), lambda key: "config: ")
    return load_config(config)


def as_optim_config(optim_config: OptimConfig | Mapping[str, Any]) -> OptimConfig:
    """An `OptimConfig` from itself or from a dictionary."""
    if isinstance(optim_config, OptimConfig):
        return optim_config
    return read_options(OptimConfig, optim_config, lambda key: "", "optim_config.")[0]


def _check(
    content: dict[str, Any],
    place: Any,
    name: str = "experiment",
    source: str = "config",
    strict: Sequence[str] = (),
) -> Config:
    given = {key: value for key, value in content.items() if key not in (*FILLED_IN, SCHEMA_KEY)}
    config, unknown = read_options(Config, given, place)
    for key in unknown:
        if key in strict:
            known = ", ".join(row[0] for row in describe_options(Config))
            raise InputError(f"--set {key}: there is no such key (have: {known})")
    problems = [f"{place(key)}{problem}" for key, problem in _cross_checks(config)]
    if problems:
        raise InputError("\n".join(problems))
    ignored = unknown + [key for key in SET_BY_THE_RUN if key.split(".")[1] in content["optim_config"]]
    ignored += [key for key in FILLED_IN if key in content]
    if ignored:
        print(f"warning: {source}: these keys mean nothing here and are ignored: {', '.join(ignored)}", file=sys.stderr)
    return dataclasses.replace(config, name=name, source=source, raw=content)


def _cross_checks(config: Config) -> list[tuple[str, str]]:
    """Problems that no single annotation can tell: (key, problem)."""
    problems = []
    architecture = config.model_config.get("architecture")
    if architecture is None:
        guess = nearest("architecture", config.model_config)
        found = f" (did you mean it by {guess!r}?)" if guess else ""
        problems.append(
            ("model_config", f"key 'model_config.architecture' is missing{found}; expected a file of models/")
        )
    elif not isinstance(architecture, str):
        problems.append(
            ("model_config.architecture", f"model_config.architecture: got {shown(architecture)}, expected a name")
        )
    samples = config.model_config.get("nb_samp", 1)
    if isinstance(samples, bool) or not isinstance(samples, int) or not 1 <= samples <= LONGEST_CROP:
        expected = f"an integer >= 1 <= {LONGEST_CROP}"
        problems.append(("model_config.nb_samp", f"model_config.nb_samp: got {shown(samples)}, expected {expected}"))
    if not re.fullmatch(r"[\w-]+", config.track):
        problems.append(("track", f"track: got {clipped(repr(config.track))}, expected a name such as LA, PA or DF"))
    if not re.fullmatch(r"\w[\w.-]*", config.eval_output):
        got = clipped(repr(config.eval_output))
        problems.append(("eval_output", f"eval_output: got {got}, expected a file name without folders"))
    if config.eval_output.casefold() in TAKEN_NAMES:
        problems.append(
            ("eval_output", f"eval_output: the run writes another {config.eval_output!r}; choose another name")
        )
    if not any(config.loss_weights):
        problems.append(("loss_weights", "loss_weights: both weights are 0, nothing would be learned"))
    if config.compile and config.activation_checkpointing:
        problems.append(
            ("compile", "compile: does not go together with activation_checkpointing; switch one of them off")
        )
    optim = config.optim_config
    if max(optim.betas) == 1:
        problems.append(
            ("optim_config.betas", f"optim_config.betas: got {list(optim.betas)}, expected numbers below 1")
        )
    if optim.scheduler == "multistep" and not optim.milestones:
        problems.append(("optim_config.scheduler", "optim_config.scheduler: 'multistep' needs optim_config.milestones"))
    if optim.lr_min > optim.base_lr:
        problems.append(
            ("optim_config.lr_min", f"optim_config.lr_min: {optim.lr_min:g} is above base_lr {optim.base_lr:g}")
        )
    return problems


def _override(content: dict[str, Any], assignment: str) -> str:
    """Put one "key=value" into `content`; returns the dotted key."""
    key, equals, text = assignment.partition("=")
    key = key.strip()
    if not equals or not key or not key.isprintable() or len(key) > LONGEST_KEY:
        raise InputError(f"--set {shown(assignment)}: expected key=value, as in --set optim_config.base_lr=0.001")
    value = _value_of(key, text)
    *parents, last = key.split(".")
    target = content
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise InputError(f"--set {key}: {parent!r} is a single value, it holds no key {last!r}")
    target[last] = value
    return key


def _value_of(key: str, text: str) -> Any:
    """What stands behind the "=": JSON, or any other text as it is."""
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except RecursionError:
        pass
    except ValueError:
        return text
    return load_json(text, f"--set {key}")


def _line_of(text: str, key: str) -> int | None:
    """Line of a dotted key in a JSON text: each part is sought behind the one before it."""
    position = 0
    for part in key.split("."):
        found = re.search(rf'"{re.escape(part)}"\s*:', text[position:])
        if not found:
            return None
        position += found.start() + 1
    return text.count("\n", 0, position) + 1


def _near_config(path: Path) -> str:
    by_name = path.parent in (Path(), Path("config"))
    folders = [
        folder for folder in (path.parent, Path("config"), *([CONFIGS_FOLDER] if by_name else [])) if folder.is_dir()
    ]
    guesses = [(folder, nearest(path.name.removesuffix(".conf") + ".conf", _configs_in(folder))) for folder in folders]
    near = next((str(folder / guess) for folder, guess in guesses if guess), None)
    if near:
        return f"; did you mean {near}?"
    return f" (the framework's own: {', '.join(shipped_configs())})" if by_name else ""


def _configs_in(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.glob("*.conf"))
