import atexit
import sys

import torch

print(
    sys.argv[1:], __name__, __file__.rsplit("/")[-1], sys.path[0].rsplit("/")[-1], sys.stdin.read()
)
print([entry for entry in sys.path if "bootstrap" in entry], "sitecustomize" in sys.modules)
atexit.register(print, "the script's own exit handler")
weight = torch.ones(3, requires_grad=True)
weight.pow(2).sum().backward()
print(weight.grad)
sys.exit(7)
