"""TransNet, the two-layer transformer CSI compressor, in its per-sample form.

The public code attends across the batch (tokens and users are swapped), so that a user's output
changes with his neighbours; here the tokens of one channel attend to each other. Layers and
parameters are the same.

Post-norm would destroy a linear trunk. In the variant "linear_trunk" every layer norm stands at the
entry of its residual branch, y + branch(norm(y)), and the decoder's last norm is itself a branch,
y + norm(y). The last weights of each branch are zero at the start. A token is then a beam, its real
and imaginary parts side by side, which attention needs to see the phase.

Source: Cui, Guo, Song, "TransNet: Full Attention Network for CSI Feedback in FDD Massive MIMO
System", 2022, DOI 10.1109/LWC.2022.3149416.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from channels.convention import Convention
from compressors.linear_start import LinearStart, Variant, linear_code_
from compressors.neural import CompressorNetwork

HEADS = 2
HIDDEN = 2048
APPLIED = 2  # each layer runs twice with the same weights


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v in HEADS heads of d numbers.

    Args:
        width: Numbers in a token, HEADS d.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """Tokens (N, n, width) ask, memory (N, m, width) answers, which may be the same."""
        width = tokens.shape[-1]
        weight, bias = self.project.weight, self.project.bias
        q = nn.functional.linear(tokens, weight[:width], bias[:width])
        k, v = nn.functional.linear(memory, weight[width:], bias[width:]).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        scores = q @ k.mT / q.shape[-1] ** 0.5  # (N, HEADS, n, m)
        mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        answer: Tensor = self.out(mixed)
        return answer


class Layer(nn.Module):
    """Self-attention, in a decoder attention to the memory, and feed-forward, each with its norm.

    published:     y <- norm(y + branch(y))
    linear trunk:  y <- y + branch(norm(y))
    """

    def __init__(self, width: int, variant: Variant, *, decoder: bool) -> None:
        super().__init__()
        self.variant = variant
        self.attend = Attention(width)
        self.recall = Attention(width) if decoder else None
        self.feed = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if decoder else 2))

    def forward(self, y: Tensor, memory: Tensor) -> Tensor:
        branches: list[Callable[[Tensor], Tensor]] = [lambda t: self.attend(t, t), self.feed]
        if self.recall is not None:
            recall = self.recall
            branches.insert(1, lambda t: recall(t, memory))
        for branch, norm in zip(branches, self.norms, strict=True):
            y = norm(y + branch(y)) if self.variant == "published" else y + branch(norm(y))
        return y

    def silence_(self) -> None:
        """Make each branch return zero."""
        last = [self.attend.out, self.feed[-1]]
        for linear in last if self.recall is None else [*last, self.recall.out]:
            linear.get_parameter("weight").zero_()
            linear.get_parameter("bias").zero_()


class TransNet(CompressorNetwork):
    """TransNet for (2, n_tx, n_delay) angular-delay channels: n_tx tokens of 2 n_delay numbers.

    As published a token is 64 numbers of the flattened channel: two neighbouring beams of one real
    plane. In the variant "linear_trunk" it is one beam, real and imaginary. There is no positional
    code.

    Args:
        n_code: Real code numbers M; the published ratio is 2 n_tx n_delay / M.
        variant: "published", or "linear_trunk" (see above and compressors.linear_start).
        convention: How audit-space channels become the net's own input.
    """

    def __init__(
        self,
        n_code: int,
        *,
        n_tx: int = 32,
        n_delay: int = 32,
        variant: Variant = "published",
        convention: Convention | None = None,
    ) -> None:
        super().__init__(n_code, convention)
        self.shape = (2, n_tx, n_delay)
        self.variant = variant
        size, width = 2 * n_tx * n_delay, 2 * n_delay
        self.encoder = Layer(width, variant, decoder=False)
        self.to_code = nn.Linear(size, n_code)
        self.from_code = nn.Linear(n_code, size)
        self.decoder = Layer(width, variant, decoder=True)
        self.norm = nn.LayerNorm(width)

    def encode(self, y: Tensor) -> Tensor:
        """Own-scale channels (N, 2, n_tx, n_delay) -> codewords (N, n_code)."""
        y = self._tokens_of(y)
        for _ in range(APPLIED):
            y = self.encoder(y, y)
        z: Tensor = self.to_code(self._channels_of(y).flatten(1))
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Codewords (N, n_code) -> own-scale channels (N, 2, n_tx, n_delay)."""
        memory = self._tokens_of(self.from_code(z).unflatten(1, self.shape))
        y = memory
        for _ in range(APPLIED):
            y = self.decoder(y, memory)
        last = self.norm(y)
        y_hat = last if self.variant == "published" else y + last
        return self._channels_of(y_hat)

    def _tokens_of(self, y: Tensor) -> Tensor:
        """(N, 2, n_tx, n_delay) -> (N, n_tx, 2 n_delay)."""
        if self.variant == "published":
            return y.flatten(1).unflatten(1, (self.shape[1], -1))
        return y.transpose(1, 2).flatten(2)

    def _channels_of(self, tokens: Tensor) -> Tensor:
        """Inverse of `_tokens_of`."""
        if self.variant == "published":
            return tokens.flatten(1).unflatten(1, self.shape)
        return tokens.unflatten(2, (2, -1)).transpose(1, 2)

    @torch.no_grad()
    def start_from(self, start: LinearStart) -> None:
        """Set the weights so that the net computes the linear code of `start` exactly.

        Exact for the variant "linear_trunk".
        """
        linear_code_(self.to_code, self.from_code, start)
        self.encoder.silence_()
        self.decoder.silence_()
        self.norm.weight.zero_()
        self.norm.bias.zero_()
