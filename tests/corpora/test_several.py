"""Several corpora as one: the trials of all, by the names of their corpora; what cannot be one is said in a line."""

from pathlib import Path
from typing import Any

import pytest

from s2pecnet.config.experiment import as_config
from s2pecnet.corpora.detect import find_corpus
from s2pecnet.corpora.several import CorpusSource, find_corpora
from s2pecnet.corpora.trials import CorpusOptions, MissingClassError, OneClassError
from s2pecnet.errors import InputError
from s2pecnet.experiment import asv_scores_of, corpus_of, get_loader
from tests.helpers.made_corpora import make_2021, make_asvspoof5, make_csv, make_folders, make_in_the_wild
from tests.helpers.samples import TINIEST


@pytest.fixture
def mine(corpus: Path, tmp_path: Path) -> Path:
    return make_csv(corpus, tmp_path / "mine")


def write_csv(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["path,label,attack,speaker,split", *rows]) + "\n")
    return path


def config_of(*entries: Any, **changes: Any) -> Any:
    return as_config(TINIEST | {"database_path": list(entries)} | changes)


def test_trials_are_those_of_the_corpora_by_their_names(corpus: Path, mine: Path) -> None:
    joined = find_corpora([CorpusSource("LA", str(corpus)), CorpusSource("B", str(mine))])
    for split in ("train", "dev", "eval"):
        expected = [
            (f"{name}/{one.utterance}", one.attack if one.label else f"{name}/{one.attack}", f"{name}/{one.speaker}",
             one.key, name)
            for name, path in (("LA", corpus), ("B", mine))
            for one in find_corpus(path)[split].trials
        ]  # fmt: skip
        found = [(one.utterance, one.attack, one.speaker, one.key, one.part) for one in joined[split].trials]
        assert found == expected
        assert joined[split].trials.attack.words.count("-") == 1
    assert len({joined[split].trials.digest for split in joined.splits}) == 3


def test_the_digest_is_of_the_lists_their_names_and_their_order(corpus: Path, mine: Path) -> None:
    def digest(*named: tuple[str, Path], weight: float = 1) -> str:
        return find_corpora([CorpusSource(name, str(path), weight=weight) for name, path in named])["dev"].trials.digest

    first = digest(("LA", corpus), ("B", mine))
    assert digest(("LA", corpus), ("B", mine), weight=2) == first
    others = [digest(("LA", corpus), ("C", mine)), digest(("B", mine), ("LA", corpus)), digest(("LA", corpus))]
    assert len({first, *others}) == 4


def test_a_split_is_of_those_that_have_it_and_are_used_for_it(corpus: Path, mine: Path, tmp_path: Path) -> None:
    wild = make_in_the_wild(corpus, tmp_path / "wild")
    train_alone = CorpusSource("B", str(mine), splits=("train",))
    joined = find_corpora([CorpusSource("LA", str(corpus)), train_alone, CorpusSource("W", str(wild))])
    having = {name: [part.name for part in split.parts] for name, split in joined.splits.items()}
    assert having == {"train": ["LA", "B"], "dev": ["LA"], "eval": ["LA", "W"]}
    assert "W/0.flac" in list(joined["eval"].trials.utterance)
    # A list of all splits that has no trials of one.
    no_dev = write_csv(tmp_path / "c" / "c.csv", "a.wav,real,,,train", "b.wav,fake,,,train")
    joined = find_corpora([CorpusSource("LA", str(corpus)), CorpusSource("C", str(no_dev))])
    assert [part.name for part in joined["dev"].filled()] == ["LA"]
    assert [part.name for part in joined["train"].filled()] == ["LA", "C"]
    with pytest.raises(MissingClassError, match=r"c\.csv: its dev part is empty"):
        _ = find_corpora([CorpusSource("C", str(no_dev), splits=("dev",))])["dev"].trials


def test_corpora_of_one_class_complete_each_other(tmp_path: Path) -> None:
    for name, label in (("human", "real"), ("made", "fake")):
        rows = [f"{number}.wav,{label},,,train" for number in range(3)]
        write_csv(tmp_path / f"{name}.csv", *rows)
    sources = [CorpusSource(name, str(tmp_path / f"{name}.csv"), splits=("train",)) for name in ("human", "made")]
    assert find_corpora(sources)["train"].trials.is_bonafide.tolist() == [True] * 3 + [False] * 3
    alone = find_corpora(sources[:1])["train"]
    with pytest.raises(OneClassError, match="human: the train trials are all bonafide; both classes are needed"):
        _ = alone.trials
    assert len(alone.of_any_class().trials) == 3


def test_each_corpus_has_its_own_track_kind_and_subset(corpus: Path, tmp_path: Path) -> None:
    path = make_2021(corpus, tmp_path / "ASVspoof2021", "DF")
    subset = {"path": str(path), "name": "prog", "track": "DF", "eval_subset": "progress"}
    whole = {"path": str(path), "name": "all", "track": "DF", "eval_subset": "all", "corpus": "asvspoof2021"}
    folders = {"path": str(make_folders(corpus, tmp_path / "folders", by_split=False)), "split_policy": "eval"}
    joined = corpus_of(config_of(str(corpus), subset, whole, folders))
    assert {part.name: len(part.split.trials) for part in joined["eval"].parts} == {
        "LA": 18, "prog": 2, "all": 18, "folders": 60,
    }  # fmt: skip
    assert joined["train"].parts[0].split.trials.path == find_corpus(corpus)["train"].protocol


def test_what_cannot_be_one_corpus_is_one_line(corpus: Path, mine: Path, tmp_path: Path) -> None:
    def refused(message: str, *sources: CorpusSource, split: str = "dev") -> None:
        with pytest.raises(InputError, match=message) as caught:
            _ = find_corpora(sources)[split].trials
        assert "\n" not in str(caught.value)

    la = CorpusSource("LA", str(corpus))
    refused("nowhere: no such folder or file", la, CorpusSource("B", str(tmp_path / "nowhere")))
    other_track = CorpusSource("B", str(corpus), options=CorpusOptions("PA"))
    refused(r"but track is PA; set track=LA \(in the entry B of database_path, which can have keys", la, other_track)
    refused("LA and B of database_path are the same corpus, and both are used for train", la, la._replace(name="B"))
    twice = CorpusSource("B", f"{corpus}/../LA", splits=("eval",))
    refused("LA and B of database_path are the same corpus, and both are used for eval", la, twice)
    some = CorpusSource("B", str(make_asvspoof5(corpus, tmp_path / "5", "train")), splits=("train", "dev"))
    refused(r"5: this corpus \(ASVspoof5\) has no dev split, only train", la, some)
    refused(r"none of its corpora \(B\) has a dev split, or is used for it", some._replace(splits=None))
    refused(
        r"wild: holds ASVspoof2021 DF, but track is LA", la,
        CorpusSource("B", str(make_2021(corpus, tmp_path / "wild", "DF"))),
    )  # fmt: skip
    long = CorpusSource("n" * 60, str(write_csv(tmp_path / "long.csv", f"{'x' * 150}.wav,real,,,dev")))
    refused(r"long\.csv:2: 'n.* is longer than 200 bytes; give the corpus a shorter name", long)
    bad = CorpusSource("B", str(write_csv(tmp_path / "bad.csv", "a.wav,real,,,dev", "b.wav,1,,,dev")))
    refused(r"bad\.csv:3: label '1'", la, bad)
    incomplete = tmp_path / "LA"
    (incomplete / "ASVspoof2019_LA_cm_protocols").mkdir(parents=True)
    refused(r'no such list of trials; where B is used without its dev split, give it "splits"', la,
            CorpusSource("B", str(incomplete)))  # fmt: skip


def test_asv_scores_are_used_where_one_corpus_has_the_split(
    corpus: Path, mine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    both, one = (
        config_of(str(corpus), {"path": str(mine), "name": "B"} | splits) for splits in ({}, {"splits": ["train"]})
    )
    layout = find_corpus(corpus)["dev"].asv_scores
    assert asv_scores_of(both, corpus_of(both), "dev") == (None, None)
    assert "dev is of several corpora, and ASV scores are of one: EER only, no min t-DCF" in caplog.text
    assert asv_scores_of(one, corpus_of(one), "dev")[0] == layout
    assert layout is not None
    own = str(layout.relative_to(corpus))
    named = config_of({"path": str(corpus), "asv_score_path_dev": own}, asv_score_path_dev="nowhere.txt")
    assert asv_scores_of(named, corpus_of(named), "dev")[0] == layout
    lost = config_of({"path": str(corpus)}, asv_score_path_dev="nowhere.txt")
    with pytest.raises(InputError, match=r"nowhere\.txt: no such ASV scores \(asv_score_path_dev\)"):
        asv_scores_of(lost, corpus_of(lost), "dev")
    # What the released configs name is not used for another corpus.
    released = config_of({"path": str(mine)}, asv_score_path="ASVspoof2019.LA.asv.eval.gi.trl.scores.txt")
    assert asv_scores_of(released, corpus_of(released), "eval") == (None, None)


def test_loaders_of_a_dictionary_as_released_code_passes_it(corpus: Path, mine: Path) -> None:
    config = TINIEST | {"database_path": [str(corpus), {"path": str(mine), "weight": 2}]}
    train, dev, _ = get_loader(config["database_path"], 1, config)
    assert (len(train), len(dev.dataset)) == ((24 + 48) // 6, 36)  # type: ignore[arg-type]


def test_notes_and_unused_audio_name_their_corpus(corpus: Path, tmp_path: Path) -> None:
    path = make_folders(corpus, tmp_path / "folders", by_split=False)
    joined = find_corpora([CorpusSource("LA", str(corpus)), CorpusSource("F", str(path), options=CorpusOptions("LA"))])
    assert joined.note is not None
    assert joined.note.startswith(f"F: {path} names no splits")
