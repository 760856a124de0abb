#!/bin/sh
# Gather the wheels that a machine without a network lacks to run soundbench and its tests, where PyTorch is installed, of
# version 2.7 or later:
#
#     benchmarks/bundle.sh FOLDER [PYTHON]      PYTHON is the version there, such as 3.12; by default that of `python3`
#
# They are soundbench's own, built from this checkout, and all that it and pytest need except torch and what only torch
# needs, in the versions of constraints.txt, for Linux on x86-64. There, this line installs those that are missing or too
# old, and leaves the others as they are:
#
#     python3 -m pip install --no-index --find-links FOLDER soundbench pytest
set -eu
[ $# -ge 1 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1
version=${2:-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')}
root=$(cd "$(dirname "$0")/.." && pwd)
limit=60 # MB, so that the folder fits through where little does

mkdir -p "$folder"
if [ -n "$(ls -A "$folder")" ]; then
    echo "$folder is not empty; name a new folder" >&2
    exit 2
fi

download() {
    # pip takes these platforms as they are: none stands for those before it
    python3 -m pip download --quiet --disable-pip-version-check --dest "$folder" --constraint "$root/constraints.txt" \
        --only-binary=:all: --implementation cp --python-version "$version" \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_26_x86_64 \
        --platform manylinux_2_24_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_12_x86_64 \
        --platform manylinux_2_5_x86_64 --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 \
        --platform manylinux1_x86_64 "$@"
}

needed() {
    python3 - "$root/pyproject.toml" <<'PYTHON'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    needs = tomllib.load(file)["project"]["dependencies"]
print(*(need for need in needs if not need.startswith(("torch", "pytorch-ignite"))))
PYTHON
}

python3 -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$folder" "$root"
# shellcheck disable=SC2046 # one argument for each requirement
download $(needed) pytest packaging
download --no-deps pytorch-ignite torchaudio # these would bring torch

size=$(du -sm "$folder" | cut -f1)
echo "$folder: $(ls "$folder" | wc -l) wheels for Python $version, $size MB"
if [ "$size" -gt "$limit" ]; then
    echo "more than $limit MB" >&2
    exit 1
fi
echo "there: python3 -m pip install --no-index --find-links $folder soundbench pytest"
