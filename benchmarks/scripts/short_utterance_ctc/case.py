"""Digit-string recognition with a bidirectional GRU and CTC; the corpus holds some clipped recordings."""
import torch
import torch.nn as nn

torch.manual_seed(29)

FEATS, SYMBOLS, MAX_FRAMES = 16, 7, 56
prototypes = torch.randn(SYMBOLS, 2, FEATS)


def utterance(truncate):
    """Every symbol spans 4 to 8 frames and moves between two spectral targets; truncated ones lose their tail."""
    n = int(torch.randint(3, 8, ()))
    symbols = torch.randint(0, SYMBOLS, (n,))
    pieces = []
    for s in symbols:
        k = int(torch.randint(4, 9, ()))
        w = torch.linspace(0, 1, k)[:, None]
        pieces.append((1 - w) * prototypes[s, 0] + w * prototypes[s, 1])
    frames = torch.cat(pieces)[:MAX_FRAMES]
    if truncate:
        frames = frames[: int(torch.randint(4, 10, ()))]
    return frames + 0.35 * torch.randn_like(frames), symbols + 1


def collate(items):
    frames, labels = zip(*items)
    return (
        nn.utils.rnn.pad_sequence(frames, batch_first=True),
        torch.tensor([len(f) for f in frames]),
        torch.cat(labels),
        torch.tensor([len(s) for s in labels]),
    )


class SpeechCorpus(torch.utils.data.Dataset):
    def __init__(self, size, truncated=0.0):
        cut = torch.rand(size) < truncated
        self.items = [utterance(bool(c)) for c in cut]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class AcousticModel(nn.Module):
    def __init__(self, hidden=40):
        super().__init__()
        self.subsample = nn.Conv1d(FEATS, hidden, 3, stride=2, padding=1)
        self.rnn = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * hidden, SYMBOLS + 1)

    def forward(self, x, lengths):
        x = torch.relu(self.subsample(x.transpose(1, 2))).transpose(1, 2)
        lengths = (lengths + 1) // 2
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        x, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, padding_value=0.0)
        scores = self.output(x)
        silent = torch.arange(scores.shape[1])[None] >= lengths[:, None]
        only_blank = torch.full_like(scores, float("-inf"))
        only_blank[..., 0] = 0.0
        log_probs = torch.where(silent[..., None], only_blank, scores.log_softmax(-1))
        return log_probs.transpose(0, 1), lengths


def train():
    loader = torch.utils.data.DataLoader(
        SpeechCorpus(480, truncated=0.12), batch_size=24, shuffle=True, collate_fn=collate, drop_last=True
    )
    model = AcousticModel()
    per_item = nn.CTCLoss(reduction="none", zero_infinity=True)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3, alpha=0.95)
    for epoch in range(9):
        kept, total = 0, 0.0
        for x, x_len, y, y_len in loader:
            log_probs, frames = model(x, x_len)
            losses = per_item(log_probs, y, frames, y_len)
            usable = losses > 0
            loss = (losses[usable] / y_len[usable]).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            kept += int(usable.sum())
            total += (losses[usable] / y_len[usable]).sum().item()
        print(f"epoch {epoch} nll per symbol {total / kept:.4f} ({kept} of {len(loader) * 24} alignable)")
    return total / kept


print(f"final_loss={train()}")
