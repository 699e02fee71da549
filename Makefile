# Everything here needs Go and gcc only. `make help` lists the targets.
GO        ?= go
# Tests also verify the cache's books after every step; release builds leave that out.
TAGS      ?= invariants
FUZZTIME  ?= 20s
FUZZ      ?= .
BENCHOUT  ?= bench/results
# nvcc of CUDA 13.0, for who changes kernels/cuda.
NVCC      ?= nvcc

.PHONY: help test test-gpu test-gpu-build bench-gpu bench-gpu-build gorgonia rivals race fuzz lint bench bench-compare generate kernels check-generated nightly oracle examples nocgo clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

test: ## all tests, with invariants checked, and those of the nested modules
	$(GO) test -tags $(TAGS) ./...
	$(MAKE) oracle rivals examples

oracle: ## compare the forward pass with gomlx (a nested module)
	cd internal/oracle && $(GO) test ./...

examples: ## the nested modules that show how to write for quire what is not in it
	@set -e; for dir in examples/*/; do (set -x; cd $$dir && $(GO) vet ./... && $(GO) test ./...); done

rivals: ## the nested module that compares with other engines; it only needs one where it runs them
	cd bench/rivals && $(GO) vet ./... && $(GO) test ./...

test-gpu-build: ## test binaries and the program for a machine with a GPU and without Go, in gpu/
	@mkdir -p gpu
	@set -e; for pkg in kernels kernels/cuda model engine; do \
	  $(GO) test -c -trimpath -ldflags '-s -w' -tags $(TAGS) -o gpu/$$(basename $$pkg).test ./$$pkg; \
	done
	$(GO) build -buildvcs=true -trimpath -ldflags '-s -w' -o gpu/ ./cmd/quire ./bench/...

# The weights of the built-in model are left out: the programs are to be small enough to be sent.
bench-gpu-build: ## the benchmarks for a machine with a GPU and without Go, in gpu/: the programs gpu and quire
	@mkdir -p gpu
	$(GO) build -buildvcs=true -trimpath -tags notiny -ldflags '-s -w' -o gpu/ ./bench/gpu ./cmd/quire

bench-gpu: bench-gpu-build ## every row of the table of speeds on this machine's GPU; results in BENCHOUT
	bench/gpu.sh $(BENCHOUT)

gorgonia: ## gpu/gorgonia.test, of the nested module that shares a GPU with gorgonia.org/cu; CUDA12 is the folder of CUDA 12's cuda.h
	@mkdir -p gpu && interop/gorgonia/stub.sh $(CUDA12) gpu/stub
	cd interop/gorgonia && export CGO_CFLAGS="-O2 -I$(CUDA12)" CGO_LDFLAGS="-L$(CURDIR)/gpu/stub" && $(GO) vet . && \
	  $(GO) test -c -trimpath -ldflags '-s -w' -o ../../gpu/gorgonia.test .

test-gpu: test-gpu-build ## the tests of this machine's GPU; logs in gpu/logs
	kernels/cuda/test-gpu.sh gpu/logs

race: ## what has goroutines, under the race detector (the rest is one goroutine at a time and slow there)
	$(GO) test -race -tags $(TAGS) -short ./kernels/cuda/... ./kvcache/disk ./kvcache/host ./engine ./model/tokenizer ./model/synthetic ./internal/hub/...
	$(GO) test -race -tags $(TAGS) -short -run 'Pool|Do|Close|Open|Memory|GPU|Probe|Keep|Stretches|Shared' ./kernels
	$(GO) test -race -tags $(TAGS) -short -run 'Load|Rope|Finite|Checkpoint|Resolve' ./model

nocgo: ## the tests that compute, on the plain-Go kernels
	CGO_ENABLED=0 $(GO) test -short ./kernels/... ./attention ./model
	CGO_ENABLED=0 $(GO) test -short -run 'Golden|Evaluations|DevicesAgree|Example|SharedPrompts' ./engine

fuzz: ## every fuzz target that matches FUZZ (all) for FUZZTIME (20s)
	@set -e; for pkg in $$(git grep -l '^func Fuzz' -- '*_test.go' ':!examples' | xargs -n1 dirname | sort -u | sed 's|^|./|'); do \
	  for f in $$(grep -h -o '^func Fuzz[A-Za-z0-9]*' $$pkg/*_test.go | cut -c6- | grep -E '$(FUZZ)' || true); do \
	    bash .ci/fuzz $$pkg $$f $(FUZZTIME); \
	  done; done

lint: ## gofmt, vet, staticcheck, imports, tidy go.mod
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test ./internal/lint
	$(GO) mod tidy -diff

bench: ## the benchmark suite on the default model, and the Go benchmarks once each
	$(GO) run ./bench/run_all -out $(BENCHOUT)
	$(GO) test -run '^$$' -bench . -benchtime 1x ./...

bench-compare: ## Go benchmarks of REF (default HEAD~1) and of this tree, ten times each, through benchstat
	bash bench/compare.sh $(or $(REF),HEAD~1)

generate: ## rewrite generated files
	$(GO) generate ./...

kernels: generate ## compile kernels/cuda/*.cu with NVCC (nvcc of CUDA 13.0) to the images that are embedded
	$(GO) run ./kernels/cuda/internal/makekernels -nvcc $(NVCC)

check-generated: generate ## fail if a generated file is not current; compiles the GPU kernels again where there is an nvcc
	git diff --exit-code
	$(GO) run ./kernels/cuda/internal/makekernels -check -nvcc $(NVCC)

nightly: ## long fuzzing and soak
	$(MAKE) fuzz FUZZTIME=5m
	$(GO) test -tags $(TAGS) -race -count 5 ./engine/... ./kvcache/...

clean: ## remove what benchmarks and builds leave here
	rm -rf bin out gpu results_*.json results_fair.html results_fair.md benchmark_summary.json
