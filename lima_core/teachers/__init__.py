"""Image teachers. Members: filterbank (fixed filters, no weights), huggingface (DINOv2, DINOv3, any ViT).

To add one: a file with a config (its ``name``) and a class that satisfies ``Teacher``, and its lines below.
"""

from typing import Annotated

from pydantic import Field

from lima_core.teachers.filterbank import Filterbank, FilterbankConfig
from lima_core.teachers.huggingface import HuggingFaceConfig, HuggingFaceTeacher
from lima_core.teachers.teacher import Teacher

TeacherConfig = Annotated[FilterbankConfig | HuggingFaceConfig, Field(discriminator="name")]

__all__ = ["FilterbankConfig", "HuggingFaceConfig", "Teacher", "TeacherConfig", "build_teacher"]


def build_teacher(config: FilterbankConfig | HuggingFaceConfig, device: str = "cpu") -> Teacher:
    """The teacher of a config, on ``device``."""
    if isinstance(config, FilterbankConfig):
        return Filterbank(config, device)
    return HuggingFaceTeacher(config, device)
