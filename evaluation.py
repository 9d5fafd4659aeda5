"""Metrics of countermeasures from their score files.

    python evaluation.py --cm scores.txt --asv ASVspoof2019.LA.asv.eval.gi.trl.scores.txt

The command line is `s2pecnet/cli/evaluate.py`, the metrics are `s2pecnet/metrics/`. A countermeasure (CM) score is
higher for bona fide speech, a speaker verification (ASV) score is higher for the target speaker.
"""

from s2pecnet.cli import run

if __name__ == "__main__":
    run("evaluate", "python evaluation.py")


import os

from s2pecnet.files import atomic_write
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.metrics.det import Floats, compute_det_curve, compute_eer, obtain_asv_error_rates
from s2pecnet.metrics.tdcf import ASVSPOOF2019_COST_MODEL, compute_tDCF
from s2pecnet.score_files.cm_asv import ASVScores, CMScores, read_asv_scores, read_cm_scores

__all__ = [
    "ASVSPOOF2019_COST_MODEL",
    "ASVScores",
    "CMScores",
    "Floats",
    "Metrics",
    "calculate_tDCF_EER",
    "compute_det_curve",
    "compute_eer",
    "compute_tDCF",
    "evaluate",
    "obtain_asv_error_rates",
    "read_asv_scores",
    "read_cm_scores",
]

PathLike = str | os.PathLike[str]


def calculate_tDCF_EER(
    cm_scores_file: PathLike, asv_score_file: PathLike | None, output_file: PathLike, printout: bool = True
) -> tuple[float, float | None]:
    """From score files to figures and a readable summary, under the name and units users of AASIST know.

    Args:
        cm_scores_file: CM scores, see `score_files`.
        asv_score_file: ASV scores of the organisers; None leaves out the t-DCF.
        output_file: the summary, written whole or not at all.
        printout: print the summary too.

    Returns:
        The CM's EER **in per cent**, and the minimum normalised t-DCF (None without ASV scores).

    Raises:
        InputError: a score file cannot be used, see `read_cm_scores`.
        OSError: a file cannot be read or written.
    """
    asv = None if asv_score_file is None else read_asv_scores(asv_score_file)
    metrics = evaluate(read_cm_scores(cm_scores_file), asv)
    with atomic_write(output_file) as stream:
        stream.write(metrics.summary() + "\n")
    if printout:
        print(metrics.summary())
    return 100 * metrics.eer, metrics.min_tdcf
