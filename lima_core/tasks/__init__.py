"""Downstream tasks: ``seg`` (semantic segmentation). A task brings its loss, its predictions and its scores."""

from typing import Annotated

from pydantic import Field

from lima_core.tasks.segmentation import SegmentationConfig

TaskConfig = Annotated[SegmentationConfig, Field()]
"""The members of the family; a config's ``name`` picks one. A second member makes this a discriminated union."""
