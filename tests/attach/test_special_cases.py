"""Trainings of unusual make: the graph is read, and a fault in them found."""

from __future__ import annotations

import gc
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from singular_script import first_fault, watch_script

from gainstage.facts.observation import GradientsAccumulated
from gainstage.graph.autopsy.custom import CustomGradients
from gainstage.store.reader import StoredRun

Watch = Callable[[str], StoredRun]

HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"


@pytest.fixture(scope="module", autouse=True)
def _fewer_objects() -> Iterator[None]:
    """Spare `watch` the objects of torch and of other tests, among which it looks around."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # the first one imports half of torch
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.collect()  # the optimizers of these tests, lest the next ones watch them


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """Run a script in this process, and return its record. The lines of HEAD stand before it."""

    def run(text: str) -> StoredRun:
        path = tmp_path / "train.py"
        path.write_text(HEAD + textwrap.dedent(text))
        return watch_script(path)

    return run


def line_of(run: StoredRun, mark: str) -> int:
    """Return the line of the script that ends in a mark."""
    text = (run.folder.parent / "train.py").read_text()
    return next(n for n, line in enumerate(text.splitlines(), 1) if line.endswith(mark))


def told(run: StoredRun) -> tuple[int, str, str, int | None]:
    """Return step, phase, operation and line of the first fault."""
    fault = first_fault(run)
    return fault.step, fault.phase, fault.site.op, fault.site.line


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_recomputes_nothing_for_us(reentrant: bool, watch: Watch) -> None:
    run = watch(f"""
        from torch.utils.checkpoint import checkpoint
        calls = []
        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(3, 3)
            def forward(self, x):
                calls.append(1)
                return torch.tanh(self.linear(x))
        net = nn.ModuleList([Block(), Block()])
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(6):
            x = torch.rand(5, 3, requires_grad=True)
            for block in net:
                x = checkpoint(block, x, use_reentrant={reentrant})
            loss = (x.abs() * (step != 5) - float(step == 5)).log1p().mean()  # here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert len(calls) == 6 * 2 * 2, len(calls)
    """)
    assert told(run) == (5, "loss", "log1p", line_of(run, "# here"))


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_fault_within_a_checkpoint_is_no_accident_of_its_neighbours(
    reentrant: bool, watch: Watch
) -> None:
    run = watch(f"""
        from torch.utils.checkpoint import checkpoint
        net = nn.Linear(3, 3)
        head = nn.Linear(3, 1)
        optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)
        def block(x, factor):
            return (net(x).sigmoid() * factor).log()
        for step in range(5):
            x = torch.rand(5, 3, requires_grad=True)
            h = checkpoint(block, x, float(step != 4), use_reentrant={reentrant})  # here
            loss = head(h).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    fault = first_fault(run)
    assert (fault.step, fault.phase) == (4, "forward")
    if reentrant:  # one node, which says so
        assert fault.site.op == "checkpoint"
        assert fault.site.line == line_of(run, "# here")
        assert "not in the graph" in fault.text
    else:  # its nodes are seen, what they saved is packed away
        assert fault.site.line in (line_of(run, ".log()"), line_of(run, "# here"))


def test_saved_tensor_hooks_are_not_run_by_us(watch: Watch) -> None:
    run = watch("""
        packed, unpacked = [], []
        def pack(tensor):
            packed.append(1)
            return tensor
        def unpack(tensor):
            unpacked.append(1)
            return tensor
        net = nn.Linear(3, 3)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(6):
            with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
                y = net(torch.rand(5, 3)).sigmoid().exp()
            loss = (y * (step != 5)).log().mean()  # here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert len(packed) == len(unpacked), (packed, unpacked)
    """)
    assert told(run) == (5, "loss", "log", line_of(run, "# here"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_steps_that_a_scaler_searches_with_are_no_fault_and_later_ones_are(
    dtype: str, watch: Watch
) -> None:
    run = watch(f"""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=1000)
        for turn in range(60):
            with torch.autocast("cpu", dtype=torch.{dtype}):
                y = net(torch.randn(8, 4))
            if turn >= 57:
                scaler.update(1.0)  # it lets the step through, for its own check is told no scale
            loss = (F.softmax(y.float(), 1) * (turn != 59)).log().mean()  # here
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            if turn == 59:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()
    """)
    block = run.block()
    assert (block.skipped.sum() > 0) == (dtype == "float16")
    assert told(run) == (len(block) - 1, "loss", "log", line_of(run, "# here"))
    assert len(run.faults()) == 1


def test_a_custom_function_that_fails_is_named_by_its_call(watch: Watch) -> None:
    run = watch("""
        class Inverse(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return 1 / x
            @staticmethod
            def backward(ctx, grad):
                (x,) = ctx.saved_tensors
                return -grad / x**2
        net = nn.Linear(3, 3)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(5):
            x = net(torch.rand(5, 3)).sigmoid() * (step != 4)
            y = Inverse.apply(x)  # here
            loss = y.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    fault = first_fault(run)
    assert told(run) == (4, "loss", "Inverse", line_of(run, "# here"))
    assert fault.kind == "unknown"
    assert "what it does inside is not in the graph" in fault.text


def test_views_and_operations_in_place(watch: Watch) -> None:
    run = watch("""
        net = nn.Linear(3, 4)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(5):
            y = net(torch.rand(5, 3)).sigmoid()
            left, right = y.chunk(2, 1)
            out = torch.zeros(5, 4)
            out[:, :2] = left
            out[:, 2:].add_(right)
            out.mul_(float(step != 4))
            out.log_()  # here
            loss = out.view(-1).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    assert told(run) == (4, "loss", "log", line_of(run, "# here"))


def test_double_backward(watch: Watch) -> None:
    run = watch("""
        net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for step in range(5):
            x = torch.rand(16, 1, requires_grad=True)
            u = net(x)
            (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
            residual = (du - u) * (step != 4)
            loss = (residual.pow(2).sum()).sqrt()  # here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    assert told(run) == (4, "backward", "sqrt", line_of(run, "# here"))


def test_a_state_in_half_precision_that_is_put_beside_other_inputs(watch: Watch) -> None:
    run = watch("""
        net = nn.Linear(3, 1)
        net.register_buffer("total", torch.full((4,), 60000.0, dtype=torch.half))
        weight = nn.Parameter(torch.ones(4, 2))
        optimizer = torch.optim.SGD([*net.parameters(), weight], lr=0.001)
        for step in range(6):
            state = net.total.float().unsqueeze(1) / 1e5
            loss = net(torch.cat([weight, state], dim=1)).square().mean()  # here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                net.total[2] += 2000
    """)
    assert told(run)[2:] == ("cat", line_of(run, "# here"))
    assert run.record().fault.evidence.state == "total"
    assert run.findings.diagnosis.cause == "dtype-overflow"


def test_a_power_whose_derivative_is_differentiated_again(watch: Watch) -> None:
    run = watch("""
        net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
        def derivative(out, x):
            return torch.autograd.grad(out, x, torch.ones_like(out), create_graph=True)[0]
        for step in range(5):
            x = torch.rand(16, 1)
            x[3] *= step != 4
            x.requires_grad_()
            shear = derivative(net(x * x), x)
            stress = shear.abs() ** -0.6 * shear  # here
            loss = (derivative(stress, x) + 1).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    assert told(run) == (4, "forward", "pow", line_of(run, "# here"))


def test_gradients_that_are_returned(watch: Watch) -> None:
    run = watch("""
        net = nn.Linear(3, 1)
        for step in range(6):
            loss = (net(torch.rand(4, 3)).sigmoid() * float(step != 4)).log().mean()  # here
            grads = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for parameter, grad in zip(net.parameters(), grads):
                    parameter -= 0.1 * grad
    """)
    assert told(run) == (4, "loss", "log", line_of(run, "# here"))
    assert run.block().step.tolist() == list(range(6))
    assert [tensor.name for tensor in run.tensors()] == ["weight", "bias"]


def test_gradients_of_an_inner_loop_are_no_backward_calls(watch: Watch) -> None:
    run = watch("""
        weights = [torch.rand(3, 1, requires_grad=True), torch.rand(1, requires_grad=True)]
        optimizer = torch.optim.SGD(weights, lr=0.1)
        def adapted(create_graph):
            x = torch.rand(4, 3)
            inner = 100 + ((x @ weights[0] + weights[1]) ** 2).mean()
            grads = torch.autograd.grad(inner, weights, create_graph=create_graph)
            return [w - 0.1 * g for w, g in zip(weights, grads)]
        for _ in range(2):
            adapted(False)
        for step in range(5):
            fast = adapted(True)
            loss = ((torch.rand(4, 3) @ fast[0] + fast[1]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for _ in range(4):
                adapted(False)
    """)
    assert run.record().first(GradientsAccumulated) is None
    block = run.block()
    assert len(block) == 5
    assert (block.loss[1:] < 50).all()


def test_functional_transforms(watch: Watch) -> None:
    run = watch("""
        from torch.func import functional_call, grad, vmap
        net = nn.Linear(3, 1)
        weights = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
        optimizer = torch.optim.SGD(weights.values(), lr=0.1)
        def loss_of(weights, x):
            return functional_call(net, weights, x).sigmoid().sum()
        for step in range(5):
            x = torch.rand(4, 3)
            per_sample = vmap(grad(loss_of), (None, 0))(weights, x)
            extra = per_sample["bias"].sum() * 0
            loss = (loss_of(weights, x) * float(step != 4)).log() + extra  # here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    assert told(run) == (4, "loss", "log", line_of(run, "# here"))


def test_complex_numbers(watch: Watch) -> None:
    run = watch("""
        net = nn.Linear(4, 4, dtype=torch.complex64)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(5):
            y = net(torch.randn(5, 4, dtype=torch.complex64))
            spectrum = torch.fft.fft(y).abs() * (step != 4)
            loss = spectrum.log().mean()  # here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    assert told(run) == (4, "loss", "log", line_of(run, "# here"))
    assert len(run.profile_block())


def test_sparse_embeddings(watch: Watch) -> None:
    run = watch("""
        table = nn.Embedding(10, 3, sparse=True)
        optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
        for step in range(5):
            y = table(torch.arange(5)) ** 2 * (step != 4)
            loss = y.sqrt().sum()  # here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    assert told(run) == (4, "backward", "sqrt", line_of(run, "# here"))


def test_float64_modules_called_again_and_shared_weights(watch: Watch) -> None:
    run = watch("""
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.cell = nn.Linear(3, 3).double()
                self.twin = nn.Linear(3, 3).double()
                self.twin.weight = self.cell.weight
            def forward(self, x, step):
                for turn in range(4):
                    x = self.cell(x).tanh()
                return self.twin(x).mul(500 + 500 * (step == 4)).exp()  # here
        net = Net()
        with torch.no_grad():
            net.cell.weight.copy_(torch.eye(3) * 9)
            net.cell.bias.fill_(1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
        net.twin.bias.data.fill_(-8)
        for step in range(5):
            loss = net(torch.ones(5, 3).double(), step).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    fault = first_fault(run)
    assert told(run) == (4, "loss", "exp", line_of(run, "# here"))
    assert fault.kind == "overflow"
    assert "float64 (at most 1.8e+308)" in fault.text


def test_two_losses_two_optimizers_and_accumulated_gradients(watch: Watch) -> None:
    run = watch("""
        torch.manual_seed(0)
        g, d = nn.Linear(2, 2), nn.Linear(2, 1)
        for_g = torch.optim.SGD(g.parameters(), lr=0.01)
        for_d = torch.optim.SGD(d.parameters(), lr=0.01)
        for step in range(4):
            for_d.zero_grad()
            for micro in range(2):
                real = d(torch.randn(8, 2)).sigmoid()
                fake = d(g(torch.randn(8, 2)).detach()).sigmoid()
                bad = step == 3 and micro == 1
                (-real.log().mean()).backward()
                (-(1 - fake).mul(not bad).log().mean()).backward()  # here
            for_d.step()
            for_g.zero_grad()
            (-d(g(torch.randn(8, 2))).sigmoid().log().mean()).backward()
            for_g.step()
    """)
    assert told(run) == (6, "loss", "log", line_of(run, "# here"))


def test_sequences_of_changing_length_and_branches_are_aligned(watch: Watch) -> None:
    run = watch("""
        torch.manual_seed(0)
        cell, head = nn.Linear(3, 3), nn.Linear(3, 1)
        extra = nn.Linear(3, 3)
        optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters(), *extra.parameters()])
        for step in range(12):
            x = torch.rand(5, 3)
            for turn in range(3 + step % 5):
                x = torch.tanh(cell(x))
            if step % 3 == 0:
                x = extra(x).relu()
            if step == 11:
                x = x * 0
                x = F.softplus(x) - F.softplus(x)
            y = head(x).sigmoid() * (step != 11)
            loss = y.log().mean()  # here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    assert told(run) == (11, "loss", "log", line_of(run, "# here"))


def test_a_branch_never_seen_is_said_to_be_unmatched_and_not_guessed(watch: Watch) -> None:
    run = watch("""
        net = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(6):
            y = net(torch.rand(5, 3)).sigmoid()
            loss = y.mean() if step < 5 else (y * 0).log().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    fault = first_fault(run)
    assert (fault.step, fault.site.op, fault.site.line) == (5, "log", None)


def test_a_forward_pass_in_another_thread(watch: Watch) -> None:
    run = watch("""
        from concurrent.futures import ThreadPoolExecutor
        net = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        def forward(step):
            y = net(torch.rand(5, 3)).sigmoid() * (step != 4)
            return y.log().mean()  # here
        with ThreadPoolExecutor(2) as pool:
            for step in range(5):
                losses = [pool.submit(forward, step) for _ in range(2)]
                loss = sum(each.result() for each in losses)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    """)
    assert told(run) == (4, "loss", "log", line_of(run, "# here"))


@pytest.mark.filterwarnings("ignore:Anomaly Detection|Error detected in:UserWarning")
def test_the_scripts_own_anomaly_detection_works_as_ever(watch: Watch) -> None:
    run = watch("""
        net = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        errors = []
        for step in range(5):
            with torch.autograd.detect_anomaly():
                loss = (net(torch.rand(5, 3)).sigmoid() * (step != 4)).log().mean()  # here
                optimizer.zero_grad()
                try:
                    loss.backward()
                except RuntimeError as error:
                    errors.append(str(error))
                assert torch.is_anomaly_check_nan_enabled()
            optimizer.step()
            assert not torch.is_anomaly_enabled()
        assert "returned nan values" in errors[0], errors
    """)
    assert told(run) == (4, "loss", "log", line_of(run, "# here"))


def test_a_script_that_stops_at_a_bad_loss_is_looked_into_as_it_ends(watch: Watch) -> None:
    run = watch("""
        net = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(9):
            loss = (net(torch.rand(5, 3)).sigmoid() * (step != 4)).log().mean()  # here
            if loss.isinf():
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """)
    assert told(run) == (4, "loss", "log", line_of(run, "# here"))
    assert run.findings.verdict == "failed"
    assert run.findings.symptoms[0].symptom == "loss-nonfinite"


def test_a_graph_of_100_000_nodes_is_read_in_part(watch: Watch) -> None:
    run = watch("""
        weight = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.0)
        x = weight
        for turn in range(50_000):
            x = (x * 1.0) + 0.0
        loss = (x * 1.0).log().sum().sqrt()  # here
        loss.backward()
        optimizer.step()
        del x, loss
    """)
    assert told(run)[:3] == (0, "backward", "sqrt")
    assert 0 < len(run.profile_block()) <= 4096


def test_nothing_is_held_between_steps(watch: Watch) -> None:
    run = watch("""
        from gainstage.attach import session
        net = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(9):
            optimizer.zero_grad()
            net(torch.rand(5, 3)).exp().sqrt().mean().backward()
            graph = session.active.recorder.graph
            held = graph.faults.bytes_held
            optimizer.step()
            assert graph.faults.bytes_held == 0
            assert not graph._step.samples
        assert held > 0
    """)
    assert len(run.block())
    assert run.info.held_bytes > 0


def test_what_is_kept_of_own_functions_is_let_go(watch: Watch) -> None:
    watch("""
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2
            @staticmethod
            def backward(ctx, grad):
                return grad * 2
        net = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(5):
            loss = Double.apply(net(torch.rand(4, 3))).square().mean()
            optimizer.zero_grad()
            loss.backward()
            if step < 4:
                optimizer.step()
        del loss  # its graph knows the class, and the class this module
    """)
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, CustomGradients)]
