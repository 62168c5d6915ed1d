"""What is audited: CSI compressors, their metrics, the zoo, and training.

Imports channels alone. Importing this loads neither lightning nor matplotlib: training lives in
`compressors.compressor_training` and is imported by the commands that train.
"""

from compressors.audit_space import AuditedCompressor, Compressor, in_audit_space
from compressors.complexity import flops
from compressors.klt import Klt
from compressors.loading import NamedCompressor, bundled_compressors, load_compressor
from compressors.metrics import (
    crnet_nmse_db,
    feedback_bits,
    layer_sgcs,
    mse,
    nmse,
    nmse_db,
    rate_loss,
    rho,
    sgcs,
)
from compressors.preflight import check_compressor, run_preflight
from compressors.verdicts import Preflight, Verdict
from compressors.zoo import CompressorSpec, build_compressor, save_compressor

__all__ = [
    "AuditedCompressor",
    "Compressor",
    "CompressorSpec",
    "Klt",
    "NamedCompressor",
    "Preflight",
    "Verdict",
    "build_compressor",
    "bundled_compressors",
    "check_compressor",
    "crnet_nmse_db",
    "feedback_bits",
    "flops",
    "in_audit_space",
    "layer_sgcs",
    "load_compressor",
    "mse",
    "nmse",
    "nmse_db",
    "rate_loss",
    "rho",
    "run_preflight",
    "save_compressor",
    "sgcs",
]
