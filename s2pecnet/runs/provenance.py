"""The run record: what a run says about itself, in memory and as results.json.

It holds what is needed to run it again (config, seed, protocols, versions, commit, command) and what came out
(metrics of each evaluation, with intervals, the history of the epochs).
"""

import dataclasses
import logging
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from s2pecnet import __version__
from s2pecnet.config.experiment import CHANGEABLE, Config
from s2pecnet.corpora.trials import Corpus
from s2pecnet.errors import InputError
from s2pecnet.files import write_json
from s2pecnet.metrics.bootstrap import Interval
from s2pecnet.metrics.countermeasure import Metrics
from s2pecnet.text import load_json_object, shown

log = logging.getLogger(__name__)

# Of results.json. Version 1, of the flat layout, had no number.
VERSION = 2
CODE = Path(__file__).resolve().parent
# Keys that identities of the flat layout had, and what they are now ("": dropped).
_FORMER_KEYS = {"unsplit": "split_policy", "optim_config.epochs": "", "optim_config.steps_per_epoch": ""}

Intervals = dict[str, Interval]


@dataclasses.dataclass
class RunRecord:
    """What a run says about itself.

    Attributes:
        mode: "train", or the split that an evaluation scored ("eval", "dev").
        experiment: what decides about the results, by name; two equal ones are the same experiment.
        protocols: SHA-256 of the trials of each split; where several corpora have it together, of each of them too.
        audio: SHA-256 of the sizes and lengths of the files of each split.
        asv_scores: the file of ASV scores of each split, None where there are none.
        weights, weights_sha256: what an evaluation scored with.
        metrics, intervals: of each evaluation, "dev", "eval" and "eval_swa"; 95 % bootstrap intervals by metric.
        history: a dictionary an epoch.
        sessions: the starts of a training, one for each time it was resumed and one more: when, where it went on
            ("epoch", "step"), on which host and with how many threads, commit, versions, SHA-256 of the system's file.
    """

    mode: str = "eval"
    system: str = ""
    seed: int = 0
    device: str = ""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    config_file: str = ""
    command: list[str] = dataclasses.field(default_factory=list)
    working_directory: str = ""
    started: str = ""
    commit: str | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    protocols: dict[str, str] = dataclasses.field(default_factory=dict)
    audio: dict[str, str | None] = dataclasses.field(default_factory=dict)
    asv_scores: dict[str, str | None] = dataclasses.field(default_factory=dict)
    experiment: dict[str, Any] = dataclasses.field(default_factory=dict)
    parameters: int | None = None
    weights: str | None = None
    weights_sha256: str | None = None
    metrics: dict[str, Metrics] = dataclasses.field(default_factory=dict)
    intervals: dict[str, Intervals] = dataclasses.field(default_factory=dict)
    replicates: int = 0
    selected_epoch: int | None = None
    swa_epochs: int | None = None
    skipped_batches: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    wall_time_s: float | None = None
    sessions: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write results.json."""
        write_json(path, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        content["metrics"] = {name: metrics.as_dict() for name, metrics in self.metrics.items()}
        content["intervals"] = {
            name: {metric: dataclasses.asdict(interval) for metric, interval in found.items()}
            for name, found in self.intervals.items()
        }
        return {"version": VERSION, **content}

    @classmethod
    def read(cls, path: Path) -> "RunRecord":
        """Read results.json, also of version 1.

        Raises:
            InputError: it is none.
            OSError: it cannot be read.
        """
        content = load_json_object(path.read_text(encoding="utf-8", errors="replace"), str(path))
        try:
            return cls.from_dict(content)
        except InputError as error:
            raise InputError(f"{path}: not the results.json of a run: {error}") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            what = f"{key}: got {shown(first['input'])}: {first['msg']}"
            raise InputError(f"{path}: not the results.json of a run: {what}") from None

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "RunRecord":
        """The inverse of `as_dict`; values of version 1 are taken over.

        Raises:
            ValidationError, InputError: a value has another type than the field.
        """
        given = dict(content)
        if given.get("version", 1) == 1:
            given["skipped_batches"] = given.get("batches_passed_over", 0)
        if isinstance(given.get("metrics"), dict):
            given["metrics"] = {
                name: Metrics.from_dict(found, f"metrics.{name}") for name, found in given["metrics"].items()
            }
        return TypeAdapter(cls).validate_python(given)

    def for_weights(self) -> dict[str, Any]:
        """The record for a checkpoint: two runs of an experiment give files that are equal to the byte."""
        words = list(self.command)
        for option in ("--output_dir", "--cache_dir"):
            while option in words:
                index = words.index(option)
                del words[index : index + 2]
        return {name: getattr(self, name) for name in _RUN_AGAIN} | {"command": words}


# What two runs of one experiment share.
_RUN_AGAIN = (
    "system", "seed", "device", "command", "commit", "versions", "config_file", "config", "protocols",
)  # fmt: skip


def describe_run(
    config: Config, seed: int, device: str, corpus: Corpus, mode: str, splits: tuple[str, ...]
) -> RunRecord:
    """The record of a run at its start.

    Raises:
        InputError: a protocol is missing or malformed.
    """
    import torch

    protocols = {name: corpus[name].trials.digest for name in splits}
    for name in splits:
        protocols |= {f"{name} of {part.name}": part.split.trials.digest for part in corpus[name].filled()}
    made: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": platform.node(),
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "versions": versions(),
    }
    identity = config.identity() | {"seed": seed, "device": device.partition(":")[0]}
    return RunRecord(
        mode=mode,
        system=config.architecture,
        seed=seed,
        device=device,
        config=config.raw,
        config_file=config.source,
        command=[sys.executable, *(word for word in sys.argv if word != "--resume")],
        working_directory=os.getcwd(),
        started=made["started"],
        commit=made["commit"],
        versions=made["versions"],
        sessions=[{"epoch": 0, "step": 0, **made}],
        protocols=protocols,
        experiment=identity | {f"protocol of {name}": digest for name, digest in protocols.items()},
    )


def check_same_experiment(own: Mapping[str, Any], other: Mapping[str, Any], folder: Path) -> list[str]:
    """Refuse to resume from what lies in `folder` if it is of another experiment.

    Returns:
        the keys that may change, and have, as "key: before -> now".

    Raises:
        InputError: naming the first differences.
    """
    own, other = _current_keys(own), _current_keys(other)
    names = [name for name in {**own, **other} if own.get(name) != other.get(name)]

    def may_change(name: str) -> bool:
        # With a rate of their own, the front end's parameters are a group of their own.
        grouped = name == "optim_config.front_end_lr" and None in (own.get(name), other.get(name))
        return name in CHANGEABLE and not grouped

    changed = [f"{name}: {other.get(name)!r} -> {own.get(name)!r}" for name in names if may_change(name)]
    names = [name for name in names if not may_change(name)]
    if names:
        first = "; ".join(f"{name} is {other.get(name)!r} there and {own.get(name)!r} here" for name in names[:3])
        more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
        raise InputError(
            f"{folder}: holds the state of another experiment ({first}{more}); give this one a --comment or another "
            "--output_dir, or leave out --resume to back that one up"
        )
    return changed


def resume_session(record: RunRecord, state: Mapping[str, Any]) -> list[str]:
    """Put the sessions of a training's state before this one; returns what differs from the last, "key: then -> now".

    Bytes are only promised for the same code, versions and number of threads.
    """
    earlier, own = list(state.get("sessions", ())), record.sessions[-1]
    own |= {"epoch": state["progress"]["epoch"], "step": state["progress"]["step"]}
    record.sessions = [*earlier, own]
    names = ("commit", "versions", "threads", "system_sha256", "audio")
    return _differences(earlier[-1] if earlier else {}, own, names)


def _differences(last: Mapping[str, Any], own: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """What differs between two sessions, as "key: then -> now"; nothing of what the last did not record."""
    return [
        f"{name}: {last[name]!r} -> {own.get(name)!r}" for name in names if name in last and last[name] != own.get(name)
    ]


def finished_record(path: Path, own: RunRecord) -> RunRecord | None:
    """The record of a finished training of the same experiment at `path`, or None.

    Another value of a key that a resumed training may change, or another version of the code, is a warning.

    Args:
        own: the record of the training that is asked for.

    Raises:
        InputError: it was trained with another learning rate, or another limit of the gradient.
    """
    try:
        record = RunRecord.read(path)
    except (OSError, InputError):
        return None
    if record.mode != "train":
        return None
    try:
        changed = check_same_experiment(own.experiment, record.experiment, path.parent)
    except InputError:
        return None
    rates = [difference for difference in changed if difference.startswith("optim_config.")]
    if rates:
        raise InputError(
            f"{path.parent}: holds this training, finished with another {rates[0]}; give this one a --comment or "
            "another --output_dir, or rename that folder"
        )
    code = _differences(record.sessions[-1] if record.sessions else {}, own.sessions[-1], ("commit", "versions"))
    for difference in (*changed, *code):
        log.warning("%s: finished with another %s", path.parent, difference)
    return record


def _current_keys(identity: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {_FORMER_KEYS.get(name, name): value for name, value in identity.items()}
    return {name: value for name, value in renamed.items() if name}


def versions() -> dict[str, str]:
    """Versions of what the results depend on."""
    import numpy
    import soundfile
    import torch

    return {
        "s2pecnet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda),
        "numpy": numpy.__version__,
        "soundfile": soundfile.__version__,
    }


def commit() -> str | None:
    """The commit of this code, "-dirty" behind it where files differ from it; None outside a git checkout."""
    # An installed copy may lie in the checkout of something else, whose commit says nothing about it.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return _commit_of_head()
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _commit_of_head() -> str | None:
    """The commit that HEAD names, where git itself refuses to look: the checkout is another user's.

    Whether files differ from it cannot be said: "-unverified".
    """
    git = CODE.parents[1] / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if head.startswith("ref: "):
            name = head.removeprefix("ref: ")
            packed = (git / "packed-refs").read_text() if (git / "packed-refs").exists() else ""
            known = {ref: sha for sha, _, ref in (line.partition(" ") for line in packed.splitlines())}
            head = (git / name).read_text().strip() if (git / name).exists() else known[name]
    except (OSError, KeyError):
        return None
    return f"{head}-unverified" if re.fullmatch("[0-9a-f]{40}", head) else None


def _git(*words: str) -> str | None:
    """What git says of the folder of this code; None where it says nothing."""
    try:
        answer = subprocess.run(["git", "-C", str(CODE), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
