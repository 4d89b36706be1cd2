"""Decodes pictures of other plugins with Pillow, in a worker of its own (worker side). The host sends this text."""

import io
from typing import Any

from PIL import Image

_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG"}


class PictureDecoderPlugin:
    """Decodes one picture a call, and encodes it anew without its metadata."""

    name = "picture decoder"
    version = "1"

    async def initialize(self, config: dict[str, Any]) -> None:
        """Prepare nothing."""

    def process(self, picture: dict[str, Any]) -> dict[str, Any]:
        """Return `data`, `width` and `height`, or the `reason` that it can't be decoded."""
        kind, most = _FORMATS[picture["mime"]], picture["most"]
        Image.MAX_IMAGE_PIXELS = None  # measured here, before anything is decoded
        try:
            with Image.open(io.BytesIO(picture["data"]), formats=[kind]) as image:
                width, height = image.size
                if width * height > most:
                    return {"reason": f"it has {width:,} × {height:,} pixels, and {most:,} may be shown"}
                image.load()
                image.info = {key: image.info[key] for key in ("transparency",) if key in image.info}
                out = io.BytesIO()
                if kind == "JPEG":
                    image.save(out, kind, quality="keep")
                else:
                    image.save(out, kind)
        except Exception as error:
            return {"reason": f"it can't be decoded as {kind} ({type(error).__name__})"}
        return {"data": out.getvalue(), "width": width, "height": height}
