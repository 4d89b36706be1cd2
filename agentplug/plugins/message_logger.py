"""Writes every message of an agent as a line of JSON, and changes nothing (worker side)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from logging import Handler, StreamHandler, makeLogRecord
from logging.handlers import RotatingFileHandler
from typing import Any

_POINTS = "agent_startup input pre_model_call post_model_call pre_tool_call post_tool_call output agent_shutdown"
_KEYS = ("authorization", "password", "passwd", "secret", "token", "api_key", "access_key", "private_key", "cookie")
_TOKENS = (r"(?<![\w-])(?:(?:sk|gh[pousr]|github_pat|xox[a-z]|glpat)[-_][\w-]{16,}+|eyJ[\w-]{8,}+(?:\.[\w-]++){2})",)
_VALUE = r"""(?:"(?:[^"\\]++|\\(?s:.))*+|\\"[^"\\]*+|(?:(?i:bearer|basic)\s)?+[^\s"'\\,;&}]++)"""


class MessageLoggerPlugin:
    """Observes all agent points. Lines go to `path`, whose folder the policy has to grant, or to standard output.

    Configuration: `path`; `max_bytes` (5,000,000), where the file becomes `path.1`, and `backups` (3), how many of
    those stay; `redact_keys`, names whose values aren't written, in members and in texts; `redact_patterns`, other
    texts to leave out (by default known tokens); `max_characters` (20,000), the most to write of one message.
    """

    name, version = "message_logger", "1.0"
    hooks = dict.fromkeys(_POINTS.split(), "observe")

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Take the configuration. Raises `OSError` for a path that isn't granted."""
        self._out: Handler = StreamHandler(sys.stdout)
        if (path := config.get("path")) is not None:
            most_bytes, backups = int(config.get("max_bytes", 5_000_000)), max(1, int(config.get("backups", 3)))
            self._out = RotatingFileHandler(path, maxBytes=most_bytes, backupCount=backups)
        self._most = int(config.get("max_characters", 20_000))
        keys = "|".join(re.escape(key).replace("_", "[_ -]?") for key in config.get("redact_keys", _KEYS)) or "(?!)"
        self._key = re.compile(rf"(?i:{keys})\Z")
        in_text = rf"""(?P<kept>(?i:{keys})\\?["']?\s{{0,4}}+[:=]\s{{0,4}}+){_VALUE}"""
        self._secrets = [re.compile(one) for one in (in_text, *config.get("redact_patterns", _TOKENS))]

    async def on_message(self, point: str, message: Mapping[str, Any]) -> None:
        """Write the message, and whether it was denied."""
        fields = {name: value for name, value in message.items() if value or name == "seq"}
        if "dispatch" in fields:  # without the original: a transform may have removed secrets
            fields["dispatch"] = {name: fields["dispatch"].get(name) for name in ("allowed", "denied_by", "reason")}
        self._write({"point": point, **fields})

    async def process(self, input_data: Any) -> Any:
        """Write the data and return them, for use in a chain of plugins."""
        self._write({"point": "process", "data": input_data})
        return input_data

    def _write(self, fields: Mapping[str, Any]) -> None:
        self._left = self._most
        line = json.dumps(self._plain(fields, 0))  # ASCII: harmless in a terminal
        self._out.handle(makeLogRecord({"msg": line}))  # prints an error, as of a full disk, and raises none

    def _plain(self, value: Any, depth: int) -> Any:
        """Convert `value` to plain JSON data, while there is room. Runs no code of the value but its iteration."""
        self._left -= 1
        if self._left <= 0 or depth > 32:
            return "…"
        if isinstance(value, str):
            text = value[: self._left + 100_000].encode(errors="replace").decode()
            for secret in self._secrets:
                text = secret.sub(lambda match: (match.groupdict().get("kept") or "") + "[redacted]", text)
            text, self._left = text[: self._left], self._left - len(text)
            return text if self._left >= 0 else text + "…"
        if value is None or (isinstance(value, (int, float)) and -(1 << 53) <= value <= 1 << 53):
            return value
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._plain(item, depth + 1) for item in value if self._left > 0]
        if not isinstance(value, Mapping):
            return f"<{type(value).__name__}>"
        named = ((f"{self._plain(key, depth + 1)}", item) for key, item in value.items() if self._left > 0)
        return {key: "[redacted]" if self._key.search(key) else self._plain(item, depth + 1) for key, item in named}
