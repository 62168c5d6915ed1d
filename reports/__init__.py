"""What a person sees of an audit: estimates with intervals, the result schema, figures and pages.

Imports channels only; knows nothing of samplers or training. Importing it loads neither matplotlib
nor lightning: figures.py is imported when a page is written.
"""

from reports.estimates import (
    Estimate,
    KsFloor,
    agree,
    by_drop_mean,
    design_effect,
    format_estimate,
    ks_distance,
    ks_floor,
    mean_estimate,
    proportion,
    quantile_estimate,
)
from reports.figure_data import (
    Exemplar,
    ReportArrays,
    exemplar_indices,
    mean_power,
    worst_weight,
)
from reports.keys import KEYS
from reports.realism import base_verdict, fidelity_summary, realism_item
from reports.report import write_report
from reports.reweighting import (
    effective_sample_size,
    normalised_weights,
    pareto_k,
    tilted_mean,
    weighted_mean,
    weighted_proportion,
)
from reports.schema import (
    SCHEMA_VERSION,
    BaseInfo,
    CompressorRow,
    Cost,
    DataInfo,
    ImportanceEstimates,
    IssgmEntry,
    LossSummary,
    RealismItem,
    Result,
    Tail,
    Threshold,
    WorstFeature,
    load_result,
)
from reports.stratify import worst_features
from reports.tables import markdown_summary, summary_table
from reports.tail_estimates import (
    cvar_estimate,
    weighted_cvar_estimate,
    weighted_quantile_estimate,
)
from reports.words import answer, klt_sentence

__all__ = [
    "KEYS",
    "SCHEMA_VERSION",
    "BaseInfo",
    "CompressorRow",
    "Cost",
    "DataInfo",
    "Estimate",
    "Exemplar",
    "ImportanceEstimates",
    "IssgmEntry",
    "KsFloor",
    "LossSummary",
    "RealismItem",
    "ReportArrays",
    "Result",
    "Tail",
    "Threshold",
    "WorstFeature",
    "agree",
    "answer",
    "base_verdict",
    "by_drop_mean",
    "cvar_estimate",
    "design_effect",
    "effective_sample_size",
    "exemplar_indices",
    "fidelity_summary",
    "format_estimate",
    "klt_sentence",
    "ks_distance",
    "ks_floor",
    "load_result",
    "markdown_summary",
    "mean_estimate",
    "mean_power",
    "normalised_weights",
    "pareto_k",
    "proportion",
    "quantile_estimate",
    "realism_item",
    "summary_table",
    "tilted_mean",
    "weighted_cvar_estimate",
    "weighted_mean",
    "weighted_proportion",
    "weighted_quantile_estimate",
    "worst_features",
    "worst_weight",
    "write_report",
]
