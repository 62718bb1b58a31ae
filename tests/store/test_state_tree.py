from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainstage.store.state_tree import decode, encode

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.complex_numbers()
KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.text())
NESTED = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=20,
)


class Thing:
    """What JSON knows nothing of."""


def put(value: object, path: str) -> dict[str, Any]:
    return {"$thing": path}


def take(tag: str, content: Any) -> Any:
    return (tag, content)


@given(NESTED)
def test_a_nested_value_survives_json(value: object) -> None:
    back = decode(json.loads(json.dumps(encode(value, put), allow_nan=False)), take)
    # repr tells nan from nan, 1 from 1.0 and True, -0.0 from 0.0, tuples from lists.
    assert repr(back) == repr(value)


def test_a_value_without_a_type_in_json_is_named_by_its_path() -> None:
    encoded = encode({"state": {0: [Thing()]}, "lr": np.float32(0.5), "n": np.int64(3)}, put)
    assert encoded == {
        "state": {"$pairs": [[0, [{"$thing": "/state/0/0"}]]]},
        "lr": 0.5,
        "n": 3,
    }
    assert decode(encoded, take)["state"] == {0: [("$thing", "/state/0/0")]}


def test_a_value_that_holds_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert "$thing" in json.dumps(encode(loop, put))


@pytest.mark.parametrize("text", ['{"$tuple": 3}', '{"$pairs": [1]}', '{"$float": []}'])
def test_what_encode_has_not_written_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        decode(json.loads(text), take)


def test_infinities_keep_their_sign() -> None:
    assert decode(encode([math.inf, -math.inf], put), take) == [math.inf, -math.inf]
