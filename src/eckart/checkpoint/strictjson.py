"""The former place of `eckart.strictjson`."""

from eckart.strictjson import (
    DOWNLOAD_AGAIN,
    JsonObject,
    cannot_read,
    json_kind,
    parse_object,
    read_bytes,
)

__all__ = ["DOWNLOAD_AGAIN", "JsonObject", "cannot_read", "json_kind", "parse_object", "read_bytes"]
