"""Networks and what was learned: ``build_backbone`` for a fresh one, ``load_model`` for one from a folder."""

from lima_core.models.backbones import BackboneConfig, build_backbone, num_parameters
from lima_core.models.pretrained import PointModel, load_model

__all__ = ["BackboneConfig", "PointModel", "build_backbone", "load_model", "num_parameters"]
