"""One sentence for every key of `comparison.json`.

Paths are dotted as in keys.py: [] stands for any element of a list, <name> for any name.
"""

from collections.abc import Mapping

from reports.keys import ESTIMATE_KEYS

_OWN = {
    "comparison_version": "Version of this layout; readers refuse any other.",
    "created": "UTC time at which the comparison finished, ISO 8601.",
    "versions": "Version of each package that took part, by name.",
    "seed": "Seed of the base samples and of resamples.",
    "prob": "Quantile level of the tail figures: 0.99 stands for the worst 1 %.",
    "thresholds": "Labels of the failure thresholds.",
    "compressors": "What was compared, in the order given.",
    "compressors[].name": "Name that tables and figures show.",
    "compressors[].spec": "What was loaded: a bundled name, a file, or package.module:attr.",
    "compressors[].sha256": "SHA-256 of its files or code; null if unknown.",
    "compressors[].n_code": "Real numbers in one codeword; null if unknown.",
    "compressors[].trained_on": "What its card says of its training channels, in words.",
    "compressors[].n_side": "Scales of a user that go along with the codeword; null if unknown.",
    "compressors[].bits_mean": "Bits of a codeword, on average over the first set; null where it "
    "is not quantised, or unknown.",
    "sets": "Sets of channels, each with everything compared on it.",
    "sets[].name": "Name of the set.",
    "sets[].kind": "'real' channels of a file, or samples of the 'base' law.",
    "sets[].n": "Channels in it.",
    "sets[].sha256": "SHA-256 of the file, or of the base model; null if unknown.",
    "sets[].description": "Scenario and array, or the chain, in words.",
    "sets[].pairs": "Every pair of compressors, figure i of both on the same channel i.",
    "sets[].pairs[].first": "The compressor that is subtracted from.",
    "sets[].pairs[].second": "The compressor that is subtracted.",
    "sets[].pairs[].figures": "One entry a quantity; lower is better in each.",
    "sets[].pairs[].figures[].quantity": "What is compared, in words.",
    "sets[].pairs[].figures[].unit": "Unit of the difference: 'dB' or '1'.",
    "sets[].pairs[].figures[].difference": "First minus second; null where it has no meaning.",
    "sets[].pairs[].figures[].p_value": "P-value of no difference, for this pair alone; null if "
    "unknown.",
    "sets[].pairs[].figures[].p_holm": "The p-value adjusted (Holm) for all pairs of the set in "
    "this quantity.",
    "sets[].pairs[].figures[].verdict": "Which is better at an adjusted 5 %, or 'cannot tell'.",
    "sets[].pairs[].figures[].design_effect": "Design effect of drops that interval and test allow "
    "for; null where channels count one by one.",
    "sets[].rankings": "An order of all compressors, one entry a quantity.",
    "sets[].rankings[].quantity": "What ranks, in words.",
    "sets[].rankings[].unit": "Unit of the values.",
    "sets[].rankings[].entries": "Compressors, lowest value first.",
    "sets[].rankings[].entries[].name": "The compressor.",
    "sets[].rankings[].entries[].value": "Its own figure; null without one.",
    "sets[].rankings[].entries[].best": "Best rank that the verdicts leave open; 1 is best.",
    "sets[].rankings[].entries[].worst": "Worst rank that they leave open.",
    "sets[].rankings[].sentence": "The order in words.",
    "sets[].overlaps": "Shared and separate failures, one entry a pair and threshold.",
    "sets[].overlaps[].first": "One compressor.",
    "sets[].overlaps[].second": "The other.",
    "sets[].overlaps[].threshold": "Label of the threshold.",
    "sets[].overlaps[].both": "Probability that both fail.",
    "sets[].overlaps[].only_first": "Probability that the first alone fails.",
    "sets[].overlaps[].only_second": "Probability that the second alone fails.",
    "sets[].overlaps[].shared": "Share of the channels that either fails on where both do; null "
    "where none fails.",
    "sets[].overlaps[].by_chance": "Probability that both fail if failures were independent.",
    "sets[].notes": "Remarks on the set, such as the design effect of its drops.",
    "matrix": "Every compressor on every set.",
    "matrix[].compressor": "The compressor.",
    "matrix[].set_name": "The set.",
    "matrix[].case": "Generalisation case of 3GPP TR 38.843: 'case 1' trained on the audited "
    "scenario and configuration, 'case 2' on others, 'case 3' on a mixture that holds it; "
    "'unknown', or 'base law'.",
    "matrix[].reason": "How the case was told.",
    "matrix[].mean": "Mean linear NMSE.",
    "matrix[].mean_db": "The same in dB; null where it is 0.",
    "matrix[].p_fail": "P(NMSE > tau) by label of the threshold.",
    "matrix[].quantile": "Quantile of the linear NMSE at 'prob'.",
    "matrix[].cvar": "Mean linear NMSE of the worst share 1 - 'prob'.",
    "notes": "What the figures mean and do not mean.",
    "warnings": "What a reader must know before using the figures.",
}

_ESTIMATES_AT = (
    "sets[].pairs[].figures[].difference",
    "sets[].rankings[].entries[].value",
    "sets[].overlaps[].both",
    "sets[].overlaps[].only_first",
    "sets[].overlaps[].only_second",
    "sets[].overlaps[].shared",
    "matrix[].mean",
    "matrix[].p_fail.<name>",
    "matrix[].quantile",
    "matrix[].cvar",
)

COMPARISON_KEYS: Mapping[str, str] = _OWN | {
    f"{path}.{key}": sentence for path in _ESTIMATES_AT for key, sentence in ESTIMATE_KEYS.items()
}
"""Sentence by dotted path of every key in `comparison.json`."""
