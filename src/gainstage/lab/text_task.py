"""The lab's own training: predict the next character of Python's help texts, a ReLU RNN.

A smaller sister of examples/char_rnn.py, for installations that have no examples; run as
`gainstage run -m gainstage.lab.text_task --gain 1.2 --clip 1`.
"""

from __future__ import annotations

import argparse
from pydoc_data import topics

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CharModel(nn.Module):
    """Embedding, a ReLU recurrence whose weights start orthogonal times `gain`, a read-out."""

    def __init__(self, vocabulary: int, hidden: int, gain: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.recurrent = nn.RNN(hidden, hidden, nonlinearity="relu", batch_first=True)
        self.readout = nn.Linear(hidden, vocabulary)
        nn.init.orthogonal_(self.recurrent.get_parameter("weight_hh_l0"), gain=gain)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the characters that come next."""
        return self.readout(self.recurrent(self.embedding(tokens))[0])


def main() -> None:
    """Train and print the loss."""
    parser = argparse.ArgumentParser(description="Train a small character RNN.")
    for name, default in {"gain": 0.8, "clip": 0.0, "lr": 0.1}.items():
        parser.add_argument(f"--{name}", type=float, default=default)
    for name, default in {"length": 100, "steps": 100, "hidden": 64, "batch": 16}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.manual_seed(0)
    text = "\n".join(topics.topics.values())
    characters = sorted(set(text))
    data = torch.tensor([characters.index(character) for character in text[:100_000]])
    model = CharModel(len(characters), args.hidden, args.gain)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    for step in range(args.steps):
        starts = torch.randint(len(data) - args.length - 1, (args.batch, 1))
        windows = data[starts + torch.arange(args.length + 1)]
        logits = model(windows[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        if args.clip > 0:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        if step % 25 == 0:
            print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main()
