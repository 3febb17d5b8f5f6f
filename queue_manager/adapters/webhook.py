"""Posts to a webhook. What goes wrong is a value, and nothing of the URL is in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_MOST = 2000
"""Bytes of an answer that are looked at."""


class Reply(NamedTuple):
    """`status` is None where no answer came, and `body` is the reason; else `body` is the beginning of the answer."""

    status: int | None
    body: str = ""
    retry_after: str | None = None


def post(url: str, data: bytes, headers: Mapping[str, str], patience: float) -> Reply:
    """Post once. `patience`: seconds to wait for each step. No redirect is followed: what is in the URL is meant for
    its host alone."""
    # Only a manager that has something to send pays for these.
    import http.client
    import urllib.error
    import urllib.request

    class Stays(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_args: object, **_kwargs: object) -> None:
            return None

    if re.match(r"https?://[^/]", url, re.IGNORECASE) is None:
        return Reply(None, "its URL does not begin with http:// or https://")
    try:
        request = urllib.request.Request(url, data, {"User-Agent": "wavequeue", **headers}, method="POST")
        with urllib.request.build_opener(Stays).open(request, timeout=patience) as answer:
            return Reply(answer.status, _text(answer.read1(_MOST)))
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, _text(error.read(_MOST)), error.headers.get("Retry-After"))
    except urllib.error.URLError as error:
        return Reply(None, str(error.reason))
    except (OSError, http.client.HTTPException) as error:
        return Reply(None, str(error) or type(error).__name__)
    except ValueError:  # its words would repeat the URL
        return Reply(None, "its URL cannot be used")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
