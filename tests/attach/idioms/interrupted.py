import os
import signal

import torch

weight = torch.ones(3, requires_grad=True)
for step in range(5):
    weight.pow(2).sum().backward()
    print(step, flush=True)
os.kill(os.getpid(), signal.SIGINT)
