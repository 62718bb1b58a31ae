from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Runner

pytestmark = pytest.mark.usefixtures("process_observer")

EXAMPLES = Path(__file__).parents[2] / "examples"
HEALTHY = {
    "char_rnn.py": ["--steps", "12", "--length", "20"],
    "deep_mlp.py": ["--steps", "40"],
    "tiny_gpt.py": ["--steps", "10"],
}
SICK = {
    "char_rnn.py": ["--gain", "1.2", "--steps", "20"],
    "deep_mlp.py": ["--init", "normal", "--steps", "5"],
    "tiny_gpt.py": ["--lr", "30", "--warmup", "0", "--clip", "0", "--steps", "6"],
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_watched_example_prints_what_the_bare_one_prints(
    name: str, bare: Runner, watched: Runner
) -> None:
    command = [str(EXAMPLES / name), "--print-every", "1", *HEALTHY[name]]
    plain, seen = bare(*command), watched(*command)
    assert plain.code == 0, plain.err
    assert (seen.code, seen.out) == (0, plain.out)
    assert "final_loss=" in plain.out
    assert "HEALTHY" in seen.err


@pytest.mark.parametrize("name", SICK)
def test_a_sick_example_fails_and_is_seen_to_fail(name: str, watched: Runner) -> None:
    ran = watched(str(EXAMPLES / name), *SICK[name])
    assert ran.code == 0, ran.err
    assert "final_loss=nan" in ran.out
    assert "FAILED at step" in ran.err


def test_clipping_from_outside_holds_the_exploding_example(watched: Runner) -> None:
    command = [str(EXAMPLES / "char_rnn.py"), "--gain", "1.2", "--steps", "20"]
    ran = watched(*command, options=("--treat", "clip-global-norm:max_norm=1"))
    assert float(ran.out.rsplit("=", 1)[1]) < 10
