"""Classes of a lima-folder/1 data set: from raw ids and names in dataset.json, merged by the config, to train ids."""

from pathlib import Path

from lima_core.datasets.folder_format import DatasetFile
from lima_core.errors import ConfigError, DataError, did_you_mean
from lima_core.types import IGNORE


def classes_and_train_ids(
    header: DatasetFile, class_map: dict[str, list[str]] | None, where: Path
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names by train id, and train id by raw id.

    Args:
        header: dataset.json.
        class_map: the config's own names, each with the names that it unites; None keeps those of dataset.json.
        where: dataset.json, for messages.

    Raises:
        ConfigError: ``class_map`` names a class that is not there, or one twice.
        DataError: a raw id that is no number, or too many classes.
    """
    if header.labels is None:
        if class_map:
            raise ConfigError("the data set has no labels", where="dataset.class_map", remedy="remove class_map")
        return (), {}
    names = _raw_names(header, where)
    ignore = dict.fromkeys(header.labels.ignore, IGNORE)
    if class_map is None:
        names = {raw: name for raw, name in names.items() if raw not in ignore}
        merged = {name: name for name in names.values()}
    else:
        merged = _merged(class_map, names)
    classes = tuple(dict.fromkeys(merged[name] for name in names.values() if name in merged))
    if len(classes) > IGNORE:
        raise DataError(f"{len(classes)} classes, at most {IGNORE} fit", where=where, remedy="merge with class_map")
    train_id = {name: index for index, name in enumerate(classes)}
    ids = {raw: train_id[merged[name]] if name in merged else IGNORE for raw, name in names.items()}
    return classes, ignore | ids


def _raw_names(header: DatasetFile, where: Path) -> dict[int, str]:
    """Class name by raw id, in the order of the ids."""
    assert header.labels is not None
    for raw in header.labels.classes:
        if not raw.isdecimal():
            raise DataError(f"key 'labels.classes': {raw!r} is no raw id", where=where)
    return {int(raw): name for raw, name in sorted(header.labels.classes.items(), key=lambda item: int(item[0]))}


def _merged(class_map: dict[str, list[str]], names: dict[int, str]) -> dict[str, str]:
    """New name by old name."""
    merged: dict[str, str] = {}
    for new, olds in class_map.items():
        if not olds:
            raise ConfigError("unites no class", where=f"dataset.class_map.{new}", remedy="list names or remove it")
        for old in olds:
            if old not in names.values():
                raise ConfigError(f"no class {old!r}", where=f"dataset.class_map.{new}",
                                  remedy=did_you_mean(old, names.values()))  # fmt: skip
            if old in merged:
                raise ConfigError(f"class {old!r} is already in {merged[old]!r}", where=f"dataset.class_map.{new}")
            merged[old] = new
    return merged
