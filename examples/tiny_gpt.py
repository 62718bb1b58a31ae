"""Train a small GPT on Python's own help texts, with AdamW, warm-up and a cosine schedule.

python examples/tiny_gpt.py                                  healthy
python examples/tiny_gpt.py --lr 30 --warmup 0 --clip 0      sick: the learning rate is far too high
"""

import argparse
import math
from pydoc_data import topics

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Causal self-attention and a perceptron, each behind a layer norm and beside a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual stream, (batch, length, width), after this block."""
        batch, length, width = x.shape
        parts = self.query_key_value(self.norm_attention(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm_mlp(x))


class TinyGPT(nn.Module):
    """Token and position embeddings, blocks, and a linear read-out."""

    def __init__(self, vocabulary: int, layers: int, heads: int, width: int, context: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits, (batch, length, vocabulary), of the characters that come next."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.readout(self.norm(x))


def build_model(vocabulary: int, layers: int, heads: int, width: int, context: int) -> TinyGPT:
    """Return a decoder; 6 layers, 6 heads, width 384, context 128 make 10.8 million parameters."""
    return TinyGPT(vocabulary, layers, heads, width, context)


def load_text() -> tuple[Tensor, int]:
    """Return Python's help texts as character indices, and the number of different characters."""
    text = "\n".join(topics.topics.values())
    characters = sorted(set(text))
    index = {character: i for i, character in enumerate(characters)}
    return torch.tensor([index[character] for character in text]), len(characters)


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--layers", type=int, default=3, help="blocks")
    add("--heads", type=int, default=4, help="attention heads")
    add("--width", type=int, default=96, help="width of the residual stream")
    add("--context", type=int, default=64, help="characters that the model sees")
    add("--clip", type=float, default=1.0, help="max_norm of the gradients; 0 turns clipping off")
    add("--steps", type=int, default=400, help="optimizer steps")
    add("--lr", type=float, default=3e-3, help="highest learning rate")
    add("--warmup", type=int, default=40, help="steps over which the learning rate rises")
    add("--batch", type=int, default=16, help="windows of text a step")
    add("--seed", type=int, default=0, help="seed of weights and batches")
    add("--print-every", type=int, default=25, help="steps between two printed losses")
    return parser.parse_args()


def main() -> None:
    """Train and print the loss."""
    args = parse_arguments()
    torch.manual_seed(args.seed)
    data, vocabulary = load_text()
    model = build_model(vocabulary, args.layers, args.heads, args.width, args.context)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.1)

    def share(step: int) -> float:
        if step < args.warmup:
            return (step + 1) / args.warmup
        done = (step - args.warmup) / max(1, args.steps - args.warmup)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * done))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    final_loss = float("nan")
    for step in range(args.steps):
        starts = torch.randint(len(data) - args.context - 1, (args.batch, 1))
        window = data[starts + torch.arange(args.context + 1)]
        logits = model(window[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        if args.clip > 0:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        schedule.step()
        final_loss = loss.item()
        if step % args.print_every == 0:
            print(f"step {step:5d}  loss {final_loss:.4f}", flush=True)
    print(f"final_loss={final_loss:.6f}")


if __name__ == "__main__":
    main()
