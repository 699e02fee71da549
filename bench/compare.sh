#!/usr/bin/env bash
# Compares the Go benchmarks of a commit with those of this tree: ten runs of each, taking turns, so that a machine that
# grows warm or busy meets both alike. Usage: bench/compare.sh [REF] [PACKAGES...]; BENCH and COUNT may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
ref=${1:-HEAD~1}
shift || true
packages=("${@:-./...}")
bench=${BENCH:-.}
count=${COUNT:-10}

work=$(mktemp -d)
trap 'git worktree remove --force "$work/old" 2>/dev/null || true; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/old" "$ref"

run() { # folder, file
	(cd "$1" && go test -run '^$' -bench "$bench" "${packages[@]}") >>"$2" || echo "some benchmarks of $1 failed" >&2
}
for ((i = 1; i <= count; i++)); do
	echo "round $i of $count" >&2
	run "$work/old" "$work/old.txt"
	run . "$work/new.txt"
done
go tool benchstat "old=$work/old.txt" "new=$work/new.txt"
