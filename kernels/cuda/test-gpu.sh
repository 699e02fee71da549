#!/usr/bin/env bash
# Runs on a machine with a GPU, and without Go, what `make test-gpu-build` has put into gpu/ beside this tree:
#
#   kernels/cuda/test-gpu.sh LOGS [STAGE...]
#
# Stages run side by side. Each writes LOGS/STAGE.log, and a line with its outcome to LOGS/summary.txt. At the end there is
# LOGS/receipt.json, which `go run ./kernels/cuda/internal/receipt` files if everything passed. Without stages all of them run:
# those of compute-sanitizer where SANITIZER names it or PATH has it, those of cuBLASLt where CUBLASLT names its file, and the
# references where python3 has torch and transformers. The others run without cuBLASLt. SOAK is the requests of the soak (20000).
# LIMIT is the seconds that a stage has (1200): one that needs more is listed in the receipt as unfinished, with what had passed.
# Exit code 1: a stage failed or was not finished.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
logs=$(cd "$1" && pwd)
shift
export QUIRE_REQUIRE_GPU=1 QUIRE_CUBLASLT=off
sanitizer=${SANITIZER:-$(command -v compute-sanitizer || true)}
stages=${*:-driver kernels attention model engine soak kernels-ptx attention-ptx model-ptx}
[ $# -eq 0 ] && [ -n "$sanitizer" ] && stages="$stages memcheck memcheck-attention racecheck racecheck-attention"
[ $# -eq 0 ] && [ -n "${CUBLASLT:-}" ] && stages="$stages kernels-cublaslt model-cublaslt"
[ $# -eq 0 ] && python3 -c 'import torch, transformers' 2>/dev/null && stages="$stages references"

# tests STAGE FOLDER BINARY ARGUMENT...: in the package's folder, where its test data lies. WITH goes before the binary.
tests() {
  local stage=$1 folder=$2 binary=$root/gpu/$3
  shift 3
  (cd "$root/$folder" && timeout -k 5 "${LIMIT:-1200}" ${WITH:-} "$binary" -test.v -test.timeout 30m "$@") >"$logs/$stage.log" 2>&1
}

# reference NAME ARGUMENT...: a random checkpoint of a real shape, what transformers computes from it, and what we do.
reference() {
  local name=$1 dir
  shift
  dir=$(mktemp -d)
  echo "=== RUN   $name $*"
  if python3 "$root/internal/oracle/reference.py" make "$dir/model" "$@" &&
    python3 "$root/internal/oracle/reference.py" golden "$dir/model" "$dir/golden.json" --lengths 1,17,300,900 &&
    "$root/gpu/quire" verify "$dir/model" "$dir/golden.json" --device cuda --cache-tokens 4096 &&
    "$root/gpu/quire" verify "$dir/model" "$dir/golden.json" --device cuda --kv fp8 --cache-tokens 4096; then
    echo "--- PASS: $name"
  else
    echo "--- FAIL: $name"
    touch "$logs/references.failed"
  fi
  rm -rf "$dir"
}

references() {
  reference qwen3-0.6b --preset qwen3-0.6b
  reference qwen3-0.6b-outliers --preset qwen3-0.6b --outliers
  reference qwen3-4b-4-layers --preset qwen3-4b --layers 4
  reference qwen3-8b-3-layers --preset qwen3-8b --layers 3
  [ ! -e "$logs/references.failed" ]
}

# Attention takes the longest, most of it in the reference.
attention='Attend|Shared'
kernels() {
  local stage=$1
  shift
  tests "$stage" kernels kernels.test -test.run '^TestCUDA' -test.skip "$attention" "$@"
}
attention() {
  local stage=$1
  shift
  tests "$stage" kernels kernels.test -test.run "^TestCUDA.*($attention)" "$@"
}

# sanitize TOOL COMMAND STAGE: that a function has no more parameters is an answer, and no error.
sanitize() { WITH="$sanitizer --tool $1 --report-api-errors no --error-exitcode 9" "$2" "$3" -test.short; }

stage() {
  case $1 in
    driver) tests driver kernels/cuda cuda.test -test.run '^TestDevice(Pages|Lost)?$' ;;
    kernels | attention) "$1" "$1" ;;
    kernels-cublaslt) QUIRE_CUBLASLT=$CUBLASLT tests "$1" kernels kernels.test -test.run '^TestCUDA(Products|MLP|MoE)$' ;;
    model-cublaslt) QUIRE_CUBLASLT=$CUBLASLT tests "$1" model model.test -test.run 'CUDA$' -test.short ;;
    model) tests model model model.test -test.run 'CUDA$' ;;
    engine) QUIRE_TEST_DEVICE=cuda tests engine engine engine.test -test.run '^(TestEvaluations|TestCompressedKV|TestDevicesAgree|TestSharingOnDevice|TestTierOnDevice)$' ;;
    soak) QUIRE_TEST_DEVICE=cuda QUIRE_SOAK_REQUESTS=${SOAK:-20000} tests soak engine engine.test -test.run '^TestSoak$' ;;
    kernels-ptx | attention-ptx) QUIRE_CUDA_IMAGE=ptx "${1%-ptx}" "$1" ;;
    model-ptx) QUIRE_CUDA_IMAGE=ptx tests model-ptx model model.test -test.run 'CUDA$' -test.short ;;
    memcheck | racecheck | initcheck | synccheck) sanitize "$1" kernels "$1" ;;
    memcheck-attention | racecheck-attention) sanitize "${1%-attention}" attention "$1" ;;
    references)
      export -f reference references
      export root logs
      timeout -k 5 "${LIMIT:-1200}" bash -c references >"$logs/references.log" 2>&1
      ;;
    *) echo "no stage $1" >&2 && exit 2 ;;
  esac
}

count() { grep -c -- "--- $2" "$logs/$1.log"; }

for s in $stages; do
  (
    start=$SECONDS
    stage "$s"
    code=$?
    printf '%-12s exit %d, %d passed, %d failed, %d skipped, %d s\n' "$s" $code \
      "$(count "$s" PASS)" "$(count "$s" FAIL)" "$(count "$s" SKIP)" $((SECONDS - start)) | tee -a "$logs/summary.txt"
    printf '{"name": "%s", "passed": %d, "failed": %d, "skipped": %d, "exit": %d}' "$s" \
      "$(count "$s" PASS)" "$(count "$s" FAIL)" "$(count "$s" SKIP)" $code >"$logs/$s.stage"
    if [ $code -eq 124 ] && [ "$(count "$s" FAIL)" -eq 0 ]; then
      touch "$logs/failed"
      mv "$logs/$s.stage" "$logs/$s.unfinished"
    elif [ $code -ne 0 ]; then
      touch "$logs/failed"
      grep -- '--- FAIL' "$logs/$s.log" | head -40
    fi
  ) &
done
wait

# list KIND: the stages that left such a file, as JSON.
list() {
  local separator=''
  for s in $stages; do
    [ -e "$logs/$s.$1" ] || continue
    printf '%s\n  ' "$separator"
    cat "$logs/$s.$1"
    separator=,
  done
}

version=$("$root/gpu/quire" version -json)
field() { printf '%s' "$version" | sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p" | head -1; }
{
  printf '{"images": "%s", "commit": "%s",\n' "$(field gpu_images)" "$(field commit)"
  nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -1 | sed 's/\(.*\), \(.*\)/ "device": "\1", "driver": "\2",/'
  printf ' "date": "%s", "stages": [' "$(date +%F)"
  list stage
  printf '\n], "unfinished": ['
  list unfinished
  printf '\n]}\n'
} >"$logs/receipt.json"
rm -f "$logs"/*.stage "$logs"/*.unfinished
[ ! -e "$logs/failed" ]
