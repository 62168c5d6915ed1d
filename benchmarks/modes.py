"""Do the failure modes of a report hold on real users, and do they find a failure put there?

Modes are found on base samples, of every bundled compressor and of three made for the purpose: the
strongest taps of each channel, which has no weak place in angle or delay (the control), and two
damaged copies of it, one that rebuilds nothing beyond delay tap 6, one that loses a block of beams.
Real users then confirm the modes or not. Samples and distortions are kept as they are made, so that
a repeated call goes on where the last one stopped.

Whether a seed finds the division that another found depends on its failures: about a hundred are
needed (`--samples` times the share beyond `--quantile`). Of several hundreds a second, weaker mode
is found by some seeds and not by others.

    python -m benchmarks.modes
"""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.checks import Check
from benchmarks.harness import Options, check, parse_arguments, write_result
from channels import ChannelDomain, ChannelSet, audit_space, load_channels
from channels.convention import Convention
from compressors import bundled_compressors, load_compressor
from compressors.audit_space import in_audit_space
from compressors.loading import NamedCompressor
from compressors.top_taps import TopTaps
from csi_audit.base import load_base
from csi_audit.drawing import draw_in_blocks
from csi_audit.failure_modes_of_run import ModesFound, mode_axes, modes_of_compressor
from csi_audit.losses import NmseLoss, in_blocks
from csi_audit.measuring import Measured
from csi_audit.run_state import BlockStore
from csi_audit.sampling import BaseSampler
from csi_audit.summary import Evidence
from reports.estimates import Estimate, mean_estimate, proportion
from reports.failure_modes import WeightedChannels, failure_cases, found_modes, rand_index
from reports.mode_schema import FailureMode, ModeReport
from reports.mode_space import Axes, Described, described_channels, mode_labels
from reports.schema import Tail

Array = npt.NDArray[np.float64]

LAST_TAP = 6
CONTROL, NO_DELAY, NO_BEAMS = "strongest taps", "nothing beyond tap 6", "a block of beams lost"
BLOCK = 100
CONFIRMED = 0.8
"""Share of the modes that real users should confirm."""

LEAST_OVERLAP = 0.9
"""Share of a mode's range that must lie in the damage for it to be that damage's: what lies beyond
tap 6 is 25 taps of 32, so 0.78 of a range laid anywhere is in it."""

GOOD_RAND = 0.8
"""Adjusted Rand index from which two divisions agree well.

Source: Steinley 2004, Psychological Methods 9:386, 10.1037/1082-989X.9.3.386.
"""


class DamagedTaps:
    """The k strongest taps of each channel, rebuilt but for what the damage takes away.

    Args:
        n_taps: k.
        event_shape: (2 n_rx, n_tx, n_delay) of a channel.
        lost: Which cells (n_tx, n_delay) come out as zero.
    """

    def __init__(self, n_taps: int, event_shape: tuple[int, int, int], lost: Tensor) -> None:
        channel, n_tx, n_delay = event_shape
        self.convention = Convention(event_shape=event_shape)
        self.taps = TopTaps(
            n_taps, n_tx=n_tx, n_delay=n_delay, n_rx=channel // 2, convention=self.convention
        )
        self.n_code, self.lost = self.taps.n_code, lost

    def encode(self, y: Tensor) -> Tensor:
        return self.taps.encode(y)

    def decode(self, z: Tensor) -> Tensor:
        return torch.where(self.lost, 0.0, self.taps.decode(z))

    def bits(self, z: Tensor) -> Tensor | None:
        return self.taps.bits(z)


def damages(n_tx: int, n_delay: int) -> dict[str, Tensor]:
    """Cells that each of the made compressors loses, (n_tx, n_delay): beams are about a sixth."""
    none = torch.zeros(n_tx, n_delay, dtype=torch.bool)
    late, beams = none.clone(), none.clone()
    late[:, LAST_TAP + 1 :] = True
    beams[n_tx // 8 : n_tx // 8 + max(1, n_tx // 6)] = True
    return {CONTROL: none, NO_DELAY: late, NO_BEAMS: beams}


def overlap(ends: tuple[float, float] | None, lost: Array, edges: Array) -> float:
    """Share of a range that lies in the damage; 0 without a range.

    Args:
        ends: Of the range; a first above the second wraps round.
        lost: Whether each bin is lost, in rising order.
        edges: Of the bins, one more.
    """
    if ends is None:
        return 0.0
    centres = (edges[:-1] + edges[1:]) / 2
    first, last = ends
    inside = (centres > first) & (centres < last)
    if first > last:
        inside = (centres > first) | (centres < last)
    return float(lost[inside].mean()) if inside.any() else 0.0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all compressors are looked at with.

    Attributes:
        evidence: Base samples of all seeds and real users, measured.
        seed_of: Seed that each base sample was drawn with, (N,).
        axes: Of delay and angle.
        described: Base samples and real users as rules see them.
    """

    evidence: Evidence
    seed_of: npt.NDArray[np.int64]
    axes: Axes
    described: tuple[Described, Described]


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--samples", type=int, default=1250, help="base samples of a seed (default: 1250)")
    add("--seeds", type=int, default=5, help="seeds (default: 5)")
    add("--steps", type=int, default=30, help="steps of the 2M ODE (default: 30)")
    add("--quantile", type=float, default=0.9,
        help="NMSE quantile of the real users beyond which one fails (default: 0.9)")  # fmt: skip
    add("--taps", type=int, default=128, help="taps that the made compressors keep (default: 128)")
    add("--base", default=None, help="base model file (default: the bundled one)")
    add("--state", type=Path, default=Path("runs/benchmark-modes"), help="blocks in progress")


def _setting(options: Options) -> tuple[Setting, dict[str, Any]]:
    """Base samples of every seed, drawn or read, and the real users, all measured."""
    own, base = options.own, load_base(options.own.base)
    channels = load_channels(str(options.channels_path()))
    domain, x_real = ChannelDomain.of(channels), audit_space(channels)
    store = BlockStore(own.state / f"{base.sha256[:12]}-{own.samples}x{own.steps}-{options.seed}")
    sampler = BaseSampler(base, steps=own.steps)
    drawn = [
        draw_in_blocks(sampler, own.samples, name=f"base-{i}", block=BLOCK,
                       seed=options.seed + i, store=store)
        for i in range(own.seeds)
    ]  # fmt: skip
    samples = replace(
        drawn[0],
        x=domain.onto_law(torch.cat([part.x for part in drawn])),
        log_w=torch.cat([part.log_w for part in drawn]),
        n_evaluations=sum(part.n_evaluations for part in drawn),
    )
    compressors = [*map(load_compressor, bundled_compressors()), *_made(own.taps, channels)]
    evidence = Evidence(
        base_samples=samples,
        base=_measured(samples.x, compressors, domain, store, "base"),
        real=_measured(x_real, compressors, domain, store, str(channels.source.sha256)),
        channels=channels,
        compressors=compressors,
        issgm={},
    )
    axes = mode_axes(channels.grid, channels.n_tx)
    sides = tuple(
        described_channels(part.x.numpy(), part.features, axes)
        for part in (evidence.base, evidence.real)
    )
    facts = {
        "base_sha256": base.sha256,
        "chain": samples.chain,
        "evaluations": samples.n_evaluations,
    }
    setting = Setting(
        evidence=evidence,
        seed_of=np.repeat(np.arange(own.seeds), own.samples),
        axes=axes,
        described=(sides[0], sides[1]),
    )
    return setting, facts


def _measured(
    x: Tensor,
    compressors: Sequence[NamedCompressor],
    domain: ChannelDomain,
    store: BlockStore,
    side: str,
) -> Measured:
    """Features and the NMSE of every compressor, each made once for a side and a compressor."""
    losses = {}
    for named in compressors:
        what = f"{named.sha256 or named.spec} {named.name} {side} {len(x)}"
        name = f"nmse-{hashlib.sha256(what.encode()).hexdigest()[:16]}"
        loss = NmseLoss(in_audit_space(named.compressor))
        block = store.get(name, 0, partial(_nmse, loss, x))
        losses[named.name] = {"nmse": block["nmse"]}
    features = {name: value.double().numpy() for name, value in domain.features(x).items()}
    return Measured(x=x, losses=losses, features=features)


def _nmse(loss: NmseLoss, x: Tensor) -> dict[str, Array]:
    return {"nmse": in_blocks(loss, x).numpy()}


def _made(n_taps: int, channels: ChannelSet) -> list[NamedCompressor]:
    shape = (2 * channels.n_rx, channels.n_tx, channels.n_sub)
    return [
        NamedCompressor(
            name=name, spec=f"{n_taps} taps", compressor=DamagedTaps(n_taps, shape, lost), card={},
            sha256=None,
        )
        for name, lost in damages(*shape[1:]).items()
    ]  # fmt: skip


def _tail(setting: Setting, name: str, quantile: float) -> Tail:
    """The threshold of one compressor, its own quantile on the real users."""
    real, base = setting.evidence.real.nmse(name), setting.evidence.base.nmse(name)
    level = float(np.quantile(real, quantile))
    return Tail(
        threshold=f"own {100 * quantile:g} % quantile",
        nmse_db=10 * np.log10(level),
        base=proportion(int((base > level).sum()), len(base)),
        real=proportion(int((real > level).sum()), len(real)),
        agreement="",
    )


def stability(setting: Setting, name: str, tail: Tail) -> tuple[list[float], list[int]]:
    """Adjusted Rand index of the real users' divisions for each pair of seeds, and the modes found.

    The modes of a seed are those of its base samples alone. No index where no seed has any.
    """
    base, real = setting.described
    fails = setting.evidence.base.nmse(name) > 10 ** (tail.tau_db / 10)
    labels, found = [], []
    for seed in np.unique(setting.seed_of):
        rows = np.flatnonzero(setting.seed_of == seed)
        cases = failure_cases(
            WeightedChannels(channels=base.rows(rows), fails=fails[rows], log_w=np.zeros(len(rows)))
        )
        modes = found_modes(cases, resamples=0)
        labels.append(mode_labels(modes.rules, real))
        found.append(len(modes.rules))
    pairs = combinations(labels, 2) if any(found) else ()
    return [rand_index(a, b) for a, b in pairs], found


def _rows(name: str, report: ModeReport, indices: Sequence[float], found: Sequence[int],
          places: dict[str, float]) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each mode; one that says so where there is none."""
    shared: dict[str, Any] = {
        "compressor": name,
        "tau_db": None if report.nmse_db is None else round(report.nmse_db, 3),
        "failures": round(report.n_failures, 1),
        "modes_by_seed": list(found),
        "rand_index": round(float(np.mean(indices)), 3) if indices else None,
    }
    if not report.modes:
        return [{**shared, "mode": None, "name": report.note}]
    return [
        {
            **shared,
            "mode": number,
            "name": mode.name,
            "rule": mode.rule_text,
            **_figures("share", mode.share),
            **_figures("share_real", mode.share_real),
            **_figures("rate_real", mode.rate_real),
            "confirmation": mode.confirmation,
            "delay_range_s": mode.delay_range,
            "beam_range": mode.beam_range,
            "resamples_rand_index": report.stability,
            **(places if number == 1 else {}),
        }
        for number, mode in enumerate(report.modes, 1)
    ]


def _figures(name: str, estimate: Estimate | None) -> dict[str, Any]:
    """Value and interval of an estimate under its name."""
    if estimate is None:
        return {name: None, f"{name}_interval": None}
    return {name: estimate.value, f"{name}_interval": estimate.interval}


def _places(mode: FailureMode, setting: Setting) -> dict[str, float]:
    """Share of the mode's error range that lies in either damage."""
    axes, n_delay = setting.axes, len(setting.axes.delay_s)
    lost = damages(len(axes.sin_azimuth), n_delay)
    late = lost[NO_DELAY][0].numpy()[axes.delay_order]
    beams = lost[NO_BEAMS][:, 0].numpy()[axes.beam_order]
    return {
        "in_lost_delays": overlap(mode.delay_range, late, axes.delay_edges()),
        "in_lost_beams": overlap(mode.beam_range, beams, axes.beam_edges()),
    }


def planted_checks(reports: dict[str, ModeReport], setting: Setting) -> list[Check]:
    """Whether each damage is found where it was done, as often as real users have it."""
    checks = []
    for name, key in ((NO_DELAY, "in_lost_delays"), (NO_BEAMS, "in_lost_beams")):
        modes = reports[name].modes
        held = _places(modes[0], setting)[key] if modes else 0.0
        missed = _outside(modes[0]) if modes else None
        control = max((_places(m, setting)[key] for m in reports[CONTROL].modes), default=0.0)
        where = key[3:].replace("_", " ")
        checks += [
            check(f"{name}: share of the first mode's range in the {where}", held,
                  relation=">=", limit=LEAST_OVERLAP),
            check(f"{name}: counted share outside the interval of the first mode's share by",
                  missed, relation="<=", limit=0.0),
            check(f"{CONTROL}: largest share of a mode's range in the {where}", control,
                  relation="<=", limit=LEAST_OVERLAP),
        ]  # fmt: skip
    return checks


def _outside(mode: FailureMode) -> float | None:
    """How far the share counted on real users lies outside the interval of the mode's share."""
    if mode.share_real is None or mode.share.interval is None:
        return None
    low, high = mode.share.interval
    return max(0.0, low - mode.share_real.value, mode.share_real.value - high)


def main() -> None:
    """Find, confirm, plant, write `benchmarks/results/modes.json`."""
    options = parse_arguments("modes", description=__doc__, add_own=_add_own)
    setting, facts = _setting(options)
    rows, reports, means = [], {}, []
    for named in setting.evidence.compressors:
        tail = _tail(setting, named.name, options.own.quantile)
        found: ModesFound = modes_of_compressor(named, tail, setting.evidence, seed=options.seed)
        report = reports[named.name] = found.report
        indices, counts = stability(setting, named.name, tail)
        places = _places(report.modes[0], setting) if report.modes else {}
        rows += _rows(named.name, report, indices, counts, places)
        if report.modes and indices:
            means.append(float(np.mean(indices)))
    asked = [m for r in reports.values() for m in r.modes
             if m.rate_real is not None and m.rate_real.n >= 10]  # fmt: skip
    confirmed = sum(mode.confirmation == "confirmed" for mode in asked)
    rate = proportion(confirmed, len(asked)) if asked else None
    index = mean_estimate(means) if means else None
    checks = [
        check("modes confirmed by real users", rate.value if rate else None, relation=">=",
              limit=CONFIRMED, interval=rate.interval if rate else None),
        check("adjusted Rand index between seeds, mean over compressors",
              index.value if index else None, relation=">=", limit=GOOD_RAND,
              interval=index.interval if index else None),
        *planted_checks(reports, setting),
    ]  # fmt: skip
    own = options.own
    sizes = {
        "base_samples": len(setting.seed_of), "seeds": own.seeds, "steps": own.steps,
        "real_users": len(setting.described[1]), "quantile": own.quantile, "taps": own.taps,
        **facts,
    }  # fmt: skip
    write_result(options, sizes=sizes, rows=rows, checks=checks)


if __name__ == "__main__":
    main()
