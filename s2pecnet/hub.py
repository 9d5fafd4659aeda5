"""Trained systems on the Hugging Face Hub: a run as a model repository, and back.

    model_card        a run's README.md, with the Hub's YAML header
    save_pretrained   the repository as a folder: README.md, config.conf, model.safetensors
    push_to_hub       the same, uploaded
    from_pretrained   a repository, or such a folder, as a scorer

Everything comes from the run record (results.json). Code is never fetched: a repository of a system of your own needs
the file of that system in ./models/.
"""

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2pecnet.config.experiment import Config, load_config
from s2pecnet.conventions import POLARITY, RUN_FILES, SAMPLE_RATE
from s2pecnet.errors import InputError
from s2pecnet.extras import require
from s2pecnet.files import atomic_write, write_json
from s2pecnet.metrics.countermeasure import Metrics
from s2pecnet.runs.folder import RunFolder
from s2pecnet.runs.provenance import RunRecord
from s2pecnet.text import first_line

if TYPE_CHECKING:
    from s2pecnet.systems.scorer import Scorer

CARD, CONFIG, WEIGHTS = "README.md", "config.conf", "model.safetensors"
PathLike = str | os.PathLike[str]


def model_card(run: PathLike, license: str | None = None) -> str:
    """The model card of a finished training: Markdown behind the Hub's YAML header.

    Args:
        run: the run's folder.
        license: of the weights, as the Hub names it ("mit"); None: the card says none.

    Raises:
        InputError: the folder holds no finished training.
    """
    return _card(*_read_run(run), license)


def _card(record: RunRecord, config: Config, license: str | None) -> str:
    yaml = require("yaml", "hub", "a model card")
    evaluated = {name: record.metrics[name] for name in ("dev", "eval", "eval_swa") if name in record.metrics}
    data = {name: _corpora_of(name, record, config) for name in ("train", "dev", "eval")}
    header = {
        **({"license": license} if license else {}),
        "library_name": "s2pecnet",
        "pipeline_tag": "audio-classification",
        "tags": ["audio-anti-spoofing", "speech-deepfake-detection", record.system],
        "model-index": [
            {
                # The run's own copy of the config is called config.conf.
                "name": Path(record.config_file or config.source).stem,
                "results": [
                    {
                        "task": {"type": "audio-classification", "name": "audio anti-spoofing"},
                        "dataset": {"type": data[name], "name": data[name], "split": name},
                        "metrics": _hub_metrics(metrics),
                    }
                    for name, metrics in evaluated.items()
                    if name != "eval_swa"
                ],
            }
        ],
    }
    rows = [_row(name, metrics, record) for name, metrics in evaluated.items()]
    seconds = config.samples / SAMPLE_RATE
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    size = f"{record.parameters:,} parameters" if record.parameters else "size not recorded"
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {record.system}, trained on {data['train']}",
        "",
        f"A countermeasure against synthetic speech: {size}, one score for {seconds:.3g} s of speech at 16 kHz, "
        f"{POLARITY}.",
        "",
        "## Use",
        "",
        "```python",
        "from s2pecnet.hub import from_pretrained",
        "",
        'scorer = from_pretrained("<owner>/<name>")  # float32 (B, samples) at 16 kHz -> scores (B,)',
        "```",
        "",
        "## Metrics",
        "",
        "| trials | bona fide | spoofed | EER (%) | 95 % interval | min t-DCF | minDCF |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        *_remarks_on_scoring(config),
        f"The epoch was selected on dev (epoch {record.selected_epoch}); eval was scored once. Intervals are of the "
        "trials, not of other speakers, attacks or seeds. Scores depend on level, channel and codec; fit a calibration "
        "on data like yours before you take verdicts from them.",
        "",
        "## Training",
        "",
        f"- seed {record.seed}, {config.num_epochs} epochs, batch {config.batch_size}, on {record.device}; commit "
        f"{record.commit or 'not recorded'}",
        f"- {versions}",
        f"- the complete config is {CONFIG}; SHA-256 of the trials: "
        + ", ".join(f"{name} {digest[:16]}" for name, digest in record.protocols.items()),
    ]
    return "\n".join(lines) + "\n"


def _remarks_on_scoring(config: Config) -> list[str]:
    """What a reader of the metrics has to know, a paragraph each."""
    remarks = []
    if config.eval_crop == "windows":
        remarks += ["A score here is the mean over windows of the complete recording, one every half window.", ""]
    left_out = {name: attacks for name, attacks in dataclasses.asdict(config.leave_out).items() if attacks}
    if left_out:
        words = "; ".join(f"of {name} {', '.join(attacks)}" for name, attacks in left_out.items())
        remarks += [f"Attacks that were left out: {words}.", ""]
    return remarks


def save_pretrained(run: PathLike, folder: PathLike, license: str | None = None) -> Path:
    """Write a finished training as a model repository: card, config, and the selected epoch's weights.

    Raises:
        InputError: the run holds no finished training, its weights are damaged, or the folder holds files of the same
            names that are not of an earlier repository.
        OSError: the folder cannot be written.
    """
    import torch

    from s2pecnet.systems.build import System
    from s2pecnet.systems.weights import description, save_weights

    record, config = _read_run(run)
    card, target = _card(record, config, license), Path(folder)
    taken = [name for name in (CARD, CONFIG, WEIGHTS) if (target / name).exists()]
    if (taken and len(taken) < 3) or (target / RUN_FILES["results"]).exists():
        found = taken[0] if taken else RUN_FILES["results"]
        raise InputError(f"{target}: holds a {found} that is not of a model repository; choose another folder")
    weights = RunFolder(run, config).weights("best")
    system = System.load(config, weights, torch.device("cpu"))
    target.mkdir(parents=True, exist_ok=True)
    save_weights(system.model, target / WEIGHTS, description(weights))
    # The paths of the machine that trained say nothing elsewhere.
    write_json(target / CONFIG, config.raw | {"model_path": WEIGHTS, "database_path": "."})
    with atomic_write(target / CARD) as stream:
        stream.write(card)
    return target


def push_to_hub(run: PathLike, repo_id: str, private: bool = False, license: str | None = None) -> str:
    """Upload a finished training to the Hub, whose token huggingface_hub finds; returns the address.

    Args:
        repo_id: "<owner>/<name>", made where it does not exist.

    Raises:
        InputError: as `save_pretrained`, huggingface_hub is not installed, or the Hub refuses.
    """
    hub = require("huggingface_hub", "hub", "the Hugging Face Hub")
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_pretrained(run, scratch, license)
        try:
            hub.HfApi().create_repo(repo_id, private=private, exist_ok=True)
            return str(hub.HfApi().upload_folder(repo_id=repo_id, folder_path=str(folder)))
        except Exception as error:  # a name that is none, what the Hub says, whatever the library's network raises
            raise InputError(f"{repo_id}: the Hub refuses ({first_line(error)}); try `hf auth login`") from None


def from_pretrained(name: PathLike, device: str = "auto", revision: str | None = None) -> "Scorer":
    """A system from the Hub, or from a folder of `save_pretrained`, as `load_scorer` gives it.

    Args:
        name: "<owner>/<name>" at the Hub, or a folder.
        revision: a branch, tag or commit at the Hub.

    Raises:
        InputError: it is not there, or no repository of this framework; or its system is not known here.
    """
    from s2pecnet import load_scorer

    folder = Path(name)
    if not folder.is_dir():
        hub = require("huggingface_hub", "hub", "the Hugging Face Hub")
        try:
            fetched = hub.snapshot_download(str(name), revision=revision, allow_patterns=[CONFIG, WEIGHTS])
        except (ValueError, OSError) as error:  # a name that is none; the network, what the Hub says
            raise InputError(f"{name}: no such folder, and not to be had from the Hub ({first_line(error)})") from None
        folder = Path(fetched)
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise InputError(f"{name}: holds no {file}; expected what save_pretrained or push_to_hub wrote")
    return load_scorer(load_config(folder / CONFIG), folder / WEIGHTS, device)


def _read_run(run: PathLike) -> tuple[RunRecord, Config]:
    folder = Path(run)
    if not (folder / RUN_FILES["results"]).is_file():
        raise InputError(f"{folder}: holds no {RUN_FILES['results']}; expected the folder of a finished training")
    record = RunRecord.read(folder / RUN_FILES["results"])
    if record.mode != "train":
        raise InputError(f"{folder}: an evaluation, expected the folder of a finished training")
    return record, load_config(folder / RUN_FILES["config"])


def _corpora_of(split: str, record: RunRecord, config: Config) -> str:
    """What a split is of: the corpus and track of the config, or the names of several corpora."""
    names = [name.removeprefix(f"{split} of ") for name in record.protocols if name.startswith(f"{split} of ")]
    return " and ".join(names) or f"{config.corpus} {config.track}".removeprefix("auto ")


def _hub_metrics(metrics: Metrics) -> list[dict[str, Any]]:
    found = [{"type": "eer", "name": "EER (%)", "value": round(100 * metrics.eer, 4)}]
    if metrics.min_tdcf is not None:
        found.append({"type": "min_tdcf", "name": "min t-DCF", "value": round(metrics.min_tdcf, 5)})
    return found


def _row(name: str, metrics: Metrics, record: RunRecord) -> str:
    interval = record.intervals.get(name, {}).get("eer")
    between = "-" if interval is None else f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
    costs = ["-" if cost is None else f"{cost:.4f}" for cost in (metrics.min_tdcf, metrics.min_dcf)]
    title = {"eval_swa": "eval, averaged weights"}.get(name, name)
    cells = [title, f"{metrics.n_bonafide:,}", f"{metrics.n_spoof:,}", f"{100 * metrics.eer:.3f}", between, *costs]
    return f"| {' | '.join(cells)} |"
