"""Published corpora, read as they are published: ASVspoof2019, ASVspoof2021 (LA, DF), ASVspoof5 and In-the-Wild.

Under the folder of each (<track> is the config's `track`):

    ASVspoof2019   ASVspoof2019_<track>_cm_protocols/ASVspoof2019.<track>.cm.{train.trn,dev.trl,eval.trl}.txt
                   ASVspoof2019_<track>_{train,dev,eval}/flac/<utterance>.flac
                   ASVspoof2019_<track>_asv_scores/ASVspoof2019.<track>.asv.{dev,eval}.gi.trl.scores.txt
    ASVspoof2021   keys/<track>/CM/trial_metadata.txt or, as in an earlier package, keys/CM/trial_metadata.txt
                   ASVspoof2021_<track>_eval/flac/<utterance>.flac
    ASVspoof5      ASVspoof5.{train,dev.track_1,eval.track_1}.tsv, here or in ASVspoof5_protocols/
                   flac_T/, flac_D/, flac_E_eval/<utterance>.flac
                   keys/ may also lie in <track>-keys-full/ or another folder <track>-keys-*/, as its archive has it
    ASVspoof5      also ASVspoof5.{train,dev}.metadata.txt, the lists of the challenge phase
    In-the-Wild    [release_in_the_wild/]meta.csv, audio beside it or in release_in_the_wild/, or there in real/, fake/
    SpoofCeleb     metadata/{train,development,evaluation}.csv, flac/{train,development,evaluation}/<file>

Their columns, separated by spaces but for In-the-Wild:

    ASVspoof2019     speaker utterance environment attack key
    ASVspoof2021 LA  speaker utterance codec transmission attack key trim subset
    ASVspoof2021 DF  the same with source for transmission, then vocoder task team gender-pair language
    ASVspoof5        speaker utterance gender codec codec_q codec_seed attack_tag attack_label key tmp
      of the challenge speaker utterance gender attack_tag attack_label key
    In-the-Wild      file,speaker,label
    SpoofCeleb       file,speaker,attack

Sources: ASVspoof2021, README.md ("On meta-labels") and config.py of
https://github.com/asvspoof-challenge/2021/tree/main/eval-package; ASVspoof5, README.txt, section 3, of
https://huggingface.co/datasets/jungjee/asvspoof5 (also https://zenodo.org/records/14498691); In-the-Wild, the
meta.csv of release_in_the_wild.zip (Mueller et al., Interspeech 2022). The attack of bona fide trials, "bonafide" or
"-" there, is always "-" here.
"""

import itertools
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from s2pecnet.conventions import KEYS, SPLITS, SUBSETS
from s2pecnet.corpora.custom import csv_list, has_columns
from s2pecnet.corpora.trials import (
    LONGEST_NAME,
    PATH_NAMES,
    UNKNOWN_ATTACK,
    Corpus,
    CorpusOptions,
    Split,
    Trial,
    TrialList,
    Trials,
)
from s2pecnet.errors import InputError
from s2pecnet.text import clipped

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
KEYS_2021 = "trial_metadata.txt"
COLUMNS_2019 = "'speaker utterance environment attack key'"
COLUMNS_2021 = {
    "LA": "'speaker utterance codec transmission attack key trim subset'",
    "DF": "'speaker utterance codec source attack key trim subset vocoder task team gender-pair language'",
}
COLUMNS_5 = "'speaker utterance gender codec codec_q codec_seed attack_tag attack_label key tmp'"
# ASVspoof5.train.metadata.txt and ASVspoof5.dev.metadata.txt, as they were given out during the challenge.
COLUMNS_5_CHALLENGE = "'speaker utterance gender attack_tag attack_label key'"
FILES_5 = {
    "train": ("ASVspoof5.train.tsv", "flac_T/{}.flac"),
    "dev": ("ASVspoof5.dev.track_1.tsv", "flac_D/{}.flac"),
    "eval": ("ASVspoof5.eval.track_1.tsv", "flac_E_eval/{}.flac"),
}


# --------------------------------------------------------------------------------- ASVspoof2019


def find_asvspoof2019(root: Path, options: CorpusOptions) -> Corpus | None:
    """An ASVspoof2019 corpus, or one of anybody's in its layout."""
    folder = root / f"ASVspoof2019_{options.track}_cm_protocols"
    return asvspoof2019(root, options.track) if folder.is_dir() else None


def asvspoof2019(root: Path, track: str) -> Corpus:
    """The layout of ASVspoof2019 under `root`, whether there is anything or not."""
    splits = {}
    for name in SPLITS:
        file = f"ASVspoof2019.{track}.cm.{name}.{'trn' if name == 'train' else 'trl'}.txt"
        protocol = root / f"ASVspoof2019_{track}_cm_protocols" / file
        scores = root / f"ASVspoof2019_{track}_asv_scores" / f"ASVspoof2019.{track}.asv.{name}.gi.trl.scores.txt"
        read = partial(_list_2019(protocol).part, None)
        splits[name] = Split(name, protocol, root / f"ASVspoof2019_{track}_{name}", scores, read)
    return Corpus("ASVspoof2019", splits, root=root)


def _list_2019(path: Path) -> TrialList:
    return TrialList(
        path,
        partial(_parse, COLUMNS_2019),
        COLUMNS_2019,
        missing="no such protocol; expected database_path to be the folder that holds "
        "ASVspoof2019_<track>_cm_protocols, or another corpus of docs/own-data.md",
    )


def read_protocol(path: str | Path) -> Trials:
    """Check a protocol file of ASVspoof2019, "speaker utterance environment attack key" a line.

    Its trials may all be of one class: they can be scored, though a corpus with such a split cannot be trained on.

    Raises:
        InputError: the file is missing, empty or not text, or a line has another number of columns, an unknown key or
            an utterance that an earlier line has; with file and line.
    """
    return _list_2019(Path(path)).part(both_classes=False)


# --------------------------------------------------------------------------------- ASVspoof2021


def find_asvspoof2021(root: Path, options: CorpusOptions) -> Corpus | None:
    """The eval set of ASVspoof2021 LA or DF.

    Raises:
        InputError: the keys of another track than the config's are there.
    """
    track = options.track
    protocol = _protocol_2021(root, track)
    if protocol and track in COLUMNS_2021:
        parts = None if options.eval_subset == "all" else (options.eval_subset,)
        listed = TrialList(protocol, partial(_parse, COLUMNS_2021[track]), COLUMNS_2021[track])
        split = Split("eval", protocol, root / f"ASVspoof2021_{track}_eval", None, partial(listed.part, parts))
        return Corpus(f"ASVspoof2021 {track}", {"eval": split}, root=root)
    others = tracks_2021(root)
    if others:
        raise InputError(
            f"{root}: holds ASVspoof2021 {' and '.join(others)}, but track is {track}; set track={' or '.join(others)}"
        )
    return None


def tracks_2021(root: Path) -> list[str]:
    """The tracks of ASVspoof2021 under `root` that can be read."""
    return [track for track in COLUMNS_2021 if _protocol_2021(root, track)]


def _protocol_2021(root: Path, track: str) -> Path | None:
    """The keys of a track: keys/ beside the audio, or in the folder of their archive, LA-keys-full say."""
    beside = [root, *sorted(root.glob(f"{track}-keys-*"))]
    places = [folder / "keys" / track / "CM" for folder in beside]
    if (root / f"ASVspoof2021_{track}_eval").is_dir():
        places += [folder / "keys" / "CM" for folder in beside]
    return next((place / KEYS_2021 for place in places if (place / KEYS_2021).is_file()), None)


# --------------------------------------------------------------------------------- ASVspoof5


def find_asvspoof5(root: Path, options: CorpusOptions) -> Corpus | None:
    """ASVspoof5, track 1, with those splits whose protocol is there; the released one, or that of the challenge."""
    splits = {}
    for name, (file, audio) in FILES_5.items():
        challenge = f"ASVspoof5.{name}.metadata.txt"
        for protocol in (root / file, root / "ASVspoof5_protocols" / file, root / challenge):
            if protocol.is_file():
                columns = COLUMNS_5_CHALLENGE if protocol.name == challenge else COLUMNS_5
                listed = TrialList(protocol, partial(_parse, columns), columns)
                splits[name] = Split(name, protocol, root, None, partial(listed.part, None), audio)
                break
    return Corpus("ASVspoof5", splits, root=root) if splits else None


# --------------------------------------------------------------------------------- In-the-Wild


def find_in_the_wild(root: Path, options: CorpusOptions) -> Corpus | None:
    """In-the-Wild: a folder with its meta.csv, or that file. All of it is eval.

    On Kaggle its audio lies in real/ and fake/; an utterance is then called real/0.wav.
    """
    for file in (root, root / "meta.csv", root / "release_in_the_wild" / "meta.csv"):
        if file.name == "meta.csv" and has_columns(file, ("file", "speaker", "label")):
            beside = file.parent / "release_in_the_wild"
            audio = beside if beside.is_dir() else file.parent
            by_label = (audio / "real").is_dir() and (audio / "fake").is_dir() and not any(audio.glob("*.wav"))
            listed = csv_list(file)
            if by_label:
                listed.parse = partial(_in_folder_of_label, listed.parse)
            split = Split("eval", file, audio, None, partial(listed.part, None), PATH_NAMES)
            return Corpus("In-the-Wild", {"eval": split}, root=root)
    return None


def _in_folder_of_label(parse: Callable[[Path, int, str], Trial], path: Path, number: int, line: str) -> Trial:
    trial = parse(path, number, line)
    return trial._replace(utterance=f"{'real' if trial.key == 'bonafide' else 'fake'}/{trial.utterance}")


# --------------------------------------------------------------------------------- SpoofCeleb


def find_spoofceleb(root: Path, options: CorpusOptions) -> Corpus | None:
    """SpoofCeleb, with those splits whose list is there; attack a00 is bona fide speech."""
    splits = {}
    for name, part in (("train", "train"), ("dev", "development"), ("eval", "evaluation")):
        file = root / "metadata" / f"{part}.csv"
        if has_columns(file, ("file", "speaker", "attack")):
            listed = csv_list(file, bonafide_attack="a00")
            splits[name] = Split(name, file, root / "flac" / part, None, partial(listed.part, None), PATH_NAMES)
    return Corpus("SpoofCeleb", splits, root=root) if splits else None


# --------------------------------------------------------------------------------- what is missing


def lists_wanted(root: Path) -> str | None:
    """Which list of trials is wanted where the audio of a published corpus is there without it; None: no such audio."""
    for track in COLUMNS_2021:
        if (root / f"ASVspoof2021_{track}_eval").is_dir():
            archive = f"{track}-keys-full.tar.gz"
            return f"ASVspoof2021_{track}_eval/ is there, keys/{track}/CM/{KEYS_2021} is wanted ({archive})"
    for file, audio in FILES_5.values():
        folder = audio.partition("/")[0]
        if (root / folder).is_dir():
            return f"{folder}/ is there, {file} is wanted beside it (ASVspoof5_protocols.tar.gz)"
    if any((root / f"ASVspoof2019_{track}_eval").is_dir() for track in ("LA", "PA")):
        return "audio of ASVspoof2019 is there, its ASVspoof2019_<track>_cm_protocols/ is wanted beside it"
    for listed in itertools.islice(root.glob("fake/*/*/meta.csv"), 1):
        if listed.read_text(encoding="utf-8", errors="replace").startswith("path|"):
            return (
                "MLAAD, which has synthetic speech alone; put bona fide speech beside fake/ as real/ (it was made of "
                "M-AILABS), or score fake/ by s2pecnet predict"
            )
    return None


# --------------------------------------------------------------------------------- lines


def _parse(expected: str, path: Path, number: int, line: str) -> Trial:
    """The trial of a line with the columns that `expected` names.

    Raises:
        InputError: another number of columns, an unknown key or subset, or a name that may not stand in a score file.
    """
    location, names, columns = f"{path}:{number}", expected.strip("'").split(), line.split()
    if len(columns) != len(names):
        raise InputError(f"{location}: got {len(columns)} columns, expected {len(names)}: {expected}")
    row = dict(zip(names, columns, strict=True))
    utterance, key, subset = row["utterance"], row["key"], row.get("subset", "")
    if key not in KEYS:
        raise InputError(f"{location}: key {clipped(key)!r}, expected one of {', '.join(KEYS)}")
    if "subset" in row and subset not in SUBSETS:
        raise InputError(f"{location}: subset {subset!r}, expected one of {', '.join(SUBSETS)}")
    if "/" in utterance or "\\" in utterance or utterance in (".", ".."):
        raise InputError(f"{location}: utterance {clipped(utterance)!r}: expected a name, not a path")
    attack = row.get("attack") or row["attack_label"]
    words = [utterance, attack] if expected == COLUMNS_2019 else [utterance]
    if expected != COLUMNS_2019:
        attack = "-" if key == "bonafide" else UNKNOWN_ATTACK if attack == "-" else attack
    for word in words:
        if _CONTROL.search(word) or len(word.encode()) > LONGEST_NAME:
            what = f"expected a name of at most {LONGEST_NAME} bytes without control characters"
            raise InputError(f"{location}: {clipped(word)!r}: {what}")
    return Trial(row["speaker"], utterance, attack, key, number, subset)
