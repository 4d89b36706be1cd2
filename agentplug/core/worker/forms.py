"""The one form in which an object is displayed (worker side).

Most are what the object's own methods return (`_repr_html_` and its like). All are claims: the host decodes pictures
and tables again, and shows HTML without its scripts.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import io
import json
import pprint
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agentplug.contract.display import HTML, JPEG, JSON, MAX_HTML_BYTES, MOST_BYTES, PNG, TABLE, TEXT
from agentplug.core.boundary import codec as values

_SVG, _MARKDOWN, _LATEX, _SCRIPT = "image/svg+xml", "text/markdown", "text/latex", "application/javascript"
_IN_ORDER = (PNG, JPEG, _SVG, HTML, JSON, _MARKDOWN, _LATEX, TEXT)
_METHODS = {
    PNG: "_repr_png_",
    JPEG: "_repr_jpeg_",
    _SVG: "_repr_svg_",
    HTML: "_repr_html_",
    JSON: "_repr_json_",
    _MARKDOWN: "_repr_markdown_",
    _LATEX: "_repr_latex_",
}
_LINE, _REPR_CHARACTERS = 79, 1 << 14


class Form(NamedTuple):
    """The kind and bytes of an object that are sent: see `wire.DisplayBody`."""

    mime: str
    body: bytes
    blobs: Sequence[Any] = ()


def form_of(obj: Any) -> Form | None:
    """Return the form of an object, or None if it has displayed itself."""
    if isinstance(obj, type):
        return text_form(obj)
    if (shows_itself := _method(obj, "_ipython_display_")) is not None:
        try:
            shows_itself()
        except NotImplementedError:
            pass  # IPython then goes on too
        else:
            return None
    return _table(obj) or _figure(obj) or _own_form(obj) or text_form(obj)


def form_of_bundle(bundle: Any) -> Form:
    """Return the best form of a mapping from MIME types to data."""
    if not isinstance(bundle, Mapping):
        return text_form(bundle)
    for mime in _IN_ORDER:
        if mime in bundle and (form := _form(mime, bundle[mime])) is not None:
            return form
    known = bundle.get(TEXT, "")
    return _text(f"{known}\n[{', '.join(map(str, bundle))[:200]} is not shown]" if bundle else "")


def text_form(obj: Any) -> Form:
    """Return the text of an object, as a cell shows it."""
    try:
        text = repr(obj)
        if _LINE < len(text) < _REPR_CHARACTERS and type(obj) in (list, tuple, dict, set, frozenset):
            text = pprint.pformat(obj, width=_LINE, sort_dicts=False)
    except Exception as error:
        text = f"<{type(obj).__name__} whose repr raises {type(error).__name__}>"
    if _method(obj, "_repr_javascript_") is not None:
        text += "\n[no script of a sandbox runs in the page]"
    return _text(text)


def _text(text: str) -> Form:
    return Form(TEXT, _cut(text, MOST_BYTES[TEXT]))


def _cut(text: str, most: int) -> bytes:
    """Return `text` as UTF-8 of at most `most` bytes, with the number of characters that were cut."""
    if len(text) > most:
        text = f"{text[: most // 2]}… ({len(text) - most // 2:,} characters more)"
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > most:
        shorter = data[: most - 100].decode("utf-8", "ignore")
        data = f"{shorter}… ({len(text) - len(shorter):,} characters more)".encode("utf-8", "backslashreplace")
    return data


def _method(obj: Any, name: str) -> Any:
    """Return a method of an object, unless the object claims to have every one."""
    try:
        if getattr(obj, "_ipython_canary_method_should_not_exist_", None) is not None:
            return None
        method = getattr(obj, name, None)
    except Exception:
        return None
    return method if callable(method) and not inspect.isclass(obj) else None


def _own_form(obj: Any) -> Form | None:
    if (method := _method(obj, "_repr_mimebundle_")) is not None:
        bundle = _made(method, include=None, exclude=None)
        if isinstance(bundle, Mapping):
            for mime in _IN_ORDER:
                if mime in bundle and mime != TEXT and (form := _form(mime, bundle[mime])) is not None:
                    return form
    for mime, name in _METHODS.items():
        if (method := _method(obj, name)) is not None and (form := _form(mime, _made(method))) is not None:
            return form
    return None


def _made(method: Any, **options: Any) -> Any:
    """Return what a method makes, without its metadata. An error is printed, as IPython does, and makes None."""
    try:
        made = method(**options)
    except NotImplementedError:
        return None
    except Exception:
        traceback.print_exc()
        return None
    return made[0] if isinstance(made, tuple) and len(made) == 2 else made


def _form(mime: str, data: Any) -> Form | None:
    """Return the form of data of a MIME type, or None if it is none."""
    if mime in (PNG, JPEG):
        if isinstance(data, str):
            try:
                data = base64.b64decode(data)
            except binascii.Error:
                return None
        return Form(mime, b"", [data]) if isinstance(data, (bytes, bytearray)) else None
    if mime == JSON:
        try:
            text = data if isinstance(data, str) else json.dumps(data, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            return None
        return Form(JSON, text.encode()) if len(text) <= MOST_BYTES[JSON] else _text(text)
    if not isinstance(data, str):
        return None
    if mime in (HTML, _SVG):
        page = data.encode("utf-8", "backslashreplace")
        too_long = f"<p>[HTML of {len(page):,} bytes is not shown: at most {MAX_HTML_BYTES:,}]</p>"
        return Form(HTML, page if len(page) <= MAX_HTML_BYTES else too_long.encode())
    return _text(data)


def _table(obj: Any) -> Form | None:
    """Return the form of a DataFrame: its values, or if they are too many or unknown, its own HTML."""
    pandas = sys.modules.get("pandas")
    if pandas is None or type(obj) is not getattr(pandas, "DataFrame", None):
        return None
    if obj.size <= 100_000:
        try:
            structure, blobs = values.encode(obj)
        except (values.Unserializable, ValueError):
            return None
        if len(structure) <= MOST_BYTES[HTML]:
            return Form(TABLE, bytes(structure), blobs)
    return None


def is_figure(obj: Any) -> bool:
    """Return true for a Matplotlib figure."""
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(obj, module.Figure)


def _figure(obj: Any) -> Form | None:
    """Return the form of a Matplotlib figure: a picture, with the space around it cut off, as notebooks do."""
    if not is_figure(obj):
        return None
    out = io.BytesIO()
    obj.savefig(out, format="png", dpi=obj.dpi, bbox_inches="tight", facecolor=obj.get_facecolor())
    return Form(PNG, b"", [out.getvalue()])
