"""Train a recurrent network to predict the next character of Python's own help texts.

    python examples/char_rnn.py                        healthy: the loss falls
    python examples/char_rnn.py --gain 1.2             sick: back-propagation through time explodes
    python examples/char_rnn.py --gain 1.2 --clip 1    the same start, held by gradient clipping

The recurrent weights start as an orthogonal matrix times `--gain`: a signal that passes through
them once a time step is multiplied by that gain, time step after time step, forward and backward.
"""

import argparse
from pydoc_data import topics

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class OwnCell(nn.Module):
    """A recurrent layer written by hand: one turn of the loop is one time step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(width, width))
        self.weight_hh = nn.Parameter(torch.empty(width, width))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.weight_ih)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the hidden states, (batch, length, width), of inputs of the same shape."""
        drive = inputs @ self.weight_ih.T + self.bias
        state = torch.zeros_like(drive[:, 0])
        states = []
        for time_step in range(drive.shape[1]):
            state = torch.relu(drive[:, time_step] + state @ self.weight_hh.T)
            states.append(state)
        return torch.stack(states, dim=1)


class CharModel(nn.Module):
    """Embedding, one recurrent layer, and a linear read-out over the characters."""

    def __init__(self, vocabulary: int, hidden: int, cell: str, gain: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        if cell == "own":
            self.recurrent: nn.Module = OwnCell(hidden)
        elif cell == "rnn":
            self.recurrent = nn.RNN(hidden, hidden, nonlinearity="relu", batch_first=True)
        elif cell == "gru":
            self.recurrent = nn.GRU(hidden, hidden, batch_first=True)
        else:
            self.recurrent = nn.LSTM(hidden, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, vocabulary)
        for name, parameter in self.recurrent.named_parameters():
            if name.startswith("weight_hh"):
                for gate in parameter.detach().split(hidden):
                    nn.init.orthogonal_(gate, gain=gain)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits, (batch, length, vocabulary), of the characters that come next."""
        states = self.recurrent(self.embedding(tokens))
        if isinstance(states, tuple):
            states = states[0]
        return self.readout(states)


def load_text() -> tuple[Tensor, int]:
    """Return Python's help texts as character indices, and the number of different characters."""
    text = "\n".join(topics.topics.values())
    characters = sorted(set(text))
    index = {character: i for i, character in enumerate(characters)}
    return torch.tensor([index[character] for character in text]), len(characters)


def draw_batch(data: Tensor, batch: int, length: int) -> tuple[Tensor, Tensor]:
    """Return random windows of the text, (batch, length), and the same windows one step later."""
    starts = torch.randint(len(data) - length - 1, (batch, 1))
    windows = data[starts + torch.arange(length + 1)]
    return windows[:, :-1], windows[:, 1:]


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--cell",
        choices=["rnn", "gru", "lstm", "own"],
        default="rnn",
        help="recurrent layer; rnn and own use ReLU, own is written out in Python",
    )
    add("--gain", type=float, default=0.8, help="scale of the orthogonal recurrent weights")
    add("--length", type=int, default=100, help="time steps that gradients travel back")
    add("--clip", type=float, default=0.0, help="max_norm of the gradients; 0 turns clipping off")
    add("--steps", type=int, default=400, help="optimizer steps")
    add("--lr", type=float, default=0.1, help="learning rate")
    add("--optimizer", choices=["sgd", "adam"], default="sgd", help="optimizer")
    add("--hidden", type=int, default=128, help="width of the recurrent layer")
    add("--batch", type=int, default=32, help="windows of text a step")
    add("--seed", type=int, default=0, help="seed of weights and batches")
    add("--print-every", type=int, default=25, help="steps between two printed losses")
    return parser.parse_args()


def main() -> None:
    """Train and print the loss."""
    args = parse_arguments()
    torch.manual_seed(args.seed)
    data, vocabulary = load_text()
    model = CharModel(vocabulary, args.hidden, args.cell, args.gain)
    if args.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    final_loss = float("nan")
    for step in range(args.steps):
        inputs, targets = draw_batch(data, args.batch, args.length)
        logits = model(inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        if args.clip > 0:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        final_loss = loss.item()
        if step % args.print_every == 0:
            print(f"step {step:5d}  loss {final_loss:.4f}", flush=True)
    print(f"final_loss={final_loss:.6f}")


if __name__ == "__main__":
    main()
