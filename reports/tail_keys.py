"""One sentence for every key of `result.json` that reports.tail_schema defines."""

from collections.abc import Mapping

_AT = "compressors[].estimates"

TAIL_KEYS: Mapping[str, str] = {
    f"{_AT}.tails[].counted": "P(NMSE > tau) counted on the base samples, where 'base' was found "
    "by another method; null where 'base' is the count.",
    f"{_AT}.curve": "The tail of the NMSE; null where it was not asked for.",
    f"{_AT}.curve.method": "How the base side was computed, in words.",
    f"{_AT}.curve.runs": "Independent runs of subset simulation; null where the base was counted.",
    f"{_AT}.curve.n_evaluations": "Denoiser evaluations spent on the base side.",
    f"{_AT}.curve.points": "Points of the tail, likeliest first.",
    f"{_AT}.curve.points[].probability": "Probability that the level is exceeded with.",
    f"{_AT}.curve.points[].base": "The level under the base law [dB]; null without one.",
    f"{_AT}.curve.points[].real": "The level on real channels [dB]; null where they are too few.",
    f"{_AT}.guided": "Guided sampling of q; null where it was not run.",
    f"{_AT}.guided.e_q": "E_q[L] from guided samples with exact weights, under their own chain.",
    f"{_AT}.guided.z": "E_p[L] as the guided run itself finds it, under its chain.",
    f"{_AT}.guided.reweighted": "E_q[L] from plain draws of the same chain, reweighted.",
    f"{_AT}.guided.n": "Guided samples.",
    f"{_AT}.guided.steps": "Steps of the guided chain.",
    f"{_AT}.guided.r2": "Share of the variance of l that the twist explains, by noise level.",
    f"{_AT}.chains": "The same figures under each chain that was run, the audited law first; empty "
    "where it was the only one.",
    f"{_AT}.chains[].label": "What the chain is to the audit.",
    f"{_AT}.chains[].chain": "The chain and its number of steps, in words.",
    f"{_AT}.chains[].e_p": "E_p[L] from plain draws of the chain.",
    f"{_AT}.chains[].tails": "P(NMSE > tau) under the chain, by label of the threshold.",
    f"{_AT}.chains[].shifts": "Differences from the audited law where both went from the same "
    "noise, by 'E_p[L]' or label of the threshold.",
    f"{_AT}.chains[].moved": "Figures that differ from those of the audited law beyond its "
    "interval.",
    f"{_AT}.decisions": "Which method answers which question; empty in older results.",
    f"{_AT}.decisions[].quantity": "The question.",
    f"{_AT}.decisions[].chosen": "The method that was taken.",
    f"{_AT}.decisions[].reason": "Why, in a sentence or two.",
    f"{_AT}.decisions[].unit": "What the prices of the candidates buy.",
    f"{_AT}.decisions[].candidates": "Every method that was looked at.",
    f"{_AT}.decisions[].candidates[].method": "Name of the method.",
    f"{_AT}.decisions[].candidates[].evaluations": "Its price in denoiser evaluations, forecast "
    "from the base samples; null where it cannot answer.",
    f"{_AT}.decisions[].candidates[].seconds": "The same in seconds at measured speeds; null where "
    "none was measured.",
    f"{_AT}.decisions[].candidates[].verdict": "'chosen', or why it was not.",
}
"""Sentence by dotted path."""

ESTIMATES_AT = (
    f"{_AT}.tails[].counted",
    f"{_AT}.curve.points[].base",
    f"{_AT}.curve.points[].real",
    f"{_AT}.guided.e_q",
    f"{_AT}.guided.z",
    f"{_AT}.guided.reweighted",
    f"{_AT}.chains[].e_p",
    f"{_AT}.chains[].tails.<name>",
    f"{_AT}.chains[].shifts.<name>",
)
"""Where these keys hold an estimate."""
