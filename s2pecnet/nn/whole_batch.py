"""BatchNorm and dropout of a batch that several processes share: what one process would compute for all of it.

`spread` puts them into a model. Names and shapes of parameters and buffers stay; in evaluation nothing differs.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from s2pecnet.parallel import processes


class _Normalise(torch.autograd.Function):
    """Normalise rows with mean and variance over all processes; their gradients are summed over all, too.

    Like every gradient of a process, those of weight and bias are of its own rows alone.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, count: float, eps: float
    ) -> Tensor:
        inverse = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.count = count
        return functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        gradient = gradients[0]
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        normal = (x - mean.view(shape)) * inverse.view(shape)
        of_bias, of_weight = _sum(gradient, axes), _sum(gradient * normal, axes)
        sums = torch.stack([of_bias, of_weight]).double()
        distributed.all_reduce(sums)
        first, second = (sums / ctx.count).to(x.dtype).unbind()
        of_x = (gradient - first.view(shape) - normal * second.view(shape)) * (inverse * weight).view(shape)
        return of_x, of_weight.to(weight.dtype), of_bias.to(weight.dtype), None, None, None, None


def _sum(x: Tensor, axes: list[int]) -> Tensor:
    """Sums over all axes but the channels, the last of them in float64: a channel may have millions of values."""
    if len(axes) == 1:
        return x.sum(dim=0, dtype=torch.float64)
    return x.sum(dim=axes[1:]).sum(dim=0, dtype=torch.float64)


class WholeBatchNorm(_BatchNorm):
    """BatchNorm (B, C, ...) whose statistics in training are those of the rows of all processes."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; in training, all processes have to come here."""
        if not self.training or processes().size == 1:
            return super().forward(input)
        x = input
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        with torch.no_grad():
            local = torch.tensor([x.numel() // x.shape[1]], dtype=torch.float64, device=x.device)
            sums = torch.cat([local, _sum(x, axes)])
            distributed.all_reduce(sums)
            count = float(sums[0])
            if count <= 1:
                raise ValueError("Expected more than 1 value per channel when training")
            mean = (sums[1:] / count).to(x.dtype)
            squares = _sum((x - mean.view(shape)).square(), axes)
            distributed.all_reduce(squares)
            variance = (squares / count).to(x.dtype)
            if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
                share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_((variance * (count / (count - 1))).to(self.running_var.dtype), share)
        return _Normalise.apply(x, self.weight, self.bias, mean, variance, count, self.eps)


class WholeBatchDropout(nn.Dropout):
    """Dropout that draws the mask of the whole batch, and takes the rows of this process.

    So every process has the random numbers that one process would have, and all stay in step.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B * k, ...) to the same shape: a batch, or something with k rows an utterance."""
        group = processes()
        if not self.training or not self.p or group.size == 1:
            return super().forward(input)
        rows = input.shape[0] * group.size
        # torch draws in the order of memory, which is not that of the axes where the input is transposed.
        order = sorted(range(input.dim()), key=input.stride, reverse=True)
        shape = [rows if axis == 0 else input.shape[axis] for axis in order]
        ones = input.new_ones(shape).permute([order.index(axis) for axis in range(input.dim())])
        return input * functional.dropout(ones, self.p)[group.share(rows)]


def spread(model: nn.Module) -> nn.Module:
    """Put these modules in the place of a model's BatchNorms and dropouts; returns it."""
    for name, child in list(model.named_children()):
        if isinstance(child, _BatchNorm) and child.affine:
            setattr(model, name, _like(child, WholeBatchNorm(child.num_features, child.eps, child.momentum)))
        elif type(child) is nn.Dropout:
            setattr(model, name, _like(child, WholeBatchDropout(child.p)))
        else:
            spread(child)
    return model


def _like(old: nn.Module, new: nn.Module) -> nn.Module:
    """A module with the parameters, buffers and mode of another one."""
    new._parameters, new._buffers, new.training = old._parameters, old._buffers, old.training
    return new
