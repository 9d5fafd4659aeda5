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
    text = ""
    for one in content:
        if isinstance(one, str):
            text += one if isinstance(one, Markup) else escape(one)
        elif one is not None:
            text += join(*one)
    return Markup(text)


def tag(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Markup:
    """An element. `class_` is written `class`, other `_` become `-`; None and False leave an attribute out.

    >>> tag("input", type="checkbox", checked=True, data_run=3, id=None)
    '<input type="checkbox" checked data-run="3">'
    """
    opening = name
    for key, value in attributes.items():
        if value is not None and value is not False:
            opening += f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
    return Markup(f"<{opening}>" if name in _VOID else f"<{opening}>{join(*content)}</{name}>")
