"""Several corpora that are trained on as one, each by its name.

    sources (a config's list of database_path) --find_corpora--> SeveralCorpora, a `Corpus` as any other

A split of it has the trials of all corpora that have the split, one corpus after the other. What is called X in the
corpus LA is called LA/X: utterances, attacks, speakers; a trial's `part` is the name of its corpus. Audio is read by
each corpus' own split (`Split.parts`), so that messages and caches are those of that corpus.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from s2pecnet.conventions import KEYS
from s2pecnet.corpora.detect import find_corpus
from s2pecnet.corpora.trials import (
    LONGEST_NAME,
    PATH_NAMES,
    Categories,
    Corpus,
    CorpusOptions,
    LeftOut,
    MissingClassError,
    Names,
    OneClassError,
    OnError,
    Part,
    Split,
    Trials,
    report,
)
from s2pecnet.errors import InputError
from s2pecnet.text import clipped


class CorpusSource(NamedTuple):
    """A corpus that is to be one of several.

    Attributes:
        name: what it is called; without white space, "/" and ":".
        path: where it lies, as `find_corpus` takes it.
        weight: how often an epoch takes each of its training utterances.
        splits: those of it that are used, which it then has to have; None: those that it has.
    """

    name: str
    path: str
    corpus: str = "auto"
    options: CorpusOptions = CorpusOptions()
    weight: float = 1.0
    splits: tuple[str, ...] | None = None


@dataclass(eq=False)
class SeveralCorpora(Corpus):
    """Several corpora as one.

    Attributes:
        members: by name.
    """

    members: dict[str, Corpus] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Split:
        """The split `name` of all corpora that have it.

        Raises:
            InputError: none has it.
        """
        if name not in self.splits:
            which = ", ".join(self.members)
            raise InputError(f"database_path: none of its corpora ({which}) has a {name} split, or is used for it")
        return self.splits[name]

    def asv_file(self, name: str, given: str | None) -> Path | None:
        """The ASV scores of a split that a single corpus has; None where several have it."""
        having = self[name].filled()
        return self.members[having[0].name].asv_file(name, given) if len(having) == 1 else None


def find_corpora(sources: Sequence[CorpusSource]) -> SeveralCorpora:
    """The corpora of a list, as one.

    Raises:
        InputError: one is not there, not in order, or lacks a split that it is to be used for.
    """
    members = {one.name: _member(one) for one in sources}
    parts: dict[str, list[Part]] = {}
    taken: dict[tuple[object, ...], str] = {}
    for source, corpus in zip(sources, members.values(), strict=True):
        for name in source.splits or corpus.splits:
            split = replace(corpus[name], read=partial(_read_own, corpus[name], source))
            parts.setdefault(name, []).append(Part(source.name, split, source.weight))
            # With other attacks left out, the bona fide trials would still be the same.
            what = source.options._replace(left_out=LeftOut())
            first = taken.setdefault((name, split.protocol.resolve(), what), source.name)
            if first != source.name:
                raise InputError(
                    f"{corpus.root}: {first} and {source.name} of database_path are the same corpus, and both are used "
                    f'for {name}; leave one out, or give them different "splits" ("weight" takes a corpus more often)'
                )
    splits = {name: _joined_split(name, tuple(those)) for name, those in parts.items()}
    notes = [f"{name}: {corpus.note}" for name, corpus in members.items() if corpus.note]
    unused = [f"{corpus.root}: {file}" for corpus in members.values() for file in corpus.unused]
    root = Path(" + ".join(members))
    return SeveralCorpora("several corpora", splits, "; ".join(notes) or None, root, tuple(unused), members)


def _member(source: CorpusSource) -> Corpus:
    try:
        return find_corpus(source.path, source.corpus, source.options)
    except InputError as problem:
        where = f"the entry {source.name} of database_path, which can have keys of its own (track, corpus, ...)"
        raise InputError(f"{problem} (in {where})") from None


def _read_own(split: Split, source: CorpusSource, on_error: OnError | None) -> Trials:
    """The trials of one corpus: of one class, or none at all where the split was not asked for, if the others do."""

    def tolerate(problem: InputError) -> None:
        lacks = isinstance(problem, MissingClassError) and source.splits is None
        if not (lacks or isinstance(problem, OneClassError)):
            report(problem, on_error)

    if not split.protocol.exists():
        raise InputError(
            f"{split.protocol}: no such list of trials; where {source.name} is used without its {split.name} split, "
            'give it "splits" in database_path, such as ["train"]'
        )
    return split.read(tolerate)


def _joined_split(name: str, parts: tuple[Part, ...]) -> Split:
    path = Path(" + ".join(part.name for part in parts))

    def read(on_error: OnError | None) -> Trials:
        trials = join_trials(path, parts)
        keys = trials.keys()
        if not keys:
            report(MissingClassError(f"{path}: none of these corpora has trials of {name}"), on_error)
        elif len(keys) < len(KEYS):
            what = f"the {name} trials are all {keys[0]}; both classes are needed"
            report(OneClassError(f"{path}: {what}"), on_error)
        return trials

    own = parts[0].split.asv_scores if len(parts) == 1 else None
    return Split(name, path, path, own, read, PATH_NAMES, parts=parts)


def join_trials(path: Path, parts: Sequence[Part]) -> Trials:
    """The trials of the same split of several corpora, one after the other, with the names of their corpora.

    Raises:
        InputError: a list cannot be used, or a name becomes too long for a score file.
    """
    digest, trials = hashlib.sha256(), [part.split.trials for part in parts]
    names = []
    for part, own in zip(parts, trials, strict=True):
        digest.update(f"{part.name} {own.digest}\n".encode())
        names.append(np.char.add(f"{part.name}/".encode(), own.utterance.encoded))
        lengths = np.char.str_len(names[-1])
        if lengths.size and lengths.max() > LONGEST_NAME:
            row = int(lengths.argmax())
            what = f"{clipped(repr(names[-1][row].decode()))} is longer than {LONGEST_NAME} bytes"
            raise InputError(f"{own.location(row) or own.path}: {what}; give the corpus a shorter name")
    count = [len(own) for own in trials]
    corpora = np.repeat(np.arange(len(parts), dtype=np.uint32), count)
    return Trials(
        path,
        Names(np.concatenate(names)),
        np.concatenate([own.is_bonafide for own in trials]),
        _joined_words(parts, [own.attack for own in trials]),
        _joined_words(parts, [own.speaker for own in trials]),
        Categories(tuple(part.name for part in parts), corpora),
        # No single file lists them; `Part.split` knows each one's line.
        np.zeros(sum(count), dtype=np.uint32),
        digest.hexdigest(),
    )


def _joined_words(parts: Sequence[Part], columns: Sequence[Categories]) -> Categories:
    """Words with the names of their corpora; what stands for "none" stays as it is."""
    known: dict[str, int] = {}
    codes = []
    for part, column in zip(parts, columns, strict=True):
        words = (word if word in ("", "-") else f"{part.name}/{word}" for word in column.words)
        code_of = np.array([known.setdefault(word, len(known)) for word in words], dtype=np.uint32)
        codes.append(code_of[column.codes])
    return Categories(tuple(known), np.concatenate(codes))
