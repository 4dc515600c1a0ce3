"""YAML -> frozen, strict pydantic models, and every mistake in it as one line that names the nearest known word.

Values are validated as JSON, not as Python objects, so that a list fits a tuple field while types stay strict.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from lima_core.errors import ConfigError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads ``1e-3`` as a number (PyYAML: as text), as YAML 1.2 says."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load(path: Path, model: type[Model], overrides: Sequence[str] = ()) -> Model:
    """The config in a YAML file, with ``a.b=c`` overrides applied on top of its complete form.

    Raises:
        ConfigError: file missing, not YAML, or one line for every field that is unknown, missing or of a wrong type.
    """
    config = validate(read_yaml(path), model, where=path)
    return override(config, overrides) if overrides else config


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigError: no such file, not YAML, not a mapping, or a key given twice.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot be read ({_cause(error)})", where=path, remedy="give the path of a YAML file"
        ) from None
    data = parse_yaml(text, path)
    if not isinstance(data, dict | None):
        raise ConfigError(f"holds {_kind(data)}, not a mapping", where=path, remedy="write 'key: value' lines")
    return data or {}


def parse_yaml(text: str, where: object) -> Any:
    """The value of a YAML text.

    Raises:
        ConfigError: not YAML, or a key given twice (which YAML libraries let pass: the last one would win).
    """
    try:
        if tree := yaml.compose(text, Loader=_Loader):
            _refuse_odd_keys(tree, where)
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}", where=where) from None


def validate(data: dict[str, Any], model: type[Model], where: object) -> Model:
    """``data`` as a config of type ``model``.

    Raises:
        ConfigError: one line for every field that is unknown, missing or of a wrong type.
    """
    try:
        return model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        lines = dict.fromkeys(_line(problem, data, model) for problem in error.errors(include_url=False))
        raise ConfigError("\n".join(f"{where}: {line}" for line in _merged(lines))) from None


def override(config: Model, assignments: Iterable[str], where: object = "--set") -> Model:
    """``config`` with ``a.b=c`` applied in order; values are YAML.

    An index picks from a list: ``downstream.0.ratio=0.1``.  Setting ``x.name`` to another member of its family starts
    from that member's defaults.

    ``where`` begins the lines of mistakes.

    Raises:
        ConfigError: not of the form ``a.b=c``, an unknown field, or a value that does not fit.
    """
    data = config.model_dump(mode="json")
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise ConfigError(f"{text!r} is not of the form key.key=value", where=where)
        _assign(data, type(config), path.strip().split("."), parse_yaml(value, where), where)
    return validate(data, type(config), where=where)


def _assign(data: Any, model: Any, keys: list[str], value: Any, where: object) -> None:
    for position, key in enumerate(keys[:-1]):
        if isinstance(data, dict) and data.get(key) is None:
            data[key] = {}
        item = _item(data, key, ".".join(keys[: position + 1]), where)
        model, data = _annotation(model, key, data), item
    last = keys[-1]
    if isinstance(data, list):
        _item(data, last, ".".join(keys), where)
        data[int(last)] = value
    elif isinstance(data, dict):
        if last == "name" and data.get("name") != value and _is_of_a_family(model, data):
            data.clear()
        data[last] = value
    else:
        raise ConfigError(f"{'.'.join(keys[:-1])} is {_kind(data)} and has no {last!r}", where=where)


def _item(data: Any, key: str, name: str, where: object) -> Any:
    if isinstance(data, list):
        if not key.isdecimal() or int(key) >= len(data):
            raise ConfigError(f"{name}: no such entry", where=where, remedy=f"entries are 0 to {len(data) - 1}")
        return data[int(key)]
    if isinstance(data, dict):
        return data[key]
    raise ConfigError(f"{name}: {_kind(data)} has no fields", where=where)


def _refuse_odd_keys(tree: yaml.Node, where: object, above: tuple[yaml.Node, ...] = ()) -> None:
    """Refuses a key that is given twice or is no word (``{{DATA}}`` left of a template), and what holds itself."""
    place = f"line {tree.start_mark.line + 1}"
    if tree in above:
        raise ConfigError(f"{place}: holds itself", where=where, remedy="write it out")
    if isinstance(tree, yaml.SequenceNode):
        for item in tree.value:
            _refuse_odd_keys(item, where, (*above, tree))
    if isinstance(tree, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in tree.value:
            place = f"line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                remedy = "fill in the template, or quote it"
                raise ConfigError(f"{place}: a key must be a word", where=where, remedy=remedy)
            if key.value in seen:
                raise ConfigError(f"{place}: {key.value!r} is given twice", where=where, remedy="remove one")
            seen.add(key.value)
            _refuse_odd_keys(value, where, (*above, tree))


def _line(problem: dict[str, Any], data: Any, model: type[BaseModel]) -> tuple[str, str]:
    """Dotted path and message of one pydantic problem."""
    path, annotation, value = _locate(problem["loc"], data, model)
    context, name = problem.get("ctx", {}), ".".join(map(str, path))
    match problem["type"]:
        case "extra_forbidden":
            return name, f"unknown key; {did_you_mean(str(path[-1]), _fields(annotation, value))}"
        case "missing":
            return name, f"missing; this {'entry' if isinstance(path[-1], int) else 'key'} is required"
        case "union_tag_invalid":
            remedy = did_you_mean(str(context["tag"]), _words(context["expected_tags"]))
            return f"{name}.name", f"{context['tag']!r} is not known; {remedy}"
        case "union_tag_not_found":
            return f"{name}.name", "missing; it says which member of the family is meant"
        case "literal_error" if isinstance(problem["input"], str):
            remedy = did_you_mean(problem["input"], _words(context["expected"]))
            return name, f"{problem['input']!r} is not known; {remedy}"
        case "value_error":
            return name, problem["msg"].removeprefix("Value error, ")
    return name, f"expected {problem['msg'].removeprefix('Input should be ')}, got {_shown(problem['input'])}"


def _merged(lines: Iterable[tuple[str, str]]) -> list[str]:
    """One line a field: the members of a plain union (``str | None``) each complain, the expectations are joined."""
    texts: dict[str, list[str]] = {}
    for name, text in lines:
        texts.setdefault(name, []).append(text)
    merged = []
    for name, (first, *more) in texts.items():
        others = [re.sub(r"^expected (.*), got .*$", r"\1", text, flags=re.DOTALL) for text in more]
        head, got, tail = first.rpartition(", got ")
        text = f"{head} or {' or '.join(others)}{got}{tail}" if others and got else first
        merged.append(f"{name}: {text}" if name else text)
    return merged


def _locate(loc: Sequence[int | str], data: Any, model: Any) -> tuple[list[int | str], Any, Any]:
    """The path as written in the file, and model and value of the mapping that holds its last key.

    pydantic puts the tags of unions into the location; a part that is no key of the value at hand is such a tag, except
    for the last one, which may be a key that is missing.
    """
    path: list[int | str] = []
    holder, held = model, data
    for position, part in enumerate(loc):
        known = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
        if part in known:
            path.append(part)
            holder, held = model, data
            model, data = _annotation(model, part, data), data[part]
        elif position == len(loc) - 1 and (isinstance(part, int) or part in _fields(model, data)):
            path.append(part)
    return path, holder, held


def _fields(annotation: Any, value: Any) -> dict[str, Any]:
    """Fields of the model that ``annotation`` stands for; of a family, those of the member that ``value`` names."""
    model = _model(annotation, value)
    return dict(model.model_fields) if model else {}


def _annotation(annotation: Any, key: int | str, value: Any) -> Any:
    """Type of ``value[key]``."""
    if fields := _fields(annotation, value):
        return fields[key].annotation if key in fields else None
    arguments = [argument for argument in get_args(annotation) if argument is not Ellipsis]
    return arguments[-1] if arguments else None


def _model(annotation: Any, value: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, tuple, dict):
        return None
    name = value.get("name") if isinstance(value, dict) else None
    models = [model for argument in get_args(annotation) if (model := _model(argument, value))]
    named = [model for model in models if name in _names(model)]
    return next(iter(named or models), None)


def _is_of_a_family(annotation: Any, value: Any) -> bool:
    model = _model(annotation, value)
    return model is not None and bool(_names(model))


def _names(model: type[BaseModel]) -> tuple[Any, ...]:
    """The names under which a family lists this member; empty where it is no member of one."""
    field = model.model_fields.get("name")
    return get_args(field.annotation) if field else ()


def _words(quoted: str) -> list[str]:
    """``"'a', 'b' or 'c'"`` -> a, b, c."""
    return re.findall(r"'([^']*)'", quoted)


def _shown(value: Any) -> str:
    return f"{json.dumps(value, default=str)[:80]} ({_kind(value)})"


def _kind(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), "a number")


def _cause(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror if isinstance(error, OSError) else "not text"
