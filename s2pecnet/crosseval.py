"""A trained system over corpora: the scores of each one's eval split, kept, and taken again where nothing has changed.

    <output_dir>/crosseval/<system>/<corpus>.txt    scores, "utterance attack key score" a line
                                    <corpus>.json   what they were made of, and the SHA-256 of the score file

Kept scores are taken where all of this is the same: the weights (SHA-256), the system's source file, the config but for
where its corpus lies, the trials (SHA-256 of the lists), sizes and lengths of the audio files, this framework's
version, and the score file itself. Otherwise the corpus is scored again, and the note says what has changed.
"""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s2pecnet import __version__
from s2pecnet.config.experiment import NOTHING_LEFT_OUT, Config
from s2pecnet.errors import InputError
from s2pecnet.experiment import corpus_of, scored_split
from s2pecnet.files import sha256_of, write_json
from s2pecnet.interruption import handle_signals
from s2pecnet.locks import run_lock
from s2pecnet.metrics.crosseval import check_corpora
from s2pecnet.runs.folder import RunFolder
from s2pecnet.runs.provenance import RunRecord
from s2pecnet.score_files.cm_asv import ASVScores, CMScores, read_cm_scores
from s2pecnet.scoring.splits import score_split, write_score_file
from s2pecnet.systems.build import System
from s2pecnet.text import listed

log = logging.getLogger(__name__)
# Of a config, what only says where a corpus lies: the trials and their audio are compared themselves.
_PLACES = ("database_path", "track", "corpus", "split_policy", "eval_subset", "asv_score_path", "asv_score_path_dev")


@dataclass(frozen=True)
class Place:
    """A split of a corpus to be scored.

    Attributes:
        name: what the tables call it.
        path: where it lies; None: the config's.
        track: LA, PA or DF; None: the config's.
    """

    name: str
    path: str | None
    track: str | None = None
    split: str = "eval"


@dataclass(frozen=True)
class CorpusScores:
    """The scores of a corpus, and the ASV scores that lie with it."""

    scores: CMScores
    asv: ASVScores | None


def score_corpora(system: System, places: list[Place], folder: Path, cache: Path) -> dict[str, CorpusScores]:
    """Score splits of corpora, or take the scores that are kept; by the names of the places.

    Args:
        folder: where this system's scores are kept.
        cache: of the audio's headers.

    Raises:
        InputError: a corpus is not there or not in order, its audio cannot be used, or another process scores there.
    """
    found = {}
    with handle_signals(), run_lock(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for place in places:
            found[place.name] = _score(system, place, folder, cache)
    return found


def _score(system: System, place: Place, folder: Path, cache: Path) -> CorpusScores:
    config = system.config if place.track is None else replace(system.config, track=place.track)
    if place.path is not None and not _is_own(place, system.config):
        # What the config says of its own corpus does not hold of another.
        config = replace(config, asv_score_path=None, asv_score_path_dev=None, leave_out=NOTHING_LEFT_OUT)
    corpus = corpus_of(config, place.path)
    # Trials of one class have scores too.
    corpus = replace(corpus, splits={name: split.of_any_class() for name, split in corpus.splits.items()})
    # Of several corpora in one folder each has its own list of what is skipped.
    record, own = RunRecord(), RunFolder(folder / f"{place.name}_audio", config)
    scored = scored_split(config, corpus, place.split, system.inputs, cache, own, record)
    path, about = folder / f"{place.name}.txt", folder / f"{place.name}.json"
    made_of = _identity(system, config) | {
        "trials": scored.trials.digest,
        "audio": record.audio[place.split],
        "split": place.split,
    }
    changed = _what_changed(path, about, made_of)
    if not changed:
        log.info("%s: scored before with the same weights and trials (%s)", place.name, path)
    else:
        log.info("%s: %d trials of %s to score%s", place.name, len(scored.trials), corpus.root, changed[0])
        skipped = own.skip_list(place.split)
        if skipped is not None:
            skipped.unlink(missing_ok=True)
        write_score_file(path, scored.trials, score_split(scored.loader, system.scorer(), scored.trials))
        write_json(about, made_of | {"scores_sha256": sha256_of(path)})
    return CorpusScores(read_cm_scores(path, both_classes=False), scored.asv)


def _is_own(place: Place, config: Config) -> bool:
    """Whether a place is the config's own corpus."""
    if not isinstance(config.database_path, str) or place.path is None or place.track not in (None, config.track):
        return False
    return Path(place.path).resolve() == Path(config.database_path).resolve()


def _identity(system: System, config: Config) -> dict[str, Any]:
    settings = {name: value for name, value in config.raw.items() if name not in _PLACES}
    return {
        "version": __version__,
        "weights_sha256": sha256_of(str(system.weights)),
        "system_sha256": system.source_sha256,
        # As it is read back: a JSON file knows no tuples.
        "config": json.loads(json.dumps(settings)),
    }


def _what_changed(path: Path, about: Path, made_of: dict[str, Any]) -> list[str]:
    """Empty where the scores that are kept are those of `made_of`; else why not, in words ("" where none are kept)."""
    if not path.is_file() or not about.is_file():
        return [""]
    try:
        kept = json.loads(about.read_text(encoding="utf-8"))
        differing = [name for name, value in made_of.items() if kept.get(name) != value]
        if not differing and kept.get("scores_sha256") != sha256_of(path):
            differing = ["the score file"]
    except (ValueError, AttributeError):
        differing = [f"{about.name}, which is damaged,"]
    return [f" again, as {listed(differing)} differ from what is kept"] if differing else []


def check_names(names: list[str], what: str) -> None:
    """Refuse names that come twice, that no file can have, or that rows of all corpora have.

    Raises:
        InputError: naming the first of them.
    """
    if what == "corpus":
        check_corpora(names)
    for number, name in enumerate(names):
        if not name or name.startswith(".") or "/" in name or not name.isprintable():
            raise InputError(f"{what} {name!r}: expected a name without '/' that does not begin with a dot")
        if name in names[:number]:
            raise InputError(f"{what} {name!r} comes twice; expected a different name for each, as NAME=PATH")
