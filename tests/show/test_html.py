"""The report, as a browser shows it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from conftest import Ran, finish
from gainstage.errors import ConfigError
from gainstage.show.html import render_report, write_report
from gainstage.store.journal import to_json
from gainstage.store.reader import load

FRONTEND = Path(__file__).parents[2] / "frontend"
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
SCRIPT = """
import torch
class Evil(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.add_module("</script><img src=x onerror=alert(1)>", torch.nn.Linear(4, 4))
    def forward(self, x):
        return list(self.children())[0](x)
torch.manual_seed(0)
model = torch.nn.Sequential(Evil(), torch.nn.Linear(4, 4))
opt = torch.optim.SGD(model.parameters(), lr=0.5)
for step in range(60):
    opt.zero_grad()
    loss = model(torch.randn(8, 4)).pow(2).mean() * (2.0 ** (2 * max(0, step - 30)))
    loss.backward()
    opt.step()
"""


@pytest.fixture(scope="module")
def exploded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that failed, with a module name that is an attack."""
    cwd = tmp_path_factory.mktemp("exploded")
    (cwd / "<b>train.py").write_text(SCRIPT)
    ran: Ran = finish(
        [sys.executable, "-m", "gainstage", "run", "--out", "run", "<b>train.py"], cwd
    )
    assert ran.code == 0, ran.err
    return ran.folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    driver = shutil.which("chromedriver")
    if driver is None:
        if os.environ.get("CI"):
            pytest.fail("no chromedriver: the report is not tested in a browser")
        pytest.skip("NO CHROMIUM: the report is not tested in a browser; install chromium-driver")
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def opened(browser: WebDriver, run: Path, width: int = 1280) -> None:
    path = run.parent / "report.html"
    write_report(load(run), path)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())


def text_of(browser: WebDriver, css: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, css).text


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_draws_loss_norm_and_heatmap(
    browser: WebDriver, exploded: Path, width: int
) -> None:
    opened(browser, exploded, width)
    assert text_of(browser, ".verdict").startswith("FAILED at step")
    for figure in ("loss", "norm", "heatmap"):
        drawn = browser.execute_script(
            "const c = document.querySelector(`#${arguments[0]} canvas`);"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "return new Set(new Uint32Array(d.buffer)).size",
            figure,
        )
        assert drawn > 8, f"{figure} is empty"
    page_width = browser.execute_script("return document.documentElement.scrollWidth")
    assert page_width <= width
    assert browser.get_log("browser") == []


def test_what_a_run_says_is_text_and_never_markup(browser: WebDriver, exploded: Path) -> None:
    opened(browser, exploded)
    assert text_of(browser, "h1") == "<b>train.py"
    assert browser.find_elements(By.CSS_SELECTOR, "img, b") == []
    names = browser.execute_script(
        "return JSON.parse(document.getElementById('data').textContent)"
        ".ranks[0].tensors.map(t => t.name)"
    )
    assert any("<img src=x" in name for name in names)


def test_a_click_on_a_symptom_brings_its_step_into_all_pictures(
    browser: WebDriver, exploded: Path
) -> None:
    opened(browser, exploded)
    label = browser.find_element(By.CSS_SELECTOR, ".pictures").get_attribute
    assert label("aria-label") == "pictures of steps 0 to 59"
    step = load(exploded).findings.symptoms[0].step
    browser.find_element(By.CSS_SELECTOR, ".symptoms button").click()
    assert label("aria-label") == f"pictures of steps {step - 10} to {step + 10}"


def test_the_data_in_the_page_are_those_of_the_record(exploded: Path) -> None:
    run = load(exploded)
    page = render_report(run)
    text = page.split('id="data">')[1].split("</script>")[0]
    data = json.loads(text)
    assert data["schema"] == "gainstage.report/1"
    assert data["symptoms"] == json.loads(to_json(run.findings.as_json()))["symptoms"]
    assert data["ranks"][0]["step"] == run.block().step.tolist()


def test_a_report_that_cannot_be_written_says_where(exploded: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write the report to"):
        write_report(load(exploded), tmp_path / "none" / "report.html")
    with pytest.raises(ConfigError, match="a folder; name a file in it"):
        write_report(load(exploded), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    shutil.which("npm") is None, reason="NO NPM: the committed front end is not compared"
)
def test_the_committed_front_end_is_the_one_that_its_sources_build(tmp_path: Path) -> None:
    copy = tmp_path / "frontend"
    shutil.copytree(FRONTEND, copy, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "ci", "--no-audit", "--no-fund", "--silent"]
    installed = subprocess.run(install, cwd=copy, check=False, timeout=200)
    if installed.returncode != 0:
        pytest.skip("NO PACKAGES FROM NPM: the committed front end is not compared")
    (tmp_path / "src/gainstage/show/bundle").mkdir(parents=True)
    subprocess.run(["npm", "run", "build", "--silent"], cwd=copy, check=True, timeout=200)
    built = (tmp_path / "src/gainstage/show/bundle/report.js").read_bytes()
    committed = FRONTEND.parent / "src/gainstage/show/bundle/report.js"
    assert built == committed.read_bytes(), "run `make frontend` and commit what it builds"
    assert len(built) < 200_000
