# `make help` lists what there is. Real engines live outside the repository,
# under $STANCHION_CACHE; their addresses are in its file services.env.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Not exported: stanchion takes every STANCHION_ variable for a setting.
STANCHION_CACHE ?= $(HOME)/.cache/stanchion
unexport STANCHION_CACHE
ADDRESSES := $(STANCHION_CACHE)/services.env
SERVICES := STANCHION_CACHE='$(STANCHION_CACHE)' go run ./tools/services
WITH_ENGINES := set -a; . '$(ADDRESSES)'; set +a;
TAGS := it,ui,kill
FUZZTIME ?= 5s
BENCH ?= .
ARGS ?=

# The race detector needs a C compiler; nothing else here does.
RACE := $(if $(shell command -v gcc),-race)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
		while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

.PHONY: build
build: ## build bin/stanchion
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/stanchion ./cmd/stanchion

.PHONY: run
run: build ## the demo: every role in one process on embedded stores (ARGS='--flag ...')
	@exec bin/stanchion demo $(ARGS)

.PHONY: test
test: services vet unit it ## unit and integration tests; installs and starts what it needs (browser tests: make ui)

.PHONY: vet
vet: ## go vet, test files of every build tag included
	go vet -tags $(TAGS) ./...

.PHONY: unit
unit: ## unit, property and virtual-time tests, fuzz seeds, import rules; no engines
	@test -n '$(RACE)' || echo 'gcc is missing: running without the race detector'
	go test $(RACE) -p 2 -timeout 10m ./...

# A package has integration tests if one of its files carries the build tag.
IT_PACKAGES = $(shell git grep --untracked -lE '^//go:build it$$' -- '*_test.go' | xargs -r -n1 dirname | sort -u | sed 's,^,./,')

.PHONY: it
it: ## tests against the real engines; needs `make services`
	@test -e '$(ADDRESSES)' || { echo 'no engines: run make services first' >&2; exit 1; }
	@test -n '$(IT_PACKAGES)' || { echo 'no package has a test file with "//go:build it"' >&2; exit 1; }
	$(WITH_ENGINES) go test -tags it -p 2 -count=1 -timeout 10m $(IT_PACKAGES)

# A package has browser tests if one of its files carries the build tag.
UI_PACKAGES = $(shell git grep --untracked -lE '^//go:build ui$$' -- '*_test.go' | xargs -r -n1 dirname | sort -u | sed 's,^,./,')

.PHONY: ui
ui: ## the pages in a real browser; installs Chromium and its driver
	@$(SERVICES) up browser
	$(WITH_ENGINES) go test -tags ui -p 1 -count=1 -timeout 10m $(UI_PACKAGES)

.PHONY: kill-test
kill-test: ## kill the demo with SIGKILL at random, again and again, and audit what it acknowledged (ARGS='-kills=30 -fans=300 -seed=1')
	go test -tags kill -run TestKill -count=1 -timeout 30m -v ./chaos/restart -args $(ARGS)

.PHONY: guard
guard: ## send the whole corpus of hostile and honest requests to a running edge
	go run ./edge/guard/corpus/guardcheck $(ARGS)

.PHONY: room-live
room-live: ## real processes, a real Redis, thousands of fans and faults; needs `make services` (ARGS='-h' for more)
	$(WITH_ENGINES) go run ./perf/roomlive $(ARGS)

.PHONY: room-bench
room-bench: ## the waiting room beside its closest open-source peer, and what it costs its store; needs `make services`
	$(WITH_ENGINES) go run ./perf/roombench $(ARGS)

.PHONY: bench-peers
bench-peers: ## the edge beside fasthttp, net/http, HAProxy and nginx in one run (haproxy, nginx, wrk)
	go run ./perf/peers $(ARGS)

.PHONY: overload
overload: ## goodput of the edge at one to ten times what its origin bears
	go run ./perf/peers/overload $(ARGS)

.PHONY: pages
pages: ## pictures of every state of the waiting page, at three widths, light and dark
	@$(SERVICES) up browser
	$(WITH_ENGINES) go run ./tools/pages -out artifacts/pages $(ARGS)

.PHONY: lighthouse
lighthouse: ## scores of the waiting page on a throttled phone
	@$(SERVICES) up browser
	$(WITH_ENGINES) go run ./tools/lighthouse

.PHONY: lint
lint: vet ## gofmt, vet, staticcheck, import rules, known vulnerabilities
	@unformatted=$$(git ls-files '*.go' | xargs gofmt -l); test -z "$$unformatted" || { echo "gofmt -w needed:"; echo "$$unformatted"; exit 1; }
	go tool staticcheck -tags $(TAGS) ./...
	go test -count=1 .
	@tools/vulnerabilities.sh

.PHONY: bench
bench: ## all Go benchmarks with allocations (BENCH=pattern)
	go test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 30m ./...

.PHONY: fuzz
fuzz: ## every fuzz target for a while (FUZZTIME=5s each)
	@tools/fuzz.sh $(FUZZTIME)

.PHONY: services
services: ## obtain and start the real engines (Debian; root if packages are missing)
	@$(SERVICES) up

.PHONY: services-stop
services-stop: ## stop the engines that make services has started
	@$(SERVICES) down

.PHONY: docs
docs: ## write the generated pages of docs/reference
	@mkdir -p docs/reference bin
	go run ./cmd/stanchion config reference > bin/config.md
	@mv bin/config.md docs/reference/config.md
