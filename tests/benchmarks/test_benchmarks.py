"""The benchmarks run, and what they compare computes the same; no test asks how long anything took."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import __main__ as command
from benchmarks import compute, loading, runs, score_lists, timing, worker
from benchmarks.runs import CONFIGS, INPUTS, PROCESSOR, Workload
from s2pecnet.config.experiment import Config, load_config
from s2pecnet.conventions import CROP
from s2pecnet.errors import InputError
from s2pecnet.systems.build import inputs_of
from s2pecnet.systems.registry import find_model, utterance_feature
from s2pecnet.training import optim
from tests.helpers.samples import TINIEST, TINY

CPU = torch.device("cpu")
PEER_MODEL = """
import torch
from utils import double

class Model(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.out = torch.nn.Linear(1, 2)

    def forward(self, x, Freq_aug=False):
        return x, self.out(double(x[:, :1]))
"""


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small systems in the place of config/, and a ceiling that takes no time."""
    folder = tmp_path / "config"
    folder.mkdir()
    for name, config in (("aasist", TINIEST), ("s2pecnet", TINY)):
        (folder / f"{name}.conf").write_text(json.dumps(config))
    monkeypatch.setattr(compute, "CONFIGS", folder)
    monkeypatch.setattr(command, "CONFIGS", folder)
    monkeypatch.setattr(timing, "SIDE_CPU", 32)
    return folder


@pytest.fixture
def peer(tmp_path: Path) -> Path:
    """A checkout with one system, whose file imports a module that has a namesake of ours."""
    (tmp_path / "peer" / "models").mkdir(parents=True)
    (tmp_path / "peer" / "models" / "AASIST.py").write_text(PEER_MODEL)
    (tmp_path / "peer" / "utils.py").write_text("def double(x):\n    return 2 * x\n")
    return tmp_path / "peer"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[Workload]:
    """Workloads run in this process, as the one that a line of JSON describes; they are noted in their order."""
    ran: list[Workload] = []

    def run(workload: Workload) -> dict[str, Any]:
        ran.append(workload)
        passed_on = Workload(**json.loads(json.dumps(dataclasses.asdict(workload))))
        figures: dict[str, Any] = json.loads(json.dumps(worker.run(passed_on)))
        return figures

    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setattr(command, "run", run)
    return ran


def step_of(way: str, task: str, subject: str, **others: Any) -> tuple[Config, Callable[[], Any]]:
    workload = Workload(task, way, subject, **({"batch": 3} | others))
    step, config, _ = compute.make_step(workload)
    return config, step


# ---- scoring and training


@pytest.mark.parametrize("way", ["ours", "plain"])
@pytest.mark.parametrize("task", ["score", "train"])
def test_a_workload_reports_rate_memory_and_ceiling(configs: Path, task: str, way: str) -> None:
    figures = worker.run(Workload(task, way, "aasist", batch=2, repeats=2))
    ceilings = {"ceiling_gflops", "ceiling_gflop_per_processor_s"}
    assert set(figures) == {"utterances_per_second", PROCESSOR, "peak_GiB"} | ceilings
    assert all(value > 0 for value in figures.values())


@pytest.mark.parametrize("subject", ["aasist", "s2pecnet"])
def test_plain_and_ours_compute_the_same(configs: Path, subject: str) -> None:
    scores = [step_of(way, "score", subject)[1]() for way in ("ours", "plain")]
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=0)
    losses = [float(sum(step_of(way, "train", subject)[1]().values())) for way in ("ours", "plain")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_released_loss_is_that_of_our_model() -> None:
    torch.manual_seed(0)
    model: Any = find_model("S2pecNet")(TINY["model_config"])
    feature = utterance_feature(TINY["model_config"])
    assert feature is not None
    waveforms = 0.1 * torch.randn(2, 4800)
    inputs, labels = [waveforms, feature(waveforms)], torch.tensor([0, 1])
    outputs, criterion = model.train()(*inputs), nn.CrossEntropyLoss()
    ours = sum(model.loss(outputs, inputs, labels, criterion).values())
    torch.testing.assert_close(compute.released_loss(outputs, inputs, labels, criterion), ours)
    torch.testing.assert_close(
        compute.released_loss(outputs[:2], inputs, labels, criterion), criterion(outputs[1], labels)
    )


def test_settings_are_those_of_our_way_alone(configs: Path) -> None:
    settings = ("precision=bf16", "micro_batch_size=2", "loss_weights=[0.5, 0.5]")
    ours, _ = step_of("ours", "train", "aasist", settings=settings)
    plain, _ = step_of("plain", "train", "aasist", settings=settings)
    assert (ours.precision, ours.micro_batch_size, ours.channels_last) == ("bf16", 2, True)
    assert (plain.precision, plain.micro_batch_size, plain.channels_last) == ("fp32", None, False)
    assert plain.loss_weights == ours.loss_weights == (0.5, 0.5)


def test_operations_are_counted_as_they_are_known() -> None:
    counted = worker.run(Workload("score", subject="AASIST", mode="count", device="cuda", settings=("compile=true",)))
    assert counted["gflop_per_utterance"] == pytest.approx(19.1, abs=0.05)


def test_a_step_of_training_counts_forward_and_backward(configs: Path) -> None:
    score, train = (
        worker.run(Workload(task, subject="aasist", mode="count"))["gflop_per_utterance"] for task in ("score", "train")
    )
    # Gradients of inputs and of weights cost as much as the forward pass each; the filter bank needs neither.
    bands, taps, samples = 12, 129, 2400
    bank = 2 * bands * taps * (samples - taps + 1) / 1e9
    assert train == pytest.approx(bank + 3 * (score - bank), rel=1e-2)


def test_a_profile_names_operators_the_longest_first(configs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = worker.run(Workload("train", subject="aasist", mode="profile", batch=2, repeats=2))
    shares = [row["share"] for row in figures["operators"]]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1
    assert any("convolution" in row["operator"] for row in figures["operators"])
    lines = command.tables.profile_lines(figures, "aasist", "train")
    assert len(lines) == 1 + len(shares)
    assert lines[0].startswith("aasist, train: ")


# ---- CUDA, with a stand-in: no test machine has one


class FakeEvent:
    """Half a second lies between each event and the next."""

    recorded = 0

    def __init__(self, enable_timing: bool):
        assert enable_timing
        self.time_ms: float | None = None

    def record(self, stream: str) -> None:
        assert stream == "stream of cuda"
        FakeEvent.recorded += 1
        self.time_ms = 500.0 * FakeEvent.recorded

    def elapsed_time(self, other: "FakeEvent") -> float:
        assert self.time_ms is not None
        assert other.time_ms is not None
        return other.time_ms - self.time_ms


def test_cuda_is_timed_by_events_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: done.append("synchronise"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: done.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**30)
    device = torch.device("cuda")
    timed = timing.time_steps(lambda: done.append("step"), 2, device)
    # Warm-up before the peak starts anew; no waiting between the steps that count.
    assert done == ["step"] * 3 + ["synchronise", "reset", "step", "step", "synchronise"]
    assert timed.seconds == [0.5, 0.5]
    assert timing.peak_memory(device) == 3


def test_the_cpu_is_timed_after_a_warm_up() -> None:
    calls: list[int] = []
    assert len(timing.time_steps(lambda: calls.append(1), 4, CPU).seconds) == 4
    assert len(calls) == 5
    timing.time_steps(lambda: calls.append(1), 4, CPU, warm_up=3)
    assert len(calls) == 12


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_the_ceiling_is_of_the_precision(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr(timing, "SIDE_CPU", 16)
    assert all(rate > 0 for rate in timing.matrix_products(CPU, precision).values())


def test_memory_is_in_bytes() -> None:
    import resource
    import sys

    remembered = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert 2**24 < 2**30 * timing.peak_memory(CPU) < 1.05 * remembered


# ---- loading, evaluation, start, memory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.mark.parametrize("way", ["ours", "cached", "plain"])
@pytest.mark.parametrize("subject", INPUTS)
def test_loaders_report_their_rate(folder: Path, way: str, subject: str) -> None:
    figures = worker.run(Workload("load", way, subject, batch=3, repeats=1, folder=str(folder), trials=6))
    assert set(figures) == {"utterances_per_second", "opening_s", PROCESSOR}


def test_workers_load_the_same_corpus(folder: Path) -> None:
    figures = worker.run(Workload("load", "ours", "waveform", batch=3, folder=str(folder), trials=6, workers=1))
    assert set(figures) == {"utterances_per_second", "opening_s"}
    assert [path.name for path in folder.glob("train-*")] == ["train-6"]


def test_the_ways_of_loading_give_the_same(folder: Path) -> None:
    split = loading.find_or_make_split(folder, "train", 12, loading.SHORTEST_S, loading.LONGEST_S)
    inputs = inputs_of(load_config(CONFIGS / f"{INPUTS['waveform+LFCC']}.conf"))
    items = []
    for way in ("ours", "cached", "plain"):
        workload = Workload("load", way, "waveform+LFCC", batch=2, folder=str(folder), trials=12)
        dataset: Any = loading.make_training_loader(workload, split, inputs).dataset
        items.append([dataset[index] for index in range(12)])
    lengths = [len(loading.soundfile.read(str(path))[0]) for path in sorted((split.audio / "flac").iterdir())]
    compared = [index for index in range(12) if lengths[index] <= CROP]
    assert 0 < len(compared) < 12
    for index in compared:
        # What is no longer than a crop has one crop only, tiled.
        for part in range(3):
            for item in (items[1][index], items[2][index]):
                torch.testing.assert_close(torch.as_tensor(item[part]), torch.as_tensor(items[0][index][part]))


def test_the_corpus_is_as_long_as_speech() -> None:
    mean = (loading.SHORTEST_S + loading.LONGEST_S) / 2
    assert mean == pytest.approx(3.4)


def test_score_files_have_the_size_of_la() -> None:
    spoofed = len(score_lists.ATTACKS) * score_lists.PER_ATTACK
    assert score_lists.BONAFIDE + spoofed == 71_237
    assert score_lists.TARGETS + score_lists.NONTARGETS + spoofed == 102_579


def test_both_readings_of_score_files_give_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BONAFIDE", "PER_ATTACK", "TARGETS", "NONTARGETS"):
        monkeypatch.setattr(score_lists, name, getattr(score_lists, name) // 50)
    cm, asv = score_lists.find_or_make_scores(tmp_path)
    before = cm.stat().st_mtime_ns
    ours, plain = (dataclasses.asdict(score_lists.evaluate(way, cm, asv)) for way in ("ours", "plain"))
    assert ours == plain
    assert 0 < ours["eer"] < 0.5
    assert ours["min_tdcf"] is not None
    for way in ("ours", "plain"):
        assert worker.run(Workload("evaluate", way, repeats=1, folder=str(tmp_path)))["seconds"] > 0
    assert cm.stat().st_mtime_ns == before


def test_starting_is_timed() -> None:
    figures = worker.run(Workload("start", repeats=1))
    assert figures[PROCESSOR] > 0
    assert figures["seconds"] > 0


def test_a_list_is_scored_from_a_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_lists, "LINKS", 10)
    assert worker.run(Workload("memory", batch=8, folder=str(tmp_path), trials=25))["peak_GiB"] > 0
    lines = (tmp_path / "scores.txt").read_text().splitlines()
    scores = np.array([float(line.split()[3]) for line in lines])
    assert len(scores) == 25
    assert len(np.unique(scores)) == 3


# ---- the command


def test_ways_are_run_in_turn_and_compared_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def run(workload: Workload) -> dict[str, Any]:
        order.append(workload.way)
        # The machine becomes slower and slower; ours is four times as fast, and takes a third of the processor's time.
        rate = (4 if workload.way == "ours" else 1) * 0.9 ** ((len(order) - 1) // 2)
        return {"utterances_per_second": rate, PROCESSOR: 1 if workload.way == "ours" else 3, "peak_GiB": len(order)}

    monkeypatch.setattr(runs, "run", run)
    found = runs.in_turn({way: Workload("score", way) for way in ("ours", "plain")}, rounds=3)
    assert order == ["ours", "plain", "plain", "ours", "ours", "plain"]
    ways = runs.compared(found, "plain")
    assert ways["ours"]["ratio"] == pytest.approx(4)
    assert ways["ours"]["ratios"] == pytest.approx([4, 4, 4])
    assert ways["ours"]["processor_ratio"] == 3
    assert ways["plain"]["ratio"] == 1
    assert ways["ours"]["utterances_per_second"] == pytest.approx(4 * 0.9)
    assert ways["ours"]["peak_GiB"] == 5
    ceiling = {"ceiling_gflops": 90.0, "ceiling_gflop_per_processor_s": 25.0}
    shares = runs.against_ceiling([figures | ceiling for figures in found["ours"]], gflop=20)
    assert shares["achieved_gflops"] == pytest.approx(20 * 4 * 0.9)
    assert shares["share_of_ceiling"] == pytest.approx(20 * 4 * 0.9 / 90)
    assert shares["share_in_processor_time"] == pytest.approx(20 / 25)
    assert runs.compared({"ours": [{"seconds": 1.0}], "plain": [{"seconds": 5.0}]}, "plain")["ours"]["ratio"] == 5


def test_a_peer_is_imported_as_it_is_and_compared(
    configs: Path, peer: Path, in_process: list[Workload], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--systems", "aasist", "--tasks", "score", "train", "--peer", str(peer), "--batch", "2"]
    command.main([*arguments, "--repeats", "1", "--rounds", "2", "--json", str(tmp_path / "figures.json")])
    measured = [(each.task, each.way) for each in in_process if each.mode == "measure"]
    assert measured == [(task, way) for task in ("score", "train") for way in ("ours", "peer", "peer", "ours")]
    printed = capsys.readouterr().out.splitlines()
    assert "peer utt/s" in printed[2]
    assert [line.split()[:2] for line in printed[3:]] == [["aasist", "score"], ["aasist", "train"]]
    written = json.loads((tmp_path / "figures.json").read_text())
    for row, line in zip(written["rows"], printed[3:], strict=True):
        assert len(row["runs"]["peer"]) == 2
        assert f" {row['ways']['ours']['ratio']:.2f}x " in line
        assert row["share_of_ceiling"] > 0
    assert "double" not in vars(optim)


def test_all_tasks_end_in_tables_and_json(
    configs: Path, in_process: list[Workload], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(command, "EPOCH", 4)
    for name in ("BONAFIDE", "PER_ATTACK", "TARGETS", "NONTARGETS"):
        monkeypatch.setattr(score_lists, name, getattr(score_lists, name) // 100)
    monkeypatch.setattr(worker, "measure_start", lambda workload: {"seconds": 0.25, PROCESSOR: 0.125})
    arguments = ["--systems", "s2pecnet", "--batch", "2", "--repeats", "1", "--rounds", "1", "--trials", "5"]
    command.main([*arguments, "--precision", "bf16", "--json", str(tmp_path / "figures.json")])
    printed = capsys.readouterr().out
    for heading in ("ceiling", "cached ratio", "lowest-highest", "bytes a trial"):
        assert heading in printed
    written = json.loads((tmp_path / "figures.json").read_text())
    assert [row["task"] for row in written["rows"]] == ["score", "train", "load", "load", "evaluate", "start", "memory"]
    assert written["settings"] == ["precision=bf16"]
    assert written["rows"][-1]["trials"] == [5, 50]
    assert not any(Path(each.folder).exists() for each in in_process)


def test_a_profile_is_printed_instead(
    configs: Path, in_process: list[Workload], capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["--systems", "aasist", "--tasks", "score", "--profile", "--batch", "2", "--repeats", "1"])
    assert [each.mode for each in in_process] == ["profile"]
    assert "convolution" in capsys.readouterr().out


def test_a_process_of_its_own_measures_and_a_failure_is_one_line() -> None:
    figures = runs.run(Workload("start", repeats=1))
    assert figures["seconds"] > 0
    if torch.cuda.is_available():
        pytest.skip("this machine has what the other half of the test asks for in vain")
    with pytest.raises(InputError, match=r"^demo, score, ours: the measurement failed: --device cuda: .*$"):
        runs.run(Workload("score", subject="demo", device="cuda"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peer", "."], r"--peer \S+: expected a checkout with a folder models/"),
        (["--profile", "--tasks", "score", "load"], "--profile is for the tasks score and train"),
        (["--set", "precison=bf16"], "--set precison: unknown key"),
        (["--rounds", "0"], "--rounds 0: expected a number >= 1"),
        (["--workers", "-1"], "--workers -1: expected a number >= 0"),
        (["--precision", "fp8"], "--set precision: .*fp8"),
    ],
)
def test_bad_arguments_get_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        command._parse(arguments)


def test_a_peer_is_asked_for_the_systems_that_it_has(peer: Path) -> None:
    assert command._parse(["--peer", str(peer)]).systems == ["AASIST", "AASIST-L"]
    with pytest.raises(InputError, match=r"it has no models/S2pecNet\.py, the file of S2pecNet"):
        command._parse(["--peer", str(peer), "--systems", "AASIST", "S2pecNet"])
    shutil.rmtree(peer / "models")
    (peer / "models").mkdir()
    with pytest.raises(InputError, match=r"it has no models/AASIST\.py"):
        command._parse(["--peer", str(peer)])


def test_the_machine_is_described() -> None:
    assert runs.machine().endswith("cores")
