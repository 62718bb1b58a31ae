from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainstage.channel.control import Control
from gainstage.channel.events import (
    Announced,
    Ended,
    Event,
    Lost,
    Opened,
    Sampled,
    SitesSeen,
    TreatmentLine,
    decode,
    encode,
)
from gainstage.facts.fault import Site
from recorded import along_time, levels


@given(
    batches=st.lists(st.lists(st.binary(max_size=40), max_size=6), max_size=12),
    capacity=st.integers(64, 200),
)
def test_events_come_in_order_and_what_finds_no_room_is_counted(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]], capacity: int
) -> None:
    path = tmp_path_factory.mktemp("channel") / "control"
    sender, reader = Control.make(path, capacity), Control.open(path)
    dropped = 0
    for batch in batches:
        sent = []
        for event in batch:
            if sender.send(event):
                sent.append(event)
            else:
                dropped += 1
        assert reader.has_events == bool(sent)
        assert list(reader.events()) == sent
    assert reader.dropped == sender.dropped == dropped


def test_the_words_of_one_side_are_read_by_the_other(tmp_path: Path) -> None:
    ours, theirs = Control.make(tmp_path / "control"), Control.open(tmp_path / "control")
    ours.rings = 3
    request = ours.ask_to_flush()
    assert (theirs.rings, theirs.flush_asked, theirs.flushed) == (3, request, 0)
    theirs.flushed = request
    theirs.observer = 12, 34
    theirs.raise_danger()
    assert (ours.flushed, ours.observer, ours.danger) == (request, (12, 34), 1)
    assert not ours.is_dead
    assert not ours.has_ended
    theirs.give_up()
    theirs.end(3)
    assert ours.is_dead
    assert ours.has_ended
    assert ours.exit_code == 3


def test_a_code_of_the_scripts_own_is_none(tmp_path: Path) -> None:
    control = Control.make(tmp_path / "control")
    assert control.exit_code is None
    control.end(None)
    assert control.exit_code is None
    control.end(0)
    assert control.exit_code == 0


@pytest.mark.parametrize(
    "event",
    [
        Opened(2, "2.13.0", 4),
        SitesSeen((Site("mm", "layer", "forward", "/a/b.py", 7), Site("log")), ((0, 1), (-1,))),
        TreatmentLine({"event": "started", "step": 0, "settings": {"max_norm": 1.5}}),
        Announced("a line"),
        Lost("another"),
        Ended("ValueError: x", held_bytes=12, is_final=False),
        Ended(),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_survives_its_way(event: Event) -> None:
    assert decode(encode(event)) == event


def test_levels_survive_their_way_with_nan_and_inf() -> None:
    profile = levels(3, [0, -1], [1.0, -np.inf], [np.nan, np.inf])
    times = along_time(3, [[0.0, 1.0], [2.0]])
    back = decode(encode(Sampled(profile, times)))
    assert isinstance(back, Sampled)
    for name in ("step", "weight", "forward_bits", "delta_bits", "headroom_bits"):
        got = getattr(back.profile, name)
        np.testing.assert_array_equal(got, getattr(profile, name))
        assert got.dtype == getattr(profile, name).dtype
    np.testing.assert_array_equal(back.times.delta_bits, times.delta_bits)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_event_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no event"):
        decode(data)


def test_a_channel_whose_file_is_damaged_is_refused(tmp_path: Path) -> None:
    Control.make(tmp_path / "control", 100)
    whole = (tmp_path / "control").read_bytes()
    for name, data in {"cut": whole[:200], "zeros": bytes(len(whole)), "empty": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises((OSError, ValueError)):
            Control.open(tmp_path / name)
