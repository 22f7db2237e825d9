# Every command of the project. CI runs `make test` and nothing else.

CARGO ?= cargo
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
# The folder of the lab's etcd, kube-apiserver and the like. Built once per version, outside the work tree.
ASSETS = $$($(CARGO) run --quiet --locked --package xtask -- controlplane)

.PHONY: test demo lint format crds programs tools images

# Formatting, lints, and every test: unit, scenario, API server, lab.
test: tools lint programs
	assets="$(ASSETS)" && \
	KUBEBUILDER_ASSETS="$$assets" HERALD_BIN_DIR="$(TARGET)/release" \
	$(CARGO) test --locked --workspace --no-fail-fast

# A cluster of three nodes on this machine, walked through. KEEP=1 leaves it up.
demo: tools programs
	assets="$(ASSETS)" && \
	KUBEBUILDER_ASSETS="$$assets" HERALD_BIN_DIR="$(TARGET)/release" KEEP="$(KEEP)" \
	$(CARGO) run --locked --package herald-tests --bin demo

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

format:
	$(CARGO) fmt --all

# manifests/crds/ from api/src/crd/.
crds:
	$(CARGO) run --locked --package herald-api --example crds

# The two products as they ship.
programs:
	$(CARGO) build --locked --release --package herald-controller --package herald-speaker

# What the other commands need of the machine; installs it where it may.
tools:
	tests/setup.sh

# The two images, by docker or whatever ENGINE names, for this machine's architecture.
ENGINE ?= docker
REGISTRY ?= ghcr.io/heraldlb
TAG ?= dev
images:
	$(ENGINE) build --file Containerfile --target controller --tag $(REGISTRY)/herald-controller:$(TAG) .
	$(ENGINE) build --file Containerfile --target speaker --tag $(REGISTRY)/herald-speaker:$(TAG) .
