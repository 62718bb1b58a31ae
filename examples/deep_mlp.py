"""Train a deep perceptron on scikit-learn's handwritten digits.

    python examples/deep_mlp.py                  healthy: He initialisation
    python examples/deep_mlp.py --init normal    sick: weights from N(0, 1) explode with depth

With N(0, 1) each layer of width n multiplies the signal by about sqrt(n / 2), forward and backward.
"""

import argparse
import itertools

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

NORMS = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def build_model(depth: int, width: int, init: str, norm: str) -> nn.Sequential:
    """Return `depth` linear layers with ReLU between them."""
    sizes = [64] + [width] * (depth - 1)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), NORMS[norm](outputs), nn.ReLU()]
    layers.append(nn.Linear(width, 10))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            if init == "normal":
                nn.init.normal_(layer.weight)
            elif init == "he":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            else:
                nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--depth", type=int, default=10, help="linear layers")
    add("--width", type=int, default=64, help="units of a hidden layer")
    add("--init", choices=["normal", "he", "xavier"], default="he", help="initial weights")
    add("--norm", choices=list(NORMS), default="none", help="normalisation after each layer")
    add("--clip", type=float, default=0.0, help="max_norm of the gradients; 0 turns clipping off")
    add("--steps", type=int, default=600, help="optimizer steps")
    add("--lr", type=float, default=0.02, help="learning rate")
    add("--batch", type=int, default=64, help="images a step")
    add("--seed", type=int, default=0, help="seed of weights and batches")
    add("--print-every", type=int, default=50, help="steps between two printed losses")
    return parser.parse_args()


def main() -> None:
    """Train and print the loss."""
    args = parse_arguments()
    torch.manual_seed(args.seed)
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
    labels = torch.tensor(digits.target)
    model = build_model(args.depth, args.width, args.init, args.norm)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    final_loss = float("nan")
    for step in range(args.steps):
        pick = torch.randint(len(images), (args.batch,))
        loss = F.cross_entropy(model(images[pick]), labels[pick])
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
