"""Audio is decoded to mono 16 kHz, no more of it than is needed; what cannot be used is told apart."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s2pecnet.audio.decoding import UNKNOWN_LENGTH, BadAudio, inspect, read_audio, read_crop
from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.published import read_protocol
from s2pecnet.data.utterances import AudioFolder
from tests.helpers.audio_zoo import RATE, SECONDS, damaged_flac, encoded, sound, written


def test_other_rates_and_channels_become_mono_16_khz(tmp_path: Path) -> None:
    time = np.arange(44100) / 44100
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros_like(time)], axis=1) * 0.5
    soundfile.write(tmp_path / "a.wav", stereo, 44100)
    samples = read_audio(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    assert abs(len(samples) - 16000) <= 1
    middle = samples[2000:14000]
    spectrum = np.abs(np.fft.rfft(middle))
    assert abs(np.argmax(spectrum) * 16000 / len(middle) - 440) < 2
    assert middle.max() == pytest.approx(0.25, abs=0.01)


def test_audio_that_cannot_be_used(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "empty.flac").write_bytes(b"")
    (tmp_path / "junk.flac").write_bytes(b"fLaC" + bytes(range(256)) * 4)
    whole = next((corpus / "ASVspoof2019_LA_dev" / "flac").glob("*.flac")).read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 16000, subtype="FLOAT")
    for name, message in [
        ("missing.flac", "no such audio file"),
        ("empty.flac", "the audio file is empty"),
        ("junk.flac", "cannot be decoded"),
        ("cut.flac", "cannot be decoded"),
        ("none.wav", "holds no samples"),
        ("nan.wav", "NaN or infinite"),
    ]:
        with pytest.raises(BadAudio, match=message) as caught:
            read_audio(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_short_and_silent_files_are_reported(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.full(159, 0.1), 16000)
    soundfile.write(tmp_path / "short48.wav", np.full(470, 0.1), 48000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(9000), 16000)
    for name, message in [
        ("short.wav", "holds 159 samples at 16000 Hz, less than 10 ms"),
        ("short48.wav", "holds 470 samples at 48000 Hz, less than 10 ms"),
        ("silent.wav", "is silent, all of its samples are 0"),
    ]:
        for read in (read_audio, lambda path: read_crop(path, 4000)):
            with pytest.raises(BadAudio, match=message):
                read(tmp_path / name)


@pytest.mark.parametrize("rate", [1, 3999, 2000003, 2**31 - 1])
def test_rates_that_would_fill_the_memory_are_refused(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "odd.wav", np.full(2000, 0.1), rate)
    for read in (read_audio, lambda path: read_crop(path, 100)):
        with pytest.raises(BadAudio, match=rf"odd\.wav: a sample rate of {rate:,} Hz cannot"):
            read(tmp_path / "odd.wav")


@pytest.mark.parametrize(
    "rate", [4000, 5512, 8000, 11025, 22050, 32000, 44056, 44100, 48000, 96000, 192000, 22254, 44101]
)
def test_rates_in_use_and_odd_ones_are_resampled(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "usual.wav", np.full(rate // 10, 0.1), rate)
    assert abs(len(read_audio(tmp_path / "usual.wav")) - 1600) <= 4


@pytest.mark.parametrize("announced", [2**36 - 1, 3 * 10**8])
def test_lengths_that_lie_do_not_fill_the_memory(tmp_path: Path, announced: int) -> None:
    path = tmp_path / "lies.flac"
    soundfile.write(path, np.full(2000, 0.1), 16000)
    data = bytearray(path.read_bytes())
    # 36 bits of STREAMINFO.
    data[21] = data[21] & 0xF0 | announced >> 32
    data[22:26] = (announced & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(data)
    # The checksum of its samples proves that no more were there.
    assert len(read_audio(path)) == 2000
    assert len(read_crop(path, 100)) == 100
    path.write_bytes(data[:26] + bytes(16) + data[42:])
    for read in (read_audio, lambda path: read_crop(path, 100)):
        with pytest.raises(BadAudio, match=rf"cut short: the header announces {announced:,} samples, 2,000 are there"):
            read(path)


def test_samples_far_outside_are_reported(tmp_path: Path) -> None:
    for subtype, value in (("FLOAT", 3e38), ("DOUBLE", 1e300), ("FLOAT", -1e30)):
        soundfile.write(tmp_path / "loud.wav", np.full((9000, 2), value), 16000, subtype=subtype)
        with pytest.raises(BadAudio, match=r"loud\.wav: holds (samples up to|NaN or infinite)"):
            read_audio(tmp_path / "loud.wav")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"M\xfcller.wav")
    with pytest.raises(BadAudio, match="no such audio file"):
        read_audio(odd)
    soundfile.write(tmp_path / "a.wav", np.full(2000, 0.1), 16000)
    (tmp_path / "a.wav").rename(odd)
    assert len(read_audio(odd)) == 2000


def test_names_too_long_and_files_without_a_header(tmp_path: Path) -> None:
    with pytest.raises(BadAudio, match="no such audio file"):
        read_audio(tmp_path / f"{'x' * 300}.flac")
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    with pytest.raises(BadAudio, match=r"a\.raw: samples without a header"):
        read_audio(tmp_path / "a.raw")


def test_a_pause_is_no_silent_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "pause.wav", np.concatenate([np.zeros(9000), np.full(9000, 0.25)]), 16000)
    assert not read_crop(tmp_path / "pause.wav", 4000).any()


@pytest.mark.parametrize("rate", [16000, 22050])
def test_a_crop_is_a_part_of_the_complete_file(tmp_path: Path, rate: int) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 30000)
    soundfile.write(tmp_path / "a.flac", noise, rate)
    whole = read_audio(tmp_path / "a.flac")
    for place in (0, 1, 777, len(whole) - 5000):
        crop = read_crop(tmp_path / "a.flac", 5000, lambda spare, place=place: min(place, spare))  # type: ignore[misc]
        np.testing.assert_array_equal(crop, whole[place : place + 5000])
    np.testing.assert_array_equal(read_crop(tmp_path / "a.flac", 90000, lambda spare: 1 // 0), whole)


def test_a_truncated_file_shows_in_the_crop_that_lacks_samples(corpus: Path, tmp_path: Path) -> None:
    path = next((corpus / "ASVspoof2019_LA_dev" / "flac").glob("*.flac"))
    (tmp_path / "cut.flac").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadAudio, match="cannot be decoded"):
        read_crop(tmp_path / "cut.flac", 4000, lambda spare: spare)


def test_a_flac_file_whose_header_has_no_length_is_read_to_its_end(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 150_000)
    soundfile.write(tmp_path / "a.flac", noise, 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    # STREAMINFO begins at byte 8; the number of samples is the 36 bits from its byte 13.5 on, 0 where it is unknown.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "b.flac").write_bytes(content)
    assert soundfile.info(str(tmp_path / "b.flac")).frames == UNKNOWN_LENGTH
    whole = read_audio(tmp_path / "a.flac")
    np.testing.assert_array_equal(read_audio(tmp_path / "b.flac"), whole)
    np.testing.assert_array_equal(read_crop(tmp_path / "b.flac", 5000, lambda spare: spare), whole[-5000:])


def test_bad_audio_of_a_protocol_names_its_line(corpus: Path, tmp_path: Path) -> None:
    split = find_split(corpus, "LA", "dev")
    trials = read_protocol(split.protocol)
    audio = AudioFolder(tmp_path, trials.utterance, trials=trials)
    with pytest.raises(BadAudio, match=r"no such audio file \(.*dev\.trl\.txt:3\)"):
        audio.complete(2)


def read_to_the_end(path: Path) -> None:
    with soundfile.SoundFile(path) as stream:
        stream.seekable = lambda: False
        while len(stream.read(4096)):
            pass


@pytest.mark.parametrize("name", ["tail.flac", "id3v1.flac", "picture.flac", "comment.flac", "cue.flac"])
def test_flac_that_libsndfile_refuses_and_its_checksum_proves_whole(tmp_path: Path, name: str) -> None:
    whole = written(sound(), format="FLAC")
    (tmp_path / "whole.flac").write_bytes(whole)
    (tmp_path / name).write_bytes(next(animal.content for animal in damaged_flac(whole) if animal.name == name))
    with pytest.raises(soundfile.SoundFileError):
        read_to_the_end(tmp_path / name)
    np.testing.assert_array_equal(read_audio(tmp_path / name), read_audio(tmp_path / "whole.flac"))
    assert inspect(tmp_path / name) == (round(SECONDS * RATE), RATE, 1, True)
    assert not inspect(tmp_path / "whole.flac").second


def test_wide_flac_is_proved_too(tmp_path: Path) -> None:
    stereo = np.stack([sound(rate=44100), sound(rate=44100, seed=1)], axis=1)
    whole = written(stereo, 44100, format="FLAC", subtype="PCM_24")
    (tmp_path / "whole.flac").write_bytes(whole)
    (tmp_path / "tail.flac").write_bytes(whole + b"tail" * 999)
    np.testing.assert_array_equal(read_audio(tmp_path / "tail.flac"), read_audio(tmp_path / "whole.flac"))
    assert inspect(tmp_path / "tail.flac") == (len(stereo), 44100, 2, True)


def test_pipes_are_read_like_files(tmp_path: Path) -> None:
    for ending, content in (("wav", written(sound())), ("m4a", encoded("ipod", "aac", sound()))):
        path = tmp_path / f"pipe.{ending}"
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=(content,))
        writer.start()
        from_pipe = read_audio(path)
        writer.join()
        (tmp_path / "file").write_bytes(content)
        np.testing.assert_array_equal(from_pipe, read_audio(tmp_path / "file"))
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(BadAudio, match="is no file"):
            read_audio(path)


def test_a_file_that_changes_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(2 * written(sound()))
    assert len(read_audio(tmp_path / "a.wav")) == round(2 * SECONDS * RATE)
    (tmp_path / "a.wav").write_bytes(written(sound()))
    assert len(read_audio(tmp_path / "a.wav")) == round(SECONDS * RATE)
