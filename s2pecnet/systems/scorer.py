"""A trained system made ready for scoring: waveforms in, scores out.

Scoring needs less than training: BatchNorms that follow a convolution are folded into its weights, decoders do not run
(systems leave them out in eval mode), nothing is kept for a backward pass. On a CPU a batch is scored a few utterances
at a time: the feature maps of more take gigabytes and are no faster, and the scores do not depend on it.
"""

import copy
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from s2pecnet.errors import InputError
from s2pecnet.precision import FP32, Precision
from s2pecnet.systems.registry import forward

# Utterances that a CPU scores at a time, where the system does not say better by an attribute `cpu_chunk`.
# Measured on two cores, seconds an utterance for 1, 2, 4, 8 at a time: AASIST 0.163, 0.149, 0.147, 0.144; S2pecNet
# 0.190, 0.167, 0.163, 0.155.
CPU_CHUNK = 8


class Scorer:
    """Callable: float32 waveforms (B, samples), and features (B, bins, frames) where the system wants them, to (B,).

    A score is the logit of bona fide as it stands: higher = bona fide. The model given is left as it is.

    Args:
        precision: what the model computes in.
        compiled: compile the model; the first call then takes long.
    """

    def __init__(self, model: nn.Module, device: torch.device, precision: Precision = FP32, compiled: bool = False):
        self.device, self.precision, self.compiled = device, precision, compiled
        # Compiled modules do without packed weights, which the compiler lays out itself.
        packed = device.type == "cpu" and not compiled
        self.model = fold_batch_norms(model, (precision.autocast_to or torch.float32) if packed else None).eval()
        if compiled:
            self.model.compile()
        # Utterances at a time; None: all that are given.
        self.chunk: int | None = getattr(model, "cpu_chunk", CPU_CHUNK) if device.type == "cpu" else None

    def __call__(self, waveforms: Tensor | np.ndarray, *features: Tensor) -> Tensor:
        """Scores (B,), float32 on the CPU."""
        return self.logits(waveforms, *features)[:, 1]

    @torch.inference_mode()
    def logits(self, waveforms: Tensor | np.ndarray, *features: Tensor) -> Tensor:
        """Logits (B, 2), float32 on the CPU; column 1 is the score."""
        inputs = [torch.as_tensor(tensor) for tensor in (waveforms, *features)]
        if inputs[0].dim() != 2 and not getattr(self.model, "takes_outputs", False):
            raise InputError(f"expected waveforms (B, samples), got an array of shape {tuple(inputs[0].shape)}")
        if not len(inputs[0]):
            return torch.empty(0, 2)
        size = self.chunk or len(inputs[0])
        if self.compiled:
            # What is compiled is compiled for one size of batch.
            self.chunk = size
        parts = []
        for chunk in zip(*(tensor.split(size) for tensor in inputs), strict=True):
            count = len(chunk[0])
            if self.compiled and count < size:
                last = [tensor[-1:].expand(size - count, *tensor.shape[1:]) for tensor in chunk]
                chunk = tuple(torch.cat(pair) for pair in zip(chunk, last, strict=True))
            with self.precision.autocast(self.device):
                logits = forward(self.model, [tensor.to(self.device, non_blocking=True) for tensor in chunk])[1]
            parts.append(logits[:count].float())
        return torch.cat(parts).cpu()


def mean_logits(
    scorer: Scorer, inputs: Sequence[Tensor], names: Sequence[str], at_most: int | None
) -> tuple[list[str], Tensor, Tensor]:
    """Of a batch whose rows are utterances or windows of them: utterances, logits (B, 2), and which are usable (B,).

    Args:
        names: the utterance of each row.
        at_most: rows that are scored together; None: all.
    """
    parts = zip(*(rows.split(at_most or len(names)) for rows in inputs), strict=True)
    logits = torch.cat([scorer.logits(*part) for part in parts])
    utterances, counts = zip(*((name, len(list(rows))) for name, rows in itertools.groupby(names)), strict=True)
    usable = ~inputs[0].flatten(1)[:, 0].isnan()
    if len(counts) < len(names):
        # As `scoring.recordings.Prediction.score`, which takes the mean in this precision.
        logits = torch.stack([rows.double().mean(0) for rows in logits.split(counts)])
        usable = torch.stack([rows.all() for rows in usable.split(counts)])
    return list(utterances), logits, usable


def fold_batch_norms(model: nn.Module, packed_for: torch.dtype | None = None) -> nn.Module:
    """The model for scoring: a copy in which every block that can has folded its BatchNorm into a convolution.

    A block takes part by having a method `fold_batch_norm`; a model without such blocks is returned as it is.

    Args:
        packed_for: modules with a method `pack_weights(dtype)` lay out their weights for a CPU, too, for float32 or for
            what autocast computes in.
    """
    names = ("fold_batch_norm",) if packed_for is None else ("fold_batch_norm", "pack_weights")
    if not any(hasattr(module, name) for module in model.modules() for name in names):
        return model
    prepared: nn.Module = copy.deepcopy(model).eval()
    for module in list(prepared.modules()):
        getattr(module, "fold_batch_norm", lambda: None)()
        if packed_for is not None:
            getattr(module, "pack_weights", lambda dtype: None)(packed_for)
    return prepared
