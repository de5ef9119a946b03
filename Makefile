# NovaCron. 'make help' lists what there is to make.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

MODULE  := github.com/novacron/novacron
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || true)
LDFLAGS := -X $(MODULE)/internal/platform/buildinfo.version=$(VERSION) -X $(MODULE)/internal/platform/buildinfo.commit=$(COMMIT)
TAGS    ?=
GO      ?= go
TOOLS   := bin/tools
# Tests of one package run with others', but not too many: each brings its own PostgreSQL, and some their own libvirt.
TESTFLAGS ?= -p 2 -timeout 20m

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## install what is missing, build, start the server, and boot a virtual machine
	@deploy/run.sh

.PHONY: build
build: ## build bin/novacron; TAGS=libvirt_dlopen makes one that starts where libvirt is not installed
	$(GO) build -trimpath -tags "$(TAGS)" -ldflags "$(LDFLAGS)" -o bin/novacron ./cmd/novacron

.PHONY: demo-image
demo-image: ## build bin/demo.qcow2, the demo guest
	@deploy/host/prepare.sh packages image
	@deploy/demo-image/build.sh bin/demo.qcow2

.PHONY: debian-image
debian-image: ## build the Debian guest that tests check cloud-init with; needs root, and is kept in the user's cache
	@if [ "$$(id -u)" = 0 ]; then test/debian-image/build.sh; else echo "not root: tests with the Debian guest are skipped"; fi

.PHONY: prepare
prepare: ## install the packages that building and testing need
	@deploy/host/prepare.sh go
	@deploy/host/prepare.sh packages run build image test

# The tools have a go.mod of their own, so that they stay out of the product's graph. Each is built once.
$(TOOLS)/%: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	@package=$$(awk -v name="/$*$$" '$$1 ~ /\// && $$1 ~ name { print $$1 } $$2 ~ name { print $$2 }' tools/go.mod | grep -v ' ' | head -n 1); \
	echo "building $* from $$package"; $(GO) build -C tools -o ../$@ $$package
	@touch $@

# Those for protobuf have one of their own: they want other versions of what both use.
PROTO_TOOLS := $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc
$(PROTO_TOOLS): tools/proto/go.mod tools/proto/go.sum
	@mkdir -p $(TOOLS)
	@echo "building $(@F)"; $(GO) build -C tools/proto -o ../../$@ $$($(GO) -C tools/proto list -f '{{.ImportPath}}' tool | grep '/$(@F)$$')
	@touch $@

.PHONY: gen
gen: $(TOOLS)/sqlc $(PROTO_TOOLS) ## generate code and reference documentation
	cd db && ../$(TOOLS)/sqlc generate
	cd api/proto && ../../$(TOOLS)/buf generate
	$(GO) test -count=1 ./internal/config ./internal/app -run 'UpToDate' -args -update

.PHONY: gen-check
gen-check: $(TOOLS)/sqlc $(PROTO_TOOLS) ## fail if generated code is not up to date
	cd db && ../$(TOOLS)/sqlc diff
	rm -rf bin/.proto-check
	cd api/proto && ../../$(TOOLS)/buf lint && ../../$(TOOLS)/buf generate -o ../../bin/.proto-check --template '{"version":"v2","plugins":[{"local":"../../$(TOOLS)/protoc-gen-go","out":".","opt":"module=$(MODULE)"},{"local":"../../$(TOOLS)/protoc-gen-go-grpc","out":".","opt":"module=$(MODULE)"}]}'
	diff <(cd bin/.proto-check && find internal -type f | sort) <(find internal -name '*.pb.go' | sort)
	for file in $$(find internal -name '*.pb.go'); do diff bin/.proto-check/$$file $$file; done

.PHONY: baseline
baseline: ## at a release: keep today's OpenAPI document as the one that later ones are compared with
	$(GO) test -count=1 ./internal/app -run TestNothingOfTheLastReleaseBroke -args -baseline

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## vet, gofmt, linters and import rules
	$(GO) vet ./...
	$(GO) vet -tags faultinject ./internal/app
	$(TOOLS)/golangci-lint run
	shellcheck deploy/*.sh deploy/*/*.sh test/*/*.sh .ci/run

.PHONY: test
test: prepare build dlopen gen-check lint demo-image debian-image $(TOOLS)/gotestsum ## everything that must pass before a change lands
	$(TOOLS)/gotestsum --format pkgname-and-test-fails -- -race $(TESTFLAGS) ./...

.PHONY: dlopen
dlopen: ## build the variant that loads libvirt when it is first used
	$(GO) build -tags libvirt_dlopen -o bin/novacron-dlopen ./cmd/novacron

.PHONY: unit
unit: ## the tests that need neither libvirt nor a guest
	$(GO) test -race $(TESTFLAGS) ./internal/... ./cmd/... ./db/...

.PHONY: soak
soak: demo-image ## long runs: 200 cycles of create and delete, and a kill at every point of every saga
	NOVACRON_TEST_SOAK=1 $(GO) test -count=1 -timeout 170m -v ./test/e2e

.PHONY: bench
bench: demo-image ## measure, and print the ratios that docs/benchmarks.md keeps
	NOVACRON_TEST_BENCH=1 $(GO) test -count=1 -timeout 60m -p 1 -run "^TestBench" -v ./test/e2e ./internal/gateway/gatewaymodule

FUZZTIME ?= 20s
.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME
	@grep -rlE '^func Fuzz' --include='*_test.go' internal cmd | xargs -n1 dirname | sort -u | while read -r dir; do \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -c6-); do \
	    echo "$$dir $$target"; $(GO) test ./$$dir -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME); done; done

.PHONY: clean
clean: ## remove what was built
	rm -rf bin .cache
