# Everything that is built, run, tested and checked, for people and for CI alike. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

GO ?= go
# TOOL runs a tool in the version that tools/go.mod pins; it is compiled at its first use.
TOOL := $(GO) tool -modfile=tools/go.mod
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# VCS says whether the revision can be stamped into the binary: not in an unpacked archive, nor in another user's checkout.
VCS := $(shell git status --porcelain >/dev/null 2>&1 && echo true || echo false)
LDFLAGS := -s -w -X github.com/ratelimitd/ratelimitd/internal/app.version=$(VERSION)

# IMAGE is the name of the image that `make image` makes; VERSION is its tag, with - for each +, which no tag may have.
IMAGE ?= ghcr.io/ratelimitd/ratelimitd
# What the image says of its source: the commit and its time.
REVISION = $(shell git rev-parse HEAD 2>/dev/null)
CREATED = $(shell git log -1 --format=%cI 2>/dev/null || echo 1970-01-01T00:00:00Z)

# Where `make tools` puts what the machine lacks. What is on PATH comes first. It is relative, since a target cannot be named by
# a path with spaces; a recipe that needs the whole path puts CURDIR before it, and quotes both.
TOOLS_BIN := .tools/bin
WITH_TOOLS := PATH="$$PATH:$(CURDIR)/$(TOOLS_BIN)"

# ARGS are more arguments for `make run`, as ARGS='--log-format=console'.
ARGS ?=
# TESTFLAGS are more arguments for `go test`, as TESTFLAGS='-run TestEnvoy -v'.
TESTFLAGS ?=
# TEST_TIMEOUT bounds the tests of one package.
TEST_TIMEOUT ?= 20m
# FUZZTIME is how long each fuzz target runs: a number of inputs ("20000x") or a time ("30s").
FUZZTIME ?= 20000x
# BENCHFLAGS are arguments for the end-to-end benchmark; `go run ./test/bench -h` lists them.
BENCHFLAGS ?=
# BENCHCOUNT is how often each micro benchmark is run.
BENCHCOUNT ?= 6

##@ Run

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Build bin/ratelimitd, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(VCS) -ldflags '$(LDFLAGS)' -o bin/ratelimitd ./cmd/ratelimitd

# The programs that images are made of.
.PHONY: linux
linux:
	for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -buildvcs=$(VCS) -ldflags '$(LDFLAGS)' \
			-o bin/linux-$$arch/ratelimitd ./cmd/ratelimitd; \
	done

.PHONY: image
image: linux ## Write bin/image.tar, an OCI image for linux/amd64 and linux/arm64, and check it; needs no container engine
	$(GO) -C tools run ./image -out ../bin/image.tar -name $(IMAGE) -version '$(VERSION)' \
		-revision '$(REVISION)' -created '$(CREATED)' -source .. \
		linux/amd64=../bin/linux-amd64/ratelimitd linux/arm64=../bin/linux-arm64/ratelimitd

.PHONY: licenses
licenses: linux ## Write bin/licenses, the texts that the binaries must be handed on with; `ko build` needs them
	$(GO) -C tools run ./image/licenses -source .. -out ../bin/licenses \
		../bin/linux-amd64/ratelimitd ../bin/linux-arm64/ratelimitd

.PHONY: run
run: build ## Build and start ratelimitd with the embedded store and the production policy
	exec bin/ratelimitd serve --store=memory --policy=production $(ARGS)

##@ Test

.PHONY: tools
tools: ## Install what the tests need and the machine lacks: redis-server, Envoy, Prometheus, a C compiler, a collector of traces
	@GO='$(GO)' scripts/tools.sh
	@$(MAKE) --no-print-directory $(TOOLS_BIN)/otel-collector

# For what is not all of the tests, and needs one of the tools alone.
.PHONY: tools-redis tools-envoy tools-etcd tools-prometheus
tools-redis tools-envoy tools-etcd tools-prometheus: tools-%:
	@GO='$(GO)' scripts/tools.sh $*

$(TOOLS_BIN)/otel-collector: $(wildcard tools/otel-collector/*)
	CGO_ENABLED=0 $(GO) -C tools/otel-collector build -trimpath -buildvcs=false -ldflags '-s -w' -o "$(CURDIR)/$@" .
	touch $@

.PHONY: test
test: tools ## Run every test with the race detector, and each fuzz target for a moment
	$(WITH_TOOLS) $(GO) test -race -count=1 -timeout=$(TEST_TIMEOUT) $(TESTFLAGS) ./...
	$(GO) -C tools test -count=1 $(TESTFLAGS) ./image/...
	$(WITH_TOOLS) $(GO) -C test/k8s test -count=1 -timeout=$(TEST_TIMEOUT) $(TESTFLAGS) ./...
	$(WITH_TOOLS) GO='$(GO)' scripts/fuzz.sh '$(FUZZTIME)'

.PHONY: test-k8s
test-k8s: tools-etcd $(TOOLS_BIN)/kube-apiserver ## Apply all of deploy/k8s to a real kube-apiserver with a real etcd
	$(WITH_TOOLS) $(GO) -C test/k8s test -tags=apiserver -count=1 -timeout=$(TEST_TIMEOUT) $(TESTFLAGS) ./apiserver

# The first build takes minutes; Go's build cache keeps its parts.
$(TOOLS_BIN)/kube-apiserver: $(wildcard tools/kube-apiserver/*)
	$(GO) -C tools/kube-apiserver build -trimpath -buildvcs=false -ldflags '-s -w' -o "$(CURDIR)/$@" .

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME, as in: make fuzz FUZZTIME=5m
	$(WITH_TOOLS) GO='$(GO)' scripts/fuzz.sh '$(FUZZTIME)'

.PHONY: bench
bench: bench-micro bench-load ## Run all benchmarks

.PHONY: bench-micro
bench-micro: tools-redis ## Run the micro benchmarks; bin/bench.txt keeps their output for benchstat
	mkdir -p bin
	$(WITH_TOOLS) $(GO) test -run='^$$' -bench=. -benchmem -count=$(BENCHCOUNT) ./internal/... > bin/bench.txt \
		|| { cat bin/bench.txt; exit 1; }
	$(TOOL) benchstat bin/bench.txt

.PHONY: bench-load
bench-load: tools-redis ## Drive the daemon with load and compare it with a server that decides nothing
	$(WITH_TOOLS) $(GO) run ./test/bench $(BENCHFLAGS)

##@ Check

.PHONY: lint
lint: lint-generated lint-go lint-proto lint-modules lint-vuln ## Run every check that is not a test

.PHONY: lint-generated
lint-generated: ## Check that generated code is up to date
	MAKE='$(MAKE)' scripts/generated.sh

.PHONY: lint-go
lint-go: ## Run golangci-lint
	$(TOOL) golangci-lint run ./...
	$(GO) -C tools tool golangci-lint run ./...
	$(GO) -C test/k8s tool -modfile="$(CURDIR)/tools/go.mod" golangci-lint run --build-tags=apiserver ./...

.PHONY: lint-proto
lint-proto: ## Check style, format and compatibility of the protocol buffers
	$(TOOL) buf lint
	$(TOOL) buf format --diff --exit-code
	BUF='$(TOOL) buf' scripts/breaking.sh

.PHONY: lint-modules
lint-modules: ## Check that each go.mod is tidy
	$(GO) mod tidy -diff
	$(GO) -C tools mod tidy -diff
	$(GO) -C tools/kube-apiserver mod tidy -diff
	$(GO) -C tools/otel-collector mod tidy -diff
	$(GO) -C test/k8s mod tidy -diff

.PHONY: lint-vuln
lint-vuln: ## Look for known vulnerabilities, where their database can be had
	GOVULNCHECK='$(TOOL) govulncheck' scripts/vulncheck.sh

##@ Change

.PHONY: generate
generate: ## Make all generated files anew
	$(TOOL) buf generate
	$(GO) generate ./...

.PHONY: pictures
pictures: tools-redis tools-prometheus ## Draw the dashboards of the documentation anew, from a load of 8 minutes
	mkdir -p bin
	$(WITH_TOOLS) $(GO) run ./test/monitoring/pictures -o bin/pictures.json
	test -x .tools/pictures/bin/python3 || python3 -m venv .tools/pictures
	.tools/pictures/bin/python3 -m pip install --quiet --disable-pip-version-check matplotlib==3.11.2
	.tools/pictures/bin/python3 test/monitoring/pictures/draw.py bin/pictures.json docs/images

.PHONY: fmt
fmt: ## Format Go code and protocol buffers
	$(TOOL) golangci-lint fmt ./...
	$(TOOL) buf format --write

.PHONY: clean
clean: ## Remove what was built and what `make tools` put into the repository
	rm -rf bin .tools
