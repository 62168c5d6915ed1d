"""Optimizers of the training harness: AdamW, and Muon for the matrices of a network.

Muon moves a weight matrix along the nearest orthogonal matrix of its momentum, so that all
directions of it learn at one pace. python -m benchmarks.base_candidates compares the two on the
base model.

Source of Muon: Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks"; as
torch.optim.Muon, with the step size of Liu et al., 2025, arXiv:2502.16982 ("match_rms_adamw").
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

OptimizerName = Literal["adamw", "muon"]
BETAS = (0.9, 0.99)
ADAMW_SHARE = 0.25  # of Muon's learning rate, for what Muon does not move
LEAST_SIDE = 64  # narrower matrices are embeddings or heads, which Muon is not made for


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the matrices of wide linear layers, AdamW for all other parameters.

    One optimizer to its caller: schedules and gradient clipping see the groups of both.

    Args:
        network: What is trained; a weight of a linear layer with both sides at least 64 is Muon's.
        learning_rate: Of Muon; AdamW takes a quarter of it.
    """

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        layers = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
        matrices = [layer.weight for layer in layers if min(layer.weight.shape) >= LEAST_SIDE]
        named = {id(p) for p in matrices}
        others = [p for p in network.parameters() if id(p) not in named]
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(
                matrices, lr=learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
            )
            self.parts.append(muon)
        if others:
            self.parts.append(_adamw(others, ADAMW_SHARE * learning_rate))
        super().__init__([*matrices, *others], {"lr": learning_rate})
        self._share_groups()

    def _share_groups(self) -> None:
        """The groups of the parts, not copies of them: a schedule writes the rate into these."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both parts; the loss of `closure`, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


def build_optimizer(
    name: OptimizerName, network: nn.Module, learning_rate: float
) -> torch.optim.Optimizer:
    """The optimizer of that name over all parameters of the network."""
    if name == "muon":
        return MuonWithAdamW(network, learning_rate)
    return _adamw(network.parameters(), learning_rate)


def _adamw(parameters: Any, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=learning_rate, betas=BETAS, weight_decay=0.0)
