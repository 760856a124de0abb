"""Files that hold many clips each, here or elsewhere: found by patterns, compared with what they were, opened.

Plugins may use the names here. An address, such as `https://host/a.tar` or `s3://bucket/a.tar`, is read by fsspec; most
protocols need a library, as `pip install 'fsspec[http]'` brings it. `in_threads` looks at several at once.
"""

from __future__ import annotations

from soundbench.sources.finding import find_files, shard_of, state_of
from soundbench.sources.remote import is_remote, open_source
from soundbench.sources.threads import in_threads

__all__ = ["find_files", "in_threads", "is_remote", "open_source", "shard_of", "state_of"]
