# Copyright The bm-ccm Authors.
# SPDX-License-Identifier: Apache-2.0
#
# `make help` lists the targets. Everything made here lands in build/; what is
# expensive to build (tools, Kubernetes binaries, the NetBox snapshot) is kept in a
# cache of the user's, so that the next clone starts warm.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# One thing after the other: the steps share two cores and one machine.
.NOTPARALLEL:
.DELETE_ON_ERROR:

MODULE   := github.com/bm-ccm/bm-ccm
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT   ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
# Not component-base's gitVersion: upstream takes that one for the version of
# Kubernetes and picks its feature gates by it.
LDFLAGS  := -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# The tools are pinned; the version is in the file's name, so that an upgrade
# is a new file and not a stale one.
GOLANGCI_LINT_VERSION  := v2.12.2
CONTROLLER_GEN_VERSION := v0.21.0

export BM_CCM_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bm-ccm
TOOLS          := $(BM_CCM_CACHE)/tools
GOLANGCI_LINT  := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)
CONTROLLER_GEN := $(TOOLS)/controller-gen-$(CONTROLLER_GEN_VERSION)

# golangci-lint keeps what it found with absolute paths, and goes wrong where it
# finds the same code in another checkout, or in one that is gone: a cache each.
export GOLANGCI_LINT_CACHE ?= $(BM_CCM_CACHE)/lint-$(shell printf %s '$(CURDIR)' | sha256sum | cut -c1-8)

# The race detector needs a C compiler; `make deps` installs one if it may.
RACE = $(shell command -v gcc >/dev/null && echo -race)
IS_ROOT := $(filter 0,$(shell id -u))
GO_UNIT_TIMEOUT ?= 10m
GO_LAB_TIMEOUT  ?= 45m

# As root on Debian nothing is missing, so a test that would skip itself fails.
ifneq ($(and $(IS_ROOT),$(wildcard /etc/debian_version)),)
export BM_CCM_REQUIRE_ROOT ?= 1
endif

say = @printf '\n== %s (%s)\n' "$(1)" "$$(date +%T)"

.PHONY: help
help: ## this list
	@printf 'Targets (times on two cores: first time / after that):\n\n'
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
	   printf '  %-15s %s\n' "$$name" "$$text"; done
	@printf '\nCaches: %s, and what `go env GOCACHE GOMODCACHE` say.\n' "$(BM_CCM_CACHE)"

.PHONY: build
build: ## build/bin/bm-ccm: controller, agent, all in one (3 min / 5 s)
	@mkdir -p build/bin
	go build -ldflags '$(LDFLAGS)' -o build/bin/bm-ccm ./cmd/bm-ccm
	@echo "built build/bin/bm-ccm $(VERSION)"

.PHONY: test
test: deps generate-check lint test-unit test-lab ## everything that CI runs; as root, else without the lab (35 min / 10 min)
	$(call say,all tests passed)

.PHONY: test-unit
test-unit: ## unit tests and house rules, with the race detector (6 min / 1 min)
	$(call say,unit tests)
	@[ -n "$(RACE)" ] || echo "no gcc here: running without the race detector"
	go test $(RACE) -timeout $(GO_UNIT_TIMEOUT) ./...

.PHONY: test-lab
test-lab: build prepare ## integration tests: a Kubernetes cluster in namespaces, a real NetBox (20 min / 6 min)
	$(call say,integration tests$(if $(IS_ROOT),, without the lab: its network namespaces need root))
	go -C conformance test -p 1 -v -count=1 -timeout $(GO_LAB_TIMEOUT) ./...

# What takes long the first time on a machine: Kubernetes is built on all cores,
# NetBox migrates its database on one.
.PHONY: prepare
prepare: deps ## builds Kubernetes and installs NetBox for the lab, at the same time; root (15 min / 5 s)
	$(call say,prepare the lab)
ifdef IS_ROOT
	@mkdir -p build/bin
	@go -C conformance build -o ../build/bin/ ./cmd/lab ./cmd/netbox
	@cd conformance && { ../build/bin/netbox install & pid=$$!; \
	   trap 'kill $$pid 2>/dev/null || true' EXIT; \
	   ../build/bin/lab build; wait $$pid; trap - EXIT; }
endif

.PHONY: lint
lint: $(GOLANGCI_LINT) ## golangci-lint over both modules (6 min / 30 s)
	$(call say,lint)
	$(GOLANGCI_LINT) run ./...
	cd conformance && $(GOLANGCI_LINT) run --config ../.golangci.yml ./...

.PHONY: lint-fix
lint-fix: $(GOLANGCI_LINT) ## mends what golangci-lint can mend by itself (6 min / 30 s)
	$(GOLANGCI_LINT) run --fix ./...
	cd conformance && $(GOLANGCI_LINT) run --fix --config ../.golangci.yml ./...

.PHONY: generate
generate: $(CONTROLLER_GEN) ## CRDs, deepcopy functions, and docs/reference from API types and code (4 min / 20 s)
	$(call say,generate)
	$(CONTROLLER_GEN) object:headerFile=hack/licence.txt paths=./pkg/api/v1alpha1
	$(CONTROLLER_GEN) crd:headerFile=hack/licence.yaml.txt paths=./pkg/api/v1alpha1 output:crd:dir=deploy/crds
	cat deploy/crds/*.yaml > deploy/manifests/crds.yaml
	go run ./hack/apidoc
	go run ./hack/refdoc

# What `make generate` writes.
GENERATED := deploy/crds deploy/manifests/crds.yaml docs/reference pkg/api/v1alpha1/zz_generated.deepcopy.go

.PHONY: generate-check
generate-check: ## fails if `make generate` changes a file (4 min / 20 s)
	@mkdir -p build && rm -rf build/.generated.before && mkdir build/.generated.before
	@cp -r --parents $(GENERATED) build/.generated.before/
	@$(MAKE) --no-print-directory generate
	@for f in $(GENERATED); do diff -ru "build/.generated.before/$$f" "$$f" || stale=1; done; \
	   if [ -n "$${stale:-}" ]; then \
	     echo "generated files were out of date; they are fresh now: look at them and commit them" >&2; exit 1; fi

.PHONY: demo
demo: deps build ## the story of a Service, from kubectl apply to a client outside; NETBOX=real, KEEP=1; root (15 min / 1 min)
	$(call say,demo)
	@mkdir -p build/bin
	go -C conformance build -o ../build/bin/demo ./demo
	cd conformance && ../build/bin/demo

.PHONY: bench
bench: bench-alloc bench-netbox ## every benchmark; tables here and build/bench/*.json (30 min / 8 min)

.PHONY: bench-alloc
bench-alloc: deps build ## 2000 Services from created to addressed, against the target rate; root (15 min / 2 min)
	$(call say,bench-alloc)
	@mkdir -p build/bin build/bench
	go -C conformance build -o ../build/bin/bench-alloc ./bench/alloc
	build/bin/bench-alloc -out build/bench -bm-ccm build/bin/bm-ccm

.PHONY: bench-netbox
bench-netbox: deps build ## claims from a real NetBox, against a client that asks for one at a time; root (20 min / 5 min)
	$(call say,bench-netbox)
	@mkdir -p build/bin build/bench
	go -C conformance build -o ../build/bin/bench-netbox ./bench/netbox
	build/bin/bench-netbox -out build/bench -bm-ccm build/bin/bm-ccm

# NETBOX, CRASH_SEED and OUTAGE are read by the tests themselves.
CRASH_ROUNDS ?= $(if $(filter real,$(NETBOX)),40,200)
.PHONY: crash
crash: deps build ## 200 rounds of churn, crashes and faults; NETBOX=real takes 40; CRASH_ROUNDS, CRASH_SEED (15 min)
	$(call say,crash)
	CRASH_ROUNDS=$(CRASH_ROUNDS) go -C conformance test -count=1 -v -timeout 2h -run 'TestEveryStep|TestChurn' ./crash

.PHONY: deps
deps: ## Debian packages that the lab needs, if root and missing (2 min / 0 s)
	@hack/deps.sh

.PHONY: clean
clean: ## removes build/ (0 s); the cache stays, its place is named below
	rm -rf build
	@echo "kept: $(BM_CCM_CACHE)"

# $(1): package path with version. A fresh folder, then a rename: a broken
# download leaves nothing behind that looks finished.
define install_tool
	@mkdir -p $(TOOLS)
	@echo "installing $(notdir $@) (once; a minute or two)"
	@tmp=$$(mktemp -d $(TOOLS)/.new-XXXXXX); trap 'rm -rf "$$tmp"' EXIT; \
	  GOFLAGS= GOBIN=$$tmp go install $(1); mv "$$tmp"/* $@
endef

$(GOLANGCI_LINT):
	$(call install_tool,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION))

$(CONTROLLER_GEN):
	$(call install_tool,sigs.k8s.io/controller-tools/cmd/controller-gen@$(CONTROLLER_GEN_VERSION))
