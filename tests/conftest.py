"""What all tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from script_runs import empty_namespaces

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

settings.register_profile("gainstage", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("gainstage")

# A second process costs a second of CPU time a run: only the tests of that process, and of what a
# user gets by default, have one (`process_observer`).
os.environ["GAINSTAGE_OBSERVER"] = "thread"

FRONTEND = Path(__file__).parents[1] / "frontend"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Ran:
    """A finished process."""

    code: int
    out: str
    err: str
    folder: Path


Runner = Callable[..., Ran]


def environment() -> dict[str, str]:
    """Return an environment in which nothing is watched and one thread computes.

    Which observer a watched run in it has follows from the test (`process_observer`).
    Output is buffered in it, whatever the caller's says: unbuffered, `print` writes the words and
    the end of a line one by one, and the lines of two processes mix.
    """
    dropped = ("GAINSTAGE", "COLUMNS", "PYTHONUNBUFFERED")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    observer = os.environ["GAINSTAGE_OBSERVER"]
    return kept | {
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "GAINSTAGE_OBSERVER": observer,
    }


@pytest.fixture(autouse=True)
def scripts_end_with_their_test() -> Iterator[None]:
    """Leave no model and no optimizer of a script behind that a later test would watch."""
    yield
    empty_namespaces()


@pytest.fixture
def process_observer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the watched scripts of a test an observer in a process of its own, the default."""
    monkeypatch.setenv("GAINSTAGE_OBSERVER", "process")


def finish(command: list[str], cwd: Path, *, stdin: str = "", **extra: str) -> Ran:
    """Run a command to its end."""
    done = subprocess.run(
        command,
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        env=environment() | extra,
        timeout=240,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr, cwd / "run")


@pytest.fixture
def bare(tmp_path: Path) -> Runner:
    """Run `python ARGS` in a folder of the test's own."""

    def run(*arguments: str, stdin: str = "") -> Ran:
        return finish([sys.executable, *arguments], tmp_path, stdin=stdin)

    return run


@pytest.fixture
def watched(tmp_path: Path) -> Runner:
    """Run `gainstage run --out run OPTIONS ARGS` in the same folder."""

    def run(*arguments: str, options: tuple[str, ...] = (), stdin: str = "") -> Ran:
        command = [sys.executable, "-m", "gainstage", "run", "--out", "run", *options, *arguments]
        return finish(command, tmp_path, stdin=stdin)

    return run


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the front end's sources with its packages from npm."""
    if shutil.which("npm") is None:
        pytest.skip("NO NPM: the front end is neither built anew nor looked at by axe")
    copy = tmp_path_factory.mktemp("npm") / "frontend"
    shutil.copytree(FRONTEND, copy, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "ci", "--no-audit", "--no-fund", "--silent"]
    if subprocess.run(install, cwd=copy, check=False, timeout=200).returncode != 0:
        pytest.skip(
            "NO PACKAGES FROM NPM: the front end is neither built anew nor looked at by axe"
        )
    return copy


@pytest.fixture
def browser(chromium: WebDriver) -> WebDriver:
    """Return the browser on an empty page: what the page before had to say is not this test's."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    return chromium


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    driver = shutil.which("chromedriver")
    if driver is None:
        if os.environ.get("CI"):
            pytest.fail("no chromedriver: the report is not tested in a browser")
        pytest.skip("NO CHROMIUM: the report is not tested in a browser; install chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()
