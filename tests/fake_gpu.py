"""A GPU made of the processor: tensors that say they are on it, and refuse to work with others as CUDA's do.

Only where tensors are is made up: what they hold is real and computed by the processor's operators, so that a training
there has to end with the very weights of one here. To torch's own library such a tensor is one of the processor (its
autograd takes no tensors of a device that it was not built for), and Python alone is told `cuda:0`. Hence nothing is
learnt here of CUDA's kernels, its streams, its rounding, or what autocast casts there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
PROCESSORS_TO = Tensor.to
INDEXED = (torch.ops.aten.index.Tensor, torch.ops.aten._unsafe_index.Tensor)


class OnGpu(Tensor):
    """A tensor of the GPU; `held` is what it holds."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        with torch.inference_mode(False):  # in which a view of what was made outside it has to be as that is
            return torch.Tensor._make_wrapper_subclass(
                cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype
            )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        device, kwargs = _device(args, kwargs)
        if device is None or device.type == "cuda":
            return PROCESSORS_TO(self, **kwargs)
        return PROCESSORS_TO(self.held.detach().clone(), **kwargs)

    def cpu(self) -> Tensor:  # type: ignore[override]
        return self.to("cpu")

    def numpy(self, *, force: bool = False) -> Any:  # type: ignore[override]
        if force:
            return self.to("cpu").numpy()
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor first")

    def __array__(self, *of: Any, **options: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        return f"OnGpu({self.held!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().__reduce_ex__(protocol)  # read with map_location="cpu" that is what comes back


class _Gpu(TorchDispatchMode):
    """Makes what is asked for with device="cuda", and moves what is moved there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})


def _device(args: Any, kwargs: Any) -> tuple[torch.device | None, dict[str, Any]]:
    """Of the arguments of `Tensor.to`: where to, and the others."""
    copied = {"copy": kwargs["copy"]} if "copy" in kwargs else {}
    given = {name: value for name, value in kwargs.items() if name != "copy"}
    device, dtype, _, memory_format = torch._C._nn._parse_to(*args, **given)
    formats = {} if memory_format is None else {"memory_format": memory_format}
    return device, copied | formats | ({} if dtype is None else {"dtype": dtype})


def _to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """In the place of `Tensor.to`, which asks CUDA's driver first of all."""
    if args and isinstance(args[0], Tensor):  # as that one
        args = (args[0].device, args[0].dtype, *args[1:])
    device, others = _device(args, kwargs)
    if device is None or device.type != "cuda":
        return PROCESSORS_TO(self, *args, **kwargs)
    return OnGpu(PROCESSORS_TO(self.detach().clone(), **others))


def dispatched(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operator gives, on the GPU or the processor as its arguments say."""
    given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    there = [isinstance(one, OnGpu) for one in given]
    device = kwargs.get("device")
    # What is moved off it is moved by `OnGpu.to`: a copy "to the processor" here is a cast back, by autograd.
    on_gpu = any(there) if device is None or (func is COPIES[0] and any(there)) else torch.device(device).type == "cuda"
    _check(func, args, given, there)
    plain = tree_map(lambda one: one.held if isinstance(one, OnGpu) else one, (args, kwargs))
    if device is not None and on_gpu:
        plain[1]["device"] = torch.device("cpu")
    if func is COPIES[1]:  # where it is written to says where it is
        on_gpu = there[0]
    found = func(*plain[0], **plain[1])
    if not on_gpu:
        return found
    written = {id(one.held): one for one in given if isinstance(one, OnGpu)}  # an operator in place gives what it got

    def wrapped(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        return written[id(one)] if id(one) in written else OnGpu(one)

    return tree_map(wrapped, found)


def _check(func: Any, args: Any, given: list[Tensor], there: list[bool]) -> None:
    """As CUDA refuses it: numbers without axes and indices may be the processor's, others only be copied."""
    if not any(there) or func in COPIES:
        return
    if func in INDEXED and there[0]:
        return
    mixed = [one for one, on_gpu in zip(given, there, strict=True) if not on_gpu and one.ndim > 0]
    if mixed:
        shapes = [tuple(one.shape) for one in mixed]
        raise RuntimeError(
            f"{func}: Expected all tensors to be on the same device, but found on the processor {shapes}"
        )


@contextmanager
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside this there is one GPU. What of torch.cuda is replaced asks the driver, which is not there."""
    if torch.backends.cuda.is_built():
        pytest.skip("this torch is built with CUDA")
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "device_count", lambda: 1)
    monkeypatch.setattr(cuda, "current_device", lambda: 0)
    monkeypatch.setattr(cuda, "_lazy_init", lambda: None)  # torch calls it before it makes a tensor there
    monkeypatch.setattr(cuda, "is_bf16_supported", lambda *of: True)
    monkeypatch.setattr(cuda, "get_rng_state", lambda device=0: torch.get_rng_state())  # the processor's draws for it
    monkeypatch.setattr(cuda, "set_rng_state", lambda state, device=0: torch.set_rng_state(state))
    monkeypatch.setattr(cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(Tensor, "to", _to)
    monkeypatch.setattr(Tensor, "pin_memory", Tensor.clone)  # CUDA's driver pins it
    monkeypatch.setattr(torch, "autocast", _autocast(torch.autocast))
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Gpu():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _autocast(real: Callable[..., Any]) -> Callable[..., Any]:
    """The processor's autocast in CUDA's place: what computes here is the processor."""
    return lambda device, *args, **kwargs: real("cpu", *args, **kwargs)
