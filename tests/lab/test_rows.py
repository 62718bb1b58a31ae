"""Every textbook row (docs/lab.md), as the commands print it."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gainstage.cli import main
from gainstage.lab import chain
from gainstage.lab.terminal import print_topic_page

Lab = Callable[..., str]


@pytest.fixture
def lab(capsys: pytest.CaptureFixture[str]) -> Lab:
    """Run `gainstage lab ARGS` in this process and return what it prints."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["lab", *arguments])
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
        assert max(map(len, out.splitlines())) <= 80, out
        return out

    return run


def rows(out: str, title: str) -> list[list[str]]:
    """Return the cells of the table with a title."""
    after = out.split(f" {title}")[1].split("───\n", 1)[1]
    lines = after.split("\n\n")[0].splitlines()
    return [re.split(r"  +", line.strip()) for line in lines]


def column(out: str, title: str, index: int) -> list[str]:
    return [row[index] for row in rows(out, title)]


def test_five_layers_of_two(lab: Lab) -> None:
    out = lab("chain", "--weight", "2", "--layers", "5", "--input", "1", "--lr", "0.1")
    assert column(out, "Layer by layer", 1) == ["2", "4", "8", "16", "32"]
    assert column(out, "Layer by layer", 2) == ["16", "8", "4", "2", "1"]
    assert column(out, "Layer by layer", 4) == ["16"] * 5
    assert "changes by 1.6, 80% of it" in out
    assert "∂L/∂W1 = 16" in out


def test_twenty_layers_are_run_and_their_update_too(lab: Lab) -> None:
    out = lab("chain")
    assert "20 layers, run as well: δ1 = 524288 (2^19), update 52428.8" in out
    assert column(lab("chain", "--layers", "20"), "Layer by layer", 2)[0] == "524288"


def test_the_figure_grows_towards_the_input_and_says_twenty_layers(lab: Lab) -> None:
    out = lab("chain")
    bars = re.findall(r"  (L\d)  (█+) (\d+)", out)
    assert [(label, value) for label, _, value in bars] == [
        ("L5", "1"),
        ("L4", "2"),
        ("L3", "4"),
        ("L2", "8"),
        ("L1", "16"),
    ]
    lengths = [len(bar) for _, bar, _ in bars]
    assert lengths == sorted(lengths)
    assert "at 20 layers δ1 = 524288" in out


@pytest.mark.parametrize(
    ("weight", "convention", "deltas"),
    [
        ("0.5", "text", ["0.0625", "0.125", "0.25", "0.5", "1"]),
        ("0.5", "code", ["0.03125", "0.0625", "0.125", "0.25", "0.5"]),
        ("1", "text", ["1"] * 5),
        ("1", "code", ["1"] * 5),
        ("2", "text", ["16", "8", "4", "2", "1"]),
        ("2", "code", ["32", "16", "8", "4", "2"]),
    ],
)
def test_both_conventions_by_name(
    lab: Lab, weight: str, convention: str, deltas: list[str]
) -> None:
    out = lab("chain", "--weight", weight, "--convention", convention)
    assert column(out, "Layer by layer", 2) == deltas
    assert "16 8 4 2 1 for w = 2 beside 0.0312 ... 0.5 for w = 0.5" in " ".join(out.split())


def test_each_dtype_overflows_where_the_formula_says(lab: Lab) -> None:
    out = lab("chain")
    depths = {row[0]: row[2:] for row in rows(out, "How deep each dtype carries")}
    assert depths["float16"] == ["layer 16", "layer 16", "32768", "inf"]
    assert depths["bfloat16"][:2] == ["layer 128", "layer 128"]
    assert depths["float32"][:2] == ["layer 128", "layer 128"]
    lost = {row[0]: row[2:] for row in rows(lab("chain", "--weight", "0.5"), "How deep")}
    assert lost["float16"] == ["layer 25", "layer 25", "5.96046e-08", "0"]


def test_zero_bits_a_layer_is_at_one_and_beside_theory(lab: Lab) -> None:
    out = lab("crossover", "--layers", "30", "--width", "64")
    scalar = {row[0]: row[1:] for row in rows(out, "The linear chain, w a number")}
    assert scalar["2"] == ["+1.00"] * 3
    assert scalar["0.5"] == ["-1.00"] * 3
    assert scalar["1"] == scalar["-1"] == ["+0.00"] * 3
    for row in rows(out, "Gain at which δ neither grows nor shrinks"):
        assert float(row[2]) == pytest.approx(float(row[3]), rel=0.06), row
        if row[1] != "gelu":
            assert float(row[4]) == pytest.approx(1, abs=0.06), row
    powers = {row[0]: row[1:] for row in rows(out, "One matrix used 400 times")}
    assert powers["orthogonal 1"] == ["1", "1", "+0.00", "+0.00"]
    sheared = powers["[[0.9, 10], [0,"]
    assert float(sheared[1]) > 10
    assert float(sheared[3]) < 0 < float(sheared[2])


def test_the_clipping_example_and_all_kinds(lab: Lab) -> None:
    out = lab("clip", "--no-runs")
    assert "norm 21.54, factor 0.2321 at max_norm 5" in out
    assert "[3.714, 2.785, -1.857]" in out
    kinds = {row[0]: row[-2] for row in rows(out, "All kinds on the same gradient")}
    assert kinds["global 2-norm"] == "kept"
    assert kinds["value"] == "turned"
    assert "norm 100.00005, factor 0.01 at max_norm 1" in out
    pair = {row[0]: row[1] for row in rows(out, "Two tensors, per parameter")}
    assert pair["global 2-norm"] == "[1, 0] [0, 0.001]"
    assert pair["per parameter"] == pair["adaptive (AGC)"] == "[1, 0] [0, 0.1]"


def test_thresholds_on_a_real_run_of_char_rnn(lab: Lab) -> None:
    out = lab("clip")
    assert "char_rnn.py --gain 1.3" in out
    runs = {row[0]: row[1:] for row in rows(out, "What a threshold does")}
    assert runs["none"][2] == "nan"
    losses = {limit: float(runs[limit][2]) for limit in ("1", "5", "10")}
    assert all(loss < 5 for loss in losses.values())
    shares = [float(runs[limit][0].rstrip("%")) for limit in ("1", "5", "10")]
    # Too small: nearly every step is clipped, and it learns less; larger: hardly ever.
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 50 > 25 > shares[2]
    assert losses["1"] > losses["5"]
    for limit, word in {"1": "tight", "5": "moderate", "10": "loose"}.items():
        assert runs[limit][3].startswith(word)
    advised = [row for row in rows(out, "Which threshold?") if "(advised)" in row[0]]
    assert advised[0][0] == "90 (advised)"
    assert float(advised[0][2].rstrip("%")) == pytest.approx(10, abs=1)


def test_a_hundred_time_steps_and_what_clipping_does_not_bring_back(lab: Lab) -> None:
    out = lab("recurrent")
    powers = {row[0]: row[1:] for row in rows(out, "∂h_T/∂h_0 after T = 100")}
    assert powers["1.01"][0] == "2.70481"
    assert powers["0.99"][0] == "0.366032"
    assert float(powers["1.2"][0]) > 1e7
    assert powers["1"] == ["1", "+0.00", "never"]
    far = {row[0]: row[3] for row in rows(out, "Untrained cells") if row[1] == "1000"}
    assert all(int(far[cell].split()[0]) < 100 for cell in ("rnn", "gru", "lstm"))
    assert "norm 2^19, factor 2^-19" in out
    learned = {(row[0], row[1]): row for row in rows(out, "Trained with clipping at 1")}
    for cell in ("rnn", "gru", "lstm"):
        assert float(learned[cell, "100"][4].rstrip("%")) > 85
        assert int(learned[cell, "100"][6].split()[0]) < 500
    assert float(learned["gru", "10"][4].rstrip("%")) < 80


def test_normal_weights_explode_in_depth_and_the_control_does_not(lab: Lab) -> None:
    out = lab("init")
    slopes = {(r[0], r[1]): r[-1].split(" / ") for r in rows(out, "Bits a layer, forward")}
    for activation, bound in {"linear": 0.05, "tanh": 0.15, "relu": 0.05, "gelu": 0.15}.items():
        for name in ("LSUV", "auto"):
            assert all(abs(float(bits)) <= bound for bits in slopes[name, activation]), name
    assert slopes["identity", "relu"] == ["+0.00", "+0.00"]
    assert slopes["Xavier", "relu"] == pytest.approx(["-0.51", "-0.51"])
    assert float(slopes["N(0, 1)", "linear"][0]) == pytest.approx(3.5, abs=0.05)
    for row in rows(out, "N(0, 1): the layer at which"):
        assert row[3] == row[4], row
        if row[2] != "never":
            assert abs(int(row[3].split()[1]) - int(row[2].split()[1])) <= 1
    gained = {row[0]: [float(bits) for bits in row[1:]] for row in rows(out, "Residual blocks")}
    assert gained["auto"][-1] > 45
    assert all(0 < bits < 1 for bits in gained["residual"])
    trained = {(row[0], row[1]): row for row in rows(out, "Deeper than 10 layers")}
    assert trained["N(0, 1)", "12"][4] in ("nan", "inf")
    assert float(trained["He", "12"][4]) < 1
    assert float(trained["N(0, 1)", "4"][4]) < 1


def test_batch_norm_is_noise_in_small_batches_and_in_recurrence(lab: Lab) -> None:
    out = lab("norm", "--batches", "2,4,8,64,256")
    noise = {row[0]: row for row in rows(out, "Noise of one sample's gradient")}
    batch = [float(noise[n][2].split("%")[0]) for n in ("2", "4", "8", "64", "256")]
    assert batch == sorted(batch, reverse=True)
    assert batch[0] > 300 > 100 > batch[-1]
    assert {row[3] for row in noise.values()} == {"0% (1.00)"}
    assert [n for n, row in noise.items() if row[-1] == "too small"] == ["2", "4"]
    through = {(row[0], row[1]): row for row in rows(out, "In a recurrent net")}
    assert float(through["batch norm", "30"][2].rstrip("%")) > 50
    assert through["layer norm", "30"][2:4] == ["0%", "0%"]


def test_four_symptoms_and_three_diagnostics_of_a_net_that_dies_in_epoch_4(lab: Lab) -> None:
    out = lab("symptoms")
    losses = [float(row[1]) for row in rows(out, "By epoch")]
    assert losses[0] > losses[1] > losses[2]
    assert not losses[3] < 1e9
    seen = [row for row in rows(out, "The four textbook symptoms") if row[0].startswith("S")]
    assert [row[0][:2] for row in seen] == ["S1", "S2", "S3", "S4"]
    assert {row[2] for row in seen} == {"4"}
    rang = re.findall(
        r"(mean loss|gradient norm|update /) .*?  (\d+)  ", out.split("Three diag")[1]
    )
    at = {name: int(step) for name, step in rang}
    assert at["update /"] < at["gradient norm"] < at["mean loss"] == 159


def test_the_answers_of_the_exercises(lab: Lab) -> None:
    out = lab("exercises", "--answers")
    answers = {row[0]: row[-1] for row in rows(out, "Answers, computed just now")}
    assert answers["exercise1.w3"] == "81"
    assert answers["exercise1.w09"] == "0.6561"
    assert answers["exercise1.constant"] == "1"
    assert answers["exercise2.norm"] == "5"
    assert answers["exercise2.factor"] == "0.4"
    assert answers["exercise2.clipped"] == answers["exercise2.other"] == "[1.2, 1.6]"
    assert answers["exercise3.grow"].startswith("2.7048")
    assert answers["exercise3.shrink"].startswith("0.3660")
    assert answers["exercise4.norm"] == "100.00005"
    assert answers["exercise4.small"] == "[0, 0.001]"
    assert answers["exercise5.first"] == "update"


def test_a_class_is_marked_from_a_file(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "answers.toml"
    path.write_text(
        "[exercise1]\nw3 = 243\nw09 = 0.656\n[exercise2]\nclipped = [1.2, 1.6]\n"
        "other = [2, 2]\n[exercise3]\ngrow = 2.7\n"
    )
    out = lab("exercises", "--check", str(path))
    assert out.startswith("3 of 13 right")
    words = " ".join(out.split())
    assert "243 is 3 to the power 5" in words
    assert "its norm is 2.828, above 2" in words


def test_the_reader_is_asked_and_told_why(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "81\n0.59049\n1\n5\n0.4\n1.2, 1.6\n[1.2, 1.6]\n2.7\n0.37\n100\n1, 0\n0, 0.1\nupdate\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(said))
    out = lab("exercises")
    assert out.rstrip().endswith("10 of 13 right")
    assert "0.59049 is 0.9 to the power 5" in out
    assert "computed: [0, 0.001]" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chain", "--layers", "0"], "layers must be between 1 and 5000, got 0"),
        (["chain", "--weight", "nan"], "weight must be a finite number, got nan"),
        (["chain", "--dtype", "fp8"], "no dtype 'fp8'; there are float16"),
        (["chain", "--convention", "odd"], "convention must be text or code"),
        (["chain", "--html", "no/folder/x.html"], "cannot write the page to"),
        (["crossover", "--layers", "1"], "layers must be between 2 and 200, got 1"),
        (["clip", "--max-norm", "0"], "max_norm must be a number above 0, got 0.0"),
        (["clip", "--max-norm", "-1"], "max_norm must be a number above 0, got -1.0"),
        (["clip", "--grads", "1,x"], "--grads takes numbers between commas"),
        (["clip", "--script", "none.py"], "no such script: 'none.py'"),
        (["recurrent", "--steps", "0"], "steps must be between 1 and 5000"),
        (["recurrent", "--weights", "nan"], "weight must be a finite number"),
        (["init", "--width", "0"], "width must be between 2 and 1024"),
        (["norm", "--batches", "1"], "batch must be 2 or more"),
        (["norm", "--batches", "nan"], "--batches takes whole numbers"),
        (["norm", "--batches", "8,2.5"], "--batches takes whole numbers"),
        (["norm", "--batches", ","], "name at least one batch size"),
        (["clip", "--grads", ","], "a gradient has at least one value"),
        (["clip", "--max-norm", "nan"], "max_norm must be a number above 0"),
        (["chain", "--input", "inf"], "input must be a finite number"),
        (["recurrent", "--weights", ","], "name at least one weight"),
        (["init", "--seed", "-1"], "seed must be 0 or more"),
        (["exercises", "--check", "none.toml"], "cannot read 'none.toml'"),
        (["exercises", "--answers", "--check", "x"], "give one of both"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["lab", *arguments])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    lines = [line for line in err.splitlines() if line.startswith("gainstage: ")]
    assert said in lines[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("w3 = ", "is not TOML"),
        ("w3 = 81", "must stand in a table"),
        ("[exercise1]\nw3 = true", "must be a number"),
        ("[exercise9]\nw = 1", "no question 'exercise9.w'"),
    ],
)
def test_a_file_of_answers_that_is_none_says_why(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["lab", "exercises", "--check", str(tmp_path / "a.toml")])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_stream_without_unicode_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_topic_page(chain().topic_page(), stream)
    stream.flush()
    assert raw.getvalue().decode("ascii").count("524288") == 2
