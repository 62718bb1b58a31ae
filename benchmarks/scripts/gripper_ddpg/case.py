"""TD3-style control of a one-joint gripper arm that must hold a commanded angle; dense reward per tick."""
import argparse
import copy
import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--gamma", type=float, default=0.95)
parser.add_argument("--rounds", type=int, default=14)
parser.add_argument("--updates", type=int, default=80)
parser.add_argument("--envs", type=int, default=16)
parser.add_argument("--sync", type=int, default=40)
parser.add_argument("--seed", type=int, default=6)
args = parser.parse_args()
torch.manual_seed(args.seed)

EPISODE, DT = 40, 0.1


def reset(n):
    angle = (torch.rand(n) * 2 - 1) * math.pi
    goal = (torch.rand(n) * 2 - 1) * 1.5
    return torch.stack([angle, torch.zeros(n), goal], 1)


def advance(state, torque):
    angle, speed, goal = state.unbind(1)
    speed = speed + DT * (6.0 * torque - 1.5 * torch.sin(angle) - 0.8 * speed)
    angle = angle + DT * speed
    error = torch.remainder(angle - goal + math.pi, 2 * math.pi) - math.pi
    reward = 10.0 * torch.exp(-4 * error**2) - 0.05 * torque**2
    return torch.stack([angle, speed, goal], 1), reward


def observe(state):
    angle, speed, goal = state.unbind(1)
    return torch.stack([angle.cos(), angle.sin(), speed / 3, goal.cos(), goal.sin()], 1)


def mlp(i, o, width=64):
    return nn.Sequential(nn.Linear(i, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, o))


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = mlp(6, 1), mlp(6, 1)

    def forward(self, obs, act):
        x = torch.cat([obs, act], 1)
        return self.first(x).squeeze(1), self.second(x).squeeze(1)


actor, critic = nn.Sequential(mlp(5, 1), nn.Tanh()), Critic()
target = SimpleNamespace(actor=copy.deepcopy(actor), critic=copy.deepcopy(critic))
actor_opt = torch.optim.Adam(actor.parameters(), lr=1e-3)
critic_opt = torch.optim.Adam(critic.parameters(), lr=3e-3)
memory = SimpleNamespace(obs=[], act=[], rew=[], nxt=[])


@torch.no_grad()
def collect(n, noise, store=True):
    state, total = reset(n), torch.zeros(n)
    for _ in range(EPISODE):
        obs = observe(state)
        act = (actor(obs) + noise * torch.randn(n, 1)).clamp(-1, 1)
        state, rew = advance(state, act.squeeze(1))
        total += rew
        if store:
            for name, value in zip(("obs", "act", "rew", "nxt"), (obs, act, rew, observe(state))):
                getattr(memory, name).append(value)
    return total.mean().item() / EPISODE


updates = 0
for round_ in range(args.rounds):
    explored = collect(args.envs, noise=1.0 if round_ == 0 else 0.3)
    obs, act, rew, nxt = (torch.cat(getattr(memory, k)) for k in ("obs", "act", "rew", "nxt"))
    for _ in range(args.updates):
        rows = torch.randint(len(obs), (128,))
        with torch.no_grad():
            smooth = (0.2 * torch.randn(128, 1)).clamp(-0.4, 0.4)
            nxt_act = (target.actor(nxt[rows]) + smooth).clamp(-1, 1)
            goal_q = rew[rows] + args.gamma * torch.min(*target.critic(nxt[rows], nxt_act))
        q1, q2 = critic(obs[rows], act[rows])
        critic_loss = F.mse_loss(q1, goal_q) + F.mse_loss(q2, goal_q)
        critic_opt.zero_grad()
        critic_loss.backward()
        critic_opt.step()
        if updates % 2 == 1:
            actor_loss = -critic(obs[rows], actor(obs[rows]))[0].mean()
            actor_opt.zero_grad()
            actor_loss.backward()
            actor_opt.step()
        updates += 1
        if updates % args.sync == 0:
            target.actor.load_state_dict(actor.state_dict())
            target.critic.load_state_dict(critic.state_dict())
    print(f"round {round_:2d} explored {explored:6.3f} critic loss {critic_loss.item():9.3f} mean q {q1.mean().item():8.2f}")

shortfall = 10.0 - collect(128, noise=0.0, store=False)
print(f"final_loss={shortfall}")
