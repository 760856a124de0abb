"""soundbench's batched filter bank compared with torchaudio's Kaldi fbank clip by clip: 64 clips of 3 s, one thread.

    python benchmarks/fbank.py [PAIRS]

The two alternate, so that other load on the machine affects both. Goal: at least twice the clips/s of torchaudio.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from soundbench_plugins.featurizer.fbank import Fbank
from soundbench_plugins.layers.torchaudio_import import import_torchaudio

CLIPS, RATE, SECONDS = 64, 16000, 3


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(pairs: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    import_torchaudio()
    from torchaudio.compliance import kaldi

    torch.manual_seed(1)
    waveforms = torch.randn(CLIPS, RATE * SECONDS) * 0.1
    lengths = torch.full((CLIPS,), RATE * SECONDS)
    featurizer = Fbank(RATE, normalize="none")

    def ours() -> torch.Tensor:
        return featurizer(waveforms, lengths)[0]

    def theirs() -> torch.Tensor:
        return torch.stack([kaldi.fbank(clip[None], num_mel_bins=80, sample_frequency=RATE).T for clip in waveforms])

    apart = (ours() - theirs()).abs()
    print(f"difference: {apart.max():.4f} at most, {apart.mean():.1e} on average (log units)")
    for _ in range(3):
        ours(), theirs()
    times = [(seconds(ours), seconds(theirs)) for _ in range(pairs)]
    ratios = sorted(theirs / ours for ours, theirs in times)
    low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
    for name, column in zip(("soundbench", "torchaudio"), zip(*times, strict=True), strict=True):
        middle = statistics.median(column)
        print(f"{name:>10}: {middle * 1e3:6.1f} ms, {CLIPS / middle:6.0f} clips/s (median of {pairs})")
    print(f"ratio: {statistics.median(ratios):.2f} (median; 80 % of pairs between {low:.2f} and {high:.2f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
