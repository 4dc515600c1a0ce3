"""The files of a lima-folder/1 data set as strict types, and the one line that says which key of which file is wrong.

The format is described in docs/lima-folder.md.
"""

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from lima_core.errors import DataError
from lima_core.types import Config

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Row = tuple[float, float, float, float]


def _rigid_rows(rows: tuple[Row, Row, Row, Row]) -> tuple[Row, Row, Row, Row]:
    if rows[3] != (0, 0, 0, 1):
        raise ValueError("the last row must be 0 0 0 1 (row-major: the translation is the last column)")
    return rows


Matrix = Annotated[tuple[Row, Row, Row, Row], AfterValidator(_rigid_rows)]
"""4x4, row-major, ``dst_from_src``, metres."""


Text = Annotated[str, Field(min_length=1)]
Pixels = Annotated[int, Field(gt=0)]
Model = TypeVar("Model", bound=Config)


class PointsFormat(Config):
    """Layout of every scan file."""

    dtype: Literal["float32", "float64"]
    columns: list[str]
    frame: Literal["lidar"] = "lidar"
    unit: Literal["m"] = "m"
    intensity_max: Annotated[float, Field(gt=0)]


class LabelsFormat(Config):
    """Layout of every label file; ``classes`` maps raw ids (JSON keys are text) to names."""

    dtype: Literal["uint8", "uint16", "uint32", "int32"]
    classes: dict[str, Text]
    ignore: list[int] = Field(default=[])


class Splits(Config):
    """Sequences by split; the others are in none."""

    train: list[str] = Field(default=[])
    val: list[str] = Field(default=[])


class DatasetFile(Config):
    """dataset.json."""

    format: Literal["lima-folder/1"]
    name: Text
    license: str = ""
    note: str = ""
    synthetic: bool = False
    points: PointsFormat
    labels: LabelsFormat | None
    splits: Splits | None = None


class CameraCalibration(Config):
    """One camera of calibration.json; ``intrinsics`` are fx fy cx cy in pixels."""

    width: Pixels
    height: Pixels
    intrinsics: tuple[float, float, float, float]
    distortion: tuple[float, float, float, float, float] | None = None
    ego_from_camera: Matrix | None = None


class Calibration(Config):
    """calibration.json of one sequence."""

    ego_from_lidar: Matrix
    cameras: dict[str, CameraCalibration]


class ImageLine(Config):
    """One image in a line of frames.jsonl."""

    image: Text
    timestamp_us: int
    global_from_camera: Matrix | None = None
    global_from_ego: Matrix | None = None


class FrameLine(Config):
    """One line of frames.jsonl."""

    index: Annotated[int, Field(ge=0)]
    timestamp_us: int
    points: Text
    labels: Text | None = None
    global_from_ego: Matrix | None = None
    cameras: dict[str, ImageLine] = Field(default={})


_KEYS = {
    key
    for model in (PointsFormat, LabelsFormat, Splits, DatasetFile, CameraCalibration, Calibration, ImageLine, FrameLine)
    for key in model.model_fields
}


def read_json(path: Path, model: type[Model]) -> Model:
    """A whole JSON file as ``model``.

    Raises:
        DataError: missing, or a key is unknown, missing or of the wrong type.
    """
    return _parse(_text(path), model, str(path))


def read_jsonl(path: Path, model: type[Model]) -> list[tuple[str, Model]]:
    """Every line of a file as ``model``, each with its place ``file:line``; blank lines are skipped.

    Raises:
        DataError: missing, without a line, or a key is unknown, missing or of the wrong type.
    """
    places = [(f"{path}:{number}", line) for number, line in enumerate(_text(path).splitlines(), 1) if line.strip()]
    if not places:
        raise DataError("holds no frame", where=path)
    return [(place, _parse(line, model, place)) for place, line in places]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path, remedy="see docs/lima-folder.md") from error
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text: {error.reason}", where=path) from error


def _parse(text: str, model: type[Model], where: str) -> Model:
    try:
        json.loads(text)
        return model.model_validate_json(text)
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error}", where=where) from error
    except ValidationError as error:
        raise _data_error(error.errors()[0], where) from error


def _data_error(first: "ErrorDetails", where: str) -> DataError:
    """The first problem pydantic found, in one line."""
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _KEYS, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else "see docs/lima-folder.md"
        return DataError(f"unknown key {name!r}", where=where, remedy=remedy)
    if first["type"] == "missing":
        return DataError(f"key {name!r} is missing", where=where, remedy="see docs/lima-folder.md")
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return DataError(f"key {name!r}: {message}, got {_shortened(first['input'])}", where=where)


def _shortened(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
