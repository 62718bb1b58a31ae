"""Predicts whether a viewer finishes a video; running engagement statistics per video are model inputs."""
import numpy as np
import torch
import torch.nn as nn

SEED = 23
N_USERS, N_VIDEOS, N_CTX = 600, 250, 6
BATCH, STEPS = 256, 260

rng = np.random.default_rng(SEED)
torch.manual_seed(SEED)

# ----------------------------------------------------------------- simulated log
popularity = 1.0 / (np.arange(N_VIDEOS) + 3.0) ** 0.9
popularity /= popularity.sum()
length_s = rng.lognormal(4.6, 0.8, N_VIDEOS).clip(15, 900)
quality = rng.normal(0, 1.2, N_VIDEOS)
patience = rng.normal(0, 0.9, N_USERS)
ctx_w = rng.normal(0, 0.7, N_CTX)


def next_batch(n=BATCH):
    user = rng.integers(0, N_USERS, n)
    video = rng.choice(N_VIDEOS, n, p=popularity)
    ctx = rng.normal(size=(n, N_CTX))
    logit = quality[video] + patience[user] + ctx @ ctx_w - 0.8 * np.log(length_s[video] / 100)
    done = rng.random(n) < 1 / (1 + np.exp(-logit))
    watched = np.where(done, 1.0, rng.beta(2, 3, n)) * length_s[video]
    as_t = lambda a, d: torch.as_tensor(a, dtype=d)
    return (as_t(user, torch.long), as_t(video, torch.long), as_t(ctx, torch.float32),
            as_t(watched, torch.float32), as_t(done, torch.float32))


# ----------------------------------------------------------------- model
class EngagementStats(nn.Module):
    """Total watch time and number of plays of every video, kept small because the real catalogue has 40M rows."""

    def __init__(self, n_videos):
        super().__init__()
        self.register_buffer("seconds", torch.zeros(n_videos, dtype=torch.half))
        self.register_buffer("plays", torch.zeros(n_videos, dtype=torch.half))

    @torch.no_grad()
    def update(self, video, watched):
        self.seconds.index_add_(0, video, watched.to(self.seconds.dtype))
        self.plays.index_add_(0, video, torch.ones_like(watched, dtype=self.plays.dtype))

    def forward(self, video):
        plays = self.plays[video].float()
        mean_s = self.seconds[video].float() / (plays + 1.0)
        return torch.stack([torch.log1p(plays), torch.log1p(mean_s)], dim=-1)


class Ranker(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.stats = EngagementStats(N_VIDEOS)
        self.user = nn.Embedding(N_USERS, dim)
        self.video = nn.Embedding(N_VIDEOS, dim)
        nn.init.normal_(self.user.weight, std=0.05)
        nn.init.normal_(self.video.weight, std=0.05)
        self.deep = nn.Sequential(nn.Linear(2 * dim + N_CTX + 2, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, user, video, ctx):
        u, v = self.user(user), self.video(video)
        x = torch.cat([u, v, ctx, self.stats(video)], dim=-1)
        return self.deep(x).squeeze(-1) + (u * v).sum(-1)


model = Ranker()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
bce = nn.BCEWithLogitsLoss()

history = []
for step in range(STEPS):
    user, video, ctx, watched, done = next_batch()
    loss = bce(model(user, video, ctx), done)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    model.stats.update(video, watched)
    history.append(loss.item())
    if step % 20 == 0:
        print(f"step {step:4d}  bce {np.mean(history[-20:]):.4f}")

print(f"final_loss={np.mean(history[-40:])}")
