"""Distil a wide digit classifier into a small depthwise one (sklearn digits), half precision on both."""
import argparse
import contextlib

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


def conv_teacher(width=16):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width * 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(width * 8, 10),
    )


class Student(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.depth = nn.Conv2d(width, width, 3, stride=2, padding=1, groups=width)
        self.point = nn.Conv2d(width, 2 * width, 1)
        self.head = nn.Linear(2 * width * 16, 10)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(self.point(self.depth(x)))
        return self.head(x.flatten(1))


def log_partition(scores):
    return scores.exp().sum(dim=1).log()


def soft_nll(scores, weights):
    """Cross entropy of the scores against a row of class weights that sums to one."""
    return (log_partition(scores) - (weights * scores).sum(dim=1)).mean()


def accuracy(net, x, y):
    with torch.no_grad():
        return (net(x).argmax(1) == y).float().mean().item()


def train(net, x, targets, epochs, lr, precision, generator, batch=48, tag=""):
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=epochs * (len(x) // batch), pct_start=0.2)
    running = None
    for epoch in range(epochs):
        for rows in torch.randperm(len(x), generator=generator)[:len(x) // batch * batch].split(batch):
            with precision():
                loss = soft_nll(net(x[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            running = loss.item() if running is None else 0.9 * running + 0.1 * loss.item()
        print(f"{tag} epoch {epoch:2d}  loss {running:.4f}")
    return running


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--teacher-epochs", type=int, default=7)
    p.add_argument("--student-epochs", type=int, default=6)
    p.add_argument("--temperature", type=float, default=2.0)
    p.add_argument("--hard", type=float, default=0.3, help="weight of the true labels")
    p.add_argument("--full", action="store_true", help="train in float32")
    a = p.parse_args()

    torch.manual_seed(6)
    generator = torch.Generator().manual_seed(60)
    precision = contextlib.nullcontext if a.full else lambda: torch.autocast("cpu", dtype=torch.float16)

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    y = torch.tensor(digits.target)
    order = torch.randperm(len(x), generator=generator)
    fit, held = order[:1440], order[1440:]
    one_hot = F.one_hot(y, 10).float()

    teacher = conv_teacher()
    train(teacher, x[fit], one_hot[fit], a.teacher_epochs, 6e-3, precision, generator, tag="teacher")
    print(f"teacher accuracy {accuracy(teacher, x[held], y[held]):.4f}")

    with torch.no_grad():
        soft = F.softmax(teacher(x) / a.temperature, dim=1)
    mixed = a.hard * one_hot + (1 - a.hard) * soft
    student = Student()
    final = train(student, x[fit], mixed[fit], a.student_epochs, 6e-3, precision, generator, tag="student")
    print(f"student accuracy {accuracy(student, x[held], y[held]):.4f}")
    print(f"final_loss={final}")


if __name__ == "__main__":
    main()
