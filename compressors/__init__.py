"""What is audited: CSI compressors, their metrics, the zoo, and training.

Imports channels alone. Importing this loads neither lightning nor matplotlib: training lives in
`compressors.compressor_training` and is imported by the commands that train.
"""

from compressors.audit_space import AuditedCompressor, Compressor, in_audit_space
from compressors.klt import Klt
from compressors.loading import NamedCompressor, bundled_compressors, load_compressor
from compressors.metrics import nmse, nmse_db, sgcs
from compressors.preflight import check_compressor
from compressors.zoo import CompressorSpec, build_compressor, save_compressor

__all__ = [
    "AuditedCompressor",
    "Compressor",
    "CompressorSpec",
    "Klt",
    "NamedCompressor",
    "build_compressor",
    "bundled_compressors",
    "check_compressor",
    "in_audit_space",
    "load_compressor",
    "nmse",
    "nmse_db",
    "save_compressor",
    "sgcs",
]
