"""Activation functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gainstage.graph.operations.operation import OperationKind, unary

ACTIVATIONS = {
    "CeluBackward0": OperationKind(
        op="celu",
        forward=lambda a: F.celu(a["self"], a["alpha"]),
        settings=("alpha",),
        makes="",
        activation="elu",
    ),
    "EluBackward0": OperationKind(
        op="elu",
        forward=lambda a: torch.ops.aten.elu(a["self"], a["alpha"], a["scale"], a["input_scale"]),
        settings=("alpha", "scale", "input_scale"),
        makes="",
        activation="elu",
    ),
    "GeluBackward0": OperationKind(
        op="gelu",
        forward=lambda a: F.gelu(a["self"], approximate=a["approximate"]),
        settings=("approximate",),
        makes="",
        activation="gelu",
    ),
    "GluBackward0": OperationKind(
        op="glu", forward=lambda a: F.glu(a["self"], a["dim"]), settings=("dim",), makes=""
    ),
    "HardswishBackward0": unary("hardswish", F.hardswish, makes="inf", activation="silu"),
    "HardtanhBackward0": OperationKind(
        op="hardtanh",
        forward=lambda a: F.hardtanh(a["self"], a["min_val"], a["max_val"]),
        settings=("min_val", "max_val"),
        makes="",
        activation="hardtanh",
    ),
    "LeakyReluBackward0": OperationKind(
        op="leaky_relu",
        forward=lambda a: F.leaky_relu(a["self"], a["negative_slope"]),
        settings=("negative_slope",),
        makes="",
        activation="leaky_relu",
    ),
    "LogSigmoidBackward0": unary("logsigmoid", F.logsigmoid, makes="", activation="softplus"),
    "MishBackward0": unary("mish", F.mish, makes="", activation="mish"),
    "PreluKernelBackward0": OperationKind(
        op="prelu",
        edges=("self", "weight"),
        forward=lambda a: torch.where(a["self"] > 0, a["self"], a["weight"] * a["self"]),
        makes="inf",
        activation="leaky_relu",
    ),
    "ReluBackward0": unary("relu", torch.relu, makes="", activation="relu"),
    "SigmoidBackward0": unary("sigmoid", torch.sigmoid, makes="", activation="sigmoid"),
    "SiluBackward0": unary("silu", F.silu, makes="", activation="silu"),
    "SoftplusBackward0": OperationKind(
        op="softplus",
        forward=lambda a: F.softplus(a["self"], a["beta"], a["threshold"]),
        settings=("beta", "threshold"),
        makes="inf",
        activation="softplus",
    ),
    "RreluWithNoiseBackward0": OperationKind(
        op="rrelu_with_noise", edges=(), activation="leaky_relu"
    ),
    "HardsigmoidBackward0": OperationKind(op="hardsigmoid", edges=(), activation="sigmoid"),
    "TanhBackward0": unary("tanh", torch.tanh, makes="", activation="tanh"),
    "ThresholdBackward0": OperationKind(op="threshold", makes="", activation="relu"),
}
