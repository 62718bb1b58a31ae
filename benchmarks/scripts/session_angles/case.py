"""Track embeddings from listening sessions: neighbours in a session should point the same way."""
import argparse
import math
import random

import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--tracks", type=int, default=800)
parser.add_argument("--dim", type=int, default=48)
parser.add_argument("--steps", type=int, default=500)
parser.add_argument("--batch", type=int, default=96)
parser.add_argument("--lr", type=float, default=0.15)
parser.add_argument("--seed", type=int, default=23)
args = parser.parse_args()

random.seed(args.seed)
torch.manual_seed(args.seed)

GENRES = 16
genre_of = [random.randrange(GENRES) for _ in range(args.tracks)]
by_genre = [[t for t in range(args.tracks) if genre_of[t] == g] for g in range(GENRES)]


def listen(length):
    """A listener wanders within a genre, changes it now and then, and sometimes plays the last track again."""
    genre = random.randrange(GENRES)
    played = []
    while len(played) < length:
        if random.random() < 0.04:
            genre = random.randrange(GENRES)
        if played and random.random() < 0.0001:
            played.append(played[-1])
            continue
        track = random.choice(by_genre[genre])
        if not played or track != played[-1]:
            played.append(track)
    return played


sessions = [listen(25) for _ in range(2000)]
bigrams = torch.tensor([pair for s in sessions for pair in zip(s, s[1:])])
bigrams = bigrams[torch.randperm(len(bigrams))]
valid, bigrams = bigrams[:2000], bigrams[2000:]

table = torch.empty(args.tracks, args.dim).uniform_(-0.5, 0.5).requires_grad_()
turn = torch.eye(args.dim).requires_grad_()
optimizer = torch.optim.Adagrad([{"params": [table]}, {"params": [turn], "lr": args.lr / 50}], lr=args.lr)


def angle(u, v):
    cosine = (F.normalize(u, dim=-1) * F.normalize(v, dim=-1)).sum(-1)
    return torch.acos(cosine.clamp(-1.0, 1.0)) / math.pi


def triplet(pairs, margin=0.25):
    here, there = table[pairs[:, 0]] @ turn, table[pairs[:, 1]] @ turn
    shift = torch.randint(1, args.tracks, (len(pairs),))
    strangers = table[(pairs[:, 0] + shift) % args.tracks] @ turn
    near, far = angle(here, there), angle(here, strangers)
    return F.relu(near - far + margin).mean()


cursor = 0
for step in range(args.steps):
    if cursor + args.batch > len(bigrams):
        bigrams, cursor = bigrams[torch.randperm(len(bigrams))], 0
    pairs = bigrams[cursor:cursor + args.batch]
    cursor += args.batch

    loss = triplet(pairs)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

    if step % 50 == 0:
        with torch.no_grad():
            held = triplet(valid)
        print(f"step {step:4d}  loss {loss.item():.4f}  held out {held.item():.4f}")

with torch.no_grad():
    final = triplet(valid).item()
print(f"final_loss={final}")
