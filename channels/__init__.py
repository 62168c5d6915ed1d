"""What a channel is: files in and out, domains, scaling conventions, physical features.

Imports nothing of the other packages of csi-audit and changes no global state.
"""

from channels.channel_domain import ChannelDomain
from channels.channel_set import ChannelSet, Grid, Source, audit_space, from_audit_space
from channels.convention import Convention
from channels.domains import (
    crop_delay,
    onto_sphere,
    stack_real,
    to_angular_delay,
    to_complex,
    to_spatial_frequency,
    unit_power,
)
from channels.generation import SimulatedCell, generate_channels
from channels.network import CellNetwork, simulate_users
from channels.paths import frequency_response
from channels.physical_features import FEATURES, FeatureInfo, features, features_of_maps
from channels.placement_domain import PlacementDomain
from channels.placements import HotspotUsers, StreetUsers, UniformUsers
from channels.readers import load_channels
from channels.scale_detection import ScalingFound, detect_scaling
from channels.support import (
    CsiAuditError,
    atomic_write,
    did_you_mean,
    file_sha256,
    load_object,
    write_text_atomic,
)
from channels.symmetry import flip_array, random_symmetry, rotate_phase
from channels.writers import write_channels

__all__ = [
    "FEATURES",
    "CellNetwork",
    "ChannelDomain",
    "ChannelSet",
    "Convention",
    "CsiAuditError",
    "FeatureInfo",
    "Grid",
    "HotspotUsers",
    "PlacementDomain",
    "ScalingFound",
    "SimulatedCell",
    "Source",
    "StreetUsers",
    "UniformUsers",
    "atomic_write",
    "audit_space",
    "crop_delay",
    "detect_scaling",
    "did_you_mean",
    "features",
    "features_of_maps",
    "file_sha256",
    "flip_array",
    "frequency_response",
    "from_audit_space",
    "generate_channels",
    "load_channels",
    "load_object",
    "onto_sphere",
    "random_symmetry",
    "rotate_phase",
    "simulate_users",
    "stack_real",
    "to_angular_delay",
    "to_complex",
    "to_spatial_frequency",
    "unit_power",
    "write_channels",
    "write_text_atomic",
]
