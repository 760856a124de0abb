"""`python -m soundbench` is the same as `soundbench`."""

from __future__ import annotations

from soundbench.cli.main import main

if __name__ == "__main__":
    main()
