"""Folders as trainings leave them, made of drawn scores: what reports are tested with."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.published import read_protocol
from s2pecnet.files import write_json
from s2pecnet.metrics.countermeasure import evaluate
from s2pecnet.runs.provenance import VERSION
from s2pecnet.score_files.cm_asv import CMScores, read_asv_scores, read_cm_scores
from tests.helpers.samples import TINIEST


def write_scores(path: Path, protocol: Path, seed: int, apart: float = 0.8) -> CMScores:
    """Scores of a protocol's trials, bona fide ones higher by `apart` on average."""
    generator = np.random.default_rng(seed)
    lines = [
        f"{trial.utterance} {trial.attack} {trial.key} {generator.normal(apart * trial.label):.6g}\n"
        for trial in read_protocol(protocol)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    return read_cm_scores(path)


def make_run(folder: Path, corpus: Path, seed: int = 0, **changes: Any) -> Path:
    """A folder as a training leaves it: four epochs, epoch 2 selected."""
    dev, evaluated = find_split(corpus, "LA", "dev"), find_split(corpus, "LA", "eval")
    name = "eval_scores_using_best_dev_model"
    metrics = {}
    for key, path, split in (
        ("eval", folder / f"{name}.txt", evaluated),
        ("eval_swa", folder / f"{name}_swa.txt", evaluated),
        ("dev", folder / "dev_scores.txt", dev),
    ):
        seed += 1
        scores = write_scores(path, split.protocol, seed)
        assert split.asv_scores is not None
        metrics[key] = evaluate(scores, read_asv_scores(split.asv_scores)).as_dict()
    history = [
        {"epoch": epoch, "loss": 1 / (epoch + 1), "terms": {"first": 0.5, "second": 0.1 * epoch}, "learning_rate": 1e-4,
         "utterances_per_second": 10.0, "dev": metrics["dev"] | {"eer": 0.4 - 0.05 * epoch}}
        for epoch in range(4)
    ]  # fmt: skip
    results = {
        "mode": "train", "system": "S2pecNet", "seed": seed, "device": "cpu", "started": "2024-05-01T10:00:00+0000",
        "command": ["python", "main.py", "--config", "a b.conf"], "working_directory": str(folder), "commit": "abc123",
        "versions": {"torch": "2.11.0"}, "protocols": {"eval": "12ab"}, "config_file": "a b.conf",
        "config": TINIEST | {"database_path": str(corpus), "track": "LA", "batch_size": 6,
                             "model_config": TINIEST["model_config"] | {"nb_samp": 4800}},
        "selected_epoch": 2, "swa_epochs": 3, "metrics": metrics, "history": history, "skipped_batches": 0,
        "version": VERSION,
        "wall_time_s": 61.2, "parameters": 12345,
    }  # fmt: skip
    write_json(folder / "results.json", results | changes)
    return folder


def change(folder: Path, **changes: Any) -> None:
    """Change what results.json says."""
    path = folder / "results.json"
    write_json(path, json.loads(path.read_text()) | changes)
