# %% State-space model of struck singing bowls: mallet force in, two microphones out
import math

import torch
import torch.nn.functional as F

torch.manual_seed(4)
MODES, FRAMES, BATCH, RATE = 4, 420, 16, 1000.0

# %% recordings (a modal synthesis stands in for the session tapes)
freq = torch.tensor([41.0, 67.0, 133.0, 214.0])
ring = torch.tensor([0.9990, 0.9985, 0.9980, 0.9970])
gain = torch.randn(2, MODES) / torch.arange(1, MODES + 1).sqrt()
t = torch.arange(FRAMES)
partials = ring[:, None] ** t * torch.sin(2 * math.pi * freq[:, None] * (t + 1) / RATE)
impulse = gain @ partials


def strikes(n):
    """Half-sine mallet contacts, one to four a recording."""
    hit = torch.zeros(n, FRAMES)
    for row in hit:
        when = torch.randint(0, FRAMES // 2, (int(torch.randint(1, 5, ())),))
        row[when] = 0.5 + torch.rand(len(when))
    contact = torch.sin(torch.linspace(0.3, math.pi - 0.3, 5))
    return F.conv1d(F.pad(hit[:, None], (4, 0)), contact[None, None])[:, 0]


def record(force):
    n = 2 * FRAMES
    spectrum = torch.fft.rfft(force, n)[:, None] * torch.fft.rfft(impulse, n)[None]
    sound = torch.fft.irfft(spectrum, n)[..., :FRAMES].transpose(1, 2)
    return sound + 0.02 * torch.randn(sound.shape)


# %% start from the peaks of the spectrum, all of them well damped
def initial_dynamics(peaks, damping=0.97):
    blocks = []
    for w in 2 * math.pi * peaks / RATE:
        c, s = math.cos(w), math.sin(w)
        blocks.append(damping * torch.tensor([[c, -s], [s, c]]))
    return torch.block_diag(*blocks)


dynamics = initial_dynamics(freq + 0.15 * torch.randn(MODES)).requires_grad_()
strike_in = (0.3 * torch.randn(2 * MODES)).requires_grad_()
mic_out = (0.3 * torch.randn(2, 2 * MODES)).requires_grad_()


def simulate(force):
    state = torch.zeros(force.shape[0], 2 * MODES)
    heard = []
    for f in force.unbind(1):
        state = state @ dynamics.T + f[:, None] * strike_in
        heard.append(state)
    return torch.stack(heard, 1) @ mic_out.T


# %% fit
optimizer = torch.optim.SGD([dynamics, strike_in, mic_out], lr=5e-3, momentum=0.9)
errors = []
for step in range(130):
    force = strikes(BATCH)
    sound = record(force)
    loss = (simulate(force) - sound).pow(2).mean() / sound.pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    errors.append(loss.item())
    if step % 20 == 0:
        print(f"step {step:3d} relative error {errors[-1]:.4f}")

# %%
print(f"final_loss={sum(errors[-10:]) / 10}")
