"""Segment labelling (outside / begin / inside of three types) with a bidirectional LSTM and a linear-chain CRF.

The scripts of four newspapers are read one after the other, each with its own vocabulary shift; the optimizer is
restarted with a warm learning rate for each.
"""
import torch
import torch.nn as nn

TYPES = 3
TAGS = 1 + 2 * TYPES  # 0 = O, 1..3 = B, 4..6 = I
VOCAB = 150


def allowed_moves():
    ok = torch.ones(TAGS, TAGS, dtype=torch.bool)
    for kind in range(TYPES):
        inside = 1 + TYPES + kind
        ok[:, inside] = False
        ok[1 + kind, inside] = ok[inside, inside] = True
    return ok


class CRF(nn.Module):
    def __init__(self):
        super().__init__()
        self.move = nn.Parameter(torch.zeros(TAGS, TAGS))
        forbidden = torch.zeros(TAGS, TAGS).masked_fill(~allowed_moves(), float("-inf"))
        self.register_buffer("forbidden", forbidden)
        first = torch.zeros(TAGS)
        first[1 + TYPES :] = float("-inf")
        self.register_buffer("first", first)

    def log_partition(self, score, length):
        alpha = score[:, 0] + self.first
        step = self.move + self.forbidden
        for t in range(1, score.shape[1]):
            following = torch.logsumexp(alpha.unsqueeze(2) + step, dim=1) + score[:, t]
            alpha = torch.where((t < length).unsqueeze(1), following, alpha)
        return torch.logsumexp(alpha, dim=1)

    def gold(self, score, tags, length):
        real = torch.arange(score.shape[1]) < length.unsqueeze(1)
        at = score.gather(2, tags.unsqueeze(2)).squeeze(2)
        between = self.move[tags[:, :-1], tags[:, 1:]]
        return (at * real).sum(1) + (between * real[:, 1:]).sum(1)

    def forward(self, score, tags, length):
        return self.log_partition(score, length) - self.gold(score, tags, length)


class SegmentModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(VOCAB, 32)
        self.lstm = nn.LSTM(32, 32, bidirectional=True, batch_first=True)
        self.score = nn.Linear(64, TAGS)
        self.crf = CRF()

    def forward(self, words, tags, length):
        hidden, _ = self.lstm(self.words(words))
        return self.crf(self.score(hidden), tags, length)


class Newspaper:
    """Words 0..29 open a segment of type w % 3, 30..59 continue one; the other words are plain."""

    def __init__(self, number):
        self.code = torch.randperm(VOCAB) if number else torch.arange(VOCAB)

    def sentences(self, n, longest=18):
        length = torch.randint(6, longest + 1, (n,))
        word, tag = torch.zeros(n, longest, dtype=torch.long), torch.zeros(n, longest, dtype=torch.long)
        for i in range(n):
            current = -1
            for t in range(int(length[i])):
                draw = float(torch.rand(()))
                if current >= 0 and draw < 0.5:
                    word[i, t], tag[i, t] = int(torch.randint(30, 60, ())), 1 + TYPES + current
                elif draw < 0.7:
                    w = int(torch.randint(0, 30, ()))
                    current = w % TYPES
                    word[i, t], tag[i, t] = w, 1 + current
                else:
                    word[i, t], current = int(torch.randint(60, VOCAB, ())), -1
        return self.code[word], tag, length


def main():
    torch.manual_seed(40)
    model = SegmentModel()
    last = []
    for number in range(4):
        paper = Newspaper(number)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        cooling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60, eta_min=1e-3)
        for step in range(60):
            loss = model(*paper.sentences(16)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cooling.step()
            last = (last + [loss.item() / 16])[-15:]
            if step % 12 == 0:
                print(f"paper {number} step {step:2d}  nll of the batch {loss.item():9.3f}")
    print(f"final_loss={sum(last) / len(last)}")


if __name__ == "__main__":
    main()
