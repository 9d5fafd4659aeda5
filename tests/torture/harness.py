"""Every call of a command that touches its files fails once, and kills the command once; then comes a look at the rest.

A training, an evaluation, a report, a calibration and a download run in a process in which `faults.c` is preloaded.
Counted is each open, write, fsync, rename, mmap, mkdir, unlink, rmdir and truncate below the folder of their outputs,
by whatever library. In turn, call number 1, 2, 3, ... fails ("no space left on device" where something is written,
"input or output error" where it is read), or the process is killed by SIGKILL before it, or behind it. After each:

- a failure is one line and exit status 2, or was tolerated and the results are complete; never a traceback
- what was finished before is there, with its bytes, at its place or backed up
- the same command again (a training with --resume) ends with exit status 0 and the results of a run that nothing
  happened to, byte for byte

    python -m tests.torture             all of it, and prints the table of docs/reliability.md
    python -m tests.torture train 20    every 20th fault of the training
"""

import argparse
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from s2pecnet.corpora.demo import make_demo_corpus
from tests.helpers import ROOT
from tests.helpers.http_server import serving
from tests.helpers.samples import TINIEST

SOURCE = Path(__file__).with_name("faults.c")
ACTIONS = {"count": 0, "fails": 1, "killed before": 2, "killed behind": 3}
SCORED = ("eval_scores_using_best_dev_model.txt", "t-DCF_EER.txt", "results.json", "report.html")
READS = ("open to read", "mmap")

# Forks a process that has imported everything, so that a run takes a second instead of five.
SERVER = """
import ctypes, json, os, sys
import torch, torch.utils.tensorboard, matplotlib.pyplot, sklearn.linear_model, scipy.stats
from s2pecnet import cli, experiment
from s2pecnet.cli.command import run_command
from s2pecnet.runs import provenance
# Weights carry it, and a commit in the middle of the test would be a difference.
provenance.commit = lambda: "torture"
arm = ctypes.CDLL(None).faults_arm
for line in sys.stdin:
    given = json.loads(line)
    if not (pid := os.fork()):
        sys.argv = ["s2pecnet"]
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(given[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
        log = os.open(given["journal"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        arm(given["folder"].encode(), *given["fault"], log)
        try:
            run_command(lambda: cli.main(given["command"]))
        except SystemExit as end:
            sys.stdout.flush()
            # What python does at exit belongs to the run, but the server's own leftovers do not.
            os._exit(end.code or 0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Done(NamedTuple):
    """How a run ended: its wait status, its stderr, and the calls that it made as (name, file)."""

    status: int
    stderr: str
    calls: list[tuple[str, str]]


@dataclass
class Program:
    """A command under test.

    Attributes:
        command: its command line, "{}" for the folder of its outputs.
        again: what the second command line has more.
        made: the results that it is to make, as patterns below the folder.
        optional: those which it may leave out after a failure, with a warning that names them.
    """

    name: str
    command: list[str]
    made: tuple[str, ...]
    again: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def build_faults(folder: Path) -> Path | None:
    """The preloadable library; None where there is no C compiler, or another system than Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "faults.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wno-nonnull-compare"]
    subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


class Torture:
    """Runs programs in copies of a folder that holds earlier results.

    Args:
        folder: where to work.
        library: `build_faults`.
    """

    def __init__(self, folder: Path, library: Path):
        self.folder, self.work, self.before = folder, folder / "work", folder / "before"
        environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        corpus = make_demo_corpus(folder / "LA", seed=7, clips_per_split={"train": 12, "dev": 9, "eval": 9})
        config = TINIEST | {"database_path": str(corpus), "num_epochs": 1, "save_every_steps": 1}
        (folder / "tiniest.conf").write_text(json.dumps(config))

    def close(self) -> None:
        """End the process that makes the others."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.wait(60)
        self.server.stdout.close()

    def run(self, command: Sequence[str], action: str = "count", target: int = 0, error: int = 0) -> Done:
        """Run a command, with a fault at one of its calls."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        files = {name: str(self.folder / name) for name in ("stdout", "stderr", "journal")}
        fault = (ACTIONS[action], target, error)
        words = [word.replace("{}", str(self.work)) for word in command]
        order = {"command": words, "folder": f"{self.work}/", "fault": fault, **files}
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        journal = Path(files["journal"]).read_text().splitlines()
        calls = [tuple(line.split("\t", 1)) for line in journal]
        return Done(status, Path(files["stderr"]).read_text(), calls)  # type: ignore[arg-type]

    def prepare(self, *commands: Sequence[str]) -> None:
        """Make the earlier results: what is there before each run."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        for command in commands:
            done = self.run(command)
            assert done.status == 0, done.stderr
        shutil.rmtree(self.before, ignore_errors=True)
        shutil.copytree(self.work, self.before)

    def reset(self) -> None:
        """Go back to the earlier results."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.before, self.work)

    def faults(self, program: Program, every: int = 1) -> Iterator[tuple[str, str, str | None, str]]:
        """Let each call fail, and kill the run at it.

        Args:
            every: take every n-th fault alone.

        Yields:
            the call and its file; the action; what is wrong, None if nothing; how the run took it.
        """
        self.reset()
        whole = self.run(program.command)
        assert whole.status == 0, whole.stderr
        expected = results_of(self.work, program)
        earlier = contents_of(self.before)
        number = 0
        for target, (call, _) in enumerate(whole.calls, 1):
            for action in ("fails", "killed before", "killed behind"):
                # Behind a call is before the next one, but for what the system itself does last.
                if action == "killed behind" and call not in ("rename", "write", "unlink"):
                    continue
                number += 1
                if number % every:
                    continue
                self.reset()
                error = errno.EIO if call in READS else errno.ENOSPC
                done = self.run(program.command, action, target, error)
                # Temporary files and threads may come in another order: what was hit is what the journal says.
                hit = done.calls[min(target, len(done.calls)) - 1] if done.calls else (call, "?")
                wrong, how = self._judge(program, done, action, expected, earlier)
                yield "\t".join(hit), action, wrong, how

    def _judge(
        self, program: Program, done: Done, action: str, expected: dict[str, Any], earlier: dict[str, str]
    ) -> tuple[str | None, str]:
        how = "killed"
        if action == "fails":
            lines = [line for line in done.stderr.splitlines() if not line.startswith(("note: ", "warning: "))]
            if done.status == 0:
                how = "tolerated"
                if lines:
                    return f"exit status 0, and on stderr: {lines[-1]}", how
                found = results_of(self.work, program)
                lost = [name for name in expected if found.get(name) != expected[name]]
                said = [name for name in lost if Path(name).name in done.stderr and name.endswith(program.optional)]
                if lost != said:
                    return f"exit status 0, but other results: {lost[:3]}", how
            elif done.status != 2 << 8:
                return f"wait status {done.status}: {done.stderr[-300:]}", "broke"
            elif len(lines) != 1 or not lines[0].startswith("error: "):
                return f"not one line: {done.stderr[-300:]}", "broke"
            else:
                how = "one line, status 2"
        elif done.status not in (0, signal.SIGKILL):
            return f"wait status {done.status}: {done.stderr[-300:]}", "broke"
        now = contents_of(self.work)
        kept, fresh = set(now.values()), {digest for digest in expected.values() if isinstance(digest, str)}
        for name, digest in earlier.items():
            # Kept, backed up under another name, or replaced by the complete new one.
            if digest not in kept and now.get(name) not in fresh:
                return f"the earlier {name} is lost", how
        again = self.run([*program.command, *program.again])
        if again.status != 0:
            return f"the run after it: status {again.status}, {again.stderr[-300:]}", how
        found = results_of(self.work, program)
        different = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
        return (f"the run after it has other results: {sorted(different)[:4]}" if different else None), how


def contents_of(folder: Path) -> dict[str, str]:
    """Digest of each result below a folder, by its name; caches, locks and temporary files are none."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not any(part.startswith(".") or part == "cache" for part in path.parts[-3:]):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def results_of(folder: Path, program: Program) -> dict[str, Any]:
    """What a program made, by name: bytes, and of results.json what no two runs differ in."""
    found: dict[str, Any] = {}
    for pattern in program.made:
        for path in sorted(folder.glob(pattern)):
            name = str(path.relative_to(folder))
            if path.name == "results.json":
                try:
                    results = json.loads(path.read_text())
                except ValueError:
                    found[name] = "not JSON"
                    continue
                for row in results["history"]:
                    del row["utterances_per_second"]
                found[name] = {key: results[key] for key in ("metrics", "history", "selected_epoch", "swa_epochs")}
            elif path.name in ("report.html", "figures.png"):
                # Times of the run are in it.
                content = path.read_bytes()
                found[name] = content.rstrip().endswith((b"</html>", b"IEND\xaeB`\x82"))
            else:
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def programs(folder: Path, url: str) -> dict[str, tuple[Program, list[list[str]]]]:
    """The commands under test, each with those that make the earlier results."""
    config = ["--config", str(folder / "tiniest.conf"), "--device", "cpu"]
    out = ["--output_dir", "{}/out", "--cache_dir", "{}/cache", "--set=audio_cache=true"]
    train = ["train", *config, *out, "--seed", "3"]
    earlier = ["train", *config, *out, "--seed", "9"]
    weights = "{}/out/LA_tiniest_ep1_bs6/weights/best.pth"
    score = ["score", *config, *out, "--comment", "scored", "--eval_model_weights", weights]
    run = "out/LA_tiniest_ep1_bs6"
    report = ["report", f"{{}}/{run}", "--output", "{}/page.html"]
    calibrate = ["calibrate", "--cm", f"{{}}/{run}/dev_scores.txt", "--output", "{}/calibration.json"]
    download = ["download", "--url", url, "--out", "{}/corpora"]
    every = (f"{run}/weights/*", f"{run}/*.txt", f"{run}/metrics/*", f"{run}/*.json", f"{run}/config.conf")
    pages = (f"{run}/report.html", f"{run}/figures.png")
    scored = f"{run}_scored"
    return {
        "train": (Program("train", train, (*every, *pages), ("--resume",), ("report.html",)), [earlier]),
        "score": (
            Program("score", score, tuple(f"{scored}/{name}" for name in SCORED), (), ("report.html",)),
            [earlier, score],
        ),
        "report": (Program("report", report, ("page.html",)), [earlier, report]),
        "calibrate": (Program("calibrate", calibrate, ("calibration.json",)), [earlier, calibrate]),
        "download": (Program("download", download, ("corpora/LA/**/*.*",)), []),
    }  # fmt: skip


@contextmanager
def tortured(folder: Path, library: Path) -> Iterator[tuple[Torture, dict[str, tuple[Program, list[list[str]]]]]]:
    """The harness and its programs, with a server that has a small LA.zip."""
    torture = Torture(folder, library)
    try:
        with serving() as server:
            server.data = Path(shutil.make_archive(str(folder / "archive"), "zip", folder, "LA")).read_bytes()
            yield torture, programs(folder, server.url)
    finally:
        torture.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the faults and print the table; exit status 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__.split("\n")[0])
    parser.add_argument("program", nargs="?", help="this one alone")
    parser.add_argument("every", nargs="?", type=int, default=1, help="every n-th fault")
    given = parser.parse_args(argv)
    wrongs = 0
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        library = build_faults(Path(folder))
        if library is None:
            print("needs Linux and a C compiler", file=sys.stderr)
            return 2
        with tortured(Path(folder), library) as (torture, known):
            rows: dict[tuple[str, str], Counter[str]] = {}
            for name in [given.program] if given.program else known:
                program, earlier = known[name]
                torture.prepare(*earlier)
                for hit, action, wrong, how in torture.faults(program, given.every):
                    row = rows.setdefault((name, hit.partition("\t")[0]), Counter())
                    row.update(["kills" if action != "fails" else how, "wrong" if wrong else "right"])
                    if wrong:
                        wrongs += 1
                        print(f"{name}, {action}: {hit}: {wrong}", file=sys.stderr, flush=True)
    print("| command | call | failed: one line, status 2 | failed: tolerated | killed | wrong afterwards |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (name, call), row in rows.items():
        cells = (row["one line, status 2"], row["tolerated"], row["kills"], row["wrong"])
        print(f"| {name} | {call} | {' | '.join(map(str, cells))} |")
    total = Counter[str]()
    for row in rows.values():
        total.update(row)
    cells = (total["one line, status 2"], total["tolerated"], total["kills"], total["wrong"])
    print(f"| all | | {' | '.join(map(str, cells))} |")
    return int(wrongs > 0)
