"""The config of an experiment: a JSON file, checked once, read as a frozen dataclass.

    load_config     a file, or the name of a config that came with the framework, with overrides
    as_config       a dictionary as the released code passes it

The files of the released AASIST and S2pecNet repositories are accepted unmodified. A misspelt key, a wrong type or an
impossible value is an error that names file, line and key; a key that resembles nothing known is named in a warning.
docs/config.md has the reference of all keys (`tools/config_reference.py` makes it).

No torch here: a config is checked before anything slow is imported.
"""

import dataclasses
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from s2pecnet.config.augmentation import Step
from s2pecnet.config.corpora import EXPECTED, CorpusEntry, CorpusKind, EvalSubset, SplitPolicy, name_of, problems_of
from s2pecnet.config.files import EXTENDS, find_config, read_config
from s2pecnet.config.options import NUMBER, Bool, Float, Int, Text, describe_options, read_options, walk
from s2pecnet.conventions import CROP, EVAL_OUTPUT, LONGEST_CROP, RUN_FILES
from s2pecnet.corpora.several import CorpusSource
from s2pecnet.corpora.trials import CorpusOptions, LeftOut
from s2pecnet.errors import InputError
from s2pecnet.text import check_depth, clipped, is_plain, load_json, nearest, shown

log = logging.getLogger(__name__)

LONGEST_KEY = 200
# Names the JSON Schema of the file, for editors; means nothing else.
SCHEMA_KEY = "$schema"
# What a run calls its own files, and what a series and the cache are called beside it.
TAKEN_NAMES = {name.casefold() for name in (*RUN_FILES.values(), "summary.json", "summary.txt", "cache")}
# Earlier names of keys, still accepted.
RENAMED = {"unsplit": "split_policy"}

Weight = Annotated[float, Field(ge=0, le=1e6), NUMBER]
Beta = Annotated[float, Field(ge=0, le=1), NUMBER]
Milestone = Annotated[int, Field(ge=1), NUMBER]
Steps = Annotated[int, Field(ge=1), NUMBER]
Seed = Annotated[int, Field(ge=0), NUMBER]
Workers = Annotated[int, Field(ge=0, le=256), NUMBER]
BatchSize = Annotated[int, Field(ge=1, le=1_000_000), NUMBER]
Rate = Annotated[float, Field(gt=0, le=1e6), NUMBER]
Positive = Annotated[float, Field(gt=0), NUMBER]
Epochs = Annotated[int, Field(ge=1), NUMBER]
Minutes = Annotated[float, Field(ge=0), NUMBER]


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule."""

    base_lr: Float = Field(gt=0, le=1e6, description="learning rate at the start")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="optimizer")
    lr_min: Float = Field(0.0, ge=0, description="learning rate that `cosine`, `linear` and `sgdr` end at")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="betas of adam and adamw")
    amsgrad: Bool = Field(False, description="amsgrad of adam and adamw")
    momentum: Float = Field(0.9, ge=0, le=1, description="momentum of sgd")
    nesterov: Bool = Field(False, description="Nesterov momentum of sgd")
    weight_decay: Float = Field(0.0, ge=0, le=1e6, description="weight decay")
    scheduler: Literal["cosine", "linear", "keras_decay", "multistep", "sgdr", "none"] | None = Field(
        "none", description="learning-rate schedule, a step a batch"
    )
    milestones: tuple[Milestone, ...] = Field(
        (), description="epochs after which `multistep` multiplies the rate by lr_decay"
    )
    lr_decay: Float = Field(0.1, gt=0, le=1, description="factor of `multistep`")
    T0: Int = Field(10, ge=1, description="epochs of the first cycle of `sgdr`")
    Tmult: Int = Field(1, ge=1, description="each cycle of `sgdr` is so many times as long as the one before")
    front_end_lr: Rate | None = Field(
        None,
        description="learning rate of the front end's parameters (the system's `front_end`); null: base_lr",
    )
    warmup_steps: Int = Field(
        0, ge=0, description="steps in which the rates rise linearly from near 0; the schedule follows"
    )
    clip_grad_norm: Positive | None = Field(
        None, description="largest norm of the gradient of all parameters together; null: not limited"
    )
    sam_rho: Positive | None = Field(
        None, description="radius of sharpness-aware minimisation (SAM), 0.05 for example; null: without"
    )


@dataclass(frozen=True)
class LossConfig:
    """Parameters of the losses other than CCE."""

    gamma: Float = Field(2.0, ge=0, le=100, description="focusing of `focal`; 0 is CCE")
    alpha: Float = Field(20.0, gt=0, le=1e4, description="scale of `OC-Softmax` and `AM-Softmax`")
    m_real: Float = Field(
        0.9, ge=-1, le=1, description="`OC-Softmax`: bona fide is to be at least so similar to the centre"
    )
    m_fake: Float = Field(0.2, ge=-1, le=1, description="`OC-Softmax`: spoof is to be at most so similar to the centre")
    margin: Float = Field(0.9, ge=0, le=2, description="margin of `AM-Softmax`")


@dataclass(frozen=True)
class LeaveOut:
    """Attacks that are left out of each split, by their names in the corpus."""

    train: tuple[Text, ...] = Field(
        (),
        description="attacks that are left out of train, to see how a system meets attacks that it never heard; of "
        "several corpora NAME/attack, as for those below",
    )
    dev: tuple[Text, ...] = Field((), description="attacks that are left out of dev; there is then no min t-DCF of it")
    eval: tuple[Text, ...] = Field((), description="attacks that are left out of eval; the same")


NO_LOSS_CONFIG: LossConfig = read_options(LossConfig, {})[0]
NOTHING_LEFT_OUT: LeaveOut = read_options(LeaveOut, {})[0]


@dataclass(frozen=True)
class Config:
    """An experiment. `model_config` goes to the system unchanged."""

    database_path: Text | Annotated[tuple[Text | CorpusEntry, ...], Field(min_length=1)] = Field(
        description="the corpus: a folder, such as the one that holds ASVspoof2019_<track>_cm_protocols, or a CSV or "
        "TSV file; or several in a list, see [corpora.md](corpora.md)",
        json_schema_extra={"x-expected": EXPECTED},
    )
    model_config: dict[str, Any] = Field(description="`architecture` (a file of models/) and what that system reads")
    optim_config: OptimConfig = Field(description="optimizer and schedule, see below")
    batch_size: Int = Field(ge=1, le=1_000_000, description="utterances of a batch")
    num_epochs: Int = Field(ge=1, description="epochs of training")
    asv_score_path: Text | None = Field(
        None,
        description="ASV scores of eval for min t-DCF, relative to database_path; null: those of the layout, if any; "
        "the released configs' path is used for ASVspoof2019 LA alone",
    )
    asv_score_path_dev: Text | None = Field(
        None, description="ASV scores of dev, relative to database_path; null: those of the layout, if any"
    )
    model_path: Text | None = Field(None, description="weights that --eval loads (a state dict)")
    track: Text = Field(
        "LA",
        description="the <track> in the corpus's file names: LA, PA, DF, or your own; names result folders",
    )
    corpus: CorpusKind = Field("auto", description="which corpus it is; auto: recognised by its files")
    split_policy: SplitPolicy = Field(
        "divide",
        description="a corpus without splits: divide it by a hash of the speakers, 70 : 15 : 15 %, or take all of it "
        "as eval",
    )
    eval_subset: EvalSubset = Field("eval", description="which trials of ASVspoof2021 are scored")
    leave_out: LeaveOut = Field(NOTHING_LEFT_OUT, description="attacks that are left out of a split, see below")
    loss: Literal["CCE", "focal", "OC-Softmax", "AM-Softmax"] = Field(
        "CCE",
        description="loss of the classification: class-weighted cross-entropy; the same, focal; one-class softmax or "
        "additive-margin softmax on the embedding, see [training.md](training.md)",
    )
    loss_config: LossConfig = Field(NO_LOSS_CONFIG, description="parameters of the loss, see below")
    loss_weights: tuple[Weight, Weight] = Field(
        (0.1, 0.9), description="class weights of CCE and focal: spoof, bona fide"
    )
    eval_all_best: Bool = Field(
        False, description="evaluate eval at every new best dev EER too (logged, never selected on)"
    )
    eval_output: Text = Field(EVAL_OUTPUT, description="name of the eval score file")
    augment: tuple[Annotated[Step, Field(discriminator="step")], ...] = Field(
        (),
        description="augmentation of training utterances before they are cropped: steps, one after the other, see "
        "[augmentation.md](augmentation.md)",
    )
    train_crop: Literal["random", "first"] = Field(
        "random", description="crops in training: from a random start, or the first samples"
    )
    eval_crop: Literal["first", "windows"] = Field(
        "first",
        description="what dev and eval are scored on: the first samples of an utterance, as released, or, as `predict` "
        "does, windows of all of it, one every half crop, whose mean is the score",
    )
    patience: Epochs | None = Field(
        None, description="end the training after so many epochs in a row that dev did not select; null: num_epochs"
    )
    select_by: Literal["eer", "loss"] = Field(
        "eer", description="the selected epoch has the lowest dev EER, or the lowest dev loss"
    )
    freq_aug: Bool = Field(False, description="mask a random band of sinc filters in training")
    seed: Seed | None = Field(None, description="seed of everything random; --seed wins; null: 1234")
    num_workers: Workers | None = Field(
        None,
        description="processes that load audio; null: one a core, at most 8, with CUDA; none without",
    )
    prefetch: Int = Field(2, ge=1, le=1000, description="batches that each loading process has ready ahead")
    audio_cache: Bool = Field(
        False,
        description="decode each file once and keep the samples in --cache_dir; 2 bytes a sample for 16-bit audio",
    )
    feature_cache: Literal["float32", "float16"] | None = Field(
        None,
        description="compute the outputs of a frozen front end once, keep them in --cache_dir in this format and train "
        "on them, see [ssl.md](ssl.md); null: they are computed whenever they are needed",
    )
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = Field(
        "fp32",
        description="number format: float32; the same with TF32 products (CUDA); autocast to bfloat16; to float16, "
        "with a scaled loss",
    )
    channels_last: Bool = Field(
        True, description="keep feature maps with the channels last in memory: the same results, faster"
    )
    compile: Bool = Field(
        False, description="compile the model with torch.compile: minutes at the start, faster afterwards"
    )
    activation_checkpointing: Bool = Field(
        False, description="recompute activations in the backward pass instead of keeping them: less memory, more time"
    )
    micro_batch_size: BatchSize | None = Field(
        None,
        description="utterances of a micro-batch, whose gradients accumulate over a batch; null: the batch at once",
    )
    resume: Literal["never", "auto"] = Field(
        "never",
        description='resume an unfinished training of this experiment ("auto", as --resume), or back it up and start '
        "again",
    )
    save_every_minutes: Minutes | None = Field(
        10.0, description="save the training's state at least so often; null: once an epoch"
    )
    save_every_steps: Steps | None = Field(None, description="save the training's state every so many steps too")
    keep_checkpoints: Int = Field(
        3, ge=1, le=1_000_000, description="epoch checkpoints to keep, the latest; best and SWA are always kept"
    )
    weights_format: Literal["pth", "safetensors"] = Field(
        "pth", description="format of the weights: torch or safetensors"
    )
    on_bad_audio: Literal["error", "skip"] = Field(
        "error",
        description="audio that cannot be decoded, is silent, below 10 ms or not finite: end the run, or skip and list "
        "it",
    )
    skip_nonfinite: Int = Field(0, ge=0, description="batches with a loss that is not finite that a training skips")
    cudnn_deterministic_toggle: Bool = Field(True, description="deterministic cuDNN algorithms")
    cudnn_benchmark_toggle: Bool = Field(False, description="let cuDNN time its algorithms first")
    # Filled in by `load_config`: where the config came from, the JSON it was read from, and the keys of --set.
    name: str = "experiment"
    source: str = "config"
    raw: dict[str, Any] = Field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """Name of the system."""
        return str(self.model_config["architecture"])

    @property
    def samples(self) -> int:
        """Samples of a crop."""
        return int(self.model_config.get("nb_samp", CROP))

    @property
    def file(self) -> Path | None:
        """The file it was read from; None of a dictionary."""
        return Path(self.source) if os.path.isfile(self.source) else None

    def asv_scores(self, split: str, corpus: str | None = None) -> str | None:
        """The ASV scores that the config names for "dev" or "eval".

        Args:
            corpus: of several the name of the one that has the split.
        """
        key = "asv_score_path" if split == "eval" else "asv_score_path_dev"
        own = next((getattr(one, key) for one in self.entries.values() if name_of(one) == corpus), None)
        found: str | None = own or getattr(self, key)
        return found

    @property
    def entries(self) -> dict[str, CorpusEntry]:
        """Of several corpora, the entries of `database_path` by their dotted keys; empty of one."""
        given = () if isinstance(self.database_path, str) else self.database_path
        made = [one if isinstance(one, CorpusEntry) else read_options(CorpusEntry, {"path": one})[0] for one in given]
        return {f"database_path[{number}]": one for number, one in enumerate(made)}

    @property
    def corpus_options(self) -> CorpusOptions:
        """What `find_corpus` is told of a single corpus."""
        return CorpusOptions(self.track, self.split_policy, self.eval_subset, self._left_out(""))

    def _left_out(self, prefix: str) -> LeftOut:
        """The attacks left out whose names begin with `prefix`, without it."""
        given = (self.leave_out.train, self.leave_out.dev, self.leave_out.eval)
        return LeftOut(*(tuple(a.removeprefix(prefix) for a in attacks if a.startswith(prefix)) for attacks in given))

    @property
    def sources(self) -> list[CorpusSource]:
        """Several corpora, as `corpora.several` takes them; empty of one."""
        return [
            CorpusSource(
                name_of(one),
                one.path,
                one.corpus or self.corpus,
                CorpusOptions(
                    one.track or self.track,
                    one.split_policy or self.split_policy,
                    one.eval_subset or self.eval_subset,
                    self._left_out(f"{name_of(one)}/"),
                ),
                one.weight,
                one.splits and tuple(dict.fromkeys(one.splits)),
            )
            for one in self.entries.values()
        ]

    @property
    def eval_output_swa(self) -> str:
        """Name of the eval score file of the averaged weights."""
        stem, dot, ending = self.eval_output.rpartition(".")
        return f"{stem}_swa.{ending}" if dot else f"{ending}_swa"

    def identity(self) -> dict[str, Any]:
        """What decides about the results, as JSON values by dotted key: two equal ones are the same experiment."""
        values = {key: value for key, value in dataclasses.asdict(self).items() if key not in NOT_IDENTITY}
        # Where they lie does not matter, but how often they are taken does.
        values |= {f"weight of {one.name}": one.weight for one in self.sources}
        plain: dict[str, Any] = json.loads(json.dumps(dict(walk(values)), default=str))
        # Experiments from before a key was there are the same as with its default.
        return {key: value for key, value in plain.items() if key not in ADDED or value != ADDED[key]}


FILLED_IN = ("name", "source", "raw", "overrides")
# Keys that change how a run goes about its work, but not what comes out of it.
NOT_IDENTITY = {
    *FILLED_IN, "database_path", "model_path", "num_workers", "prefetch", "audio_cache", "resume", "save_every_minutes",
    "save_every_steps", "keep_checkpoints",
}  # fmt: skip
# Remedies: they decide about the results, and a training that needs one resumes with it; the run record says so.
CHANGEABLE = {
    "on_bad_audio", "skip_nonfinite", "micro_batch_size", "activation_checkpointing", "compile", "channels_last",
    "weights_format", "eval_output", "eval_all_best", "optim_config.base_lr", "optim_config.front_end_lr",
    "optim_config.clip_grad_norm",
}  # fmt: skip
# Keys that earlier experiments did not have, with the value that says what those did.
ADDED: dict[str, Any] = {
    "augment": [], "train_crop": "random", "patience": None, "select_by": "eer", "loss_config.gamma": 2.0,
    "loss_config.alpha": 20.0, "loss_config.m_real": 0.9, "loss_config.m_fake": 0.2, "loss_config.margin": 0.9,
    "optim_config.front_end_lr": None, "optim_config.warmup_steps": 0, "optim_config.clip_grad_norm": None,
    "optim_config.sam_rho": None, "feature_cache": None, "eval_crop": "first",
    "leave_out.train": [], "leave_out.dev": [], "leave_out.eval": [],
}  # fmt: skip
LONGEST_OUTPUT = 200


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Read and check a config file.

    Args:
        path: a file; or the name of a config of ./config/ or of the framework, with or without ".conf".
        overrides: "key=value" each; dotted keys reach into the sub-dictionaries; values are JSON, or text.

    Raises:
        InputError: the file is missing or not JSON, or all its problems, a line each.
    """
    path = find_config(path)
    found = read_config(path)
    overridden = [_override(found.content, assignment) for assignment in overrides]
    check_depth(found.content, str(path))
    if not is_plain(path.stem):
        ascii_only = sys.getfilesystemencoding().lower() in ("ascii", "us-ascii", "ansi_x3.4-1968")
        locale = ", or set LC_ALL=C.UTF-8: this locale knows ASCII names alone" if ascii_only else ""
        raise InputError(f"{str(path)!r}: this name would name the folder of the results; rename the config{locale}")

    def location(key: str) -> str:
        if any(key == given or key.startswith((f"{given}.", f"{given}[")) for given in overridden):
            return f"--set {key}: "
        return found.location(key, path)

    return _check(found.content, location, name=path.stem, source=str(path), strict=overridden)


def as_config(config: "Config | Mapping[str, Any] | str | os.PathLike[str]") -> Config:
    """A `Config` from whatever stands for one: itself, a dictionary as the released code passes it, or a path."""
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        if EXTENDS in config:
            raise InputError(f"config: {EXTENDS} works in files; merge the dictionaries instead")
        return _check(dict(config), lambda key: "config: ")
    return load_config(config)


def as_optim_config(optim_config: OptimConfig | Mapping[str, Any]) -> OptimConfig:
    """An `OptimConfig` from itself or from a dictionary."""
    if isinstance(optim_config, OptimConfig):
        return optim_config
    return read_options(OptimConfig, optim_config, lambda key: "", "optim_config.")[0]


def _check(
    content: dict[str, Any],
    location: Callable[[str], str],
    name: str = "experiment",
    source: str = "config",
    strict: Sequence[str] = (),
) -> Config:
    renamed = RENAMED.keys() & content.keys()
    for former in renamed:
        if RENAMED[former] in content:
            raise InputError(
                f"{location(former)}{former} is the former name of {RENAMED[former]}, which is given too; keep one"
            )
        log.warning("%skey %s is now called %s", location(former), former, RENAMED[former])
        content.setdefault(RENAMED[former], content.pop(former))

    def where(key: str) -> str:
        return location(next((former for former, now in RENAMED.items() if now == key and former in renamed), key))

    given = {key: value for key, value in content.items() if key not in (*FILLED_IN, SCHEMA_KEY)}
    try:
        config, unknown = read_options(Config, given, where)
    except InputError as error:
        # What can be said about the others is said too.
        raise InputError("\n".join([str(error), *_model_config_problems(given.get("model_config"), where)])) from None
    for key in unknown:
        if any(one == key or one.startswith(f"{key}.") for one in strict):
            known = ", ".join(row[0] for row in describe_options(Config))
            raise InputError(f"--set {key}: there is no such key (have: {known})")
    problems = _model_config_problems(config.model_config, where)
    problems += [f"{where(key)}{problem}" for key, problem in _cross_checks(config)]
    if problems:
        raise InputError("\n".join(problems))
    ignored = unknown + [key for key in FILLED_IN if key in content]
    if ignored:
        log.warning("%s: these keys mean nothing here and are ignored: %s", source, ", ".join(ignored))
    return dataclasses.replace(config, name=name, source=source, raw=content, overrides=tuple(strict))


def _model_config_problems(model_config: Any, location: Callable[[str], str]) -> list[str]:
    """What is wrong with the two keys of `model_config` that every system has."""
    if not isinstance(model_config, Mapping):
        return []
    key, problems = "model_config.architecture", []
    architecture = model_config.get("architecture")
    if architecture is None:
        guess = nearest("architecture", model_config)
        found = f" (did you mean it by {guess!r}?)" if guess else ""
        line = location(f"model_config.{guess}" if guess else key)
        problems.append(f"{line}key {key!r} is missing{found}; expected a file of models/")
    elif not isinstance(architecture, str):
        problems.append(f"{location(key)}{key}: got {shown(architecture)}, expected a name")
    key, samples = "model_config.nb_samp", model_config.get("nb_samp", 1)
    if isinstance(samples, bool) or not isinstance(samples, int) or not 1 <= samples <= LONGEST_CROP:
        wanted = f"an integer from 1 to {LONGEST_CROP:,}"
        problems.append(f"{location(key)}{key}: got {shown(samples)}, expected {wanted}")
    return problems


def _cross_checks(config: Config) -> list[tuple[str, str]]:
    """Problems that no single annotation can state: (key, problem)."""
    problems = problems_of(config.entries)
    if not re.fullmatch(r"[\w-]+", config.track):
        problems.append(("track", f"track: got {clipped(repr(config.track))}, expected a name such as LA, PA or DF"))
    if not re.fullmatch(r"\w[\w.-]*", config.eval_output):
        got = clipped(repr(config.eval_output))
        problems.append(("eval_output", f"eval_output: got {got}, expected a file name without folders"))
    if len(config.eval_output.encode()) > LONGEST_OUTPUT:
        problems.append(("eval_output", f"eval_output: longer than {LONGEST_OUTPUT} bytes; choose a shorter name"))
    if {config.eval_output.casefold(), config.eval_output_swa.casefold()} & TAKEN_NAMES:
        problems.append(
            ("eval_output", f"eval_output: the run writes another {config.eval_output!r}; choose another name")
        )
    if not any(config.loss_weights):
        problems.append(("loss_weights", "loss_weights: both weights are 0, nothing would be learned"))
    if config.compile and config.activation_checkpointing:
        problems.append(
            ("compile", "compile: does not work together with activation_checkpointing; switch one of them off")
        )
    front_end = config.model_config.get("front_end")
    against = {
        "needs a system with model_config.front_end": not isinstance(front_end, Mapping),
        'needs a frozen front end (model_config.front_end.trainable "none")': isinstance(front_end, Mapping)
        and front_end.get("trainable") != "none",
        "does not work with augment, which changes what the front end hears": bool(config.augment),
        'needs the same crop in every epoch (train_crop "first")': config.train_crop != "first",
        'keeps one crop of an utterance (eval_crop "first")': config.eval_crop != "first",
        "does not work with freq_aug": config.freq_aug,
    }
    reason = next((reason for reason, applies in against.items() if applies), None)
    if config.feature_cache and reason:
        problems.append(("feature_cache", f"feature_cache: {reason}; or set it to null"))
    problems += _leave_out_problems(config)
    optim = config.optim_config
    if max(optim.betas) == 1:
        problems.append(
            ("optim_config.betas", f"optim_config.betas: got {list(optim.betas)}, expected numbers below 1")
        )
    if optim.scheduler == "multistep" and not optim.milestones:
        problems.append(("optim_config.scheduler", "optim_config.scheduler: 'multistep' needs optim_config.milestones"))
    if optim.scheduler == "sgdr" and (optim.warmup_steps or optim.front_end_lr):
        key = "optim_config.warmup_steps" if optim.warmup_steps else "optim_config.front_end_lr"
        problems.append((key, f"{key}: does not work with the scheduler 'sgdr'; choose cosine or linear"))
    if config.loss_config.m_fake > config.loss_config.m_real:
        problems.append(("loss_config.m_fake", "loss_config.m_fake: is above m_real; expected it below"))
    if optim.lr_min > optim.base_lr:
        problems.append(
            ("optim_config.lr_min", f"optim_config.lr_min: {optim.lr_min:g} is above base_lr {optim.base_lr:g}")
        )
    return problems


def _leave_out_problems(config: Config) -> list[tuple[str, str]]:
    """Attacks of several corpora that name none of them."""
    names, problems = [name_of(entry) for entry in config.entries.values()], []
    for split, attacks in dataclasses.asdict(config.leave_out).items():
        strange = [attack for attack in attacks if names and attack.partition("/")[0] not in names]
        if strange:
            key, wanted = f"leave_out.{split}", f"NAME/attack, with a NAME of database_path ({', '.join(names)})"
            problems.append((key, f"{key}: got {clipped(repr(strange[0]))}, expected {wanted}"))
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
    """What stands behind the "=": JSON, or any other text unchanged."""
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except RecursionError:
        pass
    except ValueError:
        return text
    return load_json(text, f"--set {key}")
