"""The page at `/`: one file of HTML that loads nothing from elsewhere, and the policy that holds it to that."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

__all__ = ["headers", "html"]


@cache
def html() -> str:
    """The page."""
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8")


@cache
def headers() -> dict[str, str]:
    """What a browser may do for it: run its own script and style, ask this server, use the microphone.

    The code of an AudioWorklet has an address of its own, a blob that the script makes.
    """
    policy = {
        "default-src": "'none'",
        "script-src": f"{_digests('script')} blob:",
        "style-src": _digests("style"),
        "connect-src": "'self'",
        "img-src": "data:",
        "media-src": "blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    }


def _digests(tag: str) -> str:
    """The digests of the elements of a kind."""
    texts = re.findall(rf"<{tag}>(.*?)</{tag}>", html(), re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts)
