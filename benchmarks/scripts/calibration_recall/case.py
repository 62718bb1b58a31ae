"""Remember the two calibration readings a probe takes before its 180-sample dive."""
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(14)
DIVE, BATCH, UNITS, STEPS = 180, 48, 12, 240


class Keeper(nn.Module):
    def __init__(self, channels, units):
        super().__init__()
        self.write = nn.Parameter(torch.randn(channels, units) * 0.5)
        self.hold = nn.Parameter(0.98 * torch.eye(units) + 0.002 * torch.randn(units, units))
        self.offset = nn.Parameter(torch.zeros(units))

    def forward(self, series):
        state = series.new_zeros(series.shape[1], self.hold.shape[0])
        for sample in series:
            state = F.leaky_relu(state @ self.hold + sample @ self.write + self.offset, 0.6)
        return state


class Probe(nn.Module):
    def __init__(self):
        super().__init__()
        self.keeper = Keeper(3, UNITS)
        self.tell = nn.Linear(UNITS, 2)

    def forward(self, series):
        return self.tell(self.keeper(series))


def dives(n):
    series = torch.zeros(1 + DIVE, n, 3)
    calibration = torch.randn(n, 2)
    series[0, :, :2] = calibration
    series[1:, :, 2] = 0.05 * torch.randn(DIVE, n)
    return series, calibration


def main():
    net = Probe()
    optimizer = torch.optim.SGD(net.parameters(), lr=3e-4, momentum=0.9)
    valid_x, valid_y = dives(256)
    for step in range(STEPS):
        series, calibration = dives(BATCH)
        net.zero_grad()
        loss = F.mse_loss(net(series), calibration)
        loss.backward()
        optimizer.step()
        if (step + 1) % 20 == 0:
            with torch.no_grad():
                error = F.mse_loss(net(valid_x), valid_y).item()
            print(f"{step + 1:4d}  loss {loss.item():.4f}  valid {error:.4f}")
    print(f"final_loss={error}")


main()
