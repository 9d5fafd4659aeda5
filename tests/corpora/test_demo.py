"""The demo corpus: its layout, its determinism, and what it refuses to overwrite."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from s2pecnet.corpora import demo, demo_voices
from s2pecnet.corpora.demo import make_demo_corpus
from s2pecnet.errors import InputError
from s2pecnet.features import LFCC
from s2pecnet.metrics.det import compute_eer

SMALL = {"train": 12, "dev": 9, "eval": 12}
SEED = 11


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_corpus(tmp_path_factory.mktemp("demo") / "LA", seed=SEED, clips_per_split=SMALL)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def protocol(root: Path, split: str) -> list[list[str]]:
    ending = {"train": "train.trn", "dev": "dev.trl", "eval": "eval.trl"}[split]
    path = root / "ASVspoof2019_LA_cm_protocols" / f"ASVspoof2019.LA.cm.{ending}.txt"
    return [line.split() for line in path.read_text().splitlines()]


def labels(root: Path, split: str) -> list[tuple[str, str]]:
    return [(attack, key) for _, _, _, attack, key in protocol(root, split)]


def test_every_trial_has_its_audio_and_nothing_else_lies_there(corpus: Path) -> None:
    for split, count in SMALL.items():
        utterances = {columns[1] for columns in protocol(corpus, split)}
        folder = corpus / f"ASVspoof2019_LA_{split}" / "flac"
        assert len(utterances) == count
        assert {path.stem for path in folder.iterdir()} == utterances


def test_a_third_is_bona_fide_and_attacks_are_balanced(corpus: Path) -> None:
    counts = Counter(labels(corpus, "train"))
    assert counts.pop(("-", "bonafide")) == 4
    assert set(counts) == {(f"A{k:02d}", "spoof") for k in range(1, 7)}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_eval_has_only_attacks_that_train_and_dev_do_not_have(corpus: Path) -> None:
    seen = {attack for split in ("train", "dev") for attack, _ in labels(corpus, split)} - {"-"}
    assert not seen & {attack for attack, _ in labels(corpus, "eval")}


def test_speakers_of_the_splits_are_disjoint(tmp_path: Path) -> None:
    options = demo.Options(1, SEED, False, {"train": 60, "dev": 60, "eval": 60})
    speakers = {split: {clip.speaker.name for clip in demo._plan_split(split, options)} for split in SMALL}
    assert {split: len(names) for split, names in speakers.items()} == demo.SPEAKERS
    assert len(set.union(*speakers.values())) == sum(demo.SPEAKERS.values())


def test_clips_are_16_khz_mono_16_bit_of_one_to_two_seconds(corpus: Path) -> None:
    for path in corpus.rglob("*.flac"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.format) == (16000, 1, "PCM_16", "FLAC")
        assert 0.99 <= info.duration <= 2.01
        samples, _ = soundfile.read(path)
        level = 10 * np.log10(np.mean(samples**2))
        assert -36.5 < level < -25.5
        assert np.abs(samples).max() < 1, "no clip may be driven into clipping"


def test_asv_scores_name_the_trials_of_the_split(corpus: Path) -> None:
    for split in ("dev", "eval"):
        path = corpus / "ASVspoof2019_LA_asv_scores" / f"ASVspoof2019.LA.asv.{split}.gi.trl.scores.txt"
        rows = [line.split() for line in path.read_text().splitlines()]
        spoofs = Counter(source for source, key, _ in rows if key == "spoof")
        assert spoofs == Counter(attack for attack, key in labels(corpus, split) if key == "spoof")
        assert {(source, key) for source, key, _ in rows if key != "spoof"} == {
            ("-", "target"),
            ("-", "nontarget"),
        }
        score = {key: np.mean([float(row[2]) for row in rows if row[1] == key]) for key in ("target", "nontarget")}
        assert score["target"] > score["nontarget"] + 2


def test_the_corpus_says_that_it_is_synthetic(corpus: Path) -> None:
    assert "SYNTHETIC" in (corpus / "README.txt").read_text()
    assert "prove nothing" in (corpus / "README.txt").read_text()


def test_same_seed_same_bytes_other_seed_other_bytes(corpus: Path, tmp_path: Path) -> None:
    again = contents(make_demo_corpus(tmp_path / "again", seed=SEED, clips_per_split=SMALL))
    other = contents(make_demo_corpus(tmp_path / "other", seed=SEED + 1, clips_per_split=SMALL))
    assert again == contents(corpus)
    flacs = {name for name in again if name.endswith(".flac")}
    assert not {again[name] for name in flacs} & {data for name, data in other.items() if name.endswith(".flac")}


def test_shuffled_labels_change_the_protocols_and_nothing_else(corpus: Path, tmp_path: Path) -> None:
    shuffled = make_demo_corpus(tmp_path / "LA", seed=SEED, shuffle_labels=True, clips_per_split=SMALL)
    plain, mixed = contents(corpus), contents(shuffled)
    audio = [name for name in plain if name.endswith(".flac")]
    assert [plain[name] for name in audio] == [mixed[name] for name in audio]
    for split in SMALL:
        assert [row[:2] for row in protocol(corpus, split)] == [row[:2] for row in protocol(shuffled, split)]
        assert labels(corpus, split) != labels(shuffled, split)
        assert Counter(labels(corpus, split)) == Counter(labels(shuffled, split))


@pytest.mark.parametrize("split", ["train", "eval"])
def test_every_attack_changes_the_voice_and_keeps_its_length(split: str) -> None:
    rng = np.random.default_rng(3)
    voice = demo_voices.synthesise_voice(demo_voices.draw_speaker("LA_0001", rng), 1.0, rng)
    for name, attack in demo_voices.ATTACKS[split].items():
        spoof = attack(voice, np.random.default_rng(4))
        assert spoof.shape == voice.samples.shape, name
        assert np.isfinite(spoof).all(), name
        assert abs(np.corrcoef(spoof, voice.samples)[0, 1]) < 0.999, name


def test_no_attack_of_eval_is_one_of_training_under_another_name() -> None:
    known, unseen = demo_voices.KNOWN_ATTACKS, demo_voices.UNSEEN_ATTACKS
    assert not set(known) & set(unseen)
    assert not set(known.values()) & set(unseen.values())


@pytest.fixture(scope="module")
def larger_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough for an EER of clip statistics to mean something."""
    counts = {"train": 90, "dev": 3, "eval": 90}
    return make_demo_corpus(tmp_path_factory.mktemp("larger") / "LA", seed=SEED, clips_per_split=counts)


def clips_by_class(root: Path, split: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The samples of each bona fide clip and of each spoof."""
    folder = root / f"ASVspoof2019_LA_{split}" / "flac"
    rows = protocol(root, split)
    bona_fide, spoof = (
        [soundfile.read(folder / f"{row[1]}.flac")[0] for row in rows if row[4] == key] for key in ("bonafide", "spoof")
    )
    return bona_fide, spoof


def level_db(clip: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(clip**2)))


def frame_levels_db(clip: np.ndarray) -> np.ndarray:
    """Level of each 10 ms, relative to the clip's."""
    frames = clip[: len(clip) // 160 * 160].reshape(-1, 160)
    return 10 * np.log10(np.mean(frames**2, axis=1) + 1e-10) - level_db(clip)


SHORTCUTS: dict[str, Callable[[np.ndarray], float]] = {
    "duration": len,
    "level": level_db,
    "silence": lambda clip: float(np.mean(frame_levels_db(clip) < -20)),
    "noise floor": lambda clip: float(np.percentile(frame_levels_db(clip), 5)),
}


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_no_shortcut_separates_the_classes(larger_corpus: Path, split: str, shortcut: str) -> None:
    bona_fide, spoof = ([SHORTCUTS[shortcut](clip) for clip in clips] for clips in clips_by_class(larger_corpus, split))
    assert 0.33 < compute_eer(bona_fide, spoof)[0] < 0.67


@pytest.mark.parametrize("split", ["train", "eval"])
def test_a_voice_is_less_steady_than_its_re_syntheses(larger_corpus: Path, split: str) -> None:
    """What a system can learn from the attacks of train is there in the unseen ones of eval too."""

    def unsteadiness(clip: np.ndarray) -> float:
        second_deltas = LFCC()(torch.from_numpy(clip))[41:60]
        return float(second_deltas.abs().median())

    bona_fide, spoof = ([unsteadiness(clip) for clip in clips] for clips in clips_by_class(larger_corpus, split))
    assert compute_eer(bona_fide, spoof)[0] < 0.35


def test_the_inverse_transform_undoes_the_transform() -> None:
    sound = np.random.default_rng(0).normal(size=5000)
    for size in (256, 512, 1024):
        assert np.allclose(demo_voices.istft(demo_voices.stft(sound, size), 5000), sound)


def test_a_filter_that_does_nothing_leaves_the_sound_alone() -> None:
    sound = np.random.default_rng(0).normal(size=5000)
    flat = np.ones((demo_voices.frame_count(5000), len(demo_voices.BIN_FREQUENCIES)))
    assert np.allclose(demo_voices.filter_frames(sound, flat), sound)


def test_the_same_corpus_is_reused(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    make_demo_corpus(corpus, seed=SEED, clips_per_split=SMALL)
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before
    assert capsys.readouterr().out.count("\n") == 1


def test_a_corpus_with_other_options_is_not_overwritten(corpus: Path) -> None:
    with pytest.raises(InputError, match="other options"):
        make_demo_corpus(corpus, seed=SEED, shuffle_labels=True, clips_per_split=SMALL)


def test_a_corpus_that_lost_a_clip_is_not_reused(tmp_path: Path) -> None:
    few = {"train": 3, "dev": 3, "eval": 3}
    root = make_demo_corpus(tmp_path / "LA", clips_per_split=few)
    next(root.rglob("*.flac")).unlink()
    with pytest.raises(InputError, match="lost some clips"):
        make_demo_corpus(root, clips_per_split=few)


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not a demo corpus"):
        make_demo_corpus(tmp_path, clips_per_split=SMALL)
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


@pytest.mark.parametrize("marker", ["[]", "not json", json.dumps({"seed": 1})])
def test_a_marker_of_something_else_is_refused(tmp_path: Path, marker: str) -> None:
    (tmp_path / demo.MARKER).write_text(marker)
    with pytest.raises(InputError):
        make_demo_corpus(tmp_path, clips_per_split=SMALL)


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "_draw_asv_scores", full_disk)
    with pytest.raises(OSError, match="No space"):
        make_demo_corpus(tmp_path / "LA", clips_per_split={"train": 3, "dev": 3, "eval": 3})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("seed", "clips"), [(-1, SMALL), (0, {"train": 2, "dev": 3, "eval": 3}), (0, {"train": 9})])
def test_bad_options_are_refused(tmp_path: Path, seed: int, clips: dict[str, int]) -> None:
    with pytest.raises(InputError, match="demo corpus"):
        make_demo_corpus(tmp_path / "LA", seed=seed, clips_per_split=clips)
