"""Reads the weights of an RRDBNet from its owner's file; nothing in the file can run.

Three layouts are in use for the same network: that of ESRGAN's first release (``model.0``,
``model.1.sub.…``), that of BSRGAN and RealSR (``conv_first``, ``RRDB_trunk``) and that of
Real-ESRGAN (``conv_first``, ``body``). They are told apart by names and shapes, with the same
result as the loader of the spandrel package.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

Kernel = tuple[torch.Tensor, torch.Tensor]
"""Weight [out, in, 3, 3] and bias [out] of one convolution, float32."""

_WRAPPERS: Final = ("params_ema", "params", "state_dict")
_PREFIXES: Final = ("module.", "netG.")
_DENSE: Final = re.compile(
    r"(?:body\.(\d+)\.rdb|RRDB_trunk\.(\d+)\.RDB|model\.1\.sub\.(\d+)\.RDB)([123])"
    r"\.conv([1-5])(?:\.0)?\.(weight|bias)"
)
_NAMED: Final = {
    "conv_first": "first",
    "conv_body": "body",
    "trunk_conv": "body",
    "conv_up1": "up.1",
    "upconv1": "up.1",
    "conv_up2": "up.2",
    "upconv2": "up.2",
    "conv_hr": "hr",
    "HRconv": "hr",
    "conv_last": "last",
}
_DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_MAX_HEADER: Final = 100 << 20
"""As the safetensors package limits it."""


@dataclass(frozen=True)
class Parameters:
    """The convolutions of an RRDBNet in the order in which they are applied."""

    first: Kernel
    blocks: tuple[tuple[tuple[Kernel, ...], ...], ...]
    """Residual-in-residual blocks of three dense blocks of five convolutions."""
    body: Kernel
    ups: tuple[Kernel, ...]
    """One for each doubling."""
    hr: Kernel
    last: Kernel

    @property
    def features(self) -> int:
        """Channels of the trunk."""
        return int(self.first[0].shape[0])

    @property
    def unshuffle(self) -> int:
        """Side of the pixel blocks that the network takes as channels: 1, or 2 (Real-ESRGAN x2)."""
        return 2 if self.first[0].shape[1] == 12 else 1

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along each side."""
        return int(2 ** len(self.ups) // self.unshuffle)


def read_parameters(path: Path, sha256: str | None = None) -> Parameters:
    """Read a file of weights.

    Args:
        path: ``.safetensors``, or ``.pth``/``.pt`` with a state dict, alone or under ``params_ema``
            or ``params``; opened with PyTorch's loader for tensors only.
        sha256: what the file must hash to; ``None`` takes any.

    Raises:
        ValueError: the file is missing, changed, of another format or of another network.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"weights {path}: {error.strerror}; correct the declaration") from error
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise ValueError(
            f"weights {path} have sha256 {found}, not the declared {sha256}; restore the file, "
            "or declare the new one"
        )
    try:
        state = _safetensors(data) if path.suffix == ".safetensors" else _pickled(data)
        return _parameters(_canonical(state))
    except ValueError as error:
        raise ValueError(f"weights {path}: {error}") from error


def _safetensors(data: bytes) -> dict[str, torch.Tensor]:
    """Parse the format: header length (u64, little-endian), JSON header, then raw tensors."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MAX_HEADER, len(data) - 8):
        raise ValueError("not a safetensors file, or cut short")
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError as error:
        raise ValueError("not a safetensors file: its header is not JSON") from error
    body = memoryview(data)[8 + length :]
    tensors = {}
    for name, entry in header.items() if isinstance(header, dict) else ():
        if name != "__metadata__":
            tensors[name] = _tensor(name, entry, body)
    return tensors


def _tensor(name: str, entry: Any, body: memoryview) -> torch.Tensor:
    try:
        dtype, shape = _DTYPES[entry["dtype"]], [int(side) for side in entry["shape"]]
        start, end = (int(offset) for offset in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"tensor {name} is of a type that weights cannot have (known: {', '.join(_DTYPES)})"
        ) from error
    count = int(torch.Size(shape).numel())
    if not 0 <= start < end <= len(body) or end - start != count * dtype.itemsize:
        raise ValueError(f"tensor {name} does not lie inside the file; it is cut short or damaged")
    return torch.frombuffer(bytearray(body[start:end]), dtype=dtype).reshape(shape)


def _pickled(data: bytes) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            "not a file of plain tensors that PyTorch opens with weights_only; save the state "
            "dict alone, or as safetensors"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    tensors = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    )
    if not tensors:
        raise ValueError("it holds no state dict (names to tensors)")
    return dict(state)


def _canonical(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the tensors of any layout the same names: ``dense.<block>.<1-3>.<1-5>.weight``, …."""
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name[len(prefix) :]: value for name, value in state.items()}
    numbers = {
        int(match[1]) for name in state if (match := re.fullmatch(r"model\.(\d+)\.weight", name))
    }
    ups = len(numbers) - 3
    old = {0: "first", 3 * ups + 2: "hr", 3 * ups + 4: "last"}
    old |= {3 * up: f"up.{up}" for up in range(1, ups + 1)}
    found, unknown = {}, []
    for name, value in state.items():
        own = _canonical_name(name, old)
        if own is None or own in found:
            unknown.append(name)
        else:
            found[own] = value
    if unknown or not found:
        some = ", ".join(sorted(unknown)[:3]) or "no tensors"
        raise ValueError(
            "not an RRDBNet in the layout of ESRGAN, BSRGAN or Real-ESRGAN: it has "
            f"{some}{', …' if len(unknown) > 3 else ''}"
        )
    return found


def _canonical_name(name: str, old: dict[int, str]) -> str | None:
    if match := _DENSE.fullmatch(name):
        block = next(group for group in match.groups()[:3] if group is not None)
        return f"dense.{int(block)}.{match[4]}.{match[5]}.{match[6]}"
    stem, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if re.fullmatch(r"model\.1\.sub\.\d+", stem):
        return f"body.{kind}"
    if match := re.fullmatch(r"model\.(\d+)", stem):
        own = old.get(int(match[1]))
    else:
        own = _NAMED.get(stem)
    return f"{own}.{kind}" if own else None


def _parameters(state: dict[str, torch.Tensor]) -> Parameters:
    left = dict(state)

    def take(name: str, inputs: int | None, outputs: int | None) -> Kernel:
        try:
            weight, bias = left.pop(f"{name}.weight"), left.pop(f"{name}.bias")
        except KeyError as error:
            raise ValueError(f"an RRDBNet needs {error.args[0]}, which is not there") from error
        shape = list(weight.shape)
        wanted = [outputs or shape[0], inputs or shape[1], 3, 3] if len(shape) == 4 else []
        if shape != wanted or list(bias.shape) != shape[:1]:
            raise ValueError(f"{name} is {shape}, which does not fit an RRDBNet")
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise ValueError(f"{name} holds values that are not finite")
        return weight.float().contiguous(), bias.float().contiguous()

    first = take("first", None, None)
    features = first[0].shape[0]
    count = len({name.split(".")[1] for name in state if name.startswith("dense.")})
    blocks = tuple(
        tuple(_dense(take, f"dense.{b}.{r}", features) for r in "123") for b in range(count)
    )
    ups = tuple(take(f"up.{up}", features, features) for up in (1, 2) if f"up.{up}.weight" in state)
    made = Parameters(
        first=first,
        blocks=blocks,
        body=take("body", features, features),
        ups=ups,
        hr=take("hr", features, features),
        last=take("last", features, 3),
    )
    if left:
        raise ValueError(f"an RRDBNet has no {', '.join(sorted(left)[:3])}")
    if first[0].shape[1] not in (3, 12) or made.scale not in (2, 4):
        raise ValueError(
            f"it takes {first[0].shape[1]} channels and doubles {len(ups)} times; usable are RGB "
            "networks that enlarge by 2 or 4"
        )
    return made


def _dense(take: Any, name: str, features: int) -> tuple[Kernel, ...]:
    kernels = [take(f"{name}.1", features, None)]
    growth = kernels[0][0].shape[0]
    kernels += [take(f"{name}.{i}", features + (i - 1) * growth, growth) for i in (2, 3, 4)]
    return (*kernels, take(f"{name}.5", features + 4 * growth, features))
