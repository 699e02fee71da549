#!/usr/bin/env bash
# Makes a libcuda.so to link against where there is no driver: stub.sh INCLUDE OUT, with INCLUDE the folder of CUDA 12's cuda.h.
# It has every function of that header, and none does anything. Its soname is the driver's, which is what runs.
set -euo pipefail
include=$1 out=$2
mkdir -p "$out"
gcc -E -I "$include" "$include/cuda.h" | grep -oE '\bcu[A-Z][A-Za-z0-9_]*[[:space:]]*\(' | tr -d '( ' | sort -u |
	sed 's/.*/void &(void) {}/' >"$out/stub.c"
gcc -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$out/libcuda.so" "$out/stub.c"
