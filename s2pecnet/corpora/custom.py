"""Custom corpora: a CSV or TSV file, or two folders.

CSV, TSV (a file, or a folder with metadata.csv or metadata.tsv; UTF-8, a header line, a trial a line)
    path      required (or: file); relative to the file's folder, or absolute; any format of docs/audio.md
    label     required; one of `LABELS`. Numbers are refused: in some corpora 1 means fake, in others bona fide
    attack    of spoofs; left empty: "unknown"
    speaker   decides how a file without `split` is divided
    split     one of `SPLIT_WORDS`
    Other columns are not read. Columns are separated by tabs, commas or semicolons, as the header is; fields may
    be quoted, within their line.

Folders
    [<split>/]<label>/...    with the words of `SPLIT_WORDS` and `LABELS`; upper or lower case is the same
    A folder in the folder of spoofs is an attack: spoof/<attack>/.../x.wav; files beside it: "unknown".

What names no splits is divided by a hash of the speaker, or of the path where no speaker is given: `SHARES`. The same
speaker or path is always in the same split. Nothing is ever written where a corpus lies.
"""

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NoReturn

from s2pecnet.conventions import AUDIO_ENDINGS, KEYS, LABELS, OTHER_AUDIO, SPLITS
from s2pecnet.corpora.trials import (
    LONGEST_LINE,
    LONGEST_NAME,
    PATH_NAMES,
    UNKNOWN_ATTACK,
    Corpus,
    CorpusOptions,
    MissingClassError,
    OneClassError,
    OneClassPartError,
    OnError,
    Split,
    Trial,
    TrialList,
    Trials,
    as_columns,
    decode_name,
    encode_name,
    report,
)
from s2pecnet.errors import InputError

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("eval", "evaluation", "test", "testing"), "eval"),
}
# Of the hashes, up to where a split reaches.
SHARES = {"train": 0.70, "dev": 0.85, "eval": 1.0}
SHARES_TEXT = "about 70 % train, 15 % dev, 15 % eval"

METADATA = ("metadata.csv", "metadata.tsv")
PATH_COLUMNS = ("path", "file")
COLUMNS = (*PATH_COLUMNS, "label", "attack", "speaker", "split")
EXPECTED = "of the header's columns"


def divide(speaker_or_path: str) -> str:
    """The split that a speaker, or a path, falls into.

    >>> [divide(speaker) for speaker in ("Ada", "Grace", "Katherine", "Mary")]
    ['train', 'eval', 'train', 'train']
    """
    digest = hashlib.sha256(speaker_or_path.encode(errors="surrogateescape")).digest()
    location = int.from_bytes(digest[:8], "big") / 2**64
    return next(split for split, end in SHARES.items() if location < end)


def split_of(speaker: str, utterance: str) -> str:
    """The split that a trial falls into: by its speaker ("" or "-": not known), else by its path."""
    return divide(speaker if speaker not in ("", "-") else decode_name(utterance))


# --------------------------------------------------------------------------------- CSV


def find_csv(root: Path, options: CorpusOptions) -> Corpus | None:
    """A CSV or TSV file, or a folder with metadata.csv or metadata.tsv.

    Raises:
        InputError: its header cannot be used; with file and line.
    """
    if root.suffix.lower() in (".csv", ".tsv") and not root.is_dir():
        file: Path | None = root
    else:
        file = next((root / name for name in METADATA if (root / name).is_file()), None)
    if file is None:
        return None
    columns = _read_header(file)[1]
    whole = "split" not in columns and options.split_policy == "eval"
    divided = "split" not in columns and not whole
    listed = csv_list(file, divided)
    note, hint = None, ""
    if divided:
        hint = f"; it is divided by a hash, {SHARES_TEXT}; add a column split to divide it otherwise"
        note = division_note(file, "speaker" if "speaker" in columns else "path")
    splits = {}
    for name in ("eval",) if whole else SPLITS:
        read = partial(listed.part, None if whole else (name,), hint=hint)
        splits[name] = Split(name, file, file.parent, None, read, PATH_NAMES)
    return Corpus("CSV", splits, note, root)


def division_note(root: Path, by: str) -> str:
    """What a user should know of a corpus that is divided by a hash."""
    return (
        f"{root} names no splits: it is divided by a hash of the {by}, {SHARES_TEXT} "
        "(--set split_policy=eval takes all of it as eval)"
    )


def has_columns(file: Path, columns: Sequence[str]) -> bool:
    """Whether a file is there whose header has these columns and no other."""
    try:
        return file.is_file() and _read_header(file, columns[-1])[1] == tuple(columns)
    except InputError:
        return False


def csv_list(file: Path, divided: bool = False, bonafide_attack: str | None = None) -> TrialList:
    """The trials of a CSV file.

    Args:
        divided: a trial's part is the split that its speaker or path falls into.
        bonafide_attack: the word that the column `attack` has for bona fide speech, in a list without labels.

    Raises:
        InputError: the header cannot be used.
    """
    parse = partial(_parse, *_read_header(file, "attack" if bonafide_attack else "label"), divided, bonafide_attack)
    return TrialList(file, parse, EXPECTED, header=1)


def _parse(
    delimiter: str,
    columns: tuple[str, ...],
    divided: bool,
    bonafide_attack: str | None,
    file: Path,
    number: int,
    line: str,
) -> Trial:
    location = f"{file}:{number}"
    fields = _split_line(location, line, delimiter)
    if len(fields) != len(columns):
        raise InputError(f"{location}: got {len(fields)} fields, expected {len(columns)}: {delimiter.join(columns)}")
    row = dict(zip(columns, fields, strict=True))
    path = row.get("path") or row.get("file")
    if not path:
        raise InputError(f"{location}: the path is empty")
    if "\\" in path:
        raise InputError(f"{location}: path {path!r} has a backslash; separate folders with '/'")
    utterance = short_name(location, "path", encode_name(str(PurePosixPath(path))))
    if bonafide_attack is not None:
        row = (
            row | {"label": "bonafide"} | {"attack": ""}
            if row["attack"] == bonafide_attack
            else row | {"label": "spoof"}
        )
    key = known(location, "label", row["label"], LABELS)
    speaker = row.get("speaker", "")
    part = known(location, "split", row["split"], SPLIT_WORDS) if "split" in row else ""
    if divided:
        part = split_of(speaker, utterance)
    return Trial(speaker or "-", utterance, trial_attack(location, key, row.get("attack", "")), key, number, part)


def trial_attack(location: str, key: str, attack: str) -> str:
    """A trial's attack, from what a list says of it.

    Raises:
        InputError: bona fide speech has one, or it is too long a name.
    """
    if key == "spoof":
        return UNKNOWN_ATTACK if attack in ("", "-") else short_name(location, "attack", encode_name(attack))
    if attack in ("", "-") or LABELS.get(attack.lower()) == "bonafide":
        return "-"
    what = f"a bona fide trial with attack {attack!r}; correct the label, or leave its attack empty"
    raise InputError(f"{location}: {what}")


def _split_line(location: str, line: str, delimiter: str) -> list[str]:
    if "\0" in line:
        raise InputError(f"{location}: not a text file in UTF-8, a line holds a zero byte")
    try:
        (fields,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise InputError(f"{location}: {error}; a quoted field is to end on its line, before a separator") from None
    return [field.strip() for field in fields]


def _read_header(file: Path, required: str = "label") -> tuple[str, tuple[str, ...]]:
    """The header of a CSV file: that of the usual separators that makes columns of it, and these in lower case."""
    try:
        with open(file, "rb") as stream:
            line = stream.readline(LONGEST_LINE).decode("utf-8-sig").rstrip("\r\n")
    except FileNotFoundError:
        raise InputError(f"{file}: no such list of trials") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}:1: not a text file in UTF-8; expected a header with path and label") from None
    location = f"{file}:1"
    for delimiter in "\t,;":
        columns = tuple(name.lower() for name in _split_line(location, line, delimiter)) if line else ()
        if required in columns and len([name for name in columns if name in PATH_COLUMNS]) == 1:
            twice = sorted({name for name in COLUMNS if columns.count(name) > 1})
            if twice:
                raise InputError(f"{location}: the column {twice[0]} stands twice")
            return delimiter, columns
    raise InputError(
        f"{location}: {line[:80]!r} is no header with the columns path and label (and, if you have them, attack, "
        "speaker and split), separated by commas, semicolons or tabs"
    )


def columns_not_read(file: Path) -> list[str]:
    """The columns of a CSV file that are not read."""
    return [name for name in _read_header(file)[1] if name not in COLUMNS]


def known(location: str, column: str, word: str, words: dict[str, str]) -> str:
    """What a word of a list means.

    Raises:
        InputError: it is none of the words.
    """
    found = words.get(word.lower())
    if found is None:
        number = "; numbers are refused: in some corpora 1 means fake, in others bona fide" if word.isdecimal() else ""
        raise InputError(f"{location}: {column} {word!r}, expected one of {', '.join(words)}{number}")
    return found


def short_name(location: str, what: str, name: str) -> str:
    """The name, if it is short enough for score files.

    Raises:
        InputError: it is not.
    """
    if len(name.encode()) > LONGEST_NAME:
        raise InputError(
            f"{location}: {what} of {len(name.encode())} bytes, expected at most {LONGEST_NAME}, as it stands in "
            "score files; use shorter names, or paths relative to the list"
        )
    return name


# --------------------------------------------------------------------------------- folders


def find_folders(root: Path, options: CorpusOptions) -> Corpus | None:
    """Folders named for labels, in folders named for splits or not.

    Raises:
        InputError: there are both.
    """
    if not root.is_dir():
        return None
    labelled = folders_named(root, LABELS)
    of_splits = [folder for folder in folders_named(root, SPLIT_WORDS) if folders_named(folder, LABELS)]
    by_split = {SPLIT_WORDS[folder.name.lower()]: folder for folder in of_splits}
    if len(of_splits) > len(by_split) or (labelled and by_split):
        names = ", ".join(f"{folder.name}/" for folder in [*labelled, *of_splits])
        raise InputError(
            f"{root}: holds {names}; expected folders of labels, or one folder a split with folders of labels in it"
        )
    note = None
    found: dict[str, tuple[Path, str | None]] = {name: (by_split[name], None) for name in SPLITS if name in by_split}
    if not by_split:
        classes = {LABELS[folder.name.lower()] for folder in labelled}
        # Folders of one class are a corpus where all of it is to be scored, and no other folder may be of the other.
        others = any(path.is_dir() and path not in labelled for path in root.iterdir() if path.name[0] != ".")
        if len(classes) < (1 if options.split_policy == "eval" and not others else len(KEYS)):
            return None
        if options.split_policy == "eval":
            found = {"eval": (root, None)}
        else:
            note, found = division_note(root, "path"), {name: (root, name) for name in SPLITS}
    splits = {}
    for name, (folder, part) in found.items():
        splits[name] = Split(name, folder, root, None, partial(read_folders, root, folder, part), PATH_NAMES)
    return Corpus("folders", splits, note, root, tuple(_unused_audio(root, [folder for folder, _ in found.values()])))


def folders_named(folder: Path, words: Iterable[str]) -> list[Path]:
    """The folders below a folder whose names are among the words, in any case."""
    return sorted(path for path in folder.iterdir() if path.name.lower() in words and path.is_dir())


def _unused_audio(root: Path, used: list[Path]) -> Iterator[str]:
    """Audio that is neither in a folder of a split nor in one of a label: files, and folders that hold some."""
    for parent in dict.fromkeys([root, *used]):
        taken = folders_named(parent, LABELS) if parent in used else used
        for path in sorted(parent.iterdir()):
            if path.name.startswith(".") or path in taken or path in used:
                continue
            below = os.walk(path) if path.is_dir() else [("", (), [path.name])]
            endings = (os.path.splitext(name)[1].lower() for _, _, names in below for name in names)
            if any(ending in AUDIO_ENDINGS | OTHER_AUDIO for ending in endings):
                yield f"{path.relative_to(root)}{'/' if path.is_dir() else ''}"


def read_folders(root: Path, folder: Path, part: str | None = None, on_error: OnError | None = None) -> Trials:
    """The audio files below the folders of labels.

    Args:
        root: paths, and so the names of utterances, start from here.
        folder: holds the folders of labels.
        part: takes only what falls into this split; None: all.
        on_error: as in `TrialList.part`.

    Raises:
        InputError: a class is missing, or a file cannot be listed.
    """
    names = []
    for top in folders_named(folder, LABELS):
        for path in _audio_below(top):
            relative = os.path.relpath(path, root)
            if part is None or divide(relative) == part:
                names.append(short_name(path, "path", encode_name(relative)))
    depth = len(folder.relative_to(root).parts)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    trials = as_columns(folder, (_trial_of(name, depth) for name in names), digest)
    keys = trials.keys()
    if len(keys) < len(KEYS):
        what = f"its {part} part" if part else "the folder"
        found = f"{what} is all {keys[0]}" if keys else f"{what} has no audio files"
        hint = f"; it is divided by a hash, {SHARES_TEXT}" if part else ""
        kind = (OneClassPartError if part else OneClassError) if keys else (MissingClassError if part else InputError)
        report(kind(f"{folder}: {found}; both classes are needed{hint}"), on_error)
    return trials


def _trial_of(name: str, depth: int) -> Trial:
    """The trial of a path below the root, whose part `depth` names the label."""
    label, *inner = name.split("/")[depth:]
    key = LABELS[label.lower()]
    attack = "-" if key == "bonafide" else inner[0] if len(inner) > 1 else UNKNOWN_ATTACK
    return Trial("-", name, attack, key, 0)


def _audio_below(top: Path) -> Iterator[str]:
    """Audio files below a folder, in the order of their names; links are followed, hidden files skipped.

    Raises:
        InputError: a file is audio that libsndfile does not read, or its name is not valid text.
    """

    def stop(error: OSError) -> NoReturn:
        raise error

    seen = set()
    for folder, inner, files in os.walk(top, onerror=stop, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            path, ending = os.path.join(folder, name), os.path.splitext(name)[1].lower()
            if ending in OTHER_AUDIO:
                raise InputError(f"{path}: libsndfile does not read {ending} files; convert them, to FLAC for example")
            if ending not in AUDIO_ENDINGS:
                continue
            try:
                path.encode()
            except UnicodeEncodeError:
                what = f"{os.fsencode(path)!r}: a file name that is not valid text (UTF-8); rename it"
                raise InputError(what) from None
            yield path
