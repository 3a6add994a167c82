"""How the API reference shows settings: an extension of griffe, which reads the code for mkdocstrings.

`beta: float = setting(0.01, "step of the weights", above=0)` is shown with the default 0.01 and this text, and a
docstring that `core.setting.documented` completes at import is shown complete.
"""

import ast
from importlib import import_module
from typing import Any

import griffe


class SettingsInApi(griffe.Extension):
    """See above."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **rest: Any) -> None:
        """Takes default and text from the call of `setting` that defines a field."""
        call = attr.value
        if isinstance(call, griffe.ExprCall) and str(call.function) == "setting":
            attr.value, text = call.arguments[0], call.arguments[1]
            attr.docstring = griffe.Docstring(ast.literal_eval(str(text)), parent=attr)

    def on_class_instance(self, *, cls: griffe.Class, **rest: Any) -> None:
        """Takes the docstring that the class has once it is imported."""
        if cls.docstring and "{arguments}" in cls.docstring.value:
            found = getattr(import_module(cls.module.path), cls.name)
            cls.docstring.value = found.__doc__
