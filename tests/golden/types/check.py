"""Holds documents against the types of everything.py: each type is told in full, and a document fits exactly where it should."""

import json
import pathlib
import types
import typing

import everything


def fits(value, of):
    """Whether a value is of a type, as type checkers understand it."""
    origin, arguments = typing.get_origin(of), typing.get_args(of)
    if of is typing.Any:
        return True
    if of is None or of is type(None):
        return value is None
    if isinstance(of, (str, typing.ForwardRef)):
        name = of if isinstance(of, str) else of.__forward_arg__
        return fits(value, getattr(everything, name))
    if typing.is_typeddict(of):
        fields = typing.get_type_hints(of)
        if not isinstance(value, dict) or not of.__required_keys__ <= value.keys():
            return False
        return all(fits(value[key], fields[key]) for key in value.keys() & fields.keys())
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, arguments[1]) for item in value.values())
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, alternative) for alternative in arguments)
    if of is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, of)


context = json.loads(pathlib.Path("context.json").read_text(encoding="utf-8"))
assert fits(context, everything.Context)
for field, value in {
    "priority": "highest",
    "quantity": "1",
    "payment": {"kind": "cash"},
    "customer": {"name": "Ada", "boss": {}},
    "note": 1.5,
}.items():
    assert not fits({**context, field: value}, everything.Context), field
del context["customer"]
assert not fits(context, everything.Context)
assert fits({"a": {"b": {}}}, everything.Tree) and not fits({"a": 1}, everything.Tree)
assert everything.ShipDependencies.__required_keys__ == frozenset()
print("all fit")
