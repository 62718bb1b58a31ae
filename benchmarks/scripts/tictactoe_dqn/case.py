"""Double DQN learns noughts and crosses against a random opponent; boards are played in parallel."""
import copy

import torch
from torch import nn

torch.manual_seed(9)

LINES = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]])
GAMES, GAMMA, REWARD = 64, 0.97, 100.0


def won(board, player):
    return (board[:, LINES] == player).all(dim=2).any(dim=1)


class Arena:
    """`GAMES` boards; the agent is +1, the opponent -1. Finished boards restart by themselves."""

    def __init__(self, n):
        self.board = torch.zeros(n, 9)
        self.reset(torch.ones(n, dtype=torch.bool))

    def reset(self, which):
        self.board[which] = 0.0
        starts = which & (torch.rand(len(which)) < 0.5)
        self.opponent(starts)

    def opponent(self, which):
        rows = torch.nonzero(which).flatten()
        if len(rows):
            weights = (self.board[rows] == 0).float()
            self.board[rows, torch.multinomial(weights, 1).squeeze(1)] = -1.0

    def step(self, action):
        n = len(action)
        self.board[torch.arange(n), action] = 1.0
        win = won(self.board, 1)
        full = (self.board != 0).all(dim=1)
        self.opponent(~(win | full))
        lose = won(self.board, -1)
        done = win | lose | (self.board != 0).all(dim=1)
        reward = REWARD * (win.float() - lose.float())
        after = self.board.clone()
        self.reset(done)
        return reward, after, done.float()


class Replay:
    def __init__(self, size):
        self.size, self.n = size, 0
        self.s, self.s2 = torch.zeros(size, 9), torch.zeros(size, 9)
        self.a, self.r, self.d = torch.zeros(size, dtype=torch.long), torch.zeros(size), torch.zeros(size)

    def push(self, s, a, r, s2, d):
        at = torch.arange(self.n, self.n + len(a)) % self.size
        self.s[at], self.a[at], self.r[at], self.s2[at], self.d[at] = s, a, r, s2, d
        self.n += len(a)

    def sample(self, k):
        i = torch.randint(0, min(self.n, self.size), (k,))
        return self.s[i], self.a[i], self.r[i], self.s2[i], self.d[i]


def planes(board):
    return torch.cat([board == 1, board == -1], dim=1).float()


def legal_values(net, board):
    return net(planes(board)).masked_fill(board != 0, float("-inf"))


@torch.no_grad()
def not_won(net, games=512):
    arena, finished, wins = Arena(games), torch.zeros(games, dtype=torch.bool), torch.zeros(games)
    while not finished.all():
        reward, _, done = arena.step(legal_values(net, arena.board).argmax(dim=1))
        wins += ((reward > 0) & ~finished).float()
        finished |= done.bool()
    return 1.0 - wins.mean().item()


q = nn.Sequential(nn.Linear(18, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 9))
target = copy.deepcopy(q)
optimizer = torch.optim.Adam(q.parameters(), lr=1e-3)
arena, replay = Arena(GAMES), Replay(20000)
print(f"untrained: not won {not_won(q):.3f}")

for step in range(1200):
    state = arena.board.clone()
    with torch.no_grad():
        greedy = legal_values(q, state).argmax(dim=1)
    random = torch.multinomial((state == 0).float(), 1).squeeze(1)
    epsilon = max(0.1, 1.0 - step / 600)
    action = torch.where(torch.rand(GAMES) < epsilon, random, greedy)
    reward, after, done = arena.step(action)
    replay.push(state, action, reward, after, done)

    s, a, r, s2, d = replay.sample(128)
    with torch.no_grad():
        best = legal_values(q, s2).argmax(dim=1, keepdim=True)
        future = legal_values(target, s2).gather(1, best).squeeze(1)
        y = r + GAMMA * torch.where(d.bool(), torch.zeros_like(future), future)
    loss = (q(planes(s)).gather(1, a[:, None]).squeeze(1) - y).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 200 == 0:
        target.load_state_dict(q.state_dict())
        print(f"step {step:4d}  loss {loss.item():9.2f}  not won {not_won(q):.3f}")

print(f"final_loss={not_won(q)}")
