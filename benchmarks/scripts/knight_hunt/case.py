"""A knight alone on a 6x6 board takes pawns for points; a streak of captures pays more and more. Advantage actor-critic."""
import torch
import torch.nn.functional as F
from torch import nn

SIDE, MOVES, BOARDS = 6, 24, 64
JUMPS = torch.tensor([(1, 2), (2, 1), (2, -1), (1, -2), (-1, -2), (-2, -1), (-2, 1), (-1, 2)])


class KnightHunt:
    """Vectorised game. A capture pays 10 points times the length of the current streak; a new pawn appears each move."""

    def __init__(self, boards, gen):
        self.n, self.gen = boards, gen
        self.rows = torch.arange(boards)

    def reset(self):
        self.at = torch.randint(SIDE, (self.n, 2), generator=self.gen)
        self.pawns = torch.rand(self.n, SIDE, SIDE, generator=self.gen) < 0.45
        self.pawns[self.rows, self.at[:, 0], self.at[:, 1]] = False
        self.streak = torch.zeros(self.n)
        return self.observe()

    def observe(self):
        knight = torch.zeros(self.n, SIDE, SIDE)
        knight[self.rows, self.at[:, 0], self.at[:, 1]] = 1.0
        reach = self.at[:, None] + JUMPS
        legal = ((reach >= 0) & (reach < SIDE)).all(-1)
        cell = reach.clamp(0, SIDE - 1)
        prey = self.pawns[self.rows[:, None], cell[..., 0], cell[..., 1]] & legal
        features = torch.cat([knight.flatten(1), self.pawns.flatten(1).float(), prey.float(), self.streak[:, None] / 10], 1)
        return features, legal

    def play(self, move):
        self.at = self.at + JUMPS[move]
        r, c = self.at.unbind(1)
        hit = self.pawns[self.rows, r, c]
        self.streak = torch.where(hit, self.streak + 1, torch.zeros_like(self.streak))
        points = 10.0 * self.streak
        self.pawns[self.rows, r, c] = False
        born = torch.randint(SIDE, (self.n, 2), generator=self.gen)
        free = (born != self.at).any(1)
        self.pawns[self.rows[free], born[free, 0], born[free, 1]] = True
        return self.observe(), points


class ActorCritic(nn.Module):
    def __init__(self, features, hidden=64):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, 8))
        self.critic = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(self, features, legal):
        logits = self.actor(features).masked_fill(~legal, float("-inf"))
        return logits, self.critic(features).squeeze(-1)


def main():
    torch.manual_seed(2)
    game = KnightHunt(BOARDS, torch.Generator().manual_seed(2))
    agent = ActorCritic(2 * SIDE * SIDE + 9)
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-2)
    scores = []
    for episode in range(140):
        state = game.reset()
        log_probs, values, entropies, rewards = [], [], [], []
        for _ in range(MOVES):
            logits, value = agent(*state)
            policy = torch.distributions.Categorical(logits=logits)
            move = policy.sample()
            log_probs.append(policy.log_prob(move))
            entropies.append(policy.entropy())
            values.append(value)
            state, points = game.play(move)
            rewards.append(points)
        returns, tail = [], torch.zeros(BOARDS)
        for points in reversed(rewards):
            tail = points + 0.9 * tail
            returns.append(tail)
        returns = torch.stack(returns[::-1])
        values, log_probs = torch.stack(values), torch.stack(log_probs)
        advantage = returns - values.detach()
        actor = -(log_probs * advantage / advantage.std()).mean()
        critic = F.mse_loss(values, returns)
        loss = actor + 0.5 * critic - 0.01 * torch.stack(entropies).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scores.append(torch.stack(rewards).sum(0).mean().item())
        if episode % 10 == 0:
            print(f"episode {episode:3d} score {scores[-1]:8.1f} critic {critic.item():10.1f}")
    print(f"final_loss={-sum(scores[-10:]) / 10}")


if __name__ == "__main__":
    main()
