"""Protocols are parsed strictly and read where they are needed."""

import pickle
import tracemalloc
from pathlib import Path

import pytest

from s2pecnet.corpora.detect import find_corpus, find_split
from s2pecnet.corpora.published import read_protocol
from s2pecnet.data.datasets import genSpoof_list
from s2pecnet.errors import InputError

GOOD = "LA_0079 LA_T_1 - - bonafide\nLA_0079 LA_T_2 - A01 spoof\n"


def protocol(folder: Path, text: str) -> Path:
    path = folder / "protocol.txt"
    path.write_text(text)
    return path


def test_protocols_are_read(tmp_path: Path) -> None:
    trials = read_protocol(protocol(tmp_path, GOOD))
    assert [(t.utterance, t.attack, t.key, t.label, t.line) for t in trials] == [
        ("LA_T_1", "-", "bonafide", 1, 1),
        ("LA_T_2", "A01", "spoof", 0, 2),
    ]


def test_a_long_protocol_is_checked_in_a_few_bytes_a_trial(tmp_path: Path) -> None:
    read_protocol(protocol(tmp_path, GOOD))  # what is made once and kept does not count
    lines = (f"LA_0001 LA_E_{n:07d} - {'A07 spoof' if n % 9 else '- bonafide'}\n" for n in range(20_000))
    path = protocol(tmp_path, "".join(lines))
    tracemalloc.start()
    try:
        trials = read_protocol(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert trials[19_999].utterance == "LA_E_0019999"
    # The place of a line, its number, a hash of the name; arrays that grow have some room to spare.
    # Python's own objects of the lines would be some 400.
    assert peak < 90 * len(trials)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("- A01 spoof", "A01 spoof", r"protocol.txt:2: got 4 columns, expected 5"),
        ("spoof", "spof", r"protocol.txt:2: key 'spof', expected one of bonafide, spoof"),
        ("LA_T_2", "LA_T_1", r"protocol.txt:2: utterance 'LA_T_1' already stands on line 1"),
        ("LA_T_2", "../LA_T_2", r"protocol.txt:2: utterance '../LA_T_2': expected a name, not a path"),
        (GOOD, "\n", "the protocol is empty"),
        ("LA_T_2", "LA_T\0_2", r"protocol.txt:2: 'LA_T\\x00_2': expected a name"),
        ("LA_T_2", "\x1b[2J", r"protocol.txt:2: '\\x1b\[2J': expected a name"),
        ("LA_T_2", "x" * 201, r"protocol.txt:2: 'x+\.\.\.': expected a name of at most 200 bytes"),
        ("A01", "é" * 101, r"protocol.txt:2: 'é+': expected a name of at most 200 bytes"),
        ("spoof", "x" * 5000, r"protocol.txt:2: key 'x+\.\.\.', expected one of"),
        (GOOD, GOOD + "x" * 70000, r"protocol.txt:3: a line of more than 65536 bytes"),
    ],
)
def test_malformed_protocols_name_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_protocol(protocol(tmp_path, GOOD.replace(old, new)))


def test_missing_and_binary_protocols(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such protocol"):
        read_protocol(tmp_path / "nothing.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not a text file"):
        read_protocol(tmp_path / "binary")
    with pytest.raises(InputError, match="/dev/zero:1: a line of more than 65536 bytes"):
        read_protocol("/dev/zero")


@pytest.mark.parametrize(
    ("split", "count", "bonafide"), [("train", 25380, 2580), ("dev", 24844, 2548), ("eval", 71237, 7355)]
)
def test_real_protocols(shared: Path, tmp_path: Path, split: str, count: int, bonafide: int) -> None:
    import gzip

    name = f"ASVspoof2019.LA.cm.{split}.{'trn' if split == 'train' else 'trl'}.txt"
    path = tmp_path / name
    path.write_bytes(gzip.decompress((shared / "reference" / "protocols" / f"{name}.gz").read_bytes()))
    labels, utterances = genSpoof_list(path, is_train=True)
    assert len(utterances) == len(labels) == count
    assert sum(labels.values()) == bonafide
    assert genSpoof_list(path, is_eval=True) == utterances


def test_blank_lines_and_ends_are_no_trials(tmp_path: Path) -> None:
    trials = read_protocol(protocol(tmp_path, f"\n{GOOD.rstrip()}\n\nLA_0080 LA_T_3 - A02 spoof"))
    assert [(t.utterance, t.line) for t in trials] == [("LA_T_1", 2), ("LA_T_2", 3), ("LA_T_3", 5)]
    assert trials[-1].attack == "A02"
    assert [t.line for t in trials[1:]] == [3, 5]
    with pytest.raises(IndexError):
        trials[3]


def test_another_process_reads_the_same_protocol(tmp_path: Path) -> None:
    trials = read_protocol(protocol(tmp_path, GOOD))
    copy = pickle.loads(pickle.dumps(trials))
    assert list(copy.utterance) == ["LA_T_1", "LA_T_2"]
    assert copy.location(1) == f"{tmp_path / 'protocol.txt'}:2"


def test_a_protocol_takes_a_few_bytes_a_trial(tmp_path: Path) -> None:
    import tracemalloc

    path = protocol(tmp_path, "".join(f"LA_0079 LA_E_{number:07d} - A07 spoof\n" for number in range(20_000)))
    tracemalloc.start()
    trials = read_protocol(path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 40 * len(trials)
    assert trials[19_999].utterance == "LA_E_0019999"


def test_what_is_not_there_names_the_command_that_gets_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"later: no such folder or file; python download_dataset.py .* --demo"):
        find_split(tmp_path / "later", "LA", "dev")


def test_another_track_than_that_of_the_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "ASVspoof2019_PA_cm_protocols").mkdir()
    with pytest.raises(InputError, match="holds ASVspoof2019 PA, but track is LA; set track=PA"):
        find_split(tmp_path, "LA", "dev")


def test_the_layout_of_asvspoof2019_may_be_asked_for_before_it_is_there(tmp_path: Path) -> None:
    split = find_split(tmp_path / "later", "XY", "dev", corpus="asvspoof2019")
    assert split.audio == tmp_path / "later" / "ASVspoof2019_XY_dev"
    with pytest.raises(
        InputError, match=r"ASVspoof2019\.XY\.cm\.dev\.trl\.txt: no such protocol; expected database_path to"
    ):
        _ = split.trials


def test_the_kind_of_a_corpus_is_recognised_or_given(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("path,label\nreal/a.wav,real\nfake/b.wav,fake\n")
    for label in ("real", "fake"):
        (tmp_path / label).mkdir()
    assert find_corpus(tmp_path).title == "CSV"
    assert find_corpus(tmp_path, "folders").title == "folders"
    with pytest.raises(InputError, match="no asvspoof5 corpus here"):
        find_corpus(tmp_path, "asvspoof5")
    (tmp_path / "ASVspoof2019_LA_cm_protocols").mkdir()
    assert find_corpus(tmp_path).title == "ASVspoof2019"


def test_a_split_of_a_file_has_a_digest_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("path,label,split\na.wav,real,eval\nb.wav,fake,eval\n")
    splits = find_corpus(tmp_path / "mine.csv").splits.values()
    digests = {split.read(lambda error: None).digest for split in splits}
    assert len(digests) == 3
    assert find_split(tmp_path / "mine.csv", "LA", "eval").trials.digest in digests


def test_everything_wrong_is_reported_to_who_asks(tmp_path: Path) -> None:
    path = protocol(tmp_path, f"{GOOD}too few columns\nLA_0079 LA_T_1 - - bonafide\nLA_0079 LA_T_3 - - human\n")
    errors: list[InputError] = []
    names = tmp_path / "ASVspoof2019_LA_cm_protocols" / "ASVspoof2019.LA.cm.train.trn.txt"
    names.parent.mkdir()
    path.rename(names)
    trials = find_split(tmp_path, "LA", "train").read(errors.append)
    assert [str(error).partition("trn.txt:")[2][:2] for error in errors] == ["3:", "5:", "4:"]
    assert [trial.utterance for trial in trials] == ["LA_T_1", "LA_T_2", "LA_T_1"]
