"""Channels by simulation: the TR 38.901 models of Sionna into a `ChannelSet`, fixed by a seed.

Sionna is the extra `sim`, imported when channels are made; what is asked of it lives in
`sionna_paths`. QuaDRiGa users run `quadriga_generate.m`, beside this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from channels.channel_set import ChannelSet, Grid, Source
from channels.domains import Panel, unit_power
from channels.paths import (
    check_sampling,
    energy_beyond_window,
    frequency_response,
    window_caution,
)
from channels.randomness import seeded_generator
from channels.sionna_paths import (
    CDL_MODELS,
    RELEASE,
    SCENARIOS,
    Sionna,
    SionnaPaths,
    simulate_paths,
)
from channels.support import CsiAuditError, did_you_mean

__all__ = ["MODELS", "SimulatedCell", "generate_channels", "generate_drops"]

MODELS: tuple[str, ...] = (*SCENARIOS, *CDL_MODELS)
"""Names that `SimulatedCell.model` takes."""


@dataclass(frozen=True, kw_only=True)
class SimulatedCell:
    """What is simulated: the downlink of one base station to outdoor users, one snapshot each.

        H[a, k] = sum_p gain[a, p] exp(-j 2 pi f_k tau[p]),   f_k = k bandwidth / n_sub

    Delays count from the first path, as QuaDRiGa's do. `umi`, `uma` and `rma` place the users
    uniformly in area on a ring (10..200, 35..500, 35..1732 m) about a base station 10, 25 or 35 m
    high, and draw line of sight, path loss, shadowing and spreads. `cdl-a` to `cdl-e` have one set
    of angles and delays for all users, who differ in phases and in the coupling of rays alone, and
    a mean path gain of 1.

    Transmit elements are omnidirectional, half a wavelength apart, and face azimuth 0. Their axis
    runs over polarisations (one: vertical; two: -45 and +45 degrees), rows upwards, and columns
    towards positive azimuth: a path of azimuth az and zenith ze falls on column beam
    sin(az) sin(ze) n_columns/2 and row beam cos(ze) n_rows/2. Users have a row of vertical
    elements, turned at random (in a CDL towards the base station).

    Attributes:
        model: umi, uma, rma, or cdl-a to cdl-e, in upper or lower case.
        carrier_hz: Carrier frequency, 0.5e9..100e9 [Hz].
        bandwidth_hz: n_sub times the subcarrier spacing [Hz].
        n_sub: Subcarriers.
        n_tx: Transmit antennas; None takes those of the panel, or 32.
        panel: (n_pol, n_rows, n_columns) of the transmit antennas; None is one row.
        n_rx: Receive antennas.
        users_per_drop: Users of a drop. They share the fields of large-scale parameters, so that
            neighbours in one state of sight have like spreads and shadowing; line of sight and rays
            are drawn for each user alone. In a CDL, where users share nothing, a drop is a block.
        delay_spread_s: RMS delay spread that a CDL is scaled to [s]; the others draw their own.
    """

    model: str
    carrier_hz: float = 2.655e9
    bandwidth_hz: float = 10e6
    n_sub: int = 32
    n_tx: int | None = None
    panel: Panel | None = None
    n_rx: int = 1
    users_per_drop: int = 250
    delay_spread_s: float = 100e-9

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", _known_model(self.model))
        check_sampling(self.bandwidth_hz, self.n_sub)
        if not 0.5e9 <= self.carrier_hz <= 100e9:
            raise CsiAuditError(
                "carrier_hz must lie in 0.5e9..100e9 Hz, where TR 38.901 holds; "
                f"got {self.carrier_hz}."
            )
        if not 0 < self.delay_spread_s < 1e-3:
            raise CsiAuditError(
                f"delay_spread_s must lie in (0, 1e-3) s; got {self.delay_spread_s}. "
                "Nominal is 100e-9."
            )
        for name in ("n_rx", "users_per_drop"):
            if getattr(self, name) < 1:
                raise CsiAuditError(f"{name} must be at least 1; got {getattr(self, name)}.")
        if self.n_tx is not None and self.n_tx < 1:
            raise CsiAuditError(f"n_tx must be at least 1; got {self.n_tx}.")
        if self.grid.panel_of(self.antennas)[0] > 2:
            raise CsiAuditError(f"panel must have 1 or 2 polarisations; got {self.panel}.")

    @property
    def antennas(self) -> int:
        """Transmit antennas: n_tx, or those of the panel, or 32."""
        if self.n_tx is not None:
            return self.n_tx
        return 32 if self.panel is None else math.prod(self.panel)

    @property
    def grid(self) -> Grid:
        """Grid of the channels."""
        if self.panel is None:
            array = f"{self.antennas}-element half-wavelength ULA"
        else:
            shape = " x ".join(map(str, self.panel))
            array = f"{shape} half-wavelength panel (pol x rows x columns)"
        return Grid(
            carrier_hz=self.carrier_hz,
            bandwidth_hz=self.bandwidth_hz,
            n_sub=self.n_sub,
            array=array,
            panel=self.panel,
        )

    @property
    def scenario(self) -> str:
        """Scenario in QuaDRiGa's manner, for example 3GPP_38.901_UMi."""
        if self.model in SCENARIOS:
            return SCENARIOS[self.model].name
        return f"3GPP_38.901_{self.model.upper()}"


def _known_model(model: str) -> str:
    name = str(model).lower()
    if name.startswith("tdl"):
        raise CsiAuditError(
            f"model {model!r} has no angles, so it says nothing of an array. Take a CDL model, for "
            "example cdl-c."
        )
    if name not in MODELS:
        raise CsiAuditError(
            f"model must be one of {', '.join(MODELS)}; got {model!r}.{did_you_mean(name, MODELS)}"
        )
    return name


def generate_channels(
    cell: SimulatedCell,
    *,
    n: int,
    seed: int,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> ChannelSet:
    """Channels of n simulated users, drop by drop.

    Fewer users of a seed are the first of more. A GPU draws other users than a CPU, and another
    version of Sionna or torch may too.

    Args:
        cell: What is simulated.
        n: Users.
        seed: Fixes every random number; no global generator is left changed.
        device: Where Sionna computes.
        progress: Called with the users made and n after each drop.
    Returns:
        ChannelSet on the CPU, h (n, n_rx, n_tx, n_sub). Labels: `is_los`; for umi, uma and rma also
        `delay_spread_s` and `asd_deg` (of the rays as drawn, TR 38.901 A.1), `k_factor_db` (-100
        without line of sight), `path_gain_db` (path loss and shadowing), `ue_pos_m` (base station
        above the origin) and `drop_seed`.
    Raises:
        CsiAuditError: n < 1, no such device, or Sionna is missing or too old.
    """
    drops: list[ChannelSet] = []
    for drop in generate_drops(cell, n=n, seed=seed, device=device):
        drops.append(drop)
        if progress is not None:
            progress(sum(map(len, drops)), n)
    return ChannelSet(
        h=torch.cat([drop.h[:] for drop in drops]),
        power_db=torch.cat([drop.power_db for drop in drops]),
        grid=cell.grid,
        labels={name: torch.cat([drop.label(name) for drop in drops]) for name in drops[0].labels},
        source=drops[0].source,
    )


def generate_drops(
    cell: SimulatedCell, *, n: int, seed: int, device: str | torch.device = "cpu"
) -> Iterator[ChannelSet]:
    """The drops of `generate_channels` one by one, for more users than memory holds.

    Args:
        cell, n, seed, device: As in `generate_channels`.
    Returns:
        Iterator over sets of users_per_drop users; the last is cut to what is missing.
    Raises:
        CsiAuditError: as `generate_channels`, at once and not with the first drop.
    """
    if n < 1:
        raise CsiAuditError(f"n must be at least 1; got {n}.")
    where, sionna = _device_name(device), Sionna.load()
    source = Source(
        path=f"{cell.model}, seed {seed}",
        sha256=None,
        format=f"Sionna {sionna.version}",
        scenario=cell.scenario,
        notices=(
            f"Simulated by Sionna {sionna.version}, TR 38.901 V{RELEASE}: outdoor users, plane "
            "waves, delays from the first path.",
        ),
    )
    sizes = ((i, min(cell.users_per_drop, n - i)) for i in range(0, n, cell.users_per_drop))
    return (
        _drop(sionna, cell, seed, start // cell.users_per_drop, where, source).subset(slice(size))
        for start, size in sizes
    )


def _drop(
    sionna: Sionna, cell: SimulatedCell, seed: int, index: int, device: str, source: Source
) -> ChannelSet:
    """All users of drop `index` of a seed.

    Places and Sionna have streams of their own: one seed for both would correlate their draws.
    """
    places = seeded_generator(seed, "places", index)
    drop_seed = seeded_generator(seed, "rays", index).initial_seed()
    with sionna.seeded(drop_seed, device):
        paths = simulate_paths(sionna, cell, places, device)
    h = frequency_response(
        paths.gain, paths.delay_s, bandwidth_hz=cell.bandwidth_hz, n_sub=cell.n_sub
    )
    unit, power_db = unit_power(h.cpu())
    labels = {name: label.cpu() for name, label in paths.labels.items()}
    if cell.model in SCENARIOS:
        labels["drop_seed"] = torch.full((len(unit),), drop_seed)
    source = replace(source, notices=source.notices + _beyond_window(paths, cell))
    return ChannelSet(h=unit, power_db=power_db, grid=cell.grid, labels=labels, source=source)


def _beyond_window(paths: SionnaPaths, cell: SimulatedCell) -> tuple[str, ...]:
    """A notice if the subcarriers lie too far apart for the delays of a drop."""
    shares = energy_beyond_window(
        paths.gain, paths.delay_s, bandwidth_hz=cell.bandwidth_hz, n_sub=cell.n_sub
    )
    return window_caution(shares, bandwidth_hz=cell.bandwidth_hz, n_sub=cell.n_sub)


def _device_name(device: str | torch.device) -> str:
    """The device as Sionna names it: "cpu" or "cuda:0"."""
    try:
        found = torch.device(device)
    except RuntimeError:
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda"):
        raise CsiAuditError(f"device must be cpu, cuda or cuda:N; got {str(device)!r}.")
    if found.type == "cpu":
        return "cpu"
    index, here = found.index or 0, torch.cuda.device_count()
    if index >= here:
        raise CsiAuditError(
            f"device {str(device)!r} is not here: torch sees {here} CUDA devices. Take cpu."
        )
    return f"cuda:{index}"
