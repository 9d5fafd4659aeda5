"""One step of training: forward, loss, backward, optimizer, schedule.

A batch may pass the model in micro-batches (`micro_batch_size`), whose gradients accumulate to those of the batch: the
classification is weighted by the class weights of the batch, and a micro-batch counts by its share of the utterances.
Two things see the micro-batch alone: BatchNorm's statistics, and the order of dropout's draws.

Where a step runs out of memory, `explain_oom` finds by trying which micro-batch fits, and says so in one line.
"""

import contextlib
import faulthandler
import gc
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from s2pecnet.config.experiment import Config
from s2pecnet.errors import InputError
from s2pecnet.nn.whole_batch import spread
from s2pecnet.parallel import mean_of, processes
from s2pecnet.precision import FP32, PRECISIONS, Precision, widened
from s2pecnet.systems.losses import CENTRES, HEAD, class_weights, utterance_loss
from s2pecnet.systems.registry import forward, kind_of

Criterion = Callable[[Tensor, Tensor], Tensor]


def loss_terms(
    model: nn.Module,
    inputs: Sequence[Tensor],
    labels: Tensor,
    criterion: Criterion,
    freq_aug: bool = False,
    precision: Precision = FP32,
    run: nn.Module | None = None,
) -> dict[str, Tensor]:
    """Run the model on a batch and give the terms of its loss; the loss is their sum.

    Args:
        run: what is called in the model's place, such as a DistributedDataParallel of it.
    """
    with precision.autocast(inputs[0].device):
        outputs = forward(run or model, inputs, freq_aug)
    outputs = tuple(output if output is None else widened(output) for output in outputs)
    own_loss = getattr(model, "loss", None)
    if own_loss is None:
        return {"classification": criterion(outputs[1], labels)}
    own = own_loss(outputs, inputs, labels, criterion)
    terms = dict(own) if isinstance(own, Mapping) else {"loss": own}
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.numel() != 1:
            wanted = "a scalar, or a dictionary of scalars"
            raise InputError(f"the model's loss is to return {wanted}; {name!r} is {kind_of(term)}")
    return terms


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors on `device`; from pinned memory the copy runs beside the computation."""
    return [tensor.to(device, non_blocking=True) for tensor in tensors]


class NonFiniteLoss(InputError):
    """The loss or a gradient became NaN or infinite, in the step before `steps_ago` others."""

    def __init__(self, message: str, steps_ago: int = 0):
        super().__init__(message)
        self.steps_ago = steps_ago


class TrainingStep:
    """Callable: a batch (inputs, labels) moves the model's weights by one step.

    Attributes:
        scaler: scales the loss with precision fp16, and does nothing otherwise; part of a training's state.
        skipped: batches so far whose loss or gradient was not finite, and that moved nothing (`skip_nonfinite`).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        config: Config,
        device: torch.device,
    ):
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.config, self.device = config, device
        self.precision = PRECISIONS[config.precision]
        if config.loss in CENTRES and not hasattr(model, HEAD):
            raise InputError(
                f"loss: {config.loss} has centres, and the model has none; make it by s2pecnet.systems.build.System."
                "build(config, device).model, or use loss CCE"
            )
        self.class_weights = class_weights(config, device)
        self.utterance_loss = utterance_loss(config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision.scales_loss)
        self.skipped, self._loss_is_finite = 0, True
        # A GPU is not waited for: there the loss of a step is looked at when the next step is asked for.
        self._late = device.type == "cuda" and not config.skip_nonfinite
        self._spread = None
        if processes().size > 1:
            # Some parameters of the published systems take no part in the loss.
            self._spread = DistributedDataParallel(
                spread(model),
                [device.index] if device.type == "cuda" else None,
                broadcast_buffers=False,
                find_unused_parameters=True,
            )
        self._unseen: tuple[Tensor, torch.cuda.Event] | None = None

    def __call__(self, inputs: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Take the step.

        Returns:
            the terms of the loss before it, detached; none where the loss was not finite and no step was taken.

        Raises:
            NonFiniteLoss: of this batch or, on a GPU, of the one before; more of them than `skip_nonfinite`.
        """
        self.check()
        inputs, labels = to_device(inputs, self.device), labels.to(self.device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        # BatchNorm's statistics: a NaN would stay in them for good.
        kept = [(buffer, buffer.clone()) for buffer in self.model.buffers()] if self.config.skip_nonfinite else []
        terms = self._backward(inputs, labels)
        if self.config.optim_config.sam_rho is not None:
            self._sharpen(inputs, labels, self.config.optim_config.sam_rho)
        if not self._is_finite(terms):
            if self.config.optim_config.clip_grad_norm is not None:
                # The scaler has unscaled gradients, and is to forget them.
                self.scaler.update()
            if not self._loss_is_finite:
                for buffer, before in kept:
                    buffer.copy_(before)
            return {}
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # Where gradients overflowed, the scaler has taken no step and lowered its scale.
        if self.scheduler is not None and self.scaler.get_scale() >= scale:
            self.scheduler.step()
        return terms

    def check(self) -> None:
        """Look at the loss of the last step, where that has been put off.

        Raises:
            NonFiniteLoss: it is not finite.
        """
        unseen, self._unseen = self._unseen, None
        if unseen is not None:
            unseen[1].synchronize()
            if not unseen[0]:
                raise NonFiniteLoss(_hint("the loss or its gradient is not finite"), steps_ago=1)

    def _is_finite(self, terms: Mapping[str, Tensor]) -> bool:
        loss = torch.stack(list(terms.values())).sum()
        # A finite loss can have gradients that are not (the slope of a root at 0), and one step of them is the end of
        # all weights. The scaler of fp16 looks at them itself.
        limit = self.config.optim_config.clip_grad_norm
        if limit is not None:
            self.scaler.unscale_(self.optimizer)
        clips = limit is not None or not self.scaler.is_enabled()
        norm = self._gradient_norm() if clips else loss
        if limit is not None:
            # Of a gradient that is not finite nothing is left either; no step is taken with it.
            clip_grads_with_norm_(self.model.parameters(), limit, norm)
        if self.scaler.is_enabled():
            norm = loss
        loss_is_finite = torch.isfinite(loss)
        finite = loss_is_finite & torch.isfinite(norm)
        if self._late:
            self._unseen = finite.to("cpu", non_blocking=True), torch.cuda.Event()
            self._unseen[1].record()
            return True
        if finite:
            return True
        self.skipped, self._loss_is_finite = self.skipped + 1, bool(loss_is_finite)
        if self.skipped > self.config.skip_nonfinite:
            also = ", and its gradient is not finite" if self._loss_is_finite else ""
            raise NonFiniteLoss(_hint(f"the loss is {float(loss):.6g}{also}"))
        return False

    def _sharpen(self, inputs: Sequence[Tensor], labels: Tensor, radius: float) -> None:
        """Replace the gradients by those at the steepest place nearby (SAM: Foret et al., ICLR 2021).

        Both passes take the batch in its micro-batches. The second one draws dropout anew, and leaves BatchNorm's
        statistics as the first made them.
        """
        parameters = [one for one in self.model.parameters() if one.grad is not None]
        gradients = [one.grad for one in parameters if one.grad is not None]
        if not gradients:
            return
        scale = radius / (torch.nn.utils.get_total_norm(gradients) + 1e-12)
        weights = [one.detach().clone() for one in parameters]
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient * scale)
        self.optimizer.zero_grad(set_to_none=True)
        self._backward(inputs, labels)
        with torch.no_grad():
            for parameter, weight in zip(parameters, weights, strict=True):
                parameter.copy_(weight)
            for buffer, before in buffers:
                buffer.copy_(before)

    def _gradient_norm(self) -> Tensor:
        gradients = [one.grad for one in self.model.parameters() if one.grad is not None]
        return torch.nn.utils.get_total_norm(gradients) if gradients else self.class_weights.sum()

    def _backward(self, inputs: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        # Of several processes each has its rows of every micro-batch.
        size = self.config.micro_batch_size // processes().size if self.config.micro_batch_size else len(labels)
        # The released loss: cross-entropy with weights for spoof and bona fide. Those of micro-batches, each counted by
        # its share of the utterances, add up to that of the batch.
        weights, mean_weight = self.class_weights, mean_of([self.class_weights[labels].mean()])[0]

        def of_micro_batch(logits: Tensor, labels: Tensor) -> Tensor:
            total = functional.cross_entropy(logits, labels, weight=weights, reduction="sum")
            return total / (mean_weight * len(labels))

        def of_utterances(logits: Tensor, labels: Tensor) -> Tensor:
            total = (weights[labels] * self.utterance_loss(logits, labels)).sum()
            return total / (mean_weight * len(labels))

        criterion: Criterion = of_utterances
        if self.config.loss == "CCE":
            complete = size >= len(labels) and self._spread is None
            criterion = nn.CrossEntropyLoss(weight=weights) if complete else of_micro_batch
        sums: dict[str, Tensor] = {}
        parts = list(zip(*(tensor.split(size) for tensor in (*inputs, labels)), strict=True))
        for number, (*part, part_labels) in enumerate(parts, 1):
            if self._spread is not None:
                # Gradients travel once a batch.
                self._spread.require_backward_grad_sync = number == len(parts)
            try:
                terms = loss_terms(
                    self.model, part, part_labels, criterion, self.config.freq_aug, self.precision, self._spread
                )
            except ValueError as error:
                # A single value has no variance.
                if "Expected more than 1 value per channel" not in str(error):
                    raise
                raise InputError(
                    f"BatchNorm needs more than one value, and a batch of {len(part_labels)} has only one with this "
                    "model_config: set batch_size and micro_batch_size so that none leaves a last batch of 1, or raise "
                    "nb_samp"
                ) from None
            share = len(part_labels) / len(labels)
            self.scaler.scale(torch.stack(list(terms.values())).sum() * share).backward()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach() * share
        return dict(zip(sums, mean_of(list(sums.values())), strict=True))


def _hint(what: str) -> str:
    return f"{what}; try a lower optim_config.base_lr, look for broken audio, or skip such batches with skip_nonfinite"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means out of memory."""
    # On a CPU torch has no exception of its own, and oneDNN says it in other words.
    words = ("can't allocate memory", "could not create a primitive", "could not create a memory")
    on_cpu = isinstance(error, RuntimeError) and any(one in str(error) for one in words)
    return on_cpu or isinstance(error, (torch.OutOfMemoryError, MemoryError))


@contextlib.contextmanager
def explain_oom(step: TrainingStep, inputs: Sequence[Tensor], labels: Tensor) -> Iterator[None]:
    """Turn running out of memory, while a step is taken on a batch, into one line: what would fit, and how.

    It is found by trying: forward and backward on a half, a quarter, ... of the batch; no weight moves.

    Raises:
        InputError: the batch does not fit.
    """
    failed = False
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if processes().size > 1:
            # The others would have to take part in the search.
            raise InputError(
                f"out of memory on {step.device}: its part of a batch of {step.config.batch_size} does not fit; set "
                "micro_batch_size or activation_checkpointing=true, or use more processes"
            ) from None
        # The search begins outside of this block: the exception holds on to the frames, and they to the tensors.
        failed = True
    if failed:
        raise InputError(_advice(step, inputs, labels))


def _fits(step: TrainingStep, inputs: Sequence[Tensor], labels: Tensor) -> bool:
    """Whether the memory is enough for a step on a batch; gradients are computed and dropped.

    On a CPU a process of its own tries: where memory is short, the libraries that compute may crash instead of telling.
    """
    if step.device.type == "cpu" and hasattr(os, "fork"):
        with warnings.catch_warnings():
            # Python's of other threads: the copy computes with one, and comes to no python code but ours.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            status = 2
            with contextlib.suppress(BaseException):
                faulthandler.disable()
                torch.set_num_threads(1)
                status = 0 if _tried(step, inputs, labels) else 1
            os._exit(status)
        ended = os.waitpid(child, 0)[1]
        if ended != 2 << 8:
            return ended == 0
        # Something else than memory is wrong, and is to be seen.
    return _tried(step, inputs, labels)


def _tried(step: TrainingStep, inputs: Sequence[Tensor], labels: Tensor) -> bool:
    kept = [(buffer, buffer.clone()) for buffer in step.model.buffers()]
    try:
        step._backward(to_device(inputs, step.device), labels.to(step.device))
        return True
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        step.optimizer.zero_grad(set_to_none=True)
        for buffer, before in kept:
            buffer.copy_(before)
        gc.collect()
        torch.cuda.empty_cache()


def _advice(step: TrainingStep, inputs: Sequence[Tensor], labels: Tensor) -> str:
    fitting = min(step.config.micro_batch_size or len(labels), len(labels)) // 2
    while fitting and not _fits(step, [tensor[:fitting] for tensor in inputs], labels[:fitting]):
        fitting //= 2
    config = step.config
    micro = f" in micro-batches of {config.micro_batch_size} (micro_batch_size)" if config.micro_batch_size else ""
    out = f"out of memory on {step.device}: a batch of {len(labels)} (batch_size){micro} does not fit"
    keys = [] if config.activation_checkpointing or config.compile else ["activation_checkpointing=true"]
    if step.precision.is_float32 and step.device.type == "cuda":
        keys.append("precision=bf16")
    if not fitting:
        return f"{out}, and neither does a single utterance; " + (
            f"try {', '.join(keys)}, or a narrower system" if keys else "the system is too large for this device"
        )
    helps = "".join(f", or {key}" for key in keys)
    micro = f"micro_batch_size={fitting} (the same batch, in micro-batches)"
    return f"{out}; {fitting} fits: set {micro}{helps}, or a smaller batch_size"
