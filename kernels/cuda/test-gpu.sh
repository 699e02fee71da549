#!/usr/bin/env bash
# Runs on a machine with a GPU, and without Go, what `make test-gpu-build` has put into gpu/ beside this tree:
#
#   kernels/cuda/test-gpu.sh LOGS [STAGE...]
#
# Each stage writes LOGS/STAGE.log, and a line with its outcome to LOGS/summary.txt. Without stages all of them run but for
# those of compute-sanitizer, which are run where SANITIZER names it or PATH has it. Exit code 1: a stage failed.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
logs=$(cd "$1" && pwd)
shift
export QUIRE_REQUIRE_GPU=1
sanitizer=${SANITIZER:-$(command -v compute-sanitizer || true)}
stages=${*:-driver kernels model engine kernels-ptx model-ptx}
[ $# -eq 0 ] && [ -n "$sanitizer" ] && stages="$stages memcheck racecheck"
failed=0

# run STAGE FOLDER BINARY ARGUMENT...: in the package's folder, where its test data lies. WITH goes before the binary.
run() {
  local stage=$1 folder=$2 binary=$root/gpu/$3 start=$SECONDS code
  shift 3
  (cd "$root/$folder" && ${WITH:-} "$binary" -test.v -test.timeout "${TIMEOUT:-8m}" "$@") >"$logs/$stage.log" 2>&1
  code=$?
  printf '%-12s exit %d, %d passed, %d failed, %d skipped, %d s\n' "$stage" $code \
    "$(grep -c -- '--- PASS' "$logs/$stage.log")" "$(grep -c -- '--- FAIL' "$logs/$stage.log")" \
    "$(grep -c -- '--- SKIP' "$logs/$stage.log")" $((SECONDS - start)) | tee -a "$logs/summary.txt"
  if [ $code -ne 0 ]; then
    failed=1
    grep -- '--- FAIL' "$logs/$stage.log" | head -40
  fi
}

for stage in $stages; do
  case $stage in
    driver) run driver kernels/cuda cuda.test -test.run '^TestDevice(Pages|Lost)?$' ;;
    kernels) run kernels kernels kernels.test -test.run '^TestCUDA' ;;
    model) run model model model.test -test.run 'CUDA$' ;;
    engine) QUIRE_TEST_DEVICE=cuda run engine engine engine.test -test.run '^TestEvaluations' ;;
    kernels-ptx) QUIRE_CUDA_IMAGE=ptx run kernels-ptx kernels kernels.test -test.run '^TestCUDA' ;;
    model-ptx) QUIRE_CUDA_IMAGE=ptx run model-ptx model model.test -test.run 'CUDA$' -test.short ;;
    memcheck | racecheck | initcheck | synccheck) # that a function has no more parameters is an answer, and no error
      WITH="$sanitizer --tool $stage --report-api-errors no --error-exitcode 9" run "$stage" kernels kernels.test -test.short -test.run '^TestCUDA'
      ;;
    *) echo "no stage $stage" >&2 && exit 2 ;;
  esac
done
exit $failed
