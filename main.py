"""Train a countermeasure, or score with one.

    python main.py --config ./config/S2pecNet.conf
    python main.py --eval --config ./config/AASIST.conf

The command line is `s2pecnet/cli/train.py`, the story of a run `s2pecnet/experiment.py`. Code that brings its own loop
imports from here what it imported from the released repositories.
"""

from s2pecnet import load_scorer
from s2pecnet.cli import run

if __name__ == "__main__":
    run("train", "python main.py")

from s2pecnet.experiment import get_loader
from s2pecnet.scoring.splits import produce_evaluation_file
from s2pecnet.systems.build import get_model
from s2pecnet.training.loop import train_epoch

__all__ = ["get_loader", "get_model", "load_scorer", "produce_evaluation_file", "train_epoch"]
