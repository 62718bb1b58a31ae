"""Tensors on their way into one safetensors file, and out of it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from gainstage.errors import RunFolderError
from gainstage.readable import is_distributed, refusal_of

_COMPLEX128 = "complex128"
"""Key of the file's metadata: names of tensors that lie in it as pairs of float64."""

_KINDS: Final = frozenset(
    {
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
        *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.complex64, torch.complex128),
    }
)


class TensorFile:
    """Tensors by name, each kept once under all its names. Nothing is copied before `save`."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}

    def put(self, name: str, tensor: Tensor) -> str:
        """Take a tensor and return the name under which the file has it.

        That is the name it was first put under. Ask `why_not` before.
        """
        known = self._names.setdefault(id(tensor), name)
        if known is name:
            self.tensors[name] = tensor
        return known

    @property
    def nbytes(self) -> int:
        """Bytes that the file will need for its tensors."""
        return sum(each.numel() * each.element_size() for each in self.tensors.values())

    def save(self, path: Path) -> None:
        """Write the file; waits for an accelerator. Memory in use doubles for what lies there.

        Raises:
            OSError: If it cannot be written.
        """
        plain: dict[str, Tensor] = {}
        pairs: list[str] = []
        storages: set[int] = set()
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                value = tensor.detach().cpu()
                if value.dtype is torch.complex128:
                    value = torch.view_as_real(value.resolve_conj())
                    pairs.append(name)
                value = value.resolve_conj().resolve_neg().contiguous()
                storage = value.untyped_storage()
                whole = storage.nbytes() == value.numel() * value.element_size()
                if not whole or storage.data_ptr() in storages:
                    value = value.clone()  # the format has no views of a shared storage
                storages.add(value.untyped_storage().data_ptr())
                plain[name] = value
        try:
            save_file(plain, path, {_COMPLEX128: json.dumps(pairs)} if pairs else None)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def why_not(tensor: Tensor) -> str | None:
    """Return in words why a tensor cannot be put into a file, None where it can."""
    if is_distributed(tensor):
        return "one process's share of a DTensor, which no single box can hold"
    if is_traceable_wrapper_subclass(tensor):
        return f"a {type(tensor).__name__}, which wraps other tensors"
    if tensor.layout is not torch.strided:
        return f"its layout is {str(tensor.layout).removeprefix('torch.')}, not dense"
    if tensor.is_quantized or tensor.dtype not in _KINDS:
        return f"safetensors has no {str(tensor.dtype).removeprefix('torch.')}"
    refusal = refusal_of(tensor)
    if refusal is not None:
        return f"it cannot be read ({refusal})"
    return None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that `TensorFile.save` has written.

    Raises:
        RunFolderError: If it is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name in json.loads(metadata.get(_COMPLEX128, "[]")):
            tensors[name] = torch.view_as_complex(tensors[name])
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise RunFolderError(f"{str(path)!r} is damaged or missing: {error}") from error
    return tensors
