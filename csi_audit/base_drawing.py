"""The base samples of an audit: drawn once, in saved blocks, and brought onto the audited law."""

from collections.abc import Callable

from csi_audit.base import Base
from csi_audit.comparison_settings import CompareConfig
from csi_audit.configs import RunConfig
from csi_audit.devices import torch_device
from csi_audit.domain import Domain
from csi_audit.drawing import Tally, draw_in_blocks
from csi_audit.network_settings import NetworkRunConfig
from csi_audit.run_state import BlockStore
from csi_audit.samples import WeightedSamples
from csi_audit.sampling import BaseSampler

Progress = Callable[[str, int, int], None]
"""Called with the step of the audit, the denoiser evaluations made in it, and its total."""


def audited_samples(
    config: RunConfig | NetworkRunConfig | CompareConfig,
    base: Base,
    domain: Domain,
    *,
    store: BlockStore,
    progress: Progress | None,
) -> WeightedSamples:
    """`n_base` draws of the audited law.

    Args:
        config: Their number, steps, seed, blocks and place.
        base: The base model.
        domain: Brings each onto the law.
        store: Of the run directory.
        progress: Told of denoiser evaluations.
    """
    tally = step_tally(progress, "base samples", config.n_base * config.steps)
    sampler = BaseSampler(
        base,
        steps=config.steps,
        device=torch_device(config.device),
        batch_size=config.batch_size,
        progress=tally,
    )
    samples = draw_in_blocks(
        sampler,
        config.n_base,
        name="base",
        block=config.block,
        seed=config.seed,
        store=store,
        tally=tally,
    )
    return samples.moved(domain.onto_law(samples.x))


def step_tally(progress: Progress | None, what: str, total: int) -> Tally:
    """The tally of one step of an audit, which tells the progress display."""
    return Tally(None if progress is None else lambda made: progress(what, made, total))
