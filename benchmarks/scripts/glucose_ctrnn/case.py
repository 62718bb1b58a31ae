# %% Glucose forecasting from meals and insulin with a continuous-time RNN (explicit Euler, one step per 5 minutes)
import torch
from torch import nn

torch.manual_seed(3)
DT = 5.0          # minutes
T = 144           # half a day
PATIENTS = 256


# %% synthetic patients: two-compartment gut, insulin action, linear clearance
def simulate(n):
    carbs = (torch.rand(n, T) < 0.03).float() * (20 + 60 * torch.rand(n, T))
    bolus = torch.roll(carbs, 2, dims=1) / 10 * (0.6 + 0.8 * torch.rand(n, 1))
    gut1, gut2 = torch.zeros(n), torch.zeros(n)
    action, glucose = torch.zeros(n), 110 + 20 * torch.randn(n)
    sensitivity = 0.35 + 0.15 * torch.rand(n)
    trace = []
    for k in range(T):
        gut1 = gut1 + carbs[:, k] - DT * gut1 / 25
        gut2 = gut2 + DT * (gut1 / 25 - gut2 / 25)
        action = action + DT * (bolus[:, k] / DT - action / 55)
        glucose = glucose + DT * (gut2 / 25 * 3.0 - sensitivity * action * 0.8 - 0.01 * (glucose - 110))
        glucose = glucose.clamp(40, 400)
        trace.append(glucose + 3 * torch.randn(n))
    return torch.stack([carbs / 50, bolus / 5], dim=2), torch.stack(trace, dim=1)


inputs, glucose = simulate(PATIENTS)
glucose = (glucose - 120) / 50
x = torch.cat([inputs, glucose[:, :, None]], dim=2)[:, :-6]
y = glucose[:, 6:]      # half an hour ahead
x_train, y_train, x_test, y_test = x[:192], y[:192], x[192:], y[192:]


# %% model
class CTRNN(nn.Module):
    def __init__(self, n_in, hidden):
        super().__init__()
        self.inp = nn.Linear(n_in, hidden)
        self.rec = nn.Linear(hidden, hidden, bias=False)
        nn.init.orthogonal_(self.rec.weight)
        self.log_tau = nn.Parameter(torch.empty(hidden).uniform_(0.6, 4.8))
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        h = x.new_zeros(len(x), self.rec.in_features)
        rate = DT / self.log_tau.exp()
        drive = self.inp(x)
        outputs = []
        for k in range(x.shape[1]):
            h = h + rate * (torch.tanh(drive[:, k] + self.rec(h)) - h)
            outputs.append(self.out(h))
        return torch.cat(outputs, dim=1)


model = CTRNN(3, 48)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)

# %% training
for epoch in range(12):
    order = torch.randperm(len(x_train))
    for rows in order.split(32):
        loss = (model(x_train[rows]) - y_train[rows]).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        test = (model(x_test) - y_test).abs().mean().item()
    print(f"epoch {epoch:2d}  train {loss.item():.4f}  test {test:.4f}")

print(f"final_loss={test}")
