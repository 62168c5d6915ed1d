"""One sentence for every key of the items in `fidelity_items.py`, relative to where they stand."""

from collections.abc import Mapping

ESTIMATE: Mapping[str, str] = {
    "value": "Point estimate.",
    "std_error": "Standard error in the same unit; null when unknown.",
    "interval": "Two-sided confidence interval [lo, hi]; null when none can be given.",
    "level": "Confidence level of the interval.",
    "n": "Number of values behind the estimate.",
    "ess": "Effective sample size; null where it has no meaning.",
    "status": "'ok', or in words why the figure must be read with care.",
    "method": "How the value was computed, in words.",
    "n_evaluations": "Denoiser evaluations spent on it; null when not counted.",
}

TAIL_RATIO: Mapping[str, str] = {
    "name": "Compressor, or what else the loss L belongs to.",
    "label": "What a reader calls the loss.",
    "share": "Share of the real channels at or beyond the threshold.",
    "tau": "The threshold, in the unit of L (linear for NMSE); null where the share holds not one "
    "real channel.",
    "n_base": "Base samples counted.",
    "n_real": "Real channels counted.",
    "base_beyond": "Base samples at or beyond the threshold.",
    "real_beyond": "Real channels at or beyond it.",
    "ratio": "P(L >= tau) of base samples over that of real channels, its interval over drops; "
    "null without a threshold.",
    "perfect": "Range of 95 % of the ratios that a perfect model shows at these sizes; null "
    "without a threshold.",
    "design_effect": "Variance of the real count with whole drops drawn over that with channels "
    "drawn one by one; null where channels were counted singly.",
    "limits": "An interval that leaves out [low, high] is off.",
    "factor": "Ends of the interval must lie closer than this factor for a pass.",
    "verdict": "'pass', 'off' or 'cannot tell'.",
} | {f"ratio.{key}": sentence for key, sentence in ESTIMATE.items()}

WASSERSTEIN: Mapping[str, str] = {
    "name": "Compressor or feature.",
    "label": "What a reader calls it.",
    "unit": "Unit of the distance; '' for a pure number.",
    "distance": "Wasserstein-1 distance between base samples and real channels.",
    "floor_mean": "Mean distance that a perfect model shows at these sizes.",
    "floor_95": "95 % quantile of the distance of a perfect model.",
    "spread_real": "Standard deviation of the real channels, in the same unit.",
}

CLASSIFIER: Mapping[str, str] = {
    "auc": "Chance that a base sample looks more like one than a real channel does; 0.5 is no "
    "difference. Its interval is over drops.",
    "perfect_95": "95 % quantile of the AUC of a perfect model at these sizes.",
    "limit": "Largest AUC accepted.",
    "n_columns": "Numbers that describe a channel to the classifier.",
    "folds": "Folds; each is scored by a classifier trained on the others.",
    "verdict": "'pass', 'off' or 'cannot tell'.",
} | {f"auc.{key}": sentence for key, sentence in ESTIMATE.items()}

NEIGHBOURS: Mapping[str, str] = {
    "coverage": "Share of real channels with a base sample as near as their k-th real neighbour.",
    "perfect_coverage": "Coverage to expect of a perfect model at these sizes.",
    "density": "Base samples in those balls over what is to be expected; a perfect model has 1.",
    "k": "Which real neighbour ends a ball.",
    "n_columns": "Features that span the space.",
} | {f"coverage.{key}": sentence for key, sentence in ESTIMATE.items()}

MEMORISATION: Mapping[str, str] = {
    "n_train": "Training channels searched.",
    "median_base": "Median distance of a base sample to its nearest training channel: the share of "
    "its power that differs, under the best global phase and array flip.",
    "median_held_out": "The same of held-out users, whom the base has never seen.",
    "nearest_base": "Smallest distance of all base samples.",
    "nearest_held_out": "Smallest distance of all held-out users.",
    "closer": "How often base samples are as near to a training channel as the nearest 1 % of "
    "held-out users, as a ratio; 'tau' is minus that distance.",
    "verdict": "'copies', 'no sign' or 'cannot tell'.",
} | {f"closer.{key}": sentence for key, sentence in TAIL_RATIO.items()}

TRAIN_DISTORTION: Mapping[str, str] = {
    "name": "Compressor.",
    "base_db": "Mean NMSE on base samples [dB].",
    "train_db": "Mean NMSE on training users of the base [dB].",
    "held_out_db": "Mean NMSE on held-out users [dB].",
    "ks_train": "KS distance of its NMSE, base samples against training users.",
    "ks_held_out": "The same against held-out users.",
    "n_train": "Training users drawn for this.",
    "verdict": "'alike' where training and held-out users are alike to this compressor, 'takes "
    "after the training users' or 'takes after the held-out users' where they differ.",
}

STEP_DOUBLING: Mapping[str, str] = {
    "name": "Compressor or feature.",
    "label": "What a reader calls it.",
    "kind": "'distortion' or 'feature'.",
    "n": "Samples drawn twice from the same initial noise.",
    "ks": "KS distance between the samples at the stated and at twice the steps.",
    "ks_real": "KS distance to the real channels at the stated steps, of these samples.",
    "ks_real_doubled": "The same at twice the steps.",
    "beyond": "Samples at or beyond the threshold of the worst 1 % of real channels; null for a "
    "feature.",
    "beyond_doubled": "The same at twice the steps.",
    "limit": "Largest movement 'ks' that counts as none.",
    "verdict": "'still' or 'moves'.",
}

SEED_SPREAD: Mapping[str, str] = {
    "name": "Compressor.",
    "mean_db": "Mean NMSE of the samples of each seed [dB].",
    "n": "Base samples a seed.",
    "p_value": "Chance of so much spread or more if seeds did not matter (Kruskal-Wallis).",
    "verdict": "'within chance', or 'seeds differ' below a chance of 0.1 %.",
}


def below(path: str, sentences: Mapping[str, str]) -> dict[str, str]:
    """The sentences under a dotted path."""
    return {f"{path}.{key}": sentence for key, sentence in sentences.items()}
