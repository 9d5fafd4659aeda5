"""HTML from values: whatever is not markup already is escaped.

A plain text is never trusted: names of systems and attacks, paths and configs come from files that anybody may have
written. Only what `tag` and `join` give is `Markup`, and stays as it is.

>>> tag("p", "1 < 2 ", tag("b", "really"), class_="note")
'<p class="note">1 &lt; 2 <b>really</b></p>'
"""

from collections.abc import Iterable
from html import escape
from typing import Union

_VOID = {"br", "img", "input", "meta"}


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


Content = Union[str, None, "Iterable[Content]"]


def join(*content: Content) -> Markup:
    """One piece of HTML: markup as it is, other texts escaped, None left out.

    >>> join(["<", Markup("<br>")], None)
    '&lt;<br>'
    """
    return Markup("".join(_flat(content)))


def tag(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Markup:
    """An element. `class_` is written `class`, other `_` become `-`; None and False leave an attribute out.

    >>> tag("input", type="checkbox", checked=True, data_run=3, id=None)
    '<input type="checkbox" checked data-run="3">'
    """
    written = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    return Markup(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{join(*content)}</{name}>")


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def _flat(content: Content) -> Iterable[str]:
    if isinstance(content, Markup):
        yield content
    elif isinstance(content, str):
        yield escape(content)
    elif content is not None:
        for one in content:
            yield from _flat(one)
