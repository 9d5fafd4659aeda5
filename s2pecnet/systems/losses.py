"""Losses of the classification, and what those on embeddings add to a system.

    CCE          cross-entropy with class weights
    focal        the same, easy utterances count less (Lin et al., "Focal loss for dense object detection", ICCV 2017)
    OC-Softmax   one class: bona fide close to a centre, spoof away from it (Zhang, Jiang, Duan, "One-class learning
                 towards synthetic voice spoofing detection", IEEE Signal Processing Letters 2021)
    AM-Softmax   additive margin between two centres (Wang et al., "Additive margin softmax for face verification", IEEE
                 Signal Processing Letters 2018)

The last two take the first element of what a system's `forward` returns, its embedding, and put logits of their own in
the place of the second: the centres are the system's child `loss_head`, and so they are saved with its weights,
resumed, averaged and exported, and whatever reads the logits reads theirs. The score stays column 1 of them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2pecnet.config.experiment import NO_LOSS_CONFIG, Config
from s2pecnet.errors import InputError
from s2pecnet.precision import float32_region, widened
from s2pecnet.systems.inputs import Inputs
from s2pecnet.systems.registry import forward
from s2pecnet.systems.weights import read_weights

# Of the losses on embeddings: how many centres they have.
CENTRES = {"OC-Softmax": 1, "AM-Softmax": 2}
HEAD = "loss_head"

# Logits (B, 2) and labels (B,) to the loss of each utterance (B,).
UtteranceLoss = Callable[[Tensor, Tensor], Tensor]


class CentreHead(nn.Module):
    """Embeddings (B, D) to logits (B, 2) out of their cosines with centres, float32.

    OC-Softmax: (-cos, cos), so that the score is the cosine with the centre of bona fide speech, in [-1, 1].
    AM-Softmax: alpha times the cosine with the centre of either class.
    """

    def __init__(self, size: int, centres: int, alpha: float):
        super().__init__()
        self.alpha = alpha
        self.centres = nn.Parameter(torch.empty(centres, size))
        nn.init.kaiming_uniform_(self.centres, a=5**0.5)

    def forward(self, embedding: Tensor) -> Tensor:
        """Logits; column 1 is bona fide."""
        with float32_region(embedding.device):
            similarity = functional.normalize(widened(embedding)) @ functional.normalize(self.centres).T
            return torch.cat((-similarity, similarity), dim=1) if len(self.centres) == 1 else self.alpha * similarity


def add_loss_head(model: nn.Module, config: Config, inputs: Inputs) -> nn.Module:
    """Give a system the centres of the config's loss, where that has some; returns it.

    Raises:
        InputError: the system gives no embedding (B, D), or has a child of the head's name.
    """
    if config.loss not in CENTRES:
        return model
    if hasattr(model, HEAD):
        raise InputError(f"{config.source}: loss: {config.architecture} has a `{HEAD}` already; use loss CCE")
    device = next(model.parameters()).device
    # The size of the embedding, by asking for one; nothing is drawn from the generators that training uses.
    training = model.training
    with torch.random.fork_rng(), torch.no_grad():
        waveform = torch.zeros(1, inputs.samples, device=device)
        given = [waveform]
        if inputs.feature is not None:
            given.append(torch.zeros(1, inputs.feature.bins, inputs.feature.frames, device=device))
        embedding = forward(model.eval(), given)[0]
    model.train(training)
    if not isinstance(embedding, Tensor) or embedding.dim() != 2:
        raise InputError(
            f"{config.source}: loss: {config.loss} works on an embedding (B, D), the first element that forward "
            f"returns; {config.architecture} has none there"
        )
    head = CentreHead(embedding.shape[1], CENTRES[config.loss], config.loss_config.alpha)
    model.add_module(HEAD, head.to(device))
    model.register_forward_hook(_logits_of_head)
    return model


def other_loss(path: str | os.PathLike[str], config: Config) -> str | None:
    """What is wrong with weights that were trained with a loss of other centres than the config's; None: nothing."""
    try:
        centres = read_weights(path).get(f"{HEAD}.centres")
    except (InputError, OSError):
        return None
    found = next((loss for loss, count in CENTRES.items() if centres is not None and len(centres) == count), None)
    if found == (config.loss if config.loss in CENTRES else None):
        return None
    trained = f"with {found}" if found else "without centres of a loss on embeddings (CCE or focal)"
    return f"these weights were trained {trained}, and the config's loss is {config.loss}; set loss={found or 'CCE'}"


def other_alpha(about: Any, config: Config) -> str | None:
    """What is wrong with weights that AM-Softmax trained with another `alpha`, which their scores are multiples of.

    Args:
        about: the description of the weights; published ones have none.
    """
    trained = about.get("config") if isinstance(about, Mapping) else None
    if config.loss != "AM-Softmax" or not isinstance(trained, Mapping):
        return None
    own, given = config.loss_config.alpha, trained.get("loss_config")
    then = (given if isinstance(given, Mapping) else {}).get("alpha", NO_LOSS_CONFIG.alpha)
    if then == own:
        return None
    wanted = f"which its scores are multiples of, and the config's is {own}; set loss_config.alpha={then}"
    return f"trained with loss_config.alpha {then}, {wanted}"


def _logits_of_head(model: Any, _: Any, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (outputs[0], model.loss_head(outputs[0]), *outputs[2:])


def utterance_loss(config: Config) -> UtteranceLoss:
    """The loss of each utterance, without class weights."""
    parameters = config.loss_config

    def focal(logits: Tensor, labels: Tensor) -> Tensor:
        entropy = functional.cross_entropy(logits, labels, reduction="none")
        # At 0 the slope of a power below 1 is infinite, and times the entropy, 0, it is not a number.
        wrong = (1 - torch.exp(-entropy)).clamp(min=0 if parameters.gamma >= 1 else 1e-12)
        return wrong**parameters.gamma * entropy

    def one_class(logits: Tensor, labels: Tensor) -> Tensor:
        similarity = logits[:, 1]
        above = torch.where(labels == 1, parameters.m_real - similarity, similarity - parameters.m_fake)
        return functional.softplus(parameters.alpha * above)

    def additive_margin(logits: Tensor, labels: Tensor) -> Tensor:
        margin = parameters.alpha * parameters.margin * functional.one_hot(labels, 2)
        return functional.cross_entropy(logits - margin, labels, reduction="none")

    def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, reduction="none")

    losses = {"CCE": cross_entropy, "focal": focal, "OC-Softmax": one_class, "AM-Softmax": additive_margin}
    return losses[config.loss]


def class_weights(config: Config, device: torch.device | None = None) -> Tensor:
    """Weights (2,) of spoof and bona fide; the losses on embeddings have none, as they were published."""
    return torch.tensor((1.0, 1.0) if config.loss in CENTRES else config.loss_weights, device=device)


def mean_loss(config: Config, logits: Tensor, labels: Tensor) -> float:
    """The loss of many utterances, each counted by the weight of its class; logits (n, 2), labels (n,)."""
    weights = class_weights(config)[labels]
    # All of one class, of weight 0, have no loss.
    return float((weights * utterance_loss(config)(logits, labels)).sum() / weights.sum().clamp(min=1e-30))
