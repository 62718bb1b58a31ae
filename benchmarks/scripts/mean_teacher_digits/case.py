# Mean Teacher (Tarvainen & Valpola 2017) on scikit-learn digits with 80 labelled images
import copy
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

torch.manual_seed(1)

digits = load_digits()
x_train, x_test, y_train, y_test = train_test_split(digits.images, digits.target, test_size=500, random_state=0, stratify=digits.target)
x_train, x_test = (torch.tensor(x, dtype=torch.float32)[:, None] / 16 for x in (x_train, x_test))
y_train, y_test = torch.tensor(y_train), torch.tensor(y_test)
labelled = torch.cat([torch.nonzero(y_train == c).flatten()[:8] for c in range(10)])


def conv_bn(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.LeakyReLU(0.1))


def build():
    return nn.Sequential(
        conv_bn(1, 24), conv_bn(24, 24), nn.MaxPool2d(2),
        conv_bn(24, 48), conv_bn(48, 48), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(48, 10))


def augment(x):
    dx, dy = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(x, (dy, dx), dims=(2, 3)) + 0.1 * torch.randn_like(x)


class MeanTeacher:
    def __init__(self, decay=0.97, weight=4.0, rampup=60):
        self.student = build()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.decay, self.weight, self.rampup = decay, weight, rampup
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)

    @torch.no_grad()
    def update_teacher(self, step):
        decay = min(self.decay, 1 - 1 / (step + 2))
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters()):
            slow.mul_(decay).add_(fast, alpha=1 - decay)

    def train_step(self, step, xl, yl, xu):
        logits = self.student(torch.cat([augment(xl), augment(xu)]))
        supervised = F.cross_entropy(logits[: len(xl)], yl)
        with torch.no_grad():
            target = self.teacher(augment(xu)).softmax(1)
        consistency = (logits[len(xl):].softmax(1) - target).pow(2).sum(1).mean()
        ramp = min(1.0, step / self.rampup)
        loss = supervised + self.weight * ramp * consistency
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.update_teacher(step)
        return supervised.item(), consistency.item()

    @torch.no_grad()
    def evaluate(self):
        logits = self.teacher(x_test)
        return F.cross_entropy(logits, y_test).item(), (logits.argmax(1) == y_test).float().mean().item()


trainer = MeanTeacher()
for step in range(240):
    pick = labelled[torch.randint(len(labelled), (16,))]
    unlabelled = torch.randint(len(x_train), (48,))
    sup, cons = trainer.train_step(step, x_train[pick], y_train[pick], x_train[unlabelled])
    if step % 40 == 39:
        test_loss, accuracy = trainer.evaluate()
        print(f"{step + 1:4d} sup {sup:.3f} cons {cons:.4f} | teacher: test loss {test_loss:.3f} acc {accuracy:.3f}")

print(f"final_loss={trainer.evaluate()[0]}")
