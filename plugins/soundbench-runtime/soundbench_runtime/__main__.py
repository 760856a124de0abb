"""`python -m soundbench_runtime`, the same as `soundbench-run-onnx`."""

from __future__ import annotations

from soundbench_runtime.command import main

if __name__ == "__main__":
    main()
