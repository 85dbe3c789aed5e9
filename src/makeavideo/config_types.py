"""Whether the values of a network's config are of the kinds that its class takes.

A class of diffusers asks for none of it: what is wrong would be a traceback where it is used, or not be noticed at all.
"""

import json
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from .model_files import damaged, read_config


def check_types(component: Any, folder: Path) -> None:
    """Holds config.json against the annotations of the network's class, and of the 2-D network's inside of it.

    Raises:
        UserError: a value of another type, or beyond the bounds of its annotation.
    """
    file = folder / "config.json"
    values = read_config(file)
    parts = [(component, values)]
    inner = values.get("unet_config")
    if isinstance(inner, dict):
        parts.append((getattr(import_module("diffusers"), str(values.get("unet_class")), None), inner))
    for kind, given in parts:
        for name, parameter in parameters_of(kind).items():
            if name in given and not fits(parameter, given[name]):
                what = getattr(parameter.annotation, "__name__", str(parameter.annotation).replace("typing.", ""))
                damaged(file, f"{name} is {str(given[name])[:40]}, but has to be {what}")


def parameters_of(kind: Any) -> dict[str, Parameter]:
    """Of a class's constructor; none where there is no class."""
    if not isinstance(kind, type):
        return {}
    made_by: Any = kind
    try:
        return dict(signature(made_by.__init__, eval_str=True).parameters)
    except NameError:  # an annotation that only type checkers can read
        return {}


def fits(parameter: Parameter, value: Any) -> bool:
    """Whether a json's value is of a parameter's type, or of its default's: an annotation may be too narrow."""
    default = parameter.default
    if get_origin(parameter.annotation) is not Annotated and (
        type(value) is type(default) or (isinstance(value, list) and isinstance(default, list | tuple))
    ):
        return True
    if isinstance(value, list) and any(get_origin(one) in (list, tuple) for one in get_args(parameter.annotation)):
        return True  # `tuple[int]` is written where any number of them is meant
    try:
        TypeAdapter(parameter.annotation).validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    except PydanticUserError:  # no annotation of values
        return True
    return True
