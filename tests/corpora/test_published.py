"""Published corpora are read as they are published, scored, and not mistaken for one another."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from s2pecnet import experiment
from s2pecnet.cli import train
from s2pecnet.corpora.detect import find_corpus, find_split
from s2pecnet.corpora.published import read_protocol
from s2pecnet.corpora.trials import OneClassError, Trial
from s2pecnet.data.datasets import genSpoof_list
from s2pecnet.errors import InputError
from s2pecnet.scoring.splits import produce_evaluation_file
from s2pecnet.systems import build
from tests.helpers.made_corpora import make_2021, make_asvspoof5, make_in_the_wild
from tests.helpers.samples import TINIEST

# The first lines of LA and DF are those that the organisers' README.md explains; the others are made after it.
LA = """\
LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval
LA_0009 LA_E_6866159 alaw sin_tx A08 spoof notrim progress
LA_0020 LA_E_7294490 g722 loc_tx bonafide bonafide notrim eval
LA_0021 LA_E_7294491 none loc_tx bonafide bonafide notrim progress
LA_0022 LA_E_7294492 pstn mad_tx bonafide bonafide trim hidden
"""
DF = """\
LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -
TEF2 DF_E_2000013 low_m4a vcc2020 Task1-team20 spoof notrim eval neural_vocoder_nonautoregressive Task1 team20 FF E
VCC2TM2 DF_E_2000014 mp3m4a vcc2018 - bonafide notrim eval bonafide - - - -
"""
DEV_5 = """\
D_4461 D_0000000169 F - - - AC1 A14 spoof -
D_0461 D_0000000190 M - - - - bonafide bonafide -
D_4579 D_0000000211 M C05 2 D_0000000169 AC1 A09 spoof -
"""
WILD = (
    "file,speaker,label\n0.wav,Alec Guinness,spoof\n1.wav,Alec Guinness,spoof\n4.wav,Christopher Hitchens,bona-fide\n"
)


class OneScore(torch.nn.Module):
    """A system that gives everything the same score."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, torch.ones(len(x), 2)


def put(root: Path, name: str, text: str) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return root


def read(root: Path, name: str = "eval", track: str = "LA", eval_subset: str = "eval") -> list[Trial]:
    return list(find_split(root, track, name, eval_subset=eval_subset).trials)


def columns(trials: list[Trial]) -> list[tuple[str, str, str, str]]:
    return [(trial.speaker, trial.utterance, trial.attack, trial.key) for trial in trials]


@pytest.mark.parametrize("keys", ["keys/LA/CM/trial_metadata.txt", "keys/CM/trial_metadata.txt"])
def test_asvspoof2021_la(tmp_path: Path, keys: str) -> None:
    (tmp_path / "ASVspoof2021_LA_eval").mkdir()
    put(tmp_path, keys, LA)
    assert columns(read(tmp_path)) == [
        ("LA_0009", "LA_E_9332881", "A07", "spoof"),
        ("LA_0020", "LA_E_7294490", "-", "bonafide"),
    ]
    assert [trial.line for trial in read(tmp_path, eval_subset="progress")] == [2, 4]
    parts = ["eval", "progress", "eval", "progress", "hidden"]
    assert [trial.part for trial in read(tmp_path, eval_subset="all")] == parts
    with pytest.raises(InputError, match=r"its hidden part is all bonafide"):
        read(tmp_path, eval_subset="hidden")
    assert find_split(tmp_path, "LA", "eval").audio == tmp_path / "ASVspoof2021_LA_eval"


def test_asvspoof2021_df(tmp_path: Path) -> None:
    put(tmp_path, "keys/DF/CM/trial_metadata.txt", DF)
    assert columns(read(tmp_path, track="DF")) == [
        ("TEF2", "DF_E_2000013", "Task1-team20", "spoof"),
        ("VCC2TM2", "DF_E_2000014", "-", "bonafide"),
    ]
    with pytest.raises(InputError, match=r"holds ASVspoof2021 DF, but track is LA; set track=DF"):
        read(tmp_path)


def test_asvspoof5(tmp_path: Path) -> None:
    put(tmp_path, "ASVspoof5_protocols/ASVspoof5.dev.track_1.tsv", DEV_5)
    assert columns(read(tmp_path, "dev")) == [
        ("D_4461", "D_0000000169", "A14", "spoof"),
        ("D_0461", "D_0000000190", "-", "bonafide"),
        ("D_4579", "D_0000000211", "A09", "spoof"),
    ]
    split = find_split(tmp_path, "LA", "dev")
    assert (split.audio, split.files) == (tmp_path, "flac_D/{}.flac")
    with pytest.raises(InputError, match=r"\(ASVspoof5\) has no train split, only dev$"):
        read(tmp_path, "train")


@pytest.mark.parametrize("path", ["", "release_in_the_wild", "release_in_the_wild/meta.csv"])
def test_in_the_wild(tmp_path: Path, path: str) -> None:
    put(tmp_path, "release_in_the_wild/meta.csv", WILD)
    assert columns(read(tmp_path / path)) == [
        ("Alec Guinness", "0.wav", "unknown", "spoof"),
        ("Alec Guinness", "1.wav", "unknown", "spoof"),
        ("Christopher Hitchens", "4.wav", "-", "bonafide"),
    ]
    assert find_split(tmp_path / path, "LA", "eval").audio == tmp_path / "release_in_the_wild"


@pytest.mark.parametrize(("name", "ending"), [("train", "trn"), ("dev", "trl"), ("eval", "trl")])
@pytest.mark.parametrize("key", ["bonafide", "spoof"])
def test_a_split_of_asvspoof2019_of_one_class_is_scored_and_never_trained_on(
    tmp_path: Path, name: str, ending: str, key: str
) -> None:
    file = f"ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{name}.{ending}.txt"
    put(tmp_path, file, f"LA_0079 LA_1 - - {key}\nLA_0079 LA_2 - - {key}\n")
    split = find_split(tmp_path, "LA", name)
    with pytest.raises(OneClassError, match=rf"\.txt: the protocol is all {key}; both classes are needed"):
        _ = split.trials
    assert list(split.of_any_class().trials.utterance) == ["LA_1", "LA_2"]
    # The released functions are given the list itself.
    assert read_protocol(split.protocol).keys() == [key]
    assert genSpoof_list(split.protocol, is_eval=True) == ["LA_1", "LA_2"]
    scores = tmp_path / "scores.txt"
    batches: DataLoader[Any] = DataLoader([(torch.zeros(2, 4), ["LA_1", "LA_2"])], batch_size=None)  # type: ignore[arg-type]
    produce_evaluation_file(batches, OneScore(), torch.device("cpu"), scores, split.protocol)
    assert [line.split()[0] for line in scores.read_text().splitlines()] == ["LA_1", "LA_2"]


def test_in_the_wild_is_a_csv_file_to_those_who_say_so(tmp_path: Path) -> None:
    put(tmp_path, "meta.csv", WILD)
    assert set(find_corpus(tmp_path / "meta.csv").splits) == {"eval"}
    assert set(find_corpus(tmp_path / "meta.csv", "csv").splits) == {"train", "dev", "eval"}


@pytest.mark.parametrize(
    ("name", "text", "old", "new", "message"),
    [
        ("keys/LA/CM/trial_metadata.txt", LA, " A08 spoof", " spoof", r"\.txt:2: got 7 columns, expected 8: 'speaker"),
        ("keys/LA/CM/trial_metadata.txt", LA, "A08 spoof", "A08 fake", r"\.txt:2: key 'fake', expected one of bona"),
        ("keys/LA/CM/trial_metadata.txt", LA, "hidden", "secret", r"\.txt:5: subset 'secret', expected one of eval"),
        (
            "keys/LA/CM/trial_metadata.txt",
            LA,
            "LA_E_7294491",
            "a/b",
            r"\.txt:4: utterance 'a/b': expected a name, not a path",
        ),
        ("keys/LA/CM/trial_metadata.txt", LA, "LA_E_7294491", "LA_E_9332881", r"\.txt:4: .* already stands on line 1"),
        ("keys/LA/CM/trial_metadata.txt", DF, "", "", r"\.txt:1: got 13 columns, expected 8"),
        ("ASVspoof5.eval.track_1.tsv", DEV_5, " -\n", "\n", r"\.tsv:1: got 9 columns, expected 10: 'speaker utt"),
        ("ASVspoof5.eval.track_1.tsv", DEV_5, "A09 spoof", "spoof A09", r"\.tsv:3: key 'A09'"),
        ("ASVspoof5.eval.track_1.tsv", DEV_5, "bonafide bonafide", "A01 spoof", r"the protocol is all spoof"),
        ("meta.csv", WILD, "1.wav,Alec Guinness", "1.wav", r"meta\.csv:3: got 2 fields, expected 3"),
        ("meta.csv", WILD, "bona-fide", "bona_fide", r"meta\.csv:4: label 'bona_fide'"),
    ],
)
def test_malformed_lists_name_the_line(tmp_path: Path, name: str, text: str, old: str, new: str, message: str) -> None:
    put(tmp_path, name, text.replace(old, new) if old else text)
    with pytest.raises(InputError, match=message):
        read(tmp_path)


# ---------------------------------------------------------------------------------- from end to end


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiniest.pth"
    torch.manual_seed(1)
    torch.save(build.get_model(TINIEST["model_config"], "cpu").state_dict(), path)
    return path


def evaluated(root: Path, out: Path, weights: Path, *overrides: str) -> list[list[str]]:
    config = out / "tiniest.conf"
    config.write_text(json.dumps(TINIEST | {"database_path": str(root), "eval_output": "scores.txt"}))
    track = next((value[6:] for value in overrides if value.startswith("track=")), "LA")
    train.main(["--eval", "--config", str(config), "--output_dir", str(out), "--eval_model_weights", str(weights),
               "--device", "cpu", *(f"--set={override}" for override in overrides)])  # fmt: skip
    return [line.split() for line in (out / f"{track}_tiniest_ep2_bs6" / "scores.txt").read_text().splitlines()]


def test_all_of_them_are_scored(corpus: Path, tmp_path: Path, weights: Path) -> None:
    """The same clips get the same scores, whatever corpus they are published as."""
    expected = {row[0]: row[1:] for row in evaluated(corpus, tmp_path, weights)}
    la = evaluated(make_2021(corpus, tmp_path / "2021"), tmp_path, weights, "eval_subset=all")
    df = evaluated(make_2021(corpus, tmp_path / "2021", "DF"), tmp_path, weights, "track=DF", "corpus=asvspoof2021")
    five = evaluated(make_asvspoof5(corpus, tmp_path / "5", "eval"), tmp_path, weights, "track=A5")
    wild = evaluated(make_in_the_wild(corpus, tmp_path / "wild"), tmp_path, weights, "track=ITW")
    assert {row[0]: row[1:] for row in la} == {row[0]: row[1:] for row in five} == expected
    assert len(df) == 16
    # Two clips fewer are scored in other batches, which may move the last digit.
    for name, *columns, score in df:
        assert columns == expected[name][:-1]
        assert float(score) == pytest.approx(float(expected[name][-1]), abs=1e-7)
    assert [row[0] for row in wild] == [f"{number}.flac" for number in range(18)]
    assert [row[2:] for row in wild] == [row[1:] for row in expected.values()]
    assert {row[1] for row in wild} == {"-", "unknown"}


def test_what_has_no_train_split_is_not_trained_on(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiniest.conf"
    for make in (make_2021, make_in_the_wild):
        root = make(corpus, tmp_path / make.__name__)
        config.write_text(json.dumps(TINIEST | {"database_path": str(root)}))
        with pytest.raises(InputError, match=r"has no train split, only eval; it can be scored \(--eval\)"):
            train.main(["--config", str(config), "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    capsys.readouterr()


def test_asvspoof5_has_loaders_of_all_splits(corpus: Path, tmp_path: Path) -> None:
    root = make_asvspoof5(corpus, tmp_path / "5")
    train, dev, evaluation = experiment.get_loader(root, 1, TINIEST | {"database_path": str(root)}, tmp_path / "cache")
    assert [len(loader.dataset) for loader in (train, dev, evaluation)] == [24, 18, 18]  # type: ignore[arg-type]
    waveforms, labels = next(iter(train))
    assert waveforms.shape == (6, 2400)
    assert set(labels.tolist()) <= {0, 1}
