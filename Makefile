# Prelude. `make` alone lists the targets. Needs Python 3.11 or newer with venv, git, and a package registry.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.complete
RUN := $(VENV)/bin/python
SCRIPTS := deploy/scripts
# PostgreSQL's data where it runs as `nobody`: of root, where user namespaces are refused (deploy.embedded.privileges).
NOBODYS_PLACE ?= /var/tmp/prelude

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do \
		printf '  make %-14s %s\n' "$$target" "$$text"; done

$(STAMP): pyproject.toml requirements.lock
	@$(SCRIPTS)/environment.sh "$(PYTHON)" $(VENV)
	@touch $@

.PHONY: demo
demo: $(STAMP) ## Run the main job: four tenants, a real base model, three rounds
	@$(RUN) -m deploy.demo

.PHONY: up
up: $(STAMP) ## Run the whole platform on embedded servers until Ctrl-C (data stays in var/platform)
	@$(RUN) -m deploy.embedded up

.PHONY: test
test: $(STAMP) ## Judge the tree: format, lint, types, contracts, migrations, tests
	@$(SCRIPTS)/test.sh $(VENV)/bin all

.PHONY: lint types contracts migrations
lint: $(STAMP) ## Check the code's form (ruff)
types: $(STAMP) ## Check the types (mypy --strict)
contracts: $(STAMP) ## Check which package may know which (import-linter)
migrations: $(STAMP) ## Check that no migration is missing
lint types contracts migrations:
	@$(SCRIPTS)/test.sh $(VENV)/bin $@

.PHONY: bench-dataset
bench-dataset: $(STAMP) ## Measure what a dataset of a gibibyte costs in memory, against one of a mebibyte
	@$(RUN) -m tests.benchmarks.large_dataset

.PHONY: bench-aggregation
bench-aggregation: $(STAMP) ## Measure what aggregation takes in memory and time, against NumPy on all updates at once
	@$(RUN) -m tests.benchmarks.aggregation

.PHONY: faults
faults: $(STAMP) ## Kill, stop and flood a platform in mid-round, 200 times and more, and judge each round (half an hour)
	@$(RUN) -m tests.faults

.PHONY: bench-api
bench-api: $(STAMP) ## Measure the API's latency against bare views that give the same rows
	@$(RUN) -m tests.benchmarks.api_latency

.PHONY: bench-rounds
bench-rounds: $(STAMP) ## Hold the same no-op round here, on Flower and on NVIDIA FLARE (an hour; ROUNDS=--quick: minutes)
	@$(RUN) -m tests.benchmarks.rounds $(ROUNDS)

.PHONY: bench-training
bench-training: $(STAMP) ## Measure local training against the Hugging Face Trainer with PEFT and loops by hand (half an hour)
	@$(RUN) -m tests.benchmarks.training $(TRAINING)

.PHONY: bench-learning
bench-learning: $(STAMP) ## Measure how well it learns (many hours; LEARNING="--hours 1", --quick, --help); resumes
	@$(RUN) -m deploy.demo.materials
	@$(SCRIPTS)/with_settings.sh $(RUN) manage.py benchmark $(LEARNING)

.PHONY: openapi
openapi: $(STAMP) ## Write docs/openapi.json and docs/rights.md from the code
	@$(SCRIPTS)/with_settings.sh $(RUN) manage.py spectacular --format openapi-json --file docs/openapi.json
	@$(SCRIPTS)/with_settings.sh $(RUN) manage.py rights_table > docs/rights.md

.PHONY: lock
lock: $(STAMP) ## Resolve requirements.lock anew
	@$(SCRIPTS)/lock.sh $(VENV)/bin/uv > requirements.lock.draft
	@mv requirements.lock.draft requirements.lock

.PHONY: clean
clean: ## Remove the environment and the tools' caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.PHONY: clean-var
clean-var: ## Remove everything that runs have written (tenants' data, prefixes, logs)
	rm -rf var "$(NOBODYS_PLACE)-$$(printf %s "$$(realpath var/platform 2>/dev/null)" | sha256sum | cut -c-12)"
