"""A small audit made up from ray-traced-looking channels, shared by the tests of `reports`."""

import numpy as np
import numpy.typing as npt
import pytest

from reports import (
    BaseInfo,
    CompressorRow,
    Cost,
    DataInfo,
    Estimate,
    Exemplar,
    ImportanceEstimates,
    IssgmEntry,
    LossSummary,
    ReportArrays,
    Result,
    Tail,
    Threshold,
    agree,
    base_verdict,
    exemplar_indices,
    fidelity_summary,
    mean_estimate,
    mean_power,
    proportion,
    realism_item,
    tilted_mean,
    worst_features,
    worst_weight,
)
from reports.figure_data import ModeMaps

Array = npt.NDArray[np.float64]
N_TX, N_DELAY, N_BASE, N_REAL = 32, 32, 400, 600
KEPT = {"CsiNet 1/16": 40, "CRNet 1/16": 56, "KLT 1/16": 64}  # coefficients that survive


def channels(n: int, seed: int, more: float = 0.0) -> Array:
    """Audit-space maps [n, 2, 32, 32] of a few clustered paths each, unit mean power."""
    rng = np.random.default_rng(seed)
    h = np.zeros((n, N_TX, N_DELAY), dtype=complex)
    antenna, sub = np.arange(N_TX)[:, None], np.arange(N_DELAY)[None, :]
    for i in range(n):
        paths = 2 + rng.poisson(6 * (1 + more))
        centre, spread = rng.uniform(-0.8, 0.8), rng.gamma(2, 0.06 * (1 + more))
        for _ in range(paths):
            u = np.clip(centre + spread * rng.normal(), -1, 1)
            tau = rng.exponential(2.0 * spread / 0.12)  # in taps
            gain = np.exp(-tau / 4) * (rng.normal() + 1j * rng.normal())
            h[i] += gain * np.exp(1j * np.pi * (u * antenna - 2 * sub * tau / N_DELAY))
    x = np.fft.ifft(np.fft.fft(h, axis=1, norm="ortho"), axis=2, norm="ortho")
    x *= np.sqrt(N_TX * N_DELAY) / np.linalg.norm(x, axis=(1, 2), keepdims=True)
    return np.stack([x.real, x.imag], axis=1)


def reconstruct(x: Array, kept: int) -> Array:
    """The strongest `kept` coefficients of each channel, with a little gain error."""
    power = np.square(x).sum(1).reshape(len(x), -1)
    limit = np.sort(power, axis=1)[:, -kept][:, None]
    mask = (power >= limit).reshape(len(x), 1, N_TX, N_DELAY)
    return np.asarray(0.98 * x * mask)


def nmse_of(x: Array, x_hat: Array) -> Array:
    """Linear NMSE [n]."""
    return np.asarray(np.square(x - x_hat).sum((1, 2, 3)) / np.square(x).sum((1, 2, 3)))


def feature_values(x: Array) -> dict[str, Array]:
    """Stand-ins for two features, under their real names."""
    power = np.square(x).sum(1)
    share = power.reshape(len(x), -1) / power.sum((1, 2))[:, None]
    profile = power.sum(1) / power.sum((1, 2))[:, None]
    tap = np.arange(N_DELAY)
    mean = profile @ tap
    spread = np.sqrt(np.maximum(profile @ tap**2 - mean**2, 0)) * 100e-9
    return {"delay_spread_s": spread, "effective_paths": 1 / np.square(share).sum(1)}


def make_arrays() -> ReportArrays:
    """Arrays of three compressors on made-up base samples and real channels."""
    sets = {"base": channels(N_BASE, 1, more=0.15), "real": channels(N_REAL, 2)}
    nmse: dict[str, dict[str, Array]] = {"base": {}, "real": {}}
    worst: dict[str, dict[str, Array]] = {"base": {}, "real": {}}
    exemplars = []
    for name, kept in KEPT.items():
        for source, x in sets.items():
            x_hat = reconstruct(x, kept)
            bad = nmse[source][name] = nmse_of(x, x_hat)
            worst[source][name] = mean_power(x, worst_weight(bad, 0.02))
            low, high = exemplar_indices(bad)
            for side, i in (("low", int(low[0])), ("high", int(high[0]))):
                exemplars.append(
                    Exemplar(
                        compressor=name,
                        source="real" if source == "real" else "base",
                        side="low" if side == "low" else "high",
                        index=i,
                        nmse=float(bad[i]),
                        x=x[i],
                        x_hat=x_hat[i],
                    )
                )
    first = next(iter(KEPT))
    return ReportArrays(
        delay_s=np.arange(N_DELAY) * 100e-9,
        sin_azimuth=np.fft.fftfreq(N_TX, 0.5),
        frequency_hz=np.arange(N_DELAY) * 312.5e3,
        nmse_base=nmse["base"],
        nmse_real=nmse["real"],
        log_l={name: np.log(values) for name, values in nmse["base"].items()},
        nmse_issgm={first: nmse["base"][first][:64] * 1.2},
        exemplars=tuple(exemplars),
        power_base=mean_power(sets["base"]),
        power_real=mean_power(sets["real"]),
        worst_base=worst["base"],
        worst_real=worst["real"],
        worst_share=0.02,
        panel=(1, 1, N_TX),
        features_base=feature_values(sets["base"]),
        features_real=feature_values(sets["real"]),
        error_base={name: 0.1 * power for name, power in worst["base"].items()},
        mode_maps=tuple(
            ModeMaps(compressor=name, mode=0, power=power, error=0.3 * power)
            for name, power in worst["base"].items()
        ),
    )


def make_tail(arrays: ReportArrays, name: str, label: str, level_db: float) -> Tail:
    """P(NMSE > level) on both sides."""
    level = 10 ** (level_db / 10)
    base, real = arrays.nmse_base[name], arrays.nmse_real[name]
    p = proportion(int((base > level).sum()), len(base))
    q = proportion(int((real > level).sum()), len(real))
    return Tail(threshold=label, nmse_db=level_db, base=p, real=q, agreement=agree(p, q))


def make_row(arrays: ReportArrays, name: str, thresholds: tuple[Threshold, ...]) -> CompressorRow:
    """One compressor of the made-up audit."""
    base, real = arrays.nmse_base[name], arrays.nmse_real[name]
    own = float(10 * np.log10(np.quantile(real, 0.99)))
    tails = tuple(
        make_tail(arrays, name, tau.label, own if tau.nmse_db is None else tau.nmse_db)
        for tau in thresholds
    )
    klt = float(np.log10(np.mean(arrays.nmse_real["KLT 1/16"]) / np.mean(real)) * 10)
    sgcs = LossSummary(
        unit="1", worse="low", base=mean_estimate(1 - base), real=mean_estimate(1 - real)
    )
    return CompressorRow(
        name=name,
        spec=f"bundled:{name}",
        convention="angular-delay, global scaling",
        n_code=128,
        losses={
            "nmse": LossSummary(
                unit="1", worse="high", base=mean_estimate(base), real=mean_estimate(real)
            ),
            "sgcs": sgcs,
        },
        estimates=ImportanceEstimates(
            loss="NMSE",
            weight="NMSE",
            e_p=mean_estimate(base),
            e_q=tilted_mean(base),
            tails=tails,
            issgm=make_issgm(arrays, name),
        ),
        against_klt_db=None if name.startswith("KLT") else klt,
        against_klt="This is the KLT itself." if name.startswith("KLT") else "",
        worst=worst_features(real, arrays.features_real, source="real", share=0.02)
        + worst_features(base, arrays.features_base, source="base", share=0.02),
    )


def make_issgm(arrays: ReportArrays, name: str) -> IssgmEntry | None:
    """The short run, for the compressor that has one."""
    if name not in arrays.nmse_issgm:
        return None
    chain = "issgm, 100 steps, finite difference 0.005 sigma"
    e_q: Estimate = mean_estimate(arrays.nmse_issgm[name], method=chain)
    full = {"e_q": e_q.to_dict(), "steps": 1000, "samples": 512}
    return IssgmEntry(label="short run", e_q=e_q, steps=100, n=64, full=full)


def make_result(arrays: ReportArrays) -> Result:
    """The made-up audit as the engine would hand it over."""
    thresholds = (
        Threshold(
            label="own 99 % quantile", nmse_db=None, origin="what 1 % of real channels exceed."
        ),
        Threshold(label="fixed", nmse_db=-11.0, origin="one level for all compressors."),
    )
    realism = tuple(
        realism_item(name, arrays.nmse_base[name], arrays.nmse_real[name], kind="distortion")
        for name in KEPT
    ) + tuple(
        realism_item(name, arrays.features_base[name], arrays.features_real[name], kind="feature")
        for name in arrays.features_base
    )
    return Result(
        created="2026-01-02T03:04:05Z",
        versions={"csi-audit": "0.1.0", "torch": "2.13.0"},
        seed=7,
        data=DataInfo(
            path="made_up.h5",
            sha256="ab" * 32,
            n=N_REAL,
            drops=8,
            description="UMi, 2.655 GHz, 10 MHz, 32 antennas",
        ),
        base=BaseInfo(
            sha256="cd" * 32,
            fidelity=fidelity_summary(realism),
            verdict=base_verdict(realism),
            name="base-umi",
            n_samples=N_BASE,
        ),
        tau=thresholds,
        compressors=tuple(make_row(arrays, name, thresholds) for name in KEPT),
        realism=realism,
        cost=Cost(
            denoiser_evaluations=30_400,
            seconds=151.2,
            parts={"base samples": 24_000, "issgm": 6_400},
            machine="2 CPU cores",
        ),
        warnings=("CRNet 1/16 was trained for 20 epochs only.",),
        audited_law="2M probability-flow ODE, 30 steps, samples scaled to unit power.",
        notes=("Figures are provisional.",),
    )


@pytest.fixture(scope="session")
def fake_arrays() -> ReportArrays:
    return make_arrays()


@pytest.fixture(scope="session")
def fake_result(fake_arrays: ReportArrays) -> Result:
    return make_result(fake_arrays)
