"""The paper's channel experiment made again: on which channels does a trained autoencoder err?

A convolutional autoencoder (CsiNet, ratio 16, started at the best linear code) is trained on
samples of the base model, as `csi-audit fit-compressor --data base` does it. l(x) is its squared
error on unit-power channels. E[l] and P(l > tau), tau = 3.3 E_p[l], under p and under q = l p / Z,
each with its interval, its chain and its price:

- p by the 2M ODE, the audited law, and by the second-order SDE; reweighting and rejection of those;
- `issgm`: the paper's sampler as published;
- ours: twisted SMC on islands, with the twist calibrated on a pilot at the levels of the chain. Its
  weights are absolute, so it speaks of p too.

l^4 stands for weights so sharp that guidance may pay. Blocks of samples are kept; a repeated call
goes on where the last one stopped.

    python -m benchmarks.paper_csi
"""

import argparse
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.checks import Check
from benchmarks.harness import parse_arguments, write_result
from benchmarks.paper_csi_figures import Law, save_laws
from benchmarks.paper_csi_rows import (
    AGAINST,
    base_mean,
    comparison_checks,
    efficiency,
    figure_row,
    r2_by_level,
    share_of_shift,
    worth_rows,
)
from benchmarks.paper_csi_runs import Drawn, Run, shown
from channels import onto_sphere
from channels.support import CsiAuditError
from compressors import NamedCompressor, in_audit_space, load_compressor
from compressors.plans import COMPRESSOR_PLAN
from csi_audit.base import Base, base_name, load_base
from csi_audit.base_users import BaseDraw, draw_base_users, tenth_kept_out
from csi_audit.calibration import Features, resolved_features, whole_features
from csi_audit.estimate import exceedance, expectation
from csi_audit.islands import IslandSamples, normalising_constant
from csi_audit.losses import Loss, SquaredErrorLoss
from csi_audit.run_state import BlockStore
from csi_audit.sampling import IssgmSampler, rejection, reweighted, sigma_grid
from csi_audit.twisted_smc import TwistedSmcSampler
from csi_audit.weights import LossWeight, NormalisedWeight
from reports.estimates import Estimate, mean_estimate
from reports.figure_data import mean_power, worst_weight
from reports.reweighting import normalised_weights

Array = npt.NDArray[np.float64]

POWERS = (1, 4)
TAU_OVER_MEAN = 3.3  # the paper's 1e-3 over its E_p[l] of 3.07e-4
BOUND = 1.2  # on l: that of a net may pass 1; the sampler refuses more
IMPORTANT = 0.01  # share of p shown as the most important samples


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--arch", default="csinet")
    add("--ratio", type=int, default=16)
    add("--train-samples", type=int, default=4_000, help="base samples to train on")
    add("--train-steps", type=int, default=600, help="optimizer steps, a multiple of 10")
    add("--base-samples", type=int, default=5_500, help="of the ODE, the audited law")
    add("--ode-steps", type=int, default=30)
    add("--sde-samples", type=int, default=2_000, help="of the chain that twisted SMC corrects")
    add("--sde-steps", type=int, default=40)
    add("--pilot", type=int, default=600, help="the first SDE samples, to calibrate the twist")
    add("--particles", type=int, default=4_608, help="of twisted SMC for l")
    add("--sharp-particles", type=int, default=2_048, help="of twisted SMC for l^4")
    add("--island", type=int, default=128)
    add("--floor", type=float, default=0.1, help="of the twist, in units of E_p[l]")
    add("--issgm-samples", type=int, default=128)
    add("--issgm-steps", type=int, default=1000)
    add("--batch-size", type=int, default=64)
    add("--device", default="cpu")
    add("--base", default=None, help="base model file (default: the bundled one)")
    add("--state", type=Path, default=Path("runs/benchmark-paper-csi"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """An importance weight in its two forms.

    Attributes:
        name: "l" or "l^4".
        power: Of the squared error.
        guiding: At denoised means, which lie far inside the sphere of unit power.
        counting: As it counts at the end, on that sphere.
        features: What the twist is fitted on.
    """

    name: str
    power: int
    guiding: LossWeight
    counting: NormalisedWeight
    features: Features


def weight_case(loss: Loss, power: int) -> Case:
    """l^power of that loss."""
    guiding = LossWeight(loss, power=float(power))
    return Case(
        name="l" if power == 1 else f"l^{power}",
        power=power,
        guiding=guiding,
        counting=NormalisedWeight(guiding, onto_sphere),
        features=resolved_features if power == 1 else whole_features,
    )


@dataclass(frozen=True, kw_only=True)
class Found:
    """Rows and checks of a part, and what the figure shows of it."""

    rows: list[dict[str, Any]]
    checks: list[Check]
    laws: list[Law]
    evaluations: int = 0


# --- Parts ----------------------------------------------------------------------------------------


def trained(base: Base, own: argparse.Namespace, seed: int) -> tuple[NamedCompressor, float | None]:
    """The autoencoder and its seconds of training; None where a begun training was continued."""
    from compressors.compressor_training import CompressorRecipe, fit_compressor

    draw = BaseDraw(n=own.train_samples, steps=own.ode_steps, seed=seed)
    users = draw_base_users(
        base,
        draw,
        parent=own.state,
        name=base_name(own.base),
        device=own.device,
        batch_size=own.batch_size,
        progress=shown("training samples", draw.evaluations),
    )
    block = max(1, own.train_steps // 10)
    plan = replace(COMPRESSOR_PLAN, steps=own.train_steps, block_steps=block, seed=seed)
    recipe = CompressorRecipe(arch=own.arch, ratio=own.ratio, plan=plan)
    size = f"{own.train_samples}x{own.ode_steps}-{own.train_steps}-{seed}"
    folder = own.state / f"{own.arch}-{own.ratio}-{base.sha256[:8]}-{size}"
    fresh, began = not folder.exists(), time.perf_counter()
    path = fit_compressor(
        *tenth_kept_out(users), folder=folder, recipe=recipe, device=own.device, progress=False
    )
    return load_compressor(str(path)), time.perf_counter() - began if fresh else None


def law_rows(weight: str, method: str, law: str, drawn: Drawn, tau: float) -> list[dict[str, Any]]:
    """E[l] and P(l > tau) under the law of the samples."""
    pairs = {
        "E[l]": expectation(drawn.samples, drawn.l),
        "P(l > tau)": exceedance(drawn.samples, drawn.l, tau),
    }
    return _rows(pairs, weight, method, law, drawn)


def _rows(
    figures: Mapping[str, Estimate], weight: str, method: str, law: str, drawn: Drawn
) -> list[dict[str, Any]]:
    return [
        figure_row(estimate, chain=drawn.chain, seconds=drawn.seconds, weight=weight,
                   method=method, law=law, quantity=quantity)
        for quantity, estimate in figures.items()
    ]  # fmt: skip


def references(
    case: Case, plain: Mapping[str, Drawn], tau: float, run: Run
) -> tuple[dict[str, Drawn], list[dict[str, Any]]]:
    """Reweighting of both chains, and rejection of the audited one, with their rows."""
    made = {
        name: replace(drawn, samples=reweighted(drawn.samples, case.counting))
        for name, drawn in plain.items()
    }
    rows = [row for d in made.values() for row in law_rows(case.name, "reweighting", "q", d, tau)]
    ode = plain["ode_2m"]
    try:
        kept = rejection(
            ode.samples,
            case.counting,
            log_bound=case.power * math.log(BOUND),
            generator=run.generator("rejection", case.name),
        )
    except CsiAuditError as error:  # a sampler that refuses is a finding
        refused = {"weight": case.name, "method": "rejection", "law": "q"}
        return made, [*rows, refused | {"status": f"refused: {error}"}]
    accepted = replace(ode, samples=kept, l=run.loss_of(kept.x))
    return made, rows + law_rows(case.name, "rejection", "q", accepted, tau)


def issgm_part(case: Case, run: Run, own: argparse.Namespace, plain: Drawn, tau: float) -> Found:
    """The paper's sampler, and how far from E_p[l] to E_q[l] it comes."""
    sampler = IssgmSampler(run.base, case.guiding, steps=own.issgm_steps, **run.where)
    name = f"issgm-{own.issgm_samples}x{own.issgm_steps}-{run.key}"
    drawn = run.draw(
        sampler,
        own.issgm_samples,
        name,
        block=32,
        cost=2 * own.issgm_steps + 1,
        chain=f"issgm, {own.issgm_steps} steps",
    )
    rows = law_rows(case.name, "issgm", "q", drawn, tau)
    value, low, high = share_of_shift(drawn.l, plain.l, seed=run.seed)
    named = {"weight": case.name, "method": "issgm", "law": "q", "chain": drawn.chain}
    rows.append(named | {"quantity": "share of the shift from E_p[l] to E_q[l]", "value": value,
                         "interval": [low, high]})  # fmt: skip
    print(
        f"issgm reaches {100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}] of the shift from "
        f"E_p[l] to E_q[l]: {100 * (1 - value):.0f} % are missing."
    )
    law = Law("q, issgm", drawn.l, normalised_weights(drawn.samples.log_w.numpy()), ":")
    return Found(rows=rows, checks=[], laws=[law], evaluations=drawn.samples.n_evaluations)


def ours_part(
    case: Case,
    run: Run,
    own: argparse.Namespace,
    plain: Drawn,
    targets: Mapping[str, Drawn],
    tau: float,
) -> Found:
    """Twisted SMC with the calibrated twist beside reweighting; `plain` is of the same chain."""
    try:
        drawn, r2 = _twisted(case, run, own, plain)
    except ValueError as error:  # a sampler that refuses is a finding
        refused = {"weight": case.name, "method": "ours", "status": f"refused: {error}"}
        return Found(rows=[refused], checks=comparison_checks(case.name, {}, None), laws=[])
    samples = drawn.samples
    if not isinstance(samples, IslandSamples):
        raise TypeError(f"twisted SMC draws islands; got {type(samples).__name__}.")
    samples = samples.compared_with(mean_estimate(plain.l**case.power))
    drawn = replace(drawn, samples=samples)
    z, log_l = normalising_constant(samples), torch.from_numpy(case.power * np.log(drawn.l))
    seen = base_mean(samples, log_l, (drawn.l > tau).astype(np.float64))
    rows = law_rows(case.name, "ours", "q", drawn, tau)
    own_figures = {f"E[{case.name}]": z, "P(l > tau)": seen}
    rows += _rows(own_figures, case.name, "ours", "p", drawn)
    worth = efficiency(
        samples.log_z_islands().exp().numpy(),
        plain.l**case.power,
        evaluations=samples.n_evaluations,
        pilot=2 * own.pilot * own.sde_steps,
        steps=own.sde_steps,
    )
    rows += worth_rows(worth, r2, weight=case.name, chain=drawn.chain)
    e_q = expectation(samples, drawn.l)
    pairs = {
        AGAINST[0]: (e_q, expectation(targets["sde_2m"].samples, plain.l)),
        AGAINST[1]: (e_q, expectation(targets["ode_2m"].samples, targets["ode_2m"].l)),
        AGAINST[2]: (z, mean_estimate(plain.l**case.power)),
    }
    law = Law("q, ours", drawn.l, normalised_weights(samples.log_w.numpy()), "-")
    spent = samples.n_evaluations + own.pilot * own.sde_steps
    return Found(
        rows=rows, checks=comparison_checks(case.name, pairs, worth), laws=[law], evaluations=spent
    )


def _twisted(
    case: Case, run: Run, own: argparse.Namespace, plain: Drawn
) -> tuple[Drawn, Mapping[str, float]]:
    """Samples of twisted SMC, and what the twist explains at each level."""
    kind = getattr(case.features, "__name__", "features")
    sizes = (case.power, kind, own.pilot, own.sde_samples, own.sde_steps, own.floor, run.key)
    key = "-".join(str(part) for part in sizes)
    pilot = plain.samples.x[: own.pilot]
    twist = run.twist(
        f"twist-{key}",
        case.guiding,
        pilot,
        sigma_grid(run.base.sigma_max, run.base.sigma_min, own.sde_steps),
        features=case.features,
        target=case.counting,
        floor=own.floor,
    )
    sampler = TwistedSmcSampler(
        run.base, case.counting, twist, steps=own.sde_steps, island=own.island, **run.where
    )
    particles = own.particles if case.power == 1 else own.sharp_particles
    name = f"smc-{particles}-{own.island}-{key}"
    cost = 2 * own.sde_steps - 1
    drawn = run.draw(sampler, particles, name, block=own.island, cost=cost, chain=plain.chain)
    return drawn, r2_by_level(twist.log_sigmas.exp(), twist.r2)


# --- The run --------------------------------------------------------------------------------------


def maps_of(plain: Drawn, target: Drawn) -> dict[str, Array]:
    """Mean angular-delay power (n_tx, n_delay) under p and q, and of what matters most of p."""
    important = worst_weight(plain.l, IMPORTANT)
    rows = np.flatnonzero(important)
    return {
        "p": mean_power(plain.samples.x),
        "q": mean_power(target.samples.x, normalised_weights(target.samples.log_w.numpy())),
        f"the {100 * IMPORTANT:g} % of p of largest l": mean_power(
            plain.samples.x[torch.from_numpy(rows)], important[rows]
        ),
    }


def measured(run: Run, own: argparse.Namespace) -> tuple[Found, dict[str, Array], float]:
    """Rows and checks of both weights, the maps of the figure, and tau."""
    ode = run.plain("ode_2m", own.base_samples, own.ode_steps)
    sde = run.plain("sde_2m", own.sde_samples, own.sde_steps)
    plain = {"ode_2m": ode, "sde_2m": sde}
    tau = TAU_OVER_MEAN * float(ode.l.mean())
    rows = [row for drawn in plain.values() for row in law_rows("l", "base", "p", drawn, tau)]
    parts = [Found(rows=rows, checks=[], laws=[Law("p", ode.l, _even(ode), "-")])]
    maps: dict[str, Array] = {}
    for power in POWERS:
        case = weight_case(run.loss, power)
        targets, rows = references(case, plain, tau, run)
        ours = ours_part(case, run, own, sde, targets, tau)
        if power == 1:
            target = targets["ode_2m"]
            weights = normalised_weights(target.samples.log_w.numpy())
            law = Law("q, reweighted", target.l, weights, "--")
            maps = maps_of(ode, target)
            parts += [Found(rows=rows, checks=[], laws=[law]), ours]
            parts.append(issgm_part(case, run, own, ode, tau))
        else:
            parts += [Found(rows=rows, checks=[], laws=[]), replace(ours, laws=[])]
    spent = [d.samples.n_evaluations for d in plain.values()] + [p.evaluations for p in parts]
    whole = Found(
        rows=[row for part in parts for row in part.rows],
        checks=[item for part in parts for item in part.checks],
        laws=[law for part in parts for law in part.laws],
        evaluations=sum(spent),
    )
    return whole, maps, tau


def _even(drawn: Drawn) -> Array:
    return np.full(len(drawn.l), 1 / len(drawn.l))


def main() -> None:
    """Run what is missing; write `benchmarks/results/paper_csi.json` and the figure beside it."""
    options = parse_arguments("paper_csi", description=__doc__, add_own=_add_own)
    own, base = options.own, load_base(options.own.base)
    named, seconds = trained(base, own, options.seed)
    run = Run(
        base=base,
        loss=SquaredErrorLoss(in_audit_space(named.compressor)),
        key=(named.sha256 or "")[:8],
        store=BlockStore(own.state / f"{base.sha256[:12]}-{options.seed}"),
        seed=options.seed,
        where={"device": own.device, "batch_size": own.batch_size},
    )
    found, maps, tau = measured(run, own)
    spent = found.evaluations + own.train_samples * own.ode_steps
    sizes = _sizes(own, named) | {"tau": tau, "denoiser_evaluations": spent}
    sizes["training_seconds"] = None if seconds is None else round(seconds, 1)
    write_result(options, sizes=sizes, rows=found.rows, checks=found.checks, data="base model")
    save_laws(options.out.with_suffix(".png"), base.grid, found.laws, maps, tau=tau)


def _sizes(own: argparse.Namespace, named: NamedCompressor) -> dict[str, Any]:
    """Options of the run, and the autoencoder it is about."""
    free = ("state", "base", "batch_size")
    return {
        **{key: value for key, value in vars(own).items() if key not in free},
        "base_sha256": named.card["data"]["sha256"],
        "compressor_sha256": named.sha256,
        "validation_nmse_db": named.card["validation_nmse_db"],
        "klt_validation_nmse_db": named.card.get(
            "klt_same_code_length_nmse_db"
        ),  # none if quantised
    }


if __name__ == "__main__":
    main()
