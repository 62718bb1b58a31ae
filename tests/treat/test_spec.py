from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainstage.errors import ConfigError
from gainstage.treat.kinds import KINDS
from gainstage.treat.settings import Number
from gainstage.treat.spec import Spec, parse

WORDS = st.text("abcdefghijklmnop_.*+0123456789", min_size=1, max_size=20)


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Any spec that can be: its settings go together."""
    remedy = draw(st.sampled_from(sorted(KINDS)))
    kind = KINDS[remedy]
    settings: dict[str, float | str] = {}
    for setting in kind.settings:
        needed = setting.default == ""
        if setting.name not in kind.values(settings):
            continue
        if not needed and draw(st.booleans()):
            continue
        if not isinstance(setting, Number):
            choices = st.sampled_from(setting.choices) if setting.choices else WORDS
            settings[setting.name] = draw(choices)
        elif setting.whole:
            settings[setting.name] = float(draw(st.integers(int(setting.above) + 1, 10**6)))
        else:
            below = min(setting.below, 1e30)
            inside = st.floats(setting.above, below, exclude_min=True, exclude_max=True)
            settings[setting.name] = draw(inside)
    if kind.has_schedule and draw(st.booleans()):
        settings["from"] = float(draw(st.integers(0, 1000)))
        settings["until"] = settings["from"] + draw(st.integers(1, 1000))
    return Spec(remedy, settings)


@given(specs())
def test_a_spec_survives_being_written_and_read(spec: Spec) -> None:
    assert parse(spec.as_text()) == spec
    assert parse(spec.as_text()).as_text() == spec.as_text()


def test_defaults_are_those_of_the_kind_that_was_chosen() -> None:
    spec = parse("clip-adaptive:kind=zclip,z=3,from=100,until=500")
    assert spec.values() == {
        "kind": "zclip",
        "alpha": 0.97,
        "z": 3.0,
        "warm_up": 25.0,
        "max_norm": math.inf,
    }
    assert spec.span() == (100, 500)
    assert parse("lower-lr").values() == {"factor": 0.1, "after": "start"}
    assert parse("lower-lr").span() == (0, math.inf)
    assert parse("clip-global-norm:norm_type=inf").values()["norm_type"] == math.inf


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("leeches", "no remedy 'leeches'; there are code-change, skip-nonfinite, .*, insert-norm"),
        ("clip-value:limit=1", "clip-value has no setting 'limit'; it has value, from, until"),
        ("clip-value:value=much", "value must be a number, got 'much'"),
        ("clip-value:value", "value must be a number, got ''"),
        ("clip-value:value=0", "value must be above 0, got 0"),
        ("clip-value:value=nan", "value must be above 0, got nan"),
        ("clip-value:value=inf", "value must be above 0, got inf"),
        ("lower-lr:factor=1", "factor must be above 0 and below 1, got 1"),
        ("warm-up:steps=1.5", "steps must be a whole number above 0, got 1.5"),
        ("reinit:kind=nice", "kind must be one of auto, he, .*, lsuv, got 'nice'"),
        (
            "reinit:kind=lsuv,mode=fan_in",
            "mode goes with kind=auto or kind=he or .*, not with kind",
        ),
        ("clip-adaptive:percentile=5", "percentile goes with kind=autoclip, not with kind=agc"),
        ("lower-lr:for=10", "for goes with after=spike, not with after=start"),
        ("insert-norm:at=", "at needs a value"),
        ("skip-nonfinite:from=10,until=10", "until must be above from=10, got 10"),
    ],
)
def test_a_spec_that_cannot_be_is_one_line_that_says_what_would_do(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(text)
    assert str(caught.value).startswith(f"--treat {text!r}: ")
    assert "\n" not in str(caught.value)


def test_reading_a_spec_needs_no_torch() -> None:
    code = (
        "import sys; from gainstage.treat.spec import parse; parse('reinit'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
