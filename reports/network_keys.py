"""One sentence for every key of `result.json` that speaks of a cell network; keys.py joins them.

A loss of the network has the same keys as a compressor, so their sentences are made of those.
"""

from collections.abc import Mapping

NETWORK_KEYS: Mapping[str, str] = {
    "network": "The cell network under audit; null where compressors are.",
    "network.description": "The network in one sentence.",
    "network.area_m": "Width and height of the area [m]; its lower left corner is the origin.",
    "network.stations_m": "Positions of the base stations [m].",
    "network.n_users": "Users of a placement.",
    "network.law": "Law of where the users stand, in words.",
    "network.at_least": "Users below the threshold that make a joint outage.",
    "network.exponent": "Exponent of the path loss.",
    "network.power_w": "Power received at 1 m, but for epsilon [W].",
    "network.epsilon": "Added to the path loss, which keeps the power finite at a station "
    "[m^exponent].",
    "network.noise_w": "Noise power [W].",
    "network.threshold_db": "SINR below which a user is in outage [dB].",
    "network.steepness": "Of the soft indicator of being served, in 1/dB, or 1 on the linear "
    "ratio.",
    "network.scale": "Whether that indicator sees 'db' or the 'linear' ratio.",
    "network.load": "Share of the time that each station transmits.",
    "network.propagation": "Shadowing and antenna patterns in words; empty without either.",
    "outages": "One row per loss of the network; empty where compressors are audited.",
    "outages[].name": "Name of the loss in files and in rules of the gate.",
    "outages[].label": "What a reader calls it.",
    "outages[].unit": "Unit of the loss; '1' for a share or a probability.",
    "outages[].worse": "Which side of the loss is bad: 'high' or 'low'.",
    "outages[].definition": "The loss in a sentence.",
    "outages[].losses": "Mean of the loss, by its name.",
}
"""Sentence by dotted path, without those that a row shares with a compressor's."""

_ROW, _OF_LOSSES = "compressors[].", "outages[]."
_SHARED = ("losses.", "estimates", "worst", "modes", "strata")
_WORDS = {
    "NMSE": "L",
    "compressor": "loss",
    "channel": "placement",
    "'no real placements'": "'no real channels'",
    " [dB]": " in its own unit",
}
_INSTEAD = {
    "estimates.loss": "Name of the loss L that E_p[L] averages.",
    "estimates.weight": "The weight l that defines q = l p / Z, in words; E_q[l] averages it.",
    "estimates.e_q": "Mean of the weight under the failure-weighted law, E_q[l].",
    "estimates.guided.e_q": "E_q[l] from guided samples with exact weights, under their own chain.",
    "estimates.guided.z": "E_p[l] as the guided run itself finds it, under its chain.",
    "estimates.guided.reweighted": "E_q[l] from plain draws of the same chain, reweighted.",
    "estimates.tails[].nmse_db": "Null: see 'level'.",
    "estimates.tails[].level": "The threshold used, in the unit of the loss.",
    "estimates.curve": "The tail of the loss; null where it was not asked for.",
    "estimates.issgm": "Null: the paper's guided sampler is not run on networks.",
}


def sentences_of_losses(keys: Mapping[str, str]) -> dict[str, str]:
    """Sentences for the keys that a loss of a network shares with a compressor.

    Args:
        keys: Sentence by dotted path of the compressors' keys.
    """
    found = {}
    for path, sentence in keys.items():
        rest = path.removeprefix(_ROW)
        if rest != path and rest.startswith(_SHARED):
            found[_OF_LOSSES + rest] = _INSTEAD.get(rest) or _reworded(sentence)
    return found


def _reworded(sentence: str) -> str:
    for before, after in _WORDS.items():
        sentence = sentence.replace(before, after)
    return sentence
