"""Routes support tickets to queues; float16 autocast with dynamic loss scaling, on the CPU build used by CI."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(29)

# %% data: every queue has its own vocabulary on top of common words
VOCAB, QUEUES, MAX_LEN, PAD = 500, 8, 32, 0
topic_words = torch.randint(100, VOCAB, (QUEUES, 25))


def tickets(n):
    queue = torch.randint(0, QUEUES, (n,))
    length = torch.randint(6, MAX_LEN + 1, (n,))
    common = torch.randint(1, 100, (n, MAX_LEN))
    topical = topic_words[queue].gather(1, torch.randint(0, 25, (n, MAX_LEN)))
    tokens = torch.where(torch.rand(n, MAX_LEN) < 0.22, topical, common)
    tokens[torch.arange(MAX_LEN)[None] >= length[:, None]] = PAD
    flip = torch.rand(n) < 0.03
    return tokens, torch.where(flip, torch.randint(0, QUEUES, (n,)), queue)


train_x, train_y = tickets(2400)
valid_x, valid_y = tickets(600)


# %% model
class Router(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, dim, padding_idx=PAD)
        self.bigram = nn.Linear(2 * dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.score = nn.Linear(dim, 1)
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(0.1), nn.Linear(dim, QUEUES))

    def forward(self, tokens):
        x = self.emb(tokens)
        previous = F.pad(x, (0, 0, 1, 0))[:, :-1]
        h = self.norm(x + F.relu(self.bigram(torch.cat([x, previous], dim=-1))))
        score = self.score(h).squeeze(-1).masked_fill(tokens == PAD, float("-inf"))
        weights = score.float().softmax(dim=-1)
        return self.head((weights.unsqueeze(-1) * h).sum(dim=1))


model = Router()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** 24, growth_interval=60)


def evaluate():
    model.eval()
    with torch.no_grad():
        logits = model(valid_x)
    model.train()
    return F.cross_entropy(logits, valid_y).item(), (logits.argmax(1) == valid_y).float().mean().item()


print("untrained: loss %.3f acc %.3f" % evaluate())

# %% train
skipped = 0
for epoch in range(9):
    for idx in torch.randperm(len(train_x)).split(48):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = F.cross_entropy(model(train_x[idx]).float(), train_y[idx])
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        skipped += scaler.get_scale() < before
    valid_loss, acc = evaluate()
    print(f"epoch {epoch}: train {loss.item():.3f} valid {valid_loss:.3f} acc {acc:.3f} "
          f"scale {scaler.get_scale():.0f} skipped {skipped}")

print(f"final_loss={valid_loss}")
