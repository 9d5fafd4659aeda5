"""`s2pecnet augment`: what training would hear of a recording, as audio and as pictures."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from s2pecnet.cli.command import make_parser
from s2pecnet.errors import InputError

EXAMPLES = """examples:
  %(prog)s --config my.conf talk.wav --out heard
  %(prog)s --config AASIST --set 'augment=[{"step": "codec"}]' talk.wav --out heard --draws 8 --seed 2
"""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet augment") -> int:
    """Augment recordings; see `s2pecnet augment --help`."""
    options = build_parser(prog).parse_args(argv)
    if options.draws < 1 or options.seed < 0:
        raise InputError("--draws is to be at least 1, and --seed at least 0")
    from s2pecnet.config.experiment import load_config

    config = load_config(options.config, options.set)
    if not config.augment:
        raise InputError(f'{config.source}: no augmentation; give steps: "augment": [{{"step": "rawboost"}}], or --set')
    import soundfile

    from s2pecnet.audio.decoding import read_audio
    from s2pecnet.augment.chain import Augmentation
    from s2pecnet.conventions import SAMPLE_RATE
    from s2pecnet.extras import MissingExtra
    from s2pecnet.files import atomic_write
    from s2pecnet.reporting.audio_plot import save_comparison

    augmentation = Augmentation(config.augment)
    clips = [(Path(clip), read_audio(clip)) for clip in options.clips]
    stems = [path.stem for path, _ in clips]
    if len(set(stems)) < len(stems):
        raise InputError("two of the recordings have the same name; their results would too")
    targets = {options.out / f"{stem}_{draw}.wav" for stem in stems for draw in range(options.draws)}
    taken = [path for path, _ in clips for target in targets if target.exists() and target.samefile(path)]
    if taken:
        raise InputError(f"--out {options.out}: {taken[0]} is a recording that was given; choose another folder")
    options.out.mkdir(parents=True, exist_ok=True)
    for number, (path, waveform) in enumerate(clips):
        for draw in range(options.draws):
            heard = augmentation(waveform, (options.seed, draw, number))
            target = options.out / f"{path.stem}_{draw}.wav"
            with atomic_write(target, "wb") as stream:
                # Floats, for RawBoost's stationary noise may go beyond full scale.
                soundfile.write(stream, heard, SAMPLE_RATE, format="WAV", subtype="FLOAT")
            print(target)
            if options.no_pictures:
                continue
            try:
                print(save_comparison(target.with_suffix(".png"), path.name, waveform, heard))
            except MissingExtra as error:
                raise InputError(f"{error}; or give --no-pictures") from None
    return 0


def build_parser(prog: str = "s2pecnet augment") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(
        prog, "Write what training would hear of recordings: several draws of a config's augmentation.", EXAMPLES
    )
    add = parser.add_argument
    add("clips", nargs="+", metavar="CLIP", help="audio files, of any format and rate")
    add("--config", required=True, metavar="FILE", help="the experiment, whose key augment counts")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value, as in training")
    add("--out", type=Path, required=True, metavar="DIR",
        help="where <clip>_<draw>.wav (16 kHz, float) and <clip>_<draw>.png go")  # fmt: skip
    add("--draws", type=int, default=4, metavar="N", help="how many draws of each (default: %(default)s)")
    add("--seed", type=int, default=1234, metavar="N", help="seed of the draws (default: %(default)s)")
    add("--no-pictures", action="store_true", help="audio only")
    return parser
