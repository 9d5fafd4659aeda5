"""Files of every kind are read completely, or refused for their true reason, in the same words by every reader."""

import re
from pathlib import Path

import numpy as np
import pytest

from s2pecnet.audio.decoding import BadAudio, inspect, read_audio, read_blocks, read_crop
from tests.helpers.audio_zoo import SLACK, Animal, zoo

ZOO = {animal.name: animal for animal in zoo()}


@pytest.mark.parametrize("name", ZOO)
def test_an_animal_is_read_or_refused(tmp_path: Path, name: str) -> None:
    animal: Animal = ZOO[name]
    path = tmp_path / name
    path.write_bytes(animal.content)
    if animal.refusal is not None:
        with pytest.raises(BadAudio, match=animal.refusal) as refused:
            read_audio(path)
        for read in (lambda: list(read_blocks(path)), lambda: read_crop(path, 4000)):
            with pytest.raises(BadAudio, match=re.escape(str(refused.value))):
                read()
        return
    whole = read_audio(path)
    assert animal.seconds is not None
    assert len(whole) / 16000 == pytest.approx(animal.seconds, abs=SLACK * max(1, round(animal.seconds)))
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(path))), whole)
    crop = read_crop(path, 4000, lambda spare: spare // 2)
    # mpg123 rounds otherwise behind a seek.
    np.testing.assert_allclose(crop, whole[(len(whole) - 4000) // 2 :][:4000], atol=3e-4)
    info = inspect(path)
    if "two_rates" not in name and "three" not in name:
        assert abs(info.frames * 16000 / info.rate - len(whole)) <= 2
