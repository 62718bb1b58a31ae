"""Draw docs/summary.svg: the summary of a real run, exported by Rich.

python benchmarks/summary_svg.py RUN
"""

import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

import gainstage
from gainstage.show.answers import shown_of
from gainstage.show.terminal import summary


def main() -> None:
    """Draw it."""
    run = gainstage.load(sys.argv[1])
    shown = replace(shown_of(run, run.findings), folder="demo-out/exploding")
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary(shown, width=80))
    Path("docs/summary.svg").write_text(console.export_svg(title="gainstage run"))


if __name__ == "__main__":
    main()
