"""Which tensors are read at all: the others would raise, wait, or hold other numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gainstage.graph.levels.measure import levels_of
from gainstage.graph.nodes.finite import is_finite, status_of
from gainstage.norms.total import gradient_norms, small_norms
from gainstage.readable import LEFT_OUT, has_memory, is_readable


def fake() -> Tensor:
    with FakeTensorMode():
        return torch.rand(3)


def let_go() -> Tensor:
    """Return a tensor whose memory was freed, as FSDP frees what it has gathered."""
    tensor = torch.rand(3)
    tensor.untyped_storage().resize_(0)
    return tensor


def cut_short() -> Tensor:
    tensor = torch.rand(8)[4:]
    tensor.untyped_storage().resize_(6 * 4)
    return tensor


UNREADABLE: dict[str, Callable[[], Tensor]] = {
    "meta": lambda: torch.rand(3, device="meta"),
    "fake": fake,
    "memory let go": let_go,
    "memory too small": cut_short,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_not(name: str) -> None:
    tensor = UNREADABLE[name]()
    assert not is_readable(tensor)
    assert not has_memory(tensor)
    assert status_of(tensor) is None
    assert levels_of(tensor) is None
    assert is_finite(tensor)


def test_a_tensor_within_a_transform_is_not_read() -> None:
    seen: list[bool] = []
    torch.vmap(lambda x: (seen.append(is_readable(x)), x * 2)[1])(torch.rand(3))
    assert seen == [False]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(3),
        torch.nn.Parameter(torch.rand(3)),
        torch.rand(4, 6)[1::2, ::3],
        torch.rand(1).expand(5),
        torch.rand(2, 3).t(),
        torch.rand(0, 3),
        torch.tensor(1.0),
        torch.rand(3, dtype=torch.complex64).conj(),
    ],
)
def test_plain_tensors_and_their_views_are(tensor: Tensor) -> None:
    assert is_readable(tensor)
    assert status_of(tensor) is not None


def test_the_numbers_of_a_sparse_tensor_are_read_but_not_its_levels() -> None:
    sparse = torch.eye(3).to_sparse()
    assert has_memory(sparse)
    assert not is_readable(sparse)
    assert status_of(sparse) is not None
    assert levels_of(sparse) is None


def test_norms_leave_out_what_the_gate_refuses_and_count_it() -> None:
    LEFT_OUT.clear()
    grads = [torch.tensor([3.0]), let_go(), fake(), torch.tensor([4.0])]
    assert gradient_norms(grads) == ([3.0, None, None, 4.0], 5.0)
    assert small_norms(list(grads)) == ([3.0, None, None, 4.0], 5.0)
    assert small_norms([torch.tensor([3.0]), let_go()]) == ([3.0, None], 3.0)
    assert LEFT_OUT == {"no-memory": 3, "dispatches": 2}
