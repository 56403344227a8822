# Spillway. `make help` lists the targets.
SHELL := /bin/bash
export CGO_ENABLED = 0
STORE ?= embedded

# One set of flags for all that the demo builds, so that nothing is compiled twice.
build images demo up: export GOFLAGS += -trimpath

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

entry: ## build the program that starts first in containers
	go build -trimpath -buildvcs=false -ldflags "-s -w" -o runtime/entry/bin/entry ./runtime/entry/program

build: entry ## build bin/spillway
	go build -ldflags "-s -w" -o bin/spillway ./cmd/spillway

# What the driver's library lacks is looked for when it is called, and not at the start.
GPUPROBE = CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -Wno-deprecated-declarations"
LAZY = "-extldflags=-Wl,-z,lazy"

gpuprobe: ## build bin/gpuprobe, which reads NVIDIA GPUs (needs gcc)
	$(GPUPROBE) go build -trimpath -ldflags "-s -w "$(LAZY) -o bin/gpuprobe ./cmd/gpuprobe

images: build setup ## build the function images and load them into Docker
	./images/build.sh

transcribe: build setup ## build the transcribe image, where its CUDA base and packages can be had
	./images/transcribe.sh

minio: ## build the MinIO server, once, into .cache (for STORE=minio and tests)
	./deploy/minio/build.sh

containerd: ## build containerd 2, once, into .cache, for its tests
	./deploy/containerd/build.sh

gpu-bundle: ## one archive that does the whole job on a machine with an NVIDIA GPU: e2e/gpu/README.md
	./e2e/gpu/bundle.sh

gpu: ## the whole job on this machine's GPU; writes e2e/gpu/RESULTS.md
	./e2e/gpu/bundle.sh folder
	build/spillway-gpu/run -results e2e/gpu/RESULTS.md

.PHONY: gpu-bundle gpu

setup: ## install and start what is missing (says what)
	@./deploy/setup.sh

demo: images ## the whole main job on this machine, then stop; STORE=minio runs it on MinIO
	@$(if $(filter minio,$(STORE)),./deploy/minio/build.sh,:)
	go run ./e2e/demo -store $(STORE)

up: images ## the demo's set-up, kept serving until Ctrl-C
	@$(if $(filter minio,$(STORE)),./deploy/minio/build.sh,:)
	go run ./e2e/demo -store $(STORE) -keep

check: entry ## format, vet, import policy
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "gofmt needed: $$bad"; exit 1; }
	go vet ./...
	go test -run 'TestImports|TestVocabulary' ./cmd/spillway

race: entry ## unit tests under the race detector
	$(GPUPROBE) go vet ./cmd/gpuprobe
	$(GPUPROBE) go test -race -short -timeout 15m -ldflags $(LAZY) $(RACE_PACKAGES)

RACE_PACKAGES = ./functions ./functions/taskdb ./functions/tasklog ./functions/shares ./functions/webfetch ./gateway/... ./scheduler ./runtime ./runtime/ocispec ./runtime/gpu/... ./runtime/pool ./runtime/node ./runtime/serve ./runtime/entry/wire ./runtime/entry/framelog ./images ./cmd/...

test: ## everything CI runs
	@./deploy/setup.sh test
	$(MAKE) check images minio gpuprobe race
	SPILLWAY_REQUIRE_DOCKER=1 SPILLWAY_REQUIRE_OCI=1 SPILLWAY_REQUIRE_CONTAINERD=1 SPILLWAY_REQUIRE_NETNS=1 SPILLWAY_REQUIRE_GCC=1 REQUIRE_MINIO=1 REQUIRE_AWSCLI=1 REQUIRE_BOTO3=1 REQUIRE_CHROMIUM=1 go test -timeout 30m -p 2 ./...

bench: images minio ## benchmarks; figures, not gates
	@./deploy/setup.sh bench
	go test -run '^$$' -bench . -benchtime 2s ./functions/... ./scheduler ./gateway ./runtime/...
	go run ./e2e/bench -quiet -json e2e/bench/results.json
	go run ./e2e/bench -report e2e/bench/results.json

chaos: images minio ## long runs of kill -9, cut networks and lost events; SEED=n replays one
	go test -count 1 -timeout 90m -v -run 'TestKill|TestIngestLosesNothing' ./e2e -args -kills 200 -faults 200 $(if $(SEED),-seed $(SEED))

cgroup2: ## the drivers' tests on a virtual machine whose control groups are of version 2 alone; half an hour
	@./deploy/setup.sh cgroup2
	./e2e/cgroup2/run.sh

clean: ## remove what was built
	rm -rf bin build runtime/entry/bin/entry

.PHONY: help entry build gpuprobe images transcribe minio containerd setup demo up check race test bench chaos cgroup2 clean
