"""One sentence for every key of `result.json`, and the check that none is missing.

Paths are dotted; [] stands for any element of a list, <name> for any name in a mapping.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from reports.fidelity_keys import TAIL_RATIO, below
from reports.mode_keys import MODE_ESTIMATES, MODE_KEYS
from reports.network_keys import NETWORK_KEYS, sentences_of_losses
from reports.schema import Result
from reports.tail_keys import ESTIMATES_AT, TAIL_KEYS

ESTIMATE_KEYS = {
    "value": "Point estimate, in the unit of the quantity; probabilities lie in [0, 1].",
    "std_error": "Standard error in the same unit; null when unknown.",
    "interval": "Two-sided confidence interval [lo, hi]; null when none can be given.",
    "level": "Confidence level of the interval.",
    "n": "Number of samples behind the value.",
    "ess": "Effective sample size of the weights; null where it has no meaning.",
    "status": "'ok', or in words why the figure must be read with care.",
    "method": "How the value was computed, in words.",
    "n_evaluations": "Denoiser evaluations spent on the figure; null when not counted.",
}

_OWN = {
    "schema_version": "Version of this layout; readers refuse any other.",
    "created": "UTC time at which the audit finished, ISO 8601.",
    "versions": "Version of each package that took part, by name.",
    "seed": "Seed of the audit; every block of random numbers derives from it.",
    "data": "The channels that were read, or the placements of a network.",
    "data.path": "Path of the channel file as it was given; of a network the file of placements, "
    "or the law that stands for it.",
    "data.sha256": "SHA-256 of the file; null when nothing was read from one.",
    "data.n": "Number of real channels, or placements, used.",
    "data.drops": "Number of environments (drops) among them; null when the file does not say.",
    "data.description": "Scenario, carrier and array of the channels, in words.",
    "data.convention": "Domain, scaling and offset that the file had its channels in.",
    "data.notices": "What was found or assumed in reading the file, a sentence each.",
    "base": "The base law p: the trained diffusion model whose samples are audited.",
    "base.sha256": "SHA-256 of the base model's weights; null without a base model.",
    "base.fidelity": "Largest KS distance to the real channels, by kind of quantity.",
    "base.verdict": "'credible', 'misses', 'cannot tell' or 'not checked': the outcome of the "
    "realism gate.",
    "base.name": "Name of the base model.",
    "base.n_samples": "Number of base samples drawn.",
    "base.rule": "Thresholds of the realism gate at these sizes, in words.",
    "tau": "Failure thresholds: a channel fails when its NMSE exceeds tau, a placement when a loss "
    "of the network does.",
    "tau[].label": "Short name of the threshold; tails refer to it.",
    "tau[].nmse_db": "The threshold [dB]; null where each compressor has its own.",
    "tau[].level": "The threshold in the unit of the network's loss that it is of; null where it "
    "is of the NMSE, or each has its own.",
    "tau[].origin": "Where the threshold comes from, in words.",
    "compressors": "One row per audited compressor; empty where a network is audited.",
    "compressors[].name": "Name that tables and figures show.",
    "compressors[].spec": "What was loaded: a bundled name, a file, or package.module:attr.",
    "compressors[].convention": "Domain, crop and scaling that the compressor works in.",
    "compressors[].n_code": "Code length: real numbers in one codeword.",
    "compressors[].bits_mean": "Mean bits of a codeword on real channels, side information not "
    "counted; null where the code is not quantised, or n_side is null too.",
    "compressors[].bits_max": "Most bits of a codeword on real channels; null like bits_mean.",
    "compressors[].n_side": "Real numbers a user that decode is given beside the codeword, such "
    "as its scale; null where an older result does not say.",
    "compressors[].n_channel": "Real numbers in one channel; over n_code, the compression ratio.",
    "compressors[].losses": "Mean of each loss, by name; 'nmse' is linear.",
    "compressors[].losses.<name>.unit": "Unit of the loss; '1' for a ratio.",
    "compressors[].losses.<name>.worse": "Which side of the loss is bad: 'high' or 'low'.",
    "compressors[].losses.<name>.base": "Mean over base samples; null without any.",
    "compressors[].losses.<name>.real": "Mean over real channels; null without any.",
    "compressors[].estimates": "Importance sampling and tail probabilities.",
    "compressors[].estimates.loss": "The loss L that E_p[L] and E_q[L] average.",
    "compressors[].estimates.weight": "The weight l that defines q = l p / Z, in words.",
    "compressors[].estimates.e_p": "Mean loss under the base law, E_p[L].",
    "compressors[].estimates.e_q": "Mean loss under the failure-weighted law, E_q[L].",
    "compressors[].estimates.tails": "P(NMSE > tau), one entry per threshold.",
    "compressors[].estimates.tails[].threshold": "Label of the threshold in 'tau'.",
    "compressors[].estimates.tails[].nmse_db": "The threshold used for this compressor [dB].",
    "compressors[].estimates.tails[].level": "Null: see 'nmse_db'.",
    "compressors[].estimates.tails[].base": "P(NMSE > tau) under the base law, by its 'method'; "
    "null without base samples.",
    "compressors[].estimates.tails[].real": "P(NMSE > tau) on real channels; null without any.",
    "compressors[].estimates.tails[].agreement": "'agree', 'differ' or 'cannot tell': the "
    "interval of the difference holds 0 and the ratio is known within a factor of 2; it leaves "
    "out 0; neither.",
    "compressors[].estimates.issgm": "The paper's guided sampler; null where it was not run.",
    "compressors[].estimates.issgm.label": "What kind of run it was, such as 'short run'.",
    "compressors[].estimates.issgm.e_q": "E_q[L] from the guided samples of this run.",
    "compressors[].estimates.issgm.steps": "Steps of the guided chain in this run.",
    "compressors[].estimates.issgm.n": "Guided samples in this run.",
    "compressors[].estimates.issgm.full": "Figures of the full benchmark run for the same base "
    "model; null when there are none.",
    "compressors[].estimates.issgm.note": "Why the full figures are missing, or what to mind.",
    "compressors[].against_klt_db": "NMSE of the KLT with the same code length minus that of the "
    "compressor [dB]; positive means better than the KLT; null when not compared.",
    "compressors[].against_klt": "The same comparison as a sentence.",
    "compressors[].worst": "How physical features differ in the worst channels.",
    "compressors[].worst[].feature": "Name of the feature.",
    "compressors[].worst[].label": "What a reader calls it.",
    "compressors[].worst[].unit": "Its unit.",
    "compressors[].worst[].source": "'base' samples or 'real' channels.",
    "compressors[].worst[].share": "Share of channels that counts as worst.",
    "compressors[].worst[].n_worst": "Effective number of channels in that share.",
    "compressors[].worst[].median_all": "Median over all channels.",
    "compressors[].worst[].median_worst": "Median over the worst channels.",
    "compressors[].worst[].rank": "Chance that a worst channel has the larger value of two, the "
    "other drawn from all; 0.5 means no difference.",
    "compressors[].worst[].shift": "Distance of the rank from 0.5 in standard errors of chance.",
    "realism": "Base samples against real channels, one entry per quantity.",
    "realism[].name": "Compressor or feature.",
    "realism[].label": "What a reader calls it.",
    "realism[].kind": "'distortion' (decides the verdict) or 'feature'.",
    "realism[].ks": "Two-sample Kolmogorov-Smirnov distance; null when not checked.",
    "realism[].floor_mean": "Mean KS distance that a perfect model shows at these sizes.",
    "realism[].floor_95": "95 % quantile of the KS distance of a perfect model.",
    "realism[].n_base": "Base samples compared.",
    "realism[].n_real": "Real channels compared.",
    "realism[].limit": "Largest acceptable KS distance; null without a limit.",
    "realism[].verdict": "'within chance', 'off by little', 'off' or 'not checked'.",
    "tail_ratios": "Tail probabilities of each compressor, base samples over real channels.",
    "cost": "What the audit spent.",
    "cost.denoiser_evaluations": "Evaluations of the denoiser, one sample each; null if unknown.",
    "cost.seconds": "Wall time [s]; null if unknown.",
    "cost.parts": "Denoiser evaluations by step of the audit.",
    "cost.machine": "The machine, in words.",
    "warnings": "What a reader must know before using the figures.",
    "audited_law": "Whose failures these are: chain, number of steps, normalisation.",
    "notes": "Remarks that are not warnings.",
}

_ESTIMATES_AT = (
    "compressors[].losses.<name>.base",
    "compressors[].losses.<name>.real",
    "compressors[].estimates.e_p",
    "compressors[].estimates.e_q",
    "compressors[].estimates.tails[].base",
    "compressors[].estimates.tails[].real",
    "compressors[].estimates.issgm.e_q",
    *ESTIMATES_AT,
    *MODE_ESTIMATES,
)

_ROWS = {**_OWN, **TAIL_KEYS, **MODE_KEYS}
_SENTENCES = {
    **_ROWS,
    **below("tail_ratios[]", TAIL_RATIO),
    **NETWORK_KEYS,
    **sentences_of_losses(_ROWS),
}
_OF_LOSSES = sentences_of_losses(dict.fromkeys(_ESTIMATES_AT, ""))

KEYS: Mapping[str, str] = _SENTENCES | {
    f"{path}.{key}": sentence
    for path in (*_ESTIMATES_AT, *_OF_LOSSES)
    for key, sentence in ESTIMATE_KEYS.items()
}
"""Sentence by dotted path of every key in `result.json`."""


def schema_paths(cls: type[Any] = Result, prefix: str = "") -> Iterator[str]:
    """Dotted paths of all keys that the schema's dataclasses define."""
    for name, hint in typing.get_type_hints(cls).items():
        path = f"{prefix}{name}"
        yield path
        inner, suffix = _element(hint)
        if dataclasses.is_dataclass(inner):
            yield from schema_paths(typing.cast("type[Any]", inner), f"{path}{suffix}.")


def _element(hint: Any) -> tuple[Any, str]:
    """The class inside Optional, tuple[X, ...] or Mapping[str, X], and how its path is written."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _element(next(arg for arg in args if arg is not type(None)))
    if origin is tuple and args[-1] is Ellipsis:
        return args[0], "[]"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return args[1], ".<name>"
    return hint, ""
