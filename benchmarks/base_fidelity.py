"""Is the law of the base model that of real channels, and how much nearer than simpler laws?

Base samples against real users: KS and Wasserstein distance of each bundled compressor's distortion
and of each feature, ratios of tail probabilities, a classifier, coverage; nearest training users,
training against held-out distortions, twice the steps, seeds (as `csi-audit check-base`). Beside
them a Gaussian of the same covariance and a mixture of diagonal-plus-low-rank Gaussians, both
fitted on the training users and measured in the same way. What was drawn is kept; a repeated call
goes on where the last one stopped.

    python -m benchmarks.base_fidelity
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from benchmarks.base_rows import auc_checks, distance_checks, figure_rows, own_rows, ratio_checks
from benchmarks.gaussian_laws import COMPONENTS, RANK, GaussianMixture, fit_mixture, gaussian_of
from benchmarks.harness import Options, parse_arguments, write_result
from channels import audit_space
from channels.randomness import seeded_generator
from channels.run_folder import config_hash
from compressors import bundled_compressors
from csi_audit.base_check import Inputs, base_draws, base_side, checked, real_side
from csi_audit.base_commands import CheckBaseConfig
from csi_audit.base_sides import LawFigures, Side, law_figures, side_of
from csi_audit.memorisation import spread_rows
from csi_audit.run_state import BlockStore
from reports.check_schema import BaseCheck

Array = npt.NDArray[Any]

LAWS = ("gaussian", "mixture")
SIZES = {"val": (2000, 250), "test": (20_000, 1600)}  # base samples, and those at twice the steps


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--base", default=None, help="base model file (default: the bundled one)")
    add("--samples", type=int, help="base samples (default: 2000, on the test split 20000)")
    add("--doubled", type=int, help="of these at twice the steps (default: 250, on test 1600)")
    add("--steps", type=int, default=30, help="steps of the 2M ODE (default: 30)")
    add("--seeds", type=int, default=4, help="seeds among which samples are divided (default: 4)")
    add("--compressors", nargs="+", help="default: all bundled ones")
    add(
        "--train-users", type=int, help="that laws are fitted on and memory searched (default: all)"
    )
    add("--components", type=int, default=COMPONENTS, help="of the mixture")
    add("--rank", type=int, default=RANK, help="of each component's low-rank part")
    add("--device", default="cpu", choices=("auto", "cpu", "cuda"), help="of the denoiser")
    add("--state", type=Path, default=Path("runs/benchmark-base-fidelity"), help="what is drawn")


def settings_of(options: Options) -> CheckBaseConfig:
    """The check that this run makes of the base."""
    own = options.own
    samples, doubled = SIZES[options.split]
    train = None if options.data_dir is None else str(options.channels_path("train"))
    return CheckBaseConfig(
        base=own.base,
        data=str(options.channels_path()),
        train=train,
        compressor=tuple(own.compressors or bundled_compressors()),
        n_base=samples if own.samples is None else own.samples,
        n_double=doubled if own.doubled is None else own.doubled,
        steps=own.steps,
        seeds=own.seeds,
        seed=options.seed,
        device=own.device,
        block=100,
        batch_size=128,
    )


def _inputs(config: CheckBaseConfig, users: int | None) -> Inputs:
    """What the settings name; with at most so many training users."""
    found = Inputs.read(config)
    if users is None or found.train is None:
        return found
    train = found.train.subset(spread_rows(len(found.train), users))
    return Inputs(
        channels=found.channels, train=train, base=found.base, compressors=found.compressors
    )


def state_folder(options: Options, config: CheckBaseConfig, inputs: Inputs) -> Path:
    """Where the samples of this base lie, by its hash and that of all settings."""
    own = options.own
    fixed = {**config.fixing(), **inputs.hashes(), "users": own.train_users}
    fixed |= {"components": own.components, "rank": own.rank}
    return own.state / f"{inputs.base.sha256[:12]}-{config_hash(fixed)[:12]}"


# --- Sides, kept as blocks ------------------------------------------------------------------------


def kept_side(store: BlockStore, name: str, make: "partial[Side]") -> Side:
    """A measured side, from the disk where it was measured before."""
    found = store.get(name, 0, lambda: _flat(make()))
    return Side(
        nmse=_below(found, "nmse/"),
        features=_below(found, "features/"),
        columns=found["columns"],
        drops=found.get("drops"),
    )


def _flat(side: Side) -> dict[str, Array]:
    plain: dict[str, Array] = {"columns": side.columns}
    plain |= {f"nmse/{name}": values for name, values in side.nmse.items()}
    plain |= {f"features/{name}": values for name, values in side.features.items()}
    return plain if side.drops is None else plain | {"drops": side.drops}


def _below(found: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}


# --- Laws to beat ---------------------------------------------------------------------------------


def fitted_law(name: str, options: Options, inputs: Inputs, store: BlockStore) -> GaussianMixture:
    """The law of that name, fitted on the training users; kept once fitted."""
    if inputs.train is None:
        raise ValueError("laws are fitted on training users; got none.")
    train, flip = inputs.train, inputs.domain.grid.is_ula
    x = audit_space(train)

    def make() -> dict[str, Array]:
        if name == "gaussian":
            law = gaussian_of(x, flip=flip)
        else:
            generator = seeded_generator(options.seed, "mixture")
            own = options.own
            law, _ = fit_mixture(
                x, generator=generator, components=own.components, rank=own.rank, flip=flip
            )
        return {key: getattr(law, key).numpy() for key in ("weights", "diagonals", "factors")}

    found = store.get(f"law-{name}", 0, make)
    parts = {key: torch.from_numpy(value) for key, value in found.items()}
    return GaussianMixture(**parts, shape=(x.shape[1] // 2, x.shape[2], x.shape[3]), flip=flip)


def law_side(name: str, options: Options, inputs: Inputs, store: BlockStore, n: int) -> Side:
    """n samples of a law to beat, as a comparison sees them."""
    law = fitted_law(name, options, inputs, store)
    x = law.sample(n, generator=seeded_generator(options.seed, "law", name))
    return side_of(x, inputs.compressors, inputs.domain)


# --- The run --------------------------------------------------------------------------------------


class _Told:
    """Prints a line every twentieth of each part."""

    def __init__(self) -> None:
        self.shown: dict[str, int] = {}

    def __call__(self, what: str, made: int, total: int) -> None:
        twentieth = 20 * made // total
        if twentieth > self.shown.get(what, -1):
            self.shown[what] = twentieth
            print(f"{what}: {made:,} of {total:,} denoiser evaluations", flush=True)


def measured(
    options: Options, config: CheckBaseConfig, inputs: Inputs
) -> tuple[BaseCheck, dict[str, LawFigures], Mapping[str, Side]]:
    """The check of the base, every law beside the real channels, and the sides themselves."""
    store = BlockStore(state_folder(options, config, inputs))
    draws = base_draws(config, inputs.base, store, progress=_Told())
    sides = {
        "real": kept_side(store, "real", partial(real_side, inputs)),
        "base": kept_side(store, "base", partial(base_side, inputs, draws)),
    }
    found = checked(config, inputs, draws, side=sides["base"], real=sides["real"])
    beside = {
        "base": LawFigures(
            realism=found.realism, wasserstein=found.wasserstein, tail_ratios=found.tail_ratios,
            classifier=found.classifier, neighbours=found.neighbours,
        )
    }  # fmt: skip
    for name in LAWS if inputs.train is not None else ():
        print(f"{name}: fitted and measured once, then kept", flush=True)
        make = partial(law_side, name, options, inputs, store, len(sides["base"]))
        sides[name] = kept_side(store, name, make)
        beside[name] = law_figures(sides[name], sides["real"], seed=config.seed)
    return found, beside, sides


def _sizes(
    options: Options, config: CheckBaseConfig, found: BaseCheck, warned: Sequence[str]
) -> dict[str, Any]:
    return {
        "base_samples": config.n_base,
        "real_users": found.data.n,
        "train_users": None if found.train is None else found.train.n,
        "doubled": 0 if not found.doubling else found.doubling[0].n,
        "steps": config.steps,
        "seeds": config.seeds,
        "components": options.own.components,
        "rank": options.own.rank,
        "base_sha256": found.base.sha256,
        "chain": found.chain,
        "precision": "float32",
        "evaluations": found.cost.denoiser_evaluations,
        "verdict": found.base.verdict,
        "raw_power_1_50_99_percent": [round(value, 3) for value in found.raw_power],
        "warnings": list(warned),
    }


def main() -> None:
    """Draw what is missing, compare, write `benchmarks/results/base_fidelity.json`."""
    options = parse_arguments("base_fidelity", description=__doc__, add_own=_add_own)
    config = settings_of(options)
    inputs = _inputs(config, options.own.train_users)
    found, beside, sides = measured(options, config, inputs)
    rows = figure_rows(beside) + own_rows(found)
    checks = [
        *distance_checks(found, sides["base"], sides["real"], options.seed),
        *ratio_checks(found),
        *auc_checks(beside),
    ]
    write_result(
        options, sizes=_sizes(options, config, found, found.warnings), rows=rows, checks=checks
    )
    print(f"{found.chain}; raw power {[round(value, 3) for value in found.raw_power]}")


if __name__ == "__main__":
    main()
