"""What is asked of Sionna 2: path gains and delays of users, with labels, by TR 38.901.

Sionna is loaded by `Sionna.load`, never with this module. Seeds, drops and subcarriers live in
`generation`.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from channels.domains import Panel
from channels.support import CsiAuditError

if TYPE_CHECKING:
    from channels.generation import SimulatedCell

__all__ = [
    "CDL_MODELS",
    "RELEASE",
    "SCENARIOS",
    "Scenario",
    "Sionna",
    "SionnaPaths",
    "simulate_paths",
]

RELEASE = "16.1"  # of TR 38.901: the tables that QuaDRiGa's 3GPP_38.901 scenarios hold too
USER_HEIGHT_M = 1.5
NLOS_K_DB = -100.0  # as QuaDRiGa labels users without line of sight
OLDEST = (2, 1)  # Sionna that has `spec_version` and the spreads of rays


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Geometry of TR 38.901 tables 7.2-1 and 7.2-3.

    Attributes:
        name: As in QuaDRiGa.
        sionna: Class of Sionna's scenario.
        height_m: Of the base station.
        nearest_m, farthest_m: Ring of the users: the table's minimum distance to one inter-site
            distance.
    """

    name: str
    sionna: str
    height_m: float
    nearest_m: float
    farthest_m: float


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "umi": Scenario(
            name="3GPP_38.901_UMi", sionna="UMiScenario", height_m=10, nearest_m=10, farthest_m=200
        ),
        "uma": Scenario(
            name="3GPP_38.901_UMa", sionna="UMaScenario", height_m=25, nearest_m=35, farthest_m=500
        ),
        "rma": Scenario(
            name="3GPP_38.901_RMa", sionna="RMaScenario", height_m=35, nearest_m=35, farthest_m=1732
        ),
    }
)
CDL_MODELS = ("cdl-a", "cdl-b", "cdl-c", "cdl-d", "cdl-e")
CDL_WITH_LOS = ("cdl-d", "cdl-e")


@dataclass(frozen=True, kw_only=True)
class SionnaPaths:
    """SionnaPaths of U users, on the device that made them.

    Attributes:
        gain: Complex gains, complex64 (U, n_rx, n_tx, P), antennas in the order of `Grid.panel`.
        delay_s: Delays, the same for all antennas [s], float32 (U, P).
        labels: By the compact names, (U, ...) each.
    """

    gain: Tensor
    delay_s: Tensor
    labels: Mapping[str, Tensor]


@dataclass(frozen=True)
class Sionna:
    """The package once it is loaded.

    Attributes:
        models: `sionna.phy.channel.tr38901`.
        config: `sionna.phy.config`, which owns the generators.
        version: For example "2.2.0".
    """

    models: ModuleType
    config: Any
    version: str

    @classmethod
    def load(cls) -> Sionna:
        """Import Sionna. Its first import reseeds torch's own generators: they are put back.

        Raises:
            CsiAuditError: it is missing or too old.
        """
        install = 'pip install --upgrade "csi-audit[sim]"'
        try:
            version = str(importlib.import_module("sionna").__version__)
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                config = importlib.import_module("sionna.phy").config
                models = importlib.import_module("sionna.phy.channel.tr38901")
        except ImportError as error:
            raise CsiAuditError(
                f"Sionna, which simulates the channels, cannot be imported ({error}): {install}"
            ) from error
        numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
        if numbers < OLDEST:
            raise CsiAuditError(f"Sionna must be 2.1 or newer; got {version}: {install}")
        return cls(models, config, version)

    @contextmanager
    def seeded(self, seed: int, device: str) -> Iterator[None]:
        """Its process-wide generator of a device, seeded within and put back afterwards."""
        generator: torch.Generator = self.config.torch_rng(device)
        before = generator.get_state()
        generator.manual_seed(seed)
        try:
            yield
        finally:
            generator.set_state(before)


def simulate_paths(
    sionna: Sionna, cell: SimulatedCell, places: torch.Generator, device: str
) -> SionnaPaths:
    """SionnaPaths of one drop of `cell.users_per_drop` users.

    Args:
        sionna: Its generator must have been seeded.
        cell: What is simulated.
        places: Draws where the users of umi, uma and rma stand.
        device: "cpu" or "cuda:N".
    """
    if cell.model in SCENARIOS:
        paths = _cell_paths(sionna.models, cell, places, device)
    else:
        paths = _cdl_paths(sionna.models, cell, device)
    order = _element_order(cell.grid.panel_of(cell.antennas)).to(paths.gain.device)
    return SionnaPaths(gain=paths.gain[:, :, order], delay_s=paths.delay_s, labels=paths.labels)


def _element_order(panel: Panel) -> Tensor:
    """Index into Sionna's elements (pol, column, row from the top) for (pol, row, column).

    Rows then run upwards and columns towards positive azimuth.
    """
    n_pol, n_rows, n_columns = panel
    index = torch.arange(math.prod(panel)).reshape(n_pol, n_columns, n_rows)
    return index.flip(2).transpose(1, 2).flatten()


def _arrays(models: ModuleType, cell: SimulatedCell, device: str) -> dict[str, Any]:
    """The two arrays, under the names that Sionna's models take them by."""
    n_pol, n_rows, n_columns = cell.grid.panel_of(cell.antennas)
    common = {
        "antenna_pattern": "omni",
        "carrier_frequency": cell.carrier_hz,
        "precision": "single",
        "device": device,
    }
    two = {"polarization": "dual", "polarization_type": "cross"}
    one = {"polarization": "single", "polarization_type": "V"}
    bs_array = models.PanelArray(n_rows, n_columns, **(two if n_pol == 2 else one), **common)
    return {"bs_array": bs_array, "ut_array": models.PanelArray(1, cell.n_rx, **one, **common)}


def _cell_paths(
    models: ModuleType, cell: SimulatedCell, places: torch.Generator, device: str
) -> SionnaPaths:
    """SionnaPaths of umi, uma and rma, antennas in Sionna's order.

    Objects are made anew for each drop: Sionna keeps some draws from one topology to the next.
    """
    ring, n = SCENARIOS[cell.model], cell.users_per_drop
    extra = {} if cell.model == "rma" else {"o2i_model": "low"}
    scenario = getattr(models, ring.sionna)(
        carrier_frequency=cell.carrier_hz,
        direction="downlink",
        spec_version=RELEASE,
        precision="single",
        device=device,
        **_arrays(models, cell, device),
        **extra,
    )
    channel = models.SystemLevelChannel(scenario)
    channel.return_rays = True
    position, heading = _places(ring, n, places)
    zeros = torch.zeros(1, n, 3, device=device)
    outdoors = torch.zeros(1, n, dtype=torch.bool, device=device)
    channel.set_topology(
        ut_loc=position[None].to(device),
        bs_loc=torch.tensor([[[0.0, 0.0, ring.height_m]]], device=device),
        ut_orientations=heading[None].to(device),
        bs_orientations=zeros[:, :1],
        ut_velocities=zeros,
        in_state=outdoors,
        **({"in_car": outdoors} if cell.model == "rma" else {}),
    )
    gain, delay_s, rays = channel(num_time_samples=1, sampling_frequency=1.0)
    lsp = channel._lsp  # large-scale parameters of this topology: Sionna has no public name
    labels = {"ue_pos_m": position, **_cell_labels(models, scenario, lsp, rays)}
    return SionnaPaths(gain=gain[0, :, :, 0, :, :, 0], delay_s=delay_s[0, :, 0], labels=labels)


def _places(ring: Scenario, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Users uniform in area on the ring: positions (n, 3) [m]; headings (n, 3), azimuth first.

    r^2 uniform in nearest^2..farthest^2
    """
    u = torch.rand(3, n, generator=generator)
    r = (ring.nearest_m**2 + u[0] * (ring.farthest_m**2 - ring.nearest_m**2)).sqrt()
    azimuth, turn = 2 * math.pi * u[1:]
    height = torch.full_like(r, USER_HEIGHT_M)
    position = torch.stack((r * azimuth.cos(), r * azimuth.sin(), height), 1)
    return position, torch.stack((turn, torch.zeros_like(turn), torch.zeros_like(turn)), 1)


def _cell_labels(models: ModuleType, scenario: Any, lsp: Any, rays: Any) -> dict[str, Tensor]:
    """Labels of one drop, (U,) each: of the only base station of the only batch entry."""
    is_los = scenario.los[0, 0]
    spreads = models.angular_spreads_from_rays(rays, lsp, scenario)
    return {
        "is_los": is_los,
        "delay_spread_s": models.delay_spread_from_rays(rays, lsp, scenario)[0, 0],
        "asd_deg": spreads["asd"][0, 0].rad2deg(),
        "k_factor_db": torch.where(is_los, 10 * lsp.k_factor[0, 0].log10(), NLOS_K_DB),
        "path_gain_db": 10 * lsp.sf[0, 0].log10() - lsp.pathloss[0, 0],
    }


def _cdl_paths(models: ModuleType, cell: SimulatedCell, device: str) -> SionnaPaths:
    """SionnaPaths of a CDL, antennas in Sionna's order."""
    channel = models.CDL(
        model=cell.model[-1].upper(),
        delay_spread=cell.delay_spread_s,
        carrier_frequency=cell.carrier_hz,
        direction="downlink",
        spec_version=RELEASE,
        precision="single",
        device=device,
        **_arrays(models, cell, device),
    )
    n = cell.users_per_drop
    gain, delay_s = channel(batch_size=n, num_time_steps=1, sampling_frequency=1.0)
    is_los = torch.full((n,), cell.model in CDL_WITH_LOS)
    return SionnaPaths(
        gain=gain[:, 0, :, 0, :, :, 0], delay_s=delay_s[:, 0, 0], labels={"is_los": is_los}
    )
