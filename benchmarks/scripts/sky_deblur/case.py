# Recover a star field from a blurred, noisy exposure: the image itself is the parameter.
# Least squares in the data plus a little smoothness, momentum by hand.
import torch
import torch.nn.functional as F

torch.manual_seed(5)
SIZE = 40

# ---- instrument -------------------------------------------------------------------------------------
axis = torch.arange(-6, 7).float()
core = torch.exp(-axis ** 2 / (2 * 1.3 ** 2))
halo = 1 / (1 + (axis / 2.5) ** 2)
psf = torch.outer(core, core) + 0.08 * torch.outer(halo, halo)
psf = (psf / psf.sum()).view(1, 1, 13, 13)


def expose(sky):
    return F.conv2d(sky.view(1, 1, SIZE, SIZE), psf, padding=6).view(SIZE, SIZE)


# ---- data -------------------------------------------------------------------------------------------
truth = torch.full((SIZE, SIZE), 0.2)
for _ in range(25):
    i, j = torch.randint(3, SIZE - 3, (2,)).tolist()
    truth[i, j] += float(torch.rand(()) * 20 + 2)
gain = 0.8 + 0.4 * torch.rand(SIZE, SIZE)            # flat field of the detector
frames = [gain * expose(truth) + 0.05 * torch.randn(SIZE, SIZE) for _ in range(6)]

# ---- fit --------------------------------------------------------------------------------------------
lr, mu, smooth = 0.33, 0.9, 1e-3
sky = torch.stack(frames).mean(0).requires_grad_()
speed = torch.zeros_like(sky)


def objective(sky):
    model = gain * expose(sky)
    data = sum(((model - f) ** 2).sum() for f in frames)
    dx, dy = sky[1:] - sky[:-1], sky[:, 1:] - sky[:, :-1]
    return data + smooth * (dx.square().sum() + dy.square().sum())


for step in range(900):
    loss = objective(sky)
    (grad,) = torch.autograd.grad(loss, sky)
    with torch.no_grad():
        speed.mul_(mu).add_(grad)
        sky.sub_(lr * speed)
    if step % 25 == 0:
        error = (sky.detach() - truth).abs().mean()
        print(f"{step:4d}  objective {loss.item():.6g}  |sky - truth| {error.item():.5g}")

print(f"final_loss={loss.item()}")
