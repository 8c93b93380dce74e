# What people type here: `make demo`, `make test`. Everything is installed into .venv, nothing into the system,
# but for what the tests start (mosquitto, PostgreSQL, Chromium), where it is missing and this runs as root.

VENV := .venv/bin
PYTHONS := python3.13 python3.12 python3.11 python3.14 python3

.PHONY: help demo test test-compose test-office libreoffice torture fuzz bench bench-growth bench-peers lint format clean mosquitto npm programs

help: ## show this
	@sed -n 's/^\([a-z-]*\):[^#]*## /make \1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-18s %s\n' "$$name" "$$text"; done

demo: .venv/demo ## watch readings travel, broker to archive; ends on Ctrl-C, or after SECONDS=60
	@$(VENV)/python examples/demo.py $(if $(SECONDS),--seconds $(SECONDS)) $(DEMO)

test: .venv/dev programs lint ## check style and types, then run all tests
	@$(VENV)/python -m pytest -n 3 --dist worksteal

torture: .venv/dev mosquitto ## break a running fleet at random for SECONDS=60, by SEED=…, and judge what arrived
	@$(VENV)/python -m tests.faults.torture $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(TORTURE)

test-office: .venv/dev libreoffice ## let LibreOffice open archives, and compare cell by cell; installs it (300 MB) as root
	@$(VENV)/python -m pytest tests/bridge/office_archives.py

test-compose: .venv/dev ## run the containers of compose.yaml for real; needs a Docker engine (DOCKER_HOST)
	@$(VENV)/python -m pytest tests/compose/fleet_in_containers.py

FUZZED := decoders intake receipts commands bridges
fuzz: .venv/fuzz ## send what strangers could send to every door, for SECONDS=60 in all
	@for target in $(FUZZED); do echo "fuzzing $$target"; \
	    $(VENV)/python -m fuzz.strangers $$target -max_total_time=$$(( $(or $(SECONDS),60) / $(words $(FUZZED)) )) 2>&1 \
	        | grep -E '^(Done|==)|Error|Traceback|artifact'; \
	done; ! ls fuzz/findings/* 2> /dev/null

BENCHMARKS := ingest forward latency outbox archive plot charts
bench: .venv/dev mosquitto ## measure beside limits (some minutes; best on a quiet machine)
	@for benchmark in $(BENCHMARKS); do $(VENV)/python -m benchmarks.$$benchmark || exit; done

bench-growth: .venv/dev programs ## measure what grows: a fleet of 10,000 nodes, several bridges, exports, sizes (12 minutes)
	@for benchmark in fleet bridges exports sizes; do $(VENV)/python -m benchmarks.$$benchmark || exit; done

bench-peers: .venv/dev mosquitto npm ## measure beside Node-RED, mqttwarn and mq-bridge, installed into benchmarks/.peers
	@$(VENV)/python -m benchmarks.peers

lint: .venv/dev ## check style and types
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

format: .venv/dev ## bring the sources into their style
	@$(VENV)/ruff check --fix-only --quiet .
	@$(VENV)/ruff format .

clean: ## remove .venv, caches and what the demo left
	rm -rf .venv benchmarks/.peers .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build dist data/demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment; a stamp for each extra, so that nothing is installed again until pyproject.toml changes.
.venv/demo .venv/dev .venv/fuzz: .venv/%: pyproject.toml | $(VENV)/python
	@echo "Installing into .venv (once; a few minutes on a Raspberry Pi) ..."
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV)/python:
	@python=$$(.ci/find-python $(PYTHONS)) && "$$python" -m venv .venv

libreoffice:
	@.ci/install-programs 'soffice=libreoffice-calc-nogui'

npm:
	@.ci/install-programs 'node=nodejs' 'npm=npm'

mosquitto:
	@.ci/install-programs 'mosquitto=mosquitto mosquitto-clients'

programs:
	@.ci/install-programs 'mosquitto=mosquitto mosquitto-clients' 'initdb=postgresql' 'chromium=chromium' 'chromedriver=chromium-driver'
