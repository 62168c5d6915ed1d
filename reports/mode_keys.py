"""One sentence for every key of failure modes and strata in `result.json`; keys.py joins them."""

MODE_KEYS = {
    "compressors[].modes": "Where the failures of this compressor concentrate; null where modes "
    "were not looked for.",
    "compressors[].modes.threshold": "Label of the threshold that makes a failure here.",
    "compressors[].modes.nmse_db": "That threshold [dB]; null where 'level' holds it.",
    "compressors[].modes.level": "That threshold where the loss has a unit of its own.",
    "compressors[].modes.rate_base": "P(NMSE > tau) on base samples.",
    "compressors[].modes.rate_real": "P(NMSE > tau) on real channels; null without any.",
    "compressors[].modes.n_failures": "Effective number of independent failures that the modes "
    "were found among.",
    "compressors[].modes.delay_unit": "Unit of delays in rules and ranges: 's', or 'taps' where "
    "the bandwidth is unknown.",
    "compressors[].modes.criterion": "The rule by which the number of modes was set, in words.",
    "compressors[].modes.stability": "Mean adjusted Rand index between the modes and those of "
    "resampled base samples; null without modes.",
    "compressors[].modes.found": "Number of modes found in each resample.",
    "compressors[].modes.elsewhere": "Share of all failures that lie in no mode.",
    "compressors[].modes.note": "Why there are no modes, or what to mind.",
    "compressors[].modes.modes": "The modes, the most telling first; a channel belongs to the "
    "first whose rule it keeps.",
    "compressors[].modes.modes[].name": "The mode in the field's words.",
    "compressors[].modes.modes[].rule_text": "The rule in words: all of it must hold.",
    "compressors[].modes.modes[].rule": "The bounds that a channel of the mode keeps, functions "
    "of the channel alone.",
    "compressors[].modes.modes[].rule[].kind": "What is bounded: a 'feature', or the share of the "
    "energy in a window of 'delay' or of angle ('beam').",
    "compressors[].modes.modes[].rule[].feature": "Name of the feature; empty for a window.",
    "compressors[].modes.modes[].rule[].window": "Ends of the window, in the unit of delays or in "
    "sin(azimuth), where a first end above the second wraps round; null for a feature.",
    "compressors[].modes.modes[].rule[].side": "'at least' or 'at most' the limit.",
    "compressors[].modes.modes[].rule[].limit": "The limit, in the feature's stored unit (s, deg, "
    "dB, 1), or a share of the energy.",
    "compressors[].modes.modes[].share": "Share of all failures that lie in the mode, under the "
    "base law.",
    "compressors[].modes.modes[].population": "Share of all channels in the mode, failing or not, "
    "under the base law.",
    "compressors[].modes.modes[].rate_base": "P(NMSE > tau) of base samples inside the mode.",
    "compressors[].modes.modes[].share_real": "Share of the real failures that lie in the mode; "
    "null without any.",
    "compressors[].modes.modes[].rate_real": "P(NMSE > tau) of the real channels inside the mode, "
    "put there by the rule alone; null where there are none.",
    "compressors[].modes.modes[].confirmation": "'confirmed': the interval of rate_real lies above "
    "the rate of all real channels; 'not confirmed': it does not exceed that rate; 'cannot tell': "
    "neither, or fewer than 10 real channels inside; 'no real channels'.",
    "compressors[].modes.modes[].delay_range": "Shortest stretch of delay with 80 % of the error "
    "that the mode has above the population's; null where that is half of the axis or more.",
    "compressors[].modes.modes[].beam_range": "The same in sin(azimuth); a first end above the "
    "second wraps round.",
    "compressors[].modes.modes[].los": "Share of the mode's failures with line of sight, estimated "
    "by their K-factor; null without one.",
    "compressors[].modes.modes[].los_population": "The same share of all channels.",
    "compressors[].modes.modes[].features": "Ranges of physical features among the mode's "
    "failures, beside the population's.",
    "compressors[].modes.modes[].features[].feature": "Name of the feature.",
    "compressors[].modes.modes[].features[].label": "What a reader calls it.",
    "compressors[].modes.modes[].features[].unit": "Unit of the figures; empty for a pure number.",
    "compressors[].modes.modes[].features[].mode": "10, 50 and 90 % quantiles among the mode's "
    "failures.",
    "compressors[].modes.modes[].features[].population": "The same of all channels.",
    "compressors[].modes.modes[].features[].above": "Share of the mode's failures above the "
    "median of all channels.",
    "compressors[].modes.modes[].places": "In a network, where the unserved users of the mode's "
    "failures stand; empty elsewhere.",
    "compressors[].modes.modes[].places[].name": "The place in words.",
    "compressors[].modes.modes[].places[].share": "Share of those users that stand there.",
    "compressors[].modes.modes[].places[].centre_m": "Mean of their positions [m].",
    "compressors[].strata": "Failure probability by stratum of a feature.",
    "compressors[].strata[].threshold": "Label of the threshold that makes a failure here.",
    "compressors[].strata[].feature": "Name of the feature, or 'line_of_sight'.",
    "compressors[].strata[].label": "What a reader calls it.",
    "compressors[].strata[].unit": "Unit of the ends; empty for a pure number.",
    "compressors[].strata[].low": "Lower end; null where open.",
    "compressors[].strata[].high": "Upper end, not included; null where open.",
    "compressors[].strata[].base": "P(NMSE > tau) of the base samples in the stratum; null "
    "without any.",
    "compressors[].strata[].real": "The same counted on real channels.",
    "compressors[].strata[].name": "'LOS' or 'NLOS', or the numbers of a count; empty for a range.",
    "compressors[].strata[].how": "What line of sight was told by, on either side.",
}

MODE_ESTIMATES = (
    "compressors[].modes.rate_base",
    "compressors[].modes.rate_real",
    "compressors[].modes.elsewhere",
    "compressors[].modes.modes[].share",
    "compressors[].modes.modes[].population",
    "compressors[].modes.modes[].rate_base",
    "compressors[].modes.modes[].share_real",
    "compressors[].modes.modes[].rate_real",
    "compressors[].modes.modes[].los",
    "compressors[].modes.modes[].features[].above",
    "compressors[].strata[].base",
    "compressors[].strata[].real",
)
"""Keys that hold an `Estimate`."""
