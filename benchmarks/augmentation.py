"""Utterances a second of each step of augmentation on one core, and RawBoost beside the functions as released.

The utterance is 3.4 s long, as one of ASVspoof2019 LA is on average: a voice of the demo corpus. Each round calls all
ways once, in an order of its own, since what runs first of two finds colder caches; processor time is counted, and the
median of the rounds is reported.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks.runs import check_numbers, machine
from s2pecnet.cli.command import make_parser, run_command

# Before numpy is imported.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

PROG = "python -m benchmarks.augmentation"
SECONDS, RATE = 3.4, 16000
WORKERS, WANTED = 8, 300
EXAMPLES = """examples:
  %(prog)s
  %(prog)s --rounds 50 --json figures.json
"""


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Measure, print a table, write JSON."""
    arguments = build_parser(prog).parse_args(argv)
    check_numbers(arguments, rounds=1)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        rows = measure(Path(folder), arguments.rounds)
    print(f"{SECONDS} s of a voice, one core, median processor time of {arguments.rounds} rounds")
    print(f"| step | ms | utt/s | {WORKERS} workers on {WORKERS} cores, utt/s | times as fast as released |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        ratio = f"{row['released_ms'] / row['ms']:.1f}" if "released_ms" in row else "-"
        per_second = 1000 / row["ms"]
        print(f"| {row['step']} | {row['ms']:.2f} | {per_second:.0f} | {WORKERS * per_second:.0f} | {ratio} |")
    slow = [row["step"] for row in rows if WORKERS * 1000 / row["ms"] < WANTED]
    print(f"below {WANTED} utt/s with {WORKERS} workers, each utterance changed: {', '.join(slow) or 'none'}")
    if arguments.json:
        from s2pecnet.files import write_json

        write_json(arguments.json, {"machine": machine(), "rounds": arguments.rounds, "rows": rows})
    return 0


def build_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, __doc__ or "", EXAMPLES)
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="calls of each way (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser


def measure(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """A row a step: `step`, `ms` an utterance, and of RawBoost `released_ms`."""
    import numpy as np
    import soundfile

    from s2pecnet.augment.chain import Augmentation
    from s2pecnet.augment.codecs import CODERS
    from s2pecnet.config.experiment import as_config
    from s2pecnet.corpora.demo_voices import draw_speaker, finish, synthesise_voice

    rng = np.random.default_rng(0)
    voice = synthesise_voice(draw_speaker("D_0001", rng), SECONDS, rng)
    x = (finish(voice.samples, rng) / 32768).astype(np.float32)
    noise = rng.standard_normal(60 * RATE) * np.hanning(60 * RATE)
    soundfile.write(folder / "noise.wav", 0.1 * noise, RATE)
    (folder / "rooms").mkdir()
    response = np.exp(-np.arange(RATE // 2) / 1500) * rng.standard_normal(RATE // 2)
    soundfile.write(folder / "rooms" / "room.wav", 0.2 * response / np.abs(response).max(), RATE)

    settings: dict[str, dict[str, Any]] = {
        f"rawboost {number}": {"step": "rawboost", "algorithm": number} for number in range(1, 9)
    }
    settings |= {
        "noise": {"step": "noise", "folder": str(folder)},
        "room": {"step": "room", "folder": str(folder / "rooms")},
        "bandwidth": {"step": "bandwidth"},
        "speed": {"step": "speed"},
        "gain": {"step": "gain"},
        "clip": {"step": "clip"},
        "trim": {"step": "trim"},
    }
    for codec, coder in CODERS.items():
        kbits = coder.kbits[len(coder.kbits) // 2]
        step = {"step": "codec", "codecs": [codec], "bitrate": [kbits, kbits]}
        settings[f"codec {codec}, {kbits:g} kbit/s"] = step
    base: dict[str, Any] = {
        "database_path": "",
        "batch_size": 1,
        "num_epochs": 1,
        "model_config": {"architecture": "AASIST"},
    }
    ways: dict[tuple[str, str], Callable[[int], Any]] = {}
    for name, step in settings.items():
        chain = Augmentation(as_config(base | {"optim_config": {"base_lr": 1}, "augment": [step]}).augment)
        ways[name, "ms"] = lambda seed, chain=chain: chain(x, (seed,))  # type: ignore[misc]
        if step["step"] == "rawboost":
            number = cast(int, step["algorithm"])
            ways[name, "released_ms"] = lambda seed, number=number: as_released(  # type: ignore[misc]
                x, number, np.random.RandomState(seed)
            )
    seconds: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    order = list(ways)
    for seed in range(-1, rounds):
        rng.shuffle(order)
        for way in order:
            started = time.process_time()
            ways[way](seed + 1)
            # The first round imports, and measures the codecs' delays.
            if seed >= 0:
                seconds[way].append(time.process_time() - started)
    rows: dict[str, dict[str, Any]] = {}
    for (name, figure), found in seconds.items():
        rows.setdefault(name, {"step": name})[figure] = 1000 * statistics.median(found)
    return list(rows.values())


def as_released(x: Any, algorithm: int, rng: Any) -> Any:
    """RawBoost written down as the released functions go about it: a design and a filter after the other.

    The same results, with the defaults, as `s2pecnet.augment.rawboost.rawboost`.
    """
    import numpy as np
    from scipy import signal

    def uniform(low: float, high: float) -> float:
        return float(rng.uniform(low, high, 1)[0])

    def notches(low: float, high: float) -> Any:
        b = np.ones(1)
        for _ in range(5):
            centre, width, taps = uniform(20, 8000), uniform(100, 1000), int(uniform(10, 100))
            taps += 1 - taps % 2
            edges = [max(centre - width / 2, 0.001), min(centre + width / 2, RATE / 2 - 0.001)]
            b = np.convolve(signal.firwin(taps, edges, window="hamming", fs=RATE), b)
        gain = uniform(low, high)
        _, response = signal.freqz(b, 1, fs=RATE)
        return 10 ** (gain / 20) * b / np.abs(response).max()

    def filtered(y: Any, b: Any) -> Any:
        late = (len(b) + 1) // 2
        return signal.lfilter(b, 1, np.pad(y, (0, len(b) + 1)))[late : late + len(y)]

    def limited(y: Any) -> Any:
        peak = np.abs(y).max()
        return y / peak if peak > 1 else y

    def convolutive(y: Any) -> Any:
        total, low, high = np.zeros(len(y)), 0.0, 0.0
        for power in range(5):
            if power == 1:
                low, high = -5.0, -20.0
            total = total + filtered(np.power(y, power + 1), notches(low, high))
        return limited(total - total.mean())

    def impulsive(y: Any) -> Any:
        places = int(len(y) * (uniform(0, 10) / 100))
        hit, out = rng.permutation(len(y))[:places], y.copy()
        factor = (2 * rng.rand(places) - 1) * (2 * rng.rand(places) - 1)
        out[hit] = y[hit] + 2 * y[hit] * factor
        return limited(out)

    def stationary(y: Any) -> Any:
        noise = filtered(rng.normal(0, 1, len(y)), notches(0, 0))
        noise = noise / np.abs(noise).max()
        snr = uniform(10, 40)
        return y + noise / np.linalg.norm(noise) * np.linalg.norm(y) / 10 ** (0.05 * snr)

    if algorithm == 8:
        return limited(convolutive(x) + impulsive(x)).astype(np.float32)
    series = {4: (1, 2, 3), 5: (1, 2), 6: (1, 3), 7: (2, 3)}.get(algorithm, (algorithm,))
    for one in series:
        x = {1: convolutive, 2: impulsive, 3: stationary}[one](x)
    return x.astype(np.float32)


if __name__ == "__main__":
    run_command(main)
