#!/bin/bash
# Makes the environments of the peers that benchmarks/peers.py compares with, one each, with a CPU build of PyTorch.
#
#     bash benchmarks/peers.sh FOLDER [PYTHON]      PYTHON: 3.11; the peers were measured with it
#
# pip must find torch 2.13.0+cpu: PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL can say where. What was installed lies
# afterwards beside each environment, in FOLDER/NAME.txt.
set -euo pipefail

folder=${1:?usage: bash benchmarks/peers.sh FOLDER [PYTHON]}
python=${2:-python3.11}
torch="torch==2.13.0+cpu"
numbers="numpy==2.4.6 scipy==1.17.1 soundfile==0.14.0"

environment() { # NAME PACKAGE...
    local name=$1
    shift
    "$python" -m venv "$folder/$name"
    printf '%s\n' "$torch" $numbers >"$folder/$name/constraints.txt"
    "$folder/$name/bin/python" -m pip install --quiet -c "$folder/$name/constraints.txt" "$torch" $numbers "$@"
}

# PyPI's torchaudio and torchvision are CUDA builds, whose compiled parts do not load beside a CPU build of PyTorch. The
# peers use none of them; what is left works once it does not look for them.
torchaudio() { # NAME
    "$folder/$1/bin/python" -m pip install --quiet --no-deps torchaudio==2.11.0
    "$folder/$1/bin/python" -c "import torchaudio" 2>/dev/null ||
        find "$folder/$1/lib" -path "*/torchaudio/*" -name "*.so" -delete
}

torchvision() { # NAME
    "$folder/$1/bin/python" -c "import torchvision" 2>/dev/null ||
        find "$folder/$1/lib" -path "*/torchvision/*" -name "_*_registrations.py" -exec truncate -s 0 {} +
}

environment macls macls==1.0.6 yeaudio==0.0.8 librosa==0.11.0 numba==0.68.1 transformers==4.57.6 setuptools==80.9.0
torchaudio macls
environment autrainer autrainer==0.10.0 speechbrain==1.1.2 timm==1.0.31 torchvision==0.28.0 transformers==4.57.6
torchaudio autrainer
torchvision autrainer
environment panns panns-inference==0.1.1 torchlibrosa==0.1.0 librosa==0.11.0 numba==0.68.1
environment transformers transformers==5.24.0

for name in macls autrainer panns transformers; do
    "$folder/$name/bin/python" -m pip freeze >"$folder/$name.txt"
done
