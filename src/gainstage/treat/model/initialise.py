"""New initial weights for a model, by what its graph does with them.

    from gainstage.treat.model.initialise import initialise_

    initialise_(model, batch, kind="auto")

The treatment `reinit` does the same to a script that is running.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gainstage.graph.nodes.readers import read_graph
from gainstage.treat.model.lsuv import UnitVariance
from gainstage.treat.model.recipe import Recipe
from gainstage.treat.model.weight_plan import plan_weights


def initialise_(
    model: nn.Module,
    *inputs: Any,
    kind: str = "auto",
    mode: str = "fan_in",
    only: str = "*",
    seed: int = 0,
) -> dict[str, str]:
    """Rewrite a model's weights, each by the activation that its graph shows after it.

    Runs the model once to read the graph, and once more where weights are measured (`lsuv`, and
    `auto` before GELU and its like). Biases of rewritten layers become 0; embeddings and norms
    stay, and running statistics of batch norm are reset. Draws from generators of its own. Sources:
    He et al. (2015), Glorot & Bengio (2010), Saxe et al. (2014), Le et al. (2015), Radford et al.
    (2019), Mishkin & Matas (2016).

    Args:
        model: Called with the inputs; what it returns holds a tensor with a graph.
        *inputs: A batch like those it will be trained on.
        kind: `auto`, `he`, `xavier`, `orthogonal`, `identity`, `residual` or `lsuv`.
        mode: `fan_in` keeps the forward level, `fan_out` the backward one; for `he`.
        only: A pattern of parameter names, with `*` and `?`.
        seed: Each weight draws by seed and name.

    Returns:
        What each weight got, by its name; empty if no weight was found.

    Raises:
        ConfigError: If a setting is not one of those.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> initialise_(net, torch.randn(32, 8))
        {'0.weight': 'he for relu, fan in 8, out 16', \
'2.weight': 'orthogonal for linear, fan in 16, out 4'}
    """
    recipe = Recipe(kind=kind, mode=mode, only=only, seed=seed)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    with torch.enable_grad():
        roots = list(_roots(model(*inputs)))
    plan = plan_weights(read_graph(roots), names, list(model.modules()), recipe)
    with torch.no_grad():
        for write in plan.writes:
            write()
        if plan.measured:
            with UnitVariance(plan.measured):
                model(*inputs)
    return plan.rewritten


def _roots(output: Any) -> Iterator[Tensor]:
    """Yield the tensors with a graph in what a model returns."""
    if isinstance(output, Tensor):
        if output.grad_fn is not None:
            yield output
    elif isinstance(output, Mapping):
        for each in output.values():
            yield from _roots(each)
    elif isinstance(output, (list, tuple)):
        for each in output:
            yield from _roots(each)
