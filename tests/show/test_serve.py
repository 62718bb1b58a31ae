"""The dashboard: a real server, asked over HTTP and looked at in a browser."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from benchmarks.long_run import write_long_run
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from conftest import environment
from gainstage import cli
from gainstage.facts.codec import to_json
from gainstage.facts.run_info import RunInfo
from gainstage.facts.tensor import TensorInfo
from gainstage.show.serve.access_guard import host_name
from gainstage.store.folder import claim_rank, create_run_folder, update_run_info
from gainstage.store.journal import append_line
from row_recorder import RowRecorder

ATTACK = "</script><img src=x onerror=alert(1)>"
HOSTILE = "<img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Served:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    runs: Path

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        parts = urllib.parse.urlsplit(self.address)
        assert parts.hostname
        assert parts.port
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(connection):
            connection.request(method, path, headers=given)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def json(self, path: str) -> dict:
        status, _, body = self.ask(self.inside(path))
        assert status == 200, body
        return json.loads(body)

    def inside(self, path: str) -> str:
        return urllib.parse.urlsplit(self.address).path + path


def start(runs: Path) -> Served:
    process = subprocess.Popen(
        [sys.executable, "-m", "gainstage", "serve", str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/\S+/", said)
    assert found, said
    return Served(process, found[0], runs)


def ended(served: Served) -> tuple[int, str]:
    """Press Ctrl-C; return exit code and what was said on standard error."""
    served.process.send_signal(signal.SIGINT)
    _, err = served.process.communicate(timeout=20)
    return served.process.returncode, err


def writer_of(folder: Path, name: str) -> RowRecorder:
    started = "2026-11-01T10:00:00+00:00"
    info = RunInfo(script="<b>train.py", argv=("train.py",), started=started)
    path = create_run_folder(folder, info)
    tensors = [TensorInfo(f"{name}.weight", name, (2, 2), "float32")]
    return RowRecorder(path, claim_rank(path, None), tensors, warn=print)


def train(writer: RowRecorder, first: int, last: int, loss: float = 1.0) -> None:
    for step in range(first, last + 1):
        writer.append((step, 1e9 + step, loss, 0.1, 2.0, None, None, 0, [2.0]))
    writer.flush()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a long run and two short ones, one of which has names that attack."""
    runs = tmp_path_factory.mktemp("serve") / "runs"
    write_long_run(runs / "long", 250, 6000)
    for folder, loss in (("calm", 1.0), ("hostile", float("nan"))):
        writer = writer_of(runs / folder, HOSTILE)
        train(writer, 0, 39, loss)
        writer.close()
        update_run_info(runs / folder, ended="2026-11-01T10:01:00+00:00")
    evidence = {"tensors": [f"a tensor {ATTACK}"], "tensors_hurt": 1, "tensors_seen": 1}
    evidence |= {"has_nan": True, "has_inf": False, "is_left_out": False, "at_step": 0}
    symptom = {"symptom": "gradient-nonfinite", "severity": "critical", "step": 0, "message": ""}
    evidence |= {"last_step": 0, "count": 1}
    append_line(runs / "hostile/symptoms.jsonl", symptom | {"evidence": evidence})
    (runs.parent / "secret").mkdir()
    (runs.parent / "secret/run.json").write_text("{}")
    (runs / "link").symlink_to(runs.parent / "secret")
    made = start(runs)
    yield made
    try:
        assert ended(made) == (0, "")
    finally:
        made.process.kill()


def seen(
    browser: WebDriver, served: Served, at: str, width: int = 1280, dark: bool = False
) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]})
    browser.get("about:blank")
    browser.get_log("browser")  # what others have left there
    browser.get(f"{served.address}#{at}")


def until(browser: WebDriver, script: str, *arguments: object) -> object:
    return WebDriverWait(browser, 20, 0.05).until(
        lambda b: b.execute_script(f"return {script}", *arguments), message=script
    )


def text_of(browser: WebDriver, css: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, css).text


LABEL = "document.querySelector('.pictures')?.getAttribute('aria-label')"


def test_a_live_run_appears_and_grows_in_list_and_pictures(
    browser: WebDriver, served: Served
) -> None:
    seen(browser, served, "")
    until(browser, "document.querySelectorAll('.runs tbody tr').length === 3")
    writer = writer_of(served.runs / "now", "body")
    train(writer, 0, 9)
    until(browser, "document.querySelector('.runs tbody tr .state.live')")
    row = browser.find_element(By.CSS_SELECTOR, ".runs tbody tr")
    until(browser, "arguments[0].querySelector('.steps').textContent === '10'", row)
    row.find_element(By.CSS_SELECTOR, "a").click()
    until(browser, f"{LABEL} === 'pictures of steps 0 to 9'")
    picture = browser.find_element(By.CSS_SELECTOR, "#loss canvas")
    train(writer, 10, 29)
    until(browser, f"{LABEL} === 'pictures of steps 0 to 29'")
    assert picture.is_displayed(), "the picture was made anew, which loses zoom and cursor"
    update_run_info(served.runs / "now", ended="2026-11-01T10:01:00+00:00")
    writer.close()
    until(browser, "document.querySelector('nav .state.ended')")
    assert browser.get_log("browser") == []


def test_a_zoom_fetches_what_the_whole_picture_joins(browser: WebDriver, served: Served) -> None:
    seen(browser, served, "run=long")
    until(browser, f"{LABEL} === 'pictures of steps 0 to 5996'")
    over = browser.find_element(By.CSS_SELECTOR, "#loss .u-over")
    middle = ActionChains(browser, duration=0).move_to_element(over)
    middle.perform()
    assert text_of(browser, ".readout").startswith("steps 29")
    middle.move_to_element_with_offset(over, -30, 0).click_and_hold()
    middle.move_by_offset(60, 0).release().perform()

    def one_step(_: WebDriver) -> bool:
        ActionChains(browser, duration=0).move_to_element_with_offset(over, 7, 3).perform()
        ActionChains(browser, duration=0).move_to_element(over).perform()
        return re.match(r"step (29|30)\d\d ", text_of(browser, ".readout")) is not None

    WebDriverWait(browser, 20, 0.05).until(one_step)
    ActionChains(browser, duration=0).double_click(over).perform()
    until(browser, f"{LABEL} === 'pictures of steps 0 to 5996'")
    assert browser.get_log("browser") == []


def test_runs_lie_over_each_other(browser: WebDriver, served: Served) -> None:
    seen(browser, served, "")
    until(browser, "document.querySelectorAll('.runs tbody tr').length >= 3")
    for name in ("calm", "hostile"):
        browser.find_element(By.CSS_SELECTOR, f"input[aria-label='compare {name}']").click()
    browser.find_element(By.CSS_SELECTOR, ".compare").click()
    until(browser, "document.querySelectorAll('.pictures canvas').length === 2")
    over = browser.find_element(By.CSS_SELECTOR, "#loss .u-over")
    ActionChains(browser, duration=0).move_to_element(over).perform()
    said = text_of(browser, ".readout")
    assert "calm: loss 1, ‖g‖ 1 bits" in said
    assert "hostile: loss NaN" in said
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
@pytest.mark.parametrize("at", ["", "run=hostile", "compare=calm&compare=hostile"])
def test_what_runs_say_is_text_and_axe_finds_nothing_serious(
    browser: WebDriver, served: Served, packages: Path, at: str, width: int, dark: bool
) -> None:
    seen(browser, served, at, width, dark)
    until(browser, f"document.body.innerText.includes({to_json('<b>train.py')})")
    if at.startswith("run"):
        until(browser, f"document.body.innerText.includes({to_json(f'a tensor {ATTACK}')})")
    assert browser.find_elements(By.CSS_SELECTOR, "main img, main b") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(18, 21, 27)" if dark else "rgb(255, 255, 255)")
    axe = (packages / "node_modules/axe-core/axe.min.js").read_text()
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    assert found["passes"], "axe has looked at nothing"
    serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in serious] == []
    assert browser.get_log("browser") == []


def test_strangers_are_refused(served: Served) -> None:
    inside = served.inside("runs")
    host = urllib.parse.urlsplit(served.address).netloc
    assert served.ask(inside)[0] == 200
    assert served.ask(inside, Host="localhost:1", Origin="http://localhost:1")[0] == 200
    assert served.ask("/runs")[0] == 403
    assert served.ask("/" + "x" * 32 + "/runs")[0] == 403
    assert served.ask(served.inside("").rstrip("/"))[0] == 403
    assert served.ask(inside, Host="attacker.example:80")[0] == 421
    assert served.ask(inside, Origin="http://attacker.example")[0] == 403
    assert served.ask(inside, Origin="http://127.0.0.1:1")[0] == 403
    assert served.ask(inside, Origin=f"http://{host}")[0] == 200
    assert served.ask(inside, Sec_Fetch_Site="cross-site")[0] == 403
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        assert served.ask(inside, method)[0] == 405
    _, headers, _ = served.ask(served.inside(""))
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers
    assert host_name("127.0.0.1.evil.example:80") == "127.0.0.1.evil.example"


def test_a_run_is_found_by_name_only_and_within_the_folder(served: Served) -> None:
    names = [run["name"] for run in served.json("runs")["runs"]]
    assert {"long", "calm", "hostile"} <= set(names)
    assert "link" not in names
    outside = ("../secret", "link", "..", ".", "", str(served.runs / "calm"), "calm/../calm", "\0")
    for name in outside:
        query = urllib.parse.urlencode({"run": name})
        assert served.ask(served.inside(f"tile?{query}"))[0] == 404
        assert served.ask(served.inside(f"report?{query}"))[0] == 404
    for bad in ("first=-1", "first=x", "last=1e9", "rank=-1", f"first={10**30}"):
        assert served.ask(served.inside(f"tile?run=calm&{bad}"))[0] == 400
    assert served.json("tile?run=calm&rank=7")["step"] == []
    assert served.json("tile?run=calm&first=50&last=20")["step"] == []


def test_reading_writes_nothing(served: Served) -> None:
    def state() -> list[tuple[str, int]]:
        found = (served.runs / "calm").rglob("*")
        return sorted((str(each), each.stat().st_mtime_ns) for each in found)

    before = state()
    served.json("report?run=calm")
    served.json("tile?run=calm")
    assert state() == before


def test_ctrl_c_ends_it_though_somebody_waits_for_news(tmp_path: Path) -> None:
    made = start(tmp_path)
    parts = urllib.parse.urlsplit(made.address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    with closing(connection):
        connection.request("GET", f"{parts.path}events")
        with closing(connection.getresponse()) as news:
            assert news.readline() == b"retry: 1000\n"
            assert ended(made) == (0, "")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(["serve", *arguments])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "does not exist; name a folder of runs" in refused(capsys, str(tmp_path / "none"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(capsys, str(tmp_path), "--port", str(port))
        assert f"cannot listen on port {port} of 127.0.0.1: it is in use" in said
    assert "cannot listen on port 99999" in refused(capsys, str(tmp_path), "--port", "99999")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'gainstage[dashboard]'" in refused(capsys, str(tmp_path))
    assert os.listdir(tmp_path) == []
