from __future__ import annotations

from pathlib import Path

import pytest

from gainstage.prescribe.seed import with_another_seed


@pytest.mark.parametrize(
    ("option", "given", "changed"),
    [
        ('"--seed", type=int, default=3', ["--lr", "1"], ["--lr", "1", "--seed", "4"]),
        ('"--seed", type=int', [], ["--seed", "1"]),
        ('"-s", "--seed", default=0', ["--seed", "7", "x"], ["--seed", "8", "x"]),
        ('"--seed"', ["--seed=9"], ["--seed=10"]),
        ('"--sort"', ["--seed"], None),
    ],
)
def test_a_seed_is_found_in_the_source_and_raised(
    option: str, given: list[str], changed: list[str] | None, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(f"import argparse\nargparse.ArgumentParser().add_argument({option})\n")
    assert with_another_seed(script, given) == changed
