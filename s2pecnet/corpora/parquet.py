"""Parquet shards with the audio in them, as data sets of the Hugging Face Hub have it; and such a data set by its name.

A file, or a folder with *.parquet in it, up to two folders deep; a row is a trial. Columns, in upper or lower case:

    audio     required; {bytes, path}: an audio file of any format of docs/audio.md, and what it was called
    label     required (or: key); one of `LABELS`, or the number of a ClassLabel whose names are such words. Other
              numbers are refused: in some corpora 1 means fake, in others bona fide
    attack    of spoofs (or: attack_id, system_id); speaker (or: speaker_id); split: as in CSV files; numbers are names,
              0 too (but of bona fide speech: no attack), those of a ClassLabel mean its names

Splits are those of the column `split`, else of the shards' names or folders (`train-00000-of-00004.parquet`,
`test/0000.parquet`), else the corpus is divided as `custom` divides it. An utterance is called by the path in its row
where those are all different, else by its shard and row. Text columns are read at once, audio a row group at a time.

    database_path "hf://datasets/<owner>/<name>[@revision]"    a data set of the Hub, fetched into its cache
"""

import hashlib
import json
import os
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from s2pecnet.audio.containers.content import AudioBytes
from s2pecnet.conventions import LABELS, SPLITS
from s2pecnet.corpora.custom import SHARES_TEXT, SPLIT_WORDS, division_note, known, short_name, split_of, trial_attack
from s2pecnet.corpora.trials import PATH_NAMES, Corpus, CorpusOptions, Split, Trial, TrialList, encode_name
from s2pecnet.errors import InputError
from s2pecnet.extras import require
from s2pecnet.text import first_line, listed

AUDIO = "audio"
COLUMNS = {
    "label": ("label", "key"),
    "attack": ("attack", "attack_id", "system_id"),
    "speaker": ("speaker", "speaker_id"),
    "split": ("split",),
}
HUB = re.compile(r"hf:/{1,2}(?:datasets/)?([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?/?")
OFFLINE = "S2PEC_OFFLINE"
# Bytes of audio that a process holds: the row group that was read last, and others as far as they fit.
HELD = 1 << 28
_AT_ONCE = 1 << 12


def find_parquet(root: Path, options: CorpusOptions) -> Corpus | None:
    """Parquet shards at a path.

    Raises:
        InputError: their columns cannot be used, some shards name a split and others none, or pyarrow is not installed.
    """
    if root.is_dir():
        shards = sorted(path for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}.parquet"))
    else:
        shards = [root] if root.suffix.lower() == ".parquet" and root.is_file() else []
    if not shards:
        return None
    store = ParquetStore(root, tuple(shards))
    columns, note = store.columns, None
    named = {_split_named(root, shard) for shard in shards} if "split" not in columns else set()
    if "" in named and len(named) > 1:
        some = next(shard for shard in shards if not _split_named(root, shard))
        raise InputError(
            f"{some}: its name says no split and those of others do; expected names such as "
            "train-00000-of-00002.parquet, or a column split"
        )
    # By the column, by the names, divided, or all of it eval: also what has no eval of its own.
    by = "column" if "split" in columns else "name" if named != {""} else "divide"
    if options.split_policy == "eval" and (by == "divide" or (by == "name" and "eval" not in named)):
        by = "eval"
    if by == "divide":
        note = division_note(root, "speaker" if "speaker" in columns else "path")
    rows = ParquetList(store, by)
    hint = f"; it is divided by a hash, {SHARES_TEXT}" if by == "divide" else ""
    present = ["eval"] if by == "eval" else sorted(named, key=SPLITS.index) if by == "name" else SPLITS
    splits = {
        name: Split(name, root, root, None, partial(rows.part, (name,), hint=hint), PATH_NAMES, store)
        for name in present
    }
    return Corpus("Parquet", splits, note, root)


def _split_named(root: Path, shard: Path) -> str:
    """The split that a shard's name begins with, or a folder of it is called by; "" if none."""
    inner = shard.relative_to(root).parts if root.is_dir() else (shard.name,)
    words = [re.split(r"[^a-z]", part.lower())[0] for part in reversed(inner)]
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "")


@dataclass(eq=False)
class ParquetStore:
    """The audio of Parquet shards, a row at a time; a process opens its own files.

    Attributes:
        shards: in the order of their names, which is that of the rows.
    """

    root: Path
    shards: tuple[Path, ...]

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._files: dict[int, Any] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "shards": self.shards, "_layout": self._layout, "columns": self.columns}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    @cached_property
    def columns(self) -> dict[str, str]:
        """What the shards call the columns, by our names; `audio` and `label` are there, and all shards have them.

        Raises:
            InputError: a shard cannot be opened, or lacks a column.
        """
        found: dict[str, str] = {}
        for index, shard in enumerate(self.shards):
            schema = self._file(index).schema_arrow
            lower = {name.lower(): name for name in schema.names}
            own = {name: lower[word] for name, words in COLUMNS.items() for word in words[::-1] if word in lower}
            if AUDIO in lower:
                own[AUDIO] = lower[AUDIO]
            for name in (AUDIO, "label"):
                if name not in own:
                    raise InputError(f"{shard}: no column {name}, expected audio and label; has {listed(schema.names)}")
            kind = schema.field(own[AUDIO]).type
            fields = [kind.field(number).name for number in range(getattr(kind, "num_fields", 0))]
            if "bytes" not in fields:
                raise InputError(f"{shard}: the column {own[AUDIO]} is {kind}, expected {{bytes, path}}")
            if index and own != found:
                raise InputError(f"{shard}: its columns {listed(sorted(own))} are not those of {self.shards[0]}")
            found = own
        return found

    @cached_property
    def _layout(self) -> tuple[list[int], list[list[int]]]:
        """The first row of each shard, and in it of each row group; with the number of rows at the end."""
        starts, groups = [0], []
        for index in range(len(self.shards)):
            metadata = self._file(index).metadata
            rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            groups.append(np.cumsum([0, *rows]).tolist())
            starts.append(starts[-1] + metadata.num_rows)
        return starts, groups

    def status(self, row: int) -> tuple[int, int, int]:
        """Size and times of the shard of a row, as of a file: what has changed if they have."""
        status = os.stat(self.shards[bisect_right(self._layout[0], row) - 1])
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def audio(self, row: int) -> AudioBytes:
        """The audio file of a row, from 0.

        Raises:
            InputError: the shard cannot be read, or the row has no audio.
        """
        starts, groups = self._layout
        shard = bisect_right(starts, row) - 1
        inner = row - starts[shard]
        group = bisect_right(groups[shard], inner) - 1
        place = f"{self.shards[shard]}:{inner + 1}"
        with self._lock:
            value = self._group(shard, group)[inner - groups[shard][group]]
            data = value["bytes"].as_py() if value.is_valid else None
            inside = value["path"].as_py() if value.is_valid and "path" in value.keys() else None  # noqa: SIM118
        if not data:
            raise InputError(f"{place}: the row has no audio bytes" + (f", only the path {inside!r}" if inside else ""))
        return AudioBytes(f"{place} ({inside})" if inside else place, data)

    def without_audio(self) -> int:
        """How many rows have no audio bytes, as far as the shards' statistics say so."""
        missing = 0
        for index in range(len(self.shards)):
            metadata = self._file(index).metadata
            for group in range(metadata.num_row_groups):
                for column in range(metadata.num_columns):
                    chunk = metadata.row_group(group).column(column)
                    if chunk.path_in_schema == f"{self.columns[AUDIO]}.bytes" and chunk.statistics is not None:
                        missing += chunk.statistics.null_count or 0
        return missing

    def rows(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """(shard, where the row is, its text columns and the path of its audio), in order."""
        wanted = [name for name in self.columns.values() if name != self.columns[AUDIO]]
        for index, shard in enumerate(self.shards):
            file, number = self._file(index), 0
            inside = [f"{self.columns[AUDIO]}.path"] if self._has_path(index) else []
            texts = {name: column for name, column in self.columns.items() if name != AUDIO}
            meanings = {name: _class_names(file.schema_arrow, column) for name, column in texts.items()}
            try:
                for batch in file.iter_batches(_AT_ONCE, columns=[*wanted, *inside]):
                    for row in batch.to_pylist():
                        number += 1
                        audio = row.get(self.columns[AUDIO]) or {}
                        found = {name: _meaning(row.get(column), meanings[name]) for name, column in texts.items()}
                        yield index, f"{shard}:{number}", found | {"path": audio.get("path")}
            except (ValueError, OSError) as error:
                raise InputError(f"{shard}: cannot be read, damaged or cut short ({first_line(error)})") from None

    def _has_path(self, shard: int) -> bool:
        kind = self._file(shard).schema_arrow.field(self.columns[AUDIO]).type
        return any(kind.field(number).name == "path" for number in range(kind.num_fields))

    def _file(self, shard: int) -> Any:
        if self._process != os.getpid():
            # Loading processes that were forked read by files of their own.
            self.__post_init__()
        if shard not in self._files:
            parquet = require("pyarrow.parquet", "hub", f"{self.shards[shard]}: Parquet")
            try:
                self._files[shard] = parquet.ParquetFile(self.shards[shard])
            except (ValueError, OSError) as error:
                what = f"{self.shards[shard]}: no Parquet file, damaged or cut short ({first_line(error)})"
                raise InputError(what) from None
        return self._files[shard]

    def _group(self, shard: int, group: int) -> Any:
        """The audio column of a row group; those read last are held."""
        if self._process != os.getpid() or (shard, group) not in self._held:
            file = self._file(shard)
            try:
                column = file.read_row_group(group, columns=[self.columns[AUDIO]])[self.columns[AUDIO]]
            except (ValueError, OSError) as error:
                raise InputError(f"{self.shards[shard]}: row group {group} is damaged ({first_line(error)})") from None
            self._held[shard, group] = column
            while len(self._held) > 1 and sum(one.nbytes for one in self._held.values()) > HELD:
                self._held.popitem(last=False)
        self._held.move_to_end((shard, group))
        return self._held[shard, group]


@dataclass(eq=False)
class ParquetList(TrialList):
    """The trials of Parquet shards; a trial's line is its row in all shards together, from 1."""

    def __init__(self, store: ParquetStore, by: str):
        super().__init__(store.root, lambda *_: None, "of Parquet")  # type: ignore[arg-type]
        self.store, self.by = store, by

    def _trials(self, digest: "hashlib._Hash", problems: list[InputError]) -> Iterator[Trial]:
        by_path = self._paths_differ()
        digest.update(f"{self.by} {by_path}".encode())
        for number, (shard, place, row) in enumerate(self.store.rows(), 1):
            try:
                trial = self._trial(number, shard, place, row, by_path)
            except InputError as error:
                problems.append(error)
                continue
            digest.update("\t".join(map(str, trial)).encode() + b"\n")
            yield trial

    def _trial(self, number: int, shard: int, place: str, row: dict[str, Any], by_path: bool) -> Trial:
        if by_path:
            name = str(PurePosixPath(row["path"]))
        else:
            inside = os.path.relpath(self.store.shards[shard], self.path) if self.path.is_dir() else self.path.name
            name = f"{inside.removesuffix('.parquet')}/{place.rpartition(':')[2]}"
        utterance = short_name(place, "path", encode_name(name))
        label = row["label"]
        if label is None or isinstance(label, float):
            raise InputError(f"{place}: label {label!r}, expected one of {', '.join(LABELS)}")
        key = known(place, "label", str(label), LABELS)
        speaker = encode_name(_word(row.get("speaker"))) or "-"
        attack = row.get("attack")
        # Where attacks are numbers, that of no attack is 0.
        attack = trial_attack(place, key, "" if key == "bonafide" and attack == 0 else _word(attack))
        part = self.by
        if self.by == "column":
            part = known(place, "split", str(row["split"]), SPLIT_WORDS)
        elif self.by == "name":
            part = _split_named(self.store.root, self.store.shards[shard])
        elif self.by == "divide":
            part = split_of(speaker, utterance)
        return Trial(speaker, utterance, attack, key, number, part)

    def _paths_differ(self) -> bool:
        """Whether every row has a path, and all are different."""
        seen = set[bytes]()
        for count, (_, _, row) in enumerate(self.store.rows()):
            if not isinstance(row["path"], str) or not row["path"]:
                return False
            # A part of the hash is enough to tell them apart, and takes less memory than the path.
            seen.add(hashlib.blake2b(row["path"].encode(errors="replace"), digest_size=12).digest())
            if len(seen) <= count:
                return False
        return True


def _word(value: Any) -> str:
    """A value as text; "" where there is none. 0 is a value."""
    return "" if value is None else str(value)


def _meaning(value: Any, names: list[str]) -> Any:
    """What a number of a ClassLabel with these names means; any other value as it is."""
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


def _class_names(schema: Any, column: str) -> list[str]:
    """What the numbers of a column mean, by the features that the library `datasets` writes into the schema."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = features[column]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def fetch_from_hub(database_path: str) -> Path | None:
    """The folder of a data set of the Hub, fetched where it is not in the cache; None: the path names none.

    Raises:
        InputError: huggingface_hub is not installed, or the data set is not to be had.
    """
    found = HUB.fullmatch(database_path)
    if found is None:
        return None
    hub = require("huggingface_hub", "hub", f"{database_path}: the Hugging Face Hub")
    offline = os.environ.get(OFFLINE, "") not in ("", "0")
    try:
        return Path(hub.snapshot_download(found[1], repo_type="dataset", revision=found[2], local_files_only=offline))
    except (ValueError, OSError) as error:  # not in the cache; a name that is none; the network, what the Hub says
        why = f"it is not in the cache, and {OFFLINE} is set" if offline else first_line(error)
        raise InputError(
            f"{database_path}: the data set is not to be had from the Hub ({why}); where there is a network run `hf "
            f"download --repo-type dataset {found[1]}`, or give the folder of its files"
        ) from None
