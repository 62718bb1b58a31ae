from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gainstage.show import figures
from gainstage.store.blocks import to_block
from gainstage.store.window import largest_of


@given(
    st.lists(
        st.one_of(st.none(), st.floats(0, 1e30), st.just(math.nan), st.just(math.inf)),
        min_size=1,
        max_size=300,
    ),
    st.integers(1, 40),
)
def test_no_bin_hides_a_value(norms: list[float | None], columns: int) -> None:
    norms = [None if n is None else float(np.float32(n)) for n in norms]
    rows = [(i, 0.0, n, None, n, None, None, 0, [n]) for i, n in enumerate(norms)]
    block = to_block(rows, 1)
    starts = figures.bin_starts(block.step, columns)
    assert 1 <= len(starts) <= columns
    row = figures.cells(largest_of(block, starts))[0]
    band = figures.band(block.loss, block.has_loss, starts)
    for index, members in enumerate(np.split(np.arange(len(norms)), starts[1:])):
        given_norms = [norms[i] for i in members if norms[i] is not None]
        finite = [n for n in given_norms if math.isfinite(n)]
        assert band.nan[index] == any(math.isnan(n) for n in given_norms)
        assert band.inf[index] == any(n == math.inf for n in given_norms)
        if finite:
            assert (band.minimum[index], band.maximum[index]) == (min(finite), max(finite))
        if not given_norms:
            assert row[index] == figures.ABSENT
        elif band.nan[index]:
            assert row[index] == figures.NAN
        elif band.inf[index]:
            assert row[index] == figures.INF
        elif max(finite) == 0:
            assert row[index] == figures.ZERO
        else:
            assert abs(row[index] / 100 - math.log2(max(finite))) <= 0.0051


def test_bins_stay_where_they_are_as_a_run_grows() -> None:
    short = figures.bin_starts(np.arange(1000), 100)
    long = figures.bin_starts(np.arange(1500), 100)
    assert short.tolist() == long[: len(short)].tolist()
    assert figures.bin_starts(np.arange(0), 100).tolist() == []
