"""Norms of whole tensors from what ranks have recorded of their parts, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gainstage.facts.layout import Layout
from gainstage.facts.tensor import TensorInfo
from gainstage.store.blocks import to_block
from gainstage.store.shards import RankPart, part_ranks, whole_steps

SHARDED = Layout(0, (2,), (1,), ("shard",))


def tensor(name: str, layout: Layout | None = None) -> TensorInfo:
    return TensorInfo(name, "", (2,), "float32", layout)


def part(tensors: list[TensorInfo], *rows: tuple[float | None, ...]) -> RankPart:
    norms = np.array([[np.nan if n is None else n for n in row] for row in rows], np.float32)
    present = np.array([[n is not None for n in row] for row in rows])
    return RankPart(tensors, np.arange(len(rows)), norms, present)


def block(
    tensors: list[TensorInfo], *rows: tuple[float | None, ...], max_norm: float | None = None
):
    return to_block(
        [(step, 0.0, 1.0, 0.1, None, max_norm, None, 0, row) for step, row in enumerate(rows)],
        len(tensors),
    )


def test_squares_of_shards_add_up_and_a_replica_counts_once() -> None:
    tensors = [tensor("w", SHARDED), tensor("b")]
    parts = {0: part(tensors, (3.0, 12.0)), 1: part(tensors, (4.0, 12.0))}
    whole = whole_steps(0, block(tensors, (3.0, 12.0)), parts)
    assert whole.grad_norms.tolist() == [[5.0, 12.0]]
    assert whole.grad_norm.tolist() == [13.0]


def test_a_clip_by_the_whole_norm_has_its_coefficient() -> None:
    tensors = [tensor("w", SHARDED)]
    parts = {0: part(tensors, (3.0,)), 1: part(tensors, (4.0,))}
    whole = whole_steps(0, block(tensors, (3.0,), max_norm=1.0), parts)
    assert whole.clip_coefficient[0] == pytest.approx(1 / (5 + 1e-6))


def test_a_rank_whose_part_is_missing_leaves_the_norm_unknown_unless_it_is_not_finite() -> None:
    tensors = [tensor("w", SHARDED)]
    own = block(tensors, (3.0,), (3.0,), (np.inf,))
    parts = {0: part(tensors, (3.0,), (3.0,), (np.inf,)), 1: part(tensors, (4.0,))}
    whole = whole_steps(0, own, parts)
    assert whole.grad_norm[0] == 5.0
    assert np.isnan(whole.grad_norm[1])
    assert not whole.present[1, 0]
    assert np.isinf(whole.grad_norm[2])
    assert whole.present[2, 0]


def test_a_rank_without_a_piece_still_knows_the_norm() -> None:
    tensors = [tensor("b", SHARDED)]
    parts = {0: part(tensors, (None,)), 1: part(tensors, (4.0,))}
    assert whole_steps(0, block(tensors, (None,)), parts).grad_norm.tolist() == [4.0]


def test_a_sum_that_is_still_to_be_made_has_no_norm() -> None:
    tensors = [tensor("w", Layout(0, (2,), (1,), ("partial",)))]
    parts = {0: part(tensors, (3.0,)), 1: part(tensors, (4.0,))}
    assert np.isnan(whole_steps(0, block(tensors, (3.0,)), parts).grad_norm[0])


def test_stages_of_a_pipeline_count_together_though_their_names_are_the_same() -> None:
    first, second = [tensor("0.weight", Layout(stage=0))], [tensor("0.weight", Layout(stage=1))]
    parts = {0: part(first, (3.0,)), 1: part(second, (4.0,))}
    whole = whole_steps(0, block(first, (3.0,)), parts)
    assert whole.grad_norm.tolist() == [5.0]
    assert whole.grad_norms.tolist() == [[3.0]]


@pytest.mark.parametrize(
    ("rank", "placements", "ranks"),
    [
        (5, ("replicate", "shard"), (4, 5, 6, 7)),
        (5, ("shard", "replicate"), (1, 5)),
        (5, ("shard", "shard"), (0, 1, 2, 3, 4, 5, 6, 7)),
        (5, ("replicate", "replicate"), (5,)),
    ],
)
def test_parts_of_a_tensor_on_a_mesh_of_two_by_four(rank, placements, ranks) -> None:
    assert part_ranks(Layout(0, (2, 4), (4, 1), placements), rank) == ranks
