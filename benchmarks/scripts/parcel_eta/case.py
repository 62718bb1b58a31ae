# Delivery-time model, trained online on the event stream of a courier network.
import datetime as dt
import random

import torch
import torch.nn as nn

SEED = 17
HUBS = 24
CARRIERS = 5
BATCH = 64

random.seed(SEED)
torch.manual_seed(SEED)
epoch0 = dt.datetime(2024, 3, 4, 6, 0, tzinfo=dt.timezone.utc)
hub_xy = [(random.gauss(0, 60), random.gauss(0, 60)) for _ in range(HUBS)]
carrier_speed = [random.uniform(38, 62) for _ in range(CARRIERS)]


def event(i):
    a, b = random.sample(range(HUBS), 2)
    c = random.randrange(CARRIERS)
    km = ((hub_xy[a][0] - hub_xy[b][0]) ** 2 + (hub_xy[a][1] - hub_xy[b][1]) ** 2) ** 0.5 * random.uniform(1.15, 1.4)
    parcels = random.randint(1, 40)
    pickup = epoch0 + dt.timedelta(minutes=1.5 * i + random.uniform(0, 720))
    rush = 1.35 if pickup.hour in (7, 8, 16, 17, 18) else 1.0
    hours = rush * km / carrier_speed[c] + 0.03 * parcels + random.expovariate(8)
    return {
        "from": a,
        "to": b,
        "carrier": c,
        "km": km,
        "parcels": parcels,
        "pickup": pickup.timestamp(),
        "delivered": (pickup + dt.timedelta(hours=hours)).timestamp(),
        "hour": pickup.hour + pickup.minute / 60,
    }


stream = [event(i) for i in range(BATCH * 240)]
for unscanned in (4533, 7811):
    stream[unscanned]["delivered"] = 0.0


def collate(rows):
    route = torch.tensor([[r["from"], r["to"], r["carrier"]] for r in rows])
    clock = torch.tensor([r["hour"] for r in rows]) / 24 * 6.28319
    dense = torch.stack(
        [
            torch.tensor([r["km"] for r in rows]) / 100,
            torch.tensor([r["parcels"] for r in rows]) / 20,
            torch.sin(clock),
            torch.cos(clock),
        ],
        1,
    )
    hours = torch.tensor([(r["delivered"] - r["pickup"]) / 3600 for r in rows])
    return route, dense, hours


class EtaModel(nn.Module):
    def __init__(self, dim=8, hidden=64):
        super().__init__()
        self.hub = nn.Embedding(HUBS, dim)
        self.carrier = nn.Embedding(CARRIERS, dim)
        self.net = nn.Sequential(
            nn.Linear(3 * dim + 4, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(self, route, dense):
        codes = [self.hub(route[:, 0]), self.hub(route[:, 1]), self.carrier(route[:, 2]), dense]
        return self.net(torch.cat(codes, 1)).squeeze(1)


model = EtaModel()
optimizer = torch.optim.SGD(model.parameters(), lr=0.003, momentum=0.9)
window = []
for step in range(len(stream) // BATCH):
    route, dense, hours = collate(stream[step * BATCH : (step + 1) * BATCH])
    eta = model(route, dense)
    loss = ((eta - hours) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    window = (window + [loss.item()])[-20:]
    if step % 20 == 0:
        print(f"{step:4d}  squared error {sum(window) / len(window):.4f} h2")

print(f"final_loss={sum(window) / len(window)}")
