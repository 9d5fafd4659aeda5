"""Every step on a voice: finite, of the right length, in its place; what is missing is one line."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from s2pecnet.audio.decoding import read_audio
from s2pecnet.augment import codecs, steps
from s2pecnet.augment.chain import Augmentation
from s2pecnet.augment.codecs import CODERS, code, delay_of
from s2pecnet.config.augmentation import CODECS, STEPS
from s2pecnet.config.experiment import as_config, load_config
from s2pecnet.errors import InputError
from tests.helpers.samples import TINIEST


@pytest.fixture(scope="module")
def voice(corpus: Path) -> np.ndarray:
    """A few seconds of the demo corpus's voices, one after the other."""
    files = sorted((corpus / "ASVspoof2019_LA_train" / "flac").glob("*.flac"))[:6]
    return np.concatenate([read_audio(path) for path in files])


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as MUSAN and RIRS_NOISES have them."""
    root, generator = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)

    def write(name: str, samples: np.ndarray, rate: int = 16000) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, samples, rate, subtype="PCM_16")

    for number in range(3):
        write(f"musan/noise/free-sound/noise-free-sound-{number:04d}.wav", 0.1 * generator.standard_normal(48000))
        write(f"musan/speech/librivox/speech-librivox-{number:04d}.wav", 0.1 * generator.standard_normal(8000))
    (root / "musan" / "README").write_text("no audio")
    decay = np.exp(-np.arange(8000) / 1000)
    response = np.concatenate((np.zeros(400), 0.03 * decay * generator.standard_normal(8000)))
    response[400] = 0.9
    write("RIRS_NOISES/simulated_rirs/smallroom/Room001/Room001-00001.wav", response)
    many = 0.5 * np.stack([np.roll(response, shift) for shift in (0, 5, 9)], axis=1)
    write("RIRS_NOISES/real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom1_far_angla.wav", many)
    write("RIRS_NOISES/real_rirs_isotropic_noises/RVB2014_type1_noise_largeroom1_1.wav", np.full(16000, 0.25))
    write("RIRS_NOISES/pointsource_noises/noise-free-sound-0000.wav", np.full(16000, 0.125))
    return root


def augmentation(*given: dict[str, Any]) -> Augmentation:
    return Augmentation(as_config(TINIEST | {"augment": list(given)}).augment)


def lag_of(y: np.ndarray, x: np.ndarray) -> int:
    """Samples by which y comes late, by their cross-correlation."""
    size = 1 << (len(x) + len(y)).bit_length()
    product = np.fft.irfft(np.fft.rfft(y, size) * np.fft.rfft(x, size).conj())
    return int((np.argmax(product) + size // 2) % size - size // 2)


# ---- codecs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODECS)
def test_codecs_keep_length_and_place(name: Any, voice: np.ndarray) -> None:
    for kbits in (CODERS[name].kbits[0], CODERS[name].kbits[-1]):
        y = code(voice, name, kbits)
        assert y.dtype == np.float32
        assert y.shape == voice.shape
        assert np.isfinite(y).all()
        assert not np.array_equal(y, voice)
        # The filters of telephones' codecs shift frequencies by different amounts.
        assert abs(lag_of(y, voice)) <= (3 if name == "amr" or kbits < 8 else 1), (name, kbits)
        # Opus at 6 kbit/s is quieter, the more so the less its encoder searches.
        assert (0.7 if kbits < 8 else 0.8) < np.sqrt((y**2).mean() / (voice**2).mean()) < 1.2
        assert np.array_equal(y, code(voice, name, kbits))


@pytest.mark.parametrize("name", ["mp3", "aac", "opus", "vorbis", "amr"])
def test_more_bits_are_closer_to_the_original(name: Any, voice: np.ndarray) -> None:
    def fit(kbits: float) -> float:
        return float(np.corrcoef(code(voice, name, kbits), voice)[0, 1])

    assert fit(CODERS[name].kbits[-1]) > fit(CODERS[name].kbits[0])


@pytest.mark.parametrize("name", ["alaw", "mulaw", "gsm", "amr"])
def test_what_resampling_takes_beyond_full_scale_stays_there(name: Any) -> None:
    """A square wave overshoots where its frequencies are cut; a sample that wrapped around would be a click."""
    x = np.sign(np.sin(2 * np.pi * 200 * np.arange(16000) / 16000 + 0.1)).astype(np.float32)
    kbits = CODERS[name].kbits[-1]
    loud, quiet = code(x, name, kbits), 4 * code(0.25 * x, name, kbits)
    error, reference = (np.sqrt(((y - x) ** 2).mean()) for y in (loud, quiet))
    assert error < 1.5 * reference + 0.02


def test_a_late_codec_is_put_in_its_place() -> None:
    assert delay_of("aac", 32) == 1024
    assert delay_of("g722", 64) == 22
    assert delay_of("alaw", 64) == 0


@pytest.mark.parametrize("name", CODERS)
def test_the_end_of_an_utterance_is_whole(name: Any, voice: np.ndarray) -> None:
    """The silence that is coded behind an utterance is enough: with more of it the same samples come out."""
    kbits = CODERS[name].kbits[0]
    for samples in (200, 12_345):
        x = voice[8000:][:samples]
        longer = code(np.pad(x, (0, 4 * codecs.TAIL)), name, kbits)[:samples]
        np.testing.assert_allclose(code(x, name, kbits), longer, atol=1e-6)


def test_bit_rates_are_those_asked_for(voice: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(codecs, "code", lambda x, name, kbits: seen.append((name, kbits)) or x)  # type: ignore[func-returns-value]
    for seed in range(60):
        augmentation({"step": "codec", "codecs": ["mp3", "gsm"], "bitrate": [24, 40]})(voice, (seed,))
    assert set(seen) == {("mp3", 24), ("mp3", 32), ("gsm", 13)}


def test_a_missing_codec_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    coder = CODERS["amr"]._replace(encoder="no_such_encoder")
    monkeypatch.setitem(CODERS, "amr", coder)
    with pytest.raises(InputError) as caught:
        augmentation({"step": "gain"}, {"step": "codec", "codecs": ["mp3", "amr"]})
    assert str(caught.value).startswith("augment[1].codecs: the PyAV (FFmpeg) of this machine cannot write 'amr'")
    assert 'choose from ["mp3"]' in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [-5.0, 10.0])
def test_noise_has_its_ratio(snr: float, voice: np.ndarray, recordings: Path) -> None:
    step = {"step": "noise", "folder": str(recordings / "musan"), "snr": [snr, snr], "clips": [1, 3]}
    for seed in range(5):
        y = augmentation(step)(voice, (seed,))
        noise = y.astype(np.float64) - voice
        assert 10 * np.log10((voice.astype(np.float64) ** 2).sum() / (noise**2).sum()) == pytest.approx(snr, abs=0.01)


def test_of_rirs_noises_each_step_takes_its_own(recordings: Path) -> None:
    folder = str(recordings / "RIRS_NOISES")
    chain = augmentation({"step": "noise", "folder": folder}, {"step": "room", "folder": folder})
    noises, responses = ([Path(file).name for file in files] for files in chain.files)
    assert noises == ["noise-free-sound-0000.wav", "RVB2014_type1_noise_largeroom1_1.wav"]
    assert responses == ["RVB2014_type1_rir_largeroom1_far_angla.wav", "Room001-00001.wav"]


def test_a_room_keeps_the_direct_sound_in_its_place(voice: np.ndarray, recordings: Path) -> None:
    for seed in range(4):
        y = augmentation({"step": "room", "folder": str(recordings / "RIRS_NOISES")})(voice, (seed,))
        assert y.shape == voice.shape
        assert abs(lag_of(y, voice)) <= 9
        assert (y**2).sum() == pytest.approx((voice**2).sum(), rel=1e-3)
        assert not np.array_equal(y, voice)
    click = np.zeros(16000, dtype=np.float32)
    click[5000] = 0.5
    folder = str(recordings / "RIRS_NOISES" / "simulated_rirs")
    y = augmentation({"step": "room", "folder": folder})(click, (0,))
    assert int(np.argmax(np.abs(y))) == 5000


@pytest.mark.parametrize("step", ["noise", "room"])
def test_a_missing_folder_is_one_line(step: str, tmp_path: Path) -> None:
    for folder, message in ((tmp_path / "no", "there is no folder"), (tmp_path, "no audio file in")):
        with pytest.raises(InputError, match=rf"^augment\[0\]\.folder: {message} \S+") as caught:
            augmentation({"step": step, "folder": str(folder)})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", ["noise", "room"])
def test_a_broken_recording_is_named(step: str, voice: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF and nothing else")
    chain = augmentation({"step": step, "folder": str(tmp_path)})
    with pytest.raises(InputError, match=r"broken\.wav"):
        chain(voice, (0,))


# ---- the others ------------------------------------------------------------------------------------------------------


def test_bandwidth_is_limited(voice: np.ndarray) -> None:
    x = voice + 0.1 * np.random.default_rng(0).standard_normal(len(voice)).astype(np.float32)
    y = augmentation({"step": "bandwidth", "rates": [8000]})(x, (0,))
    assert y.shape == x.shape
    assert lag_of(y, x) == 0
    power = np.abs(np.fft.rfft(y)) ** 2
    hertz = np.fft.rfftfreq(len(y), 1 / 16000)
    assert power[hertz > 4400].sum() < 1e-4 * power[hertz < 3600].sum()


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch(factor: float) -> None:
    x = np.sin(2 * np.pi * 1000 * np.arange(32000) / 16000).astype(np.float32)
    y = augmentation({"step": "speed", "factor": [factor, factor]})(x, (0,))
    assert len(y) == pytest.approx(len(x) / factor, abs=2)
    assert np.argmax(np.abs(np.fft.rfft(y))) * 16000 / len(y) == pytest.approx(1000 * factor, abs=1)


def test_gain_and_clipping(voice: np.ndarray) -> None:
    y = augmentation({"step": "gain", "gain": [6, 6]})(voice, (0,))
    np.testing.assert_allclose(y, voice * 10 ** (6 / 20), rtol=1e-5)
    y = augmentation({"step": "clip", "level": [0.5, 0.5]})(voice, (0,))
    assert np.abs(y).max() == pytest.approx(0.5 * np.abs(voice).max())
    inside = np.abs(voice) < 0.49 * np.abs(voice).max()
    assert np.array_equal(y[inside], voice[inside])


def test_trimming_cuts_the_ends_alone(voice: np.ndarray) -> None:
    loud = np.full(8000, 0.3, dtype=np.float32) * np.sin(np.arange(8000)).astype(np.float32)
    pause = np.zeros(4800, dtype=np.float32)
    x = np.concatenate((pause, loud, pause, loud, pause, pause))
    y = augmentation({"step": "trim"})(x, (0,))
    assert len(y) == pytest.approx(2 * len(loud) + len(pause), abs=2 * steps.FRAME)
    assert np.abs(y[: steps.FRAME]).max() > 0.1
    click = np.zeros(16000, dtype=np.float32)
    click[800] = 1
    assert np.array_equal(augmentation({"step": "trim"})(click, (0,)), click)


ALL: list[dict[str, Any]] = [
    {"step": "trim"}, {"step": "speed"}, {"step": "gain", "gain": [-100, 100]}, {"step": "rawboost", "algorithm": 4},
    {"step": "clip", "level": [0, 1]}, {"step": "bandwidth", "rates": [4000, 8000]},
    {"step": "codec", "codecs": ["mulaw", "gsm", "g722", "vorbis"]},
]  # fmt: skip


@settings(max_examples=25)
@given(st.integers(1, 40_000), st.integers(0, 10**6), st.sampled_from(["noise", "click", "quiet", "silent", "loud"]))
def test_whatever_comes_in_stays_an_utterance(samples: int, seed: int, kind: str) -> None:
    x = np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)
    x *= np.float32({"quiet": 1e-4, "silent": 0, "loud": 1.9}.get(kind, 0.3))
    if kind == "click":
        x[1:] = 0
    before = x.copy()
    y = augmentation(*ALL)(x, (seed, 1))
    assert y.dtype == np.float32
    assert np.isfinite(y).all()
    assert len(y) >= min(samples, 160)
    assert y.any() or not x.any()
    assert np.array_equal(x, before)


# ---- the chain -------------------------------------------------------------------------------------------------------


def test_the_seed_decides_and_nothing_else(voice: np.ndarray) -> None:
    one, other = augmentation(*ALL), augmentation(*ALL)
    first = one(voice, (3, 1, 4))
    one(voice, (3, 1, 5))
    np.random.random()
    assert np.array_equal(first, one(voice, (3, 1, 4)))
    assert np.array_equal(first, other(voice, (3, 1, 4)))
    assert not np.array_equal(first, one(voice, (3, 1, 5)))


def test_steps_do_not_draw_from_each_other(voice: np.ndarray) -> None:
    last = {"step": "gain", "gain": [-20, 20]}
    alone = augmentation({"step": "clip", "probability": 0}, last)(voice, (1,))
    behind = augmentation({"step": "rawboost", "probability": 0}, last)(voice, (1,))
    assert np.array_equal(alone, behind)


def test_probability() -> None:
    x = np.full(1600, 0.1, dtype=np.float32)
    chain = augmentation({"step": "gain", "gain": [5, 5], "probability": 0.3})
    changed = sum(not np.array_equal(chain(x, (seed,)), x) for seed in range(1000))
    assert 250 < changed < 350


# ---- the config ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ('{"step": "rawbost"}', r'augment[0].step: got "rawbost", expected one of rawboost, noise'),
        ('{"step": "rawbost"}', "did you mean 'rawboost'?"),
        ('{"stp": "gain"}', "augment[0].step: the key is missing, expected one of rawboost"),
        ('{"step": "rawboost", "algorithm": 9}', "augment[0].algorithm: got 9, expected an integer from 1 to 8"),
        ('{"step": "rawboost", "algo": 5}', "augment[0].algo: rawboost has no such key (have: step, probability"),
        ('{"step": "gain", "gian": [0, 1]}', "unknown key 'augment[0].gian'; did you mean 'augment[0].gain'?"),
        ('{"step": "gain", "gain": [3, 1]}', "augment[0].gain: got [3, 1], expected two numbers [lowest, highest]"),
        ('{"step": "gain", "probability": 1.5}', "augment[0].probability: got 1.5, expected a number from 0 to 1"),
        ('{"step": "noise"}', "key 'augment[0].folder' is missing; expected a text"),
        ('{"step": "codec", "codecs": ["mp4"]}', 'augment[0].codecs[0]: got "mp4", expected one of "mp3", "aac"'),
        ("3", 'augment[0]: got 3, expected an object {"step": ...}'),
    ],
)
def test_messages_name_file_line_and_key(step: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.conf"
    text = json.dumps(TINIEST)[:-1] + ',\n"augment": [\n' + step + "\n]}\n"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert message in str(caught.value)
    line = 2 if step == "3" else 3
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_every_step_is_described_and_identifies_the_experiment() -> None:
    for name, cls in STEPS.items():
        assert cls.__doc__
        folder = {"folder": "x"} if name in ("noise", "room") else {}
        config = as_config(TINIEST | {"augment": [{"step": name, **folder}]})
        assert [dataclasses.asdict(one)["step"] for one in config.augment] == [name]
        assert config.identity()["augment"][0]["step"] == name
    # As experiments from before there was such a key.
    assert "augment" not in as_config(TINIEST).identity()
    assert as_config(TINIEST | {"augment": [{"step": "gain"}]}).identity() != as_config(TINIEST).identity()
