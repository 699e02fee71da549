#!/usr/bin/env bash
# Measures every row of the table of speeds on a GPU, on a machine without Go that has gpu/ from `make bench-gpu-build`:
#
#   bench/gpu.sh OUT [PART...]
#
# Each part leaves OUT/PART.json and OUT/PART.log, has a time limit, and does not stop the others if it fails. At the end there is
# OUT/table.md, and OUT/summary.txt with a line for each part. All parts together take about three minutes on an H200. QUIRE_CUBLASLT says, as for
# all programs, whether cuBLASLt may be used.
# Exit code 1: a part failed.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
program=${GPU_BENCH:-$root/gpu/gpu}
device=${DEVICE:-cuda} # for trying the script: DEVICE=cpu MODEL=tiny
model=${MODEL:-synthetic:qwen3-0.6b}
if [ $# -lt 1 ]; then
  echo "usage: bench/gpu.sh OUT [PART...]" >&2
  exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
parts=${*:-decode prefill_16 prefill_1 nano nano_fp8 shared shared_long warm evicted kernels crossover start alone models}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# throughput ARGUMENT...: with what all calls have in common.
throughput() { "$program" throughput -model "$model" -device "$device" -probe-ms 20 -probe-mib "${PROBE_MIB:-1024}" -depth 0 -out "$scratch" "$@"; }

# part NAME: runs it; its rows are then in $scratch.
part() {
  case $1 in
    decode) throughput -batch 1,8,32,128,256 -input 128 -output 256 -repeats 3 ;;
    prefill_16) throughput -batch 16 -input 1024 -output 1 -repeats 5 ;;
    prefill_1) throughput -batch 1 -input 4000 -output 1 -repeats 5 ;;
    nano) throughput -workload nano -gpu-memory 0.9 ;;
    nano_fp8) throughput -workload nano -gpu-memory 0.9 -kv fp8 ;;
    shared) throughput -workload shared -batch 128,256 -prefix 2048 -input 64 -output 128 -variants standard,cascade -repeats 2 ;;
    shared_long) throughput -workload shared -batch 64 -prefix 8192 -input 64 -output 128 -variants standard,cascade:ordinary,cascade -repeats 1 ;;
    alone) throughput -batch 1,64,256 -input 128 -output 128 -variants standard,cascade,reuse -repeats 5 ;;
    warm) throughput -workload warm -prefix 1024,8192 -input 16 -output 2 -repeats 2 ;;
    evicted) throughput -workload evicted -prefix 1024,8192 -input 16 -output 2 -repeats 2 ;;
    models) model=synthetic:qwen3-1.7b,synthetic:qwen3-4b,synthetic:qwen3-8b throughput -batch 1,32,128 -input 128 -output 128 -repeats 1 ;;
    kernels) "$program" kernels -device "$device" -out "$scratch" ;;
    crossover) "$program" crossover -device "$device" -runs 3 -out "$scratch" ;;
    start) "$program" start -model "$model" -device "$device" -quire "$root/gpu/quire" -out "$scratch" ;;
    *)
      echo "no part $1" >&2
      return 2
      ;;
  esac
}

# seconds NAME: how long a part may take.
seconds() {
  case $1 in
    models) echo 100 ;;
    alone | shared | decode | kernels) echo 60 ;;
    *) echo 40 ;;
  esac
}

export -f part throughput
export root program device model scratch
: >"$out/summary.txt"
failed=0
for p in $parts; do
  rm -f "$scratch"/results_*.json
  begin=$SECONDS
  timeout -k 5 "${LIMIT:-$(seconds "$p")}" bash -c 'part "$1"' part "$p" >"$out/$p.log" 2>&1
  code=$?
  rows=$(ls "$scratch"/results_*.json 2>/dev/null | head -1)
  [ -n "$rows" ] && mv "$rows" "$out/$p.json"
  [ "$p" = crossover ] && mv "$scratch/cascade_table.md" "$out"
  printf '%-12s exit %d, %d s\n' "$p" $code $((SECONDS - begin)) | tee -a "$out/summary.txt"
  if [ $code -ne 0 ]; then
    failed=1
    tail -5 "$out/$p.log"
  fi
done
"$program" table "$out" | tee "$out/table.md"
exit $failed
