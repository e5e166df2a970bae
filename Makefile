# make demo    everything from nothing to the window on the simulated microscope (DEMO=headless: without a window)
# make test    every check: lint, types, import rules, tests, with real windows under Xvfb
# make bench   the speed and memory figures, each beside its alternative
# make compare train every network on the same scenes and write docs/benchmarks.md: hours
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
TEXTS := resources/translations

# What Qt and OpenGL need from the system, and a virtual screen for the tests.
WINDOW_PACKAGES := libgl1 libgl1-mesa-dri libegl1 libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 \
	libxcb-render-util0 libxcb-shape0 libxcb-xkb1 libxkbcommon0 libfontconfig1 libglib2.0-0 libdbus-1-3 fonts-dejavu-core fonts-wqy-microhei
TEST_PACKAGES := xvfb xauth
# Debian's Python comes without what makes a virtual environment: python3.11 needs python3.11-venv.
MISSING_VENV := import sys, importlib.util as u; u.find_spec("ensurepip") or print("python%d.%d-venv" % sys.version_info[:2])
PYTHON_PACKAGES := $(if $(PYTHON),$(shell $(PYTHON) -c '$(MISSING_VENV)'),python3 python3-venv)

.PHONY: demo test bench compare run install system-window system-test translations lint clean

demo: system-window $(VENV)/installed
	@$(BIN)/python -m app.demo $(if $(filter headless,$(DEMO)),--headless)

run: system-window $(VENV)/installed
	@$(BIN)/reliefscope

install: system-window $(VENV)/installed

test: system-test $(VENV)/installed-test lint
	xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX" $(BIN)/python -m pytest

lint: system-test $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: system-test $(VENV)/installed-test
	xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX" $(BIN)/python -m pytest tests/benchmarks --benchmark-only -s

# Every network of docs/benchmarks.md from nothing: the same scenes and the same minutes of one core for each, then the
# tables. Killed, the same command goes on. Our two networks have a recipe of their own, DefocusNet does not bear the
# common rate. ROCKS: folders of other people's stacks with known heights, such as those of Cou and Guennebaud.
# OWN_RECIPE=comparison trains ours as the others, in folders of that name.
MINUTES ?= 30
ROCKS ?=
ENGINES ?= torch openvino
OWN := gplws-net gplws-net-live
OWN_RECIPE ?= default
run_of = runs/$(1)$(if $(filter $(OWN),$(1)),$(patsubst %,-%,$(filter-out default,$(OWN_RECIPE))))
recipe_of = $(if $(filter $(OWN),$(1)),$(OWN_RECIPE),$(if $(filter defocus-net,$(1)),comparison-slow,comparison))
COMPARED ?= $(OWN) gplws-net-2023 gplws-net-2023-concat gplws-net-2023-single gplws-net-2023-plain \
	gplws-net-2023-depthwise gplws-net-2023-concat-plain gplws-net-2023-concat-depthwise \
	ddff defocus-net aif-depth-net fvnet dfvnet dff-in-the-wild
STYLES := light-field macro rolls

compare: $(VENV)/installed-test
	$(BIN)/reliefscope scenes --out runs/mixed --count 4000 --seed 1
	$(BIN)/reliefscope scenes --out runs/textured --style textured --count 2400 --seed 3 --frames 32
	for s in test calibration $(STYLES); do \
		$(BIN)/reliefscope scenes --split $$s --out runs/splits/$$s || exit; \
	done
	$(BIN)/reliefscope scenes --split fine --out runs/splits/calibration
	$(foreach n,$(COMPARED),$(BIN)/reliefscope train --config $(call recipe_of,$(n)) --network $(n) \
		--data runs/mixed --data runs/textured --out $(call run_of,$(n)) --minutes $(MINUTES) --threads 1 &&) true
	$(foreach n,$(filter $(OWN),$(COMPARED)),$(BIN)/reliefscope calibrate $(call run_of,$(n))/weights.safetensors \
		--scenes runs/splits/calibration --out $(call run_of,$(n))/$(n).safetensors &&) true
	$(BIN)/reliefscope benchmark --scenes "test scenes=runs/splits/test" \
		$(foreach s,$(STYLES),--scenes "$(s)=runs/splits/$(s)") $(foreach r,$(ROCKS),--scenes "rocks=$(r)") \
		$(foreach n,$(COMPARED),--weights $(call run_of,$(n))/$(if $(filter $(OWN),$(n)),$(n),weights).safetensors) \
		--latency $(foreach e,$(ENGINES),--engine $(e)) --tuned-allocator \
		--results runs/results.json --markdown docs/benchmarks.md

# Collect the texts from the source, bring every catalogue up to date and compile it. The template keeps no dates
# and no names, so that it changes with the texts only.
translations: system-test $(VENV)/installed-test
	$(BIN)/pybabel -q extract -k N_ -k _ --no-location --no-wrap --sort-output --project Reliefscope --version texts \
		--header-comment "# Texts of Reliefscope." -o $(TEXTS)/reliefscope.pot app hardware models
	sed -i '/^#, fuzzy$$/d; /^"\(Report-\|POT-\|PO-\|Last-\|Language-\|Generated-\)/d' $(TEXTS)/reliefscope.pot
	$(BIN)/pybabel -q update --no-wrap --ignore-obsolete -D reliefscope -i $(TEXTS)/reliefscope.pot -d $(TEXTS) \
		--no-fuzzy-matching --ignore-pot-creation-date
	$(BIN)/pybabel -q compile -D reliefscope -d $(TEXTS)

$(VENV)/python:
	@test -n "$(PYTHON)" || { echo "Reliefscope needs Python 3.11, 3.12 or 3.13."; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/python pyproject.toml constraints.txt
	@echo "Installing Reliefscope into $(VENV): about 1.7 GB, a minute or two with a fast connection ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/python pyproject.toml constraints.txt
	@echo "Installing Reliefscope and its test tools into $(VENV): about 2.1 GB, a minute or two with a fast connection ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .[test]
	@touch $@ $(VENV)/installed

# Installs what is missing of the packages when root, otherwise says the one line that does it.
define packages
@command -v dpkg-query >/dev/null 2>&1 || exit 0; \
missing=$$(for p in $(1); do \
	dpkg-query -W -f '$${db:Status-Status}\n' $$p $${p}t64 2>/dev/null | grep -qx installed || echo $$p; done); \
test -z "$$missing" && exit 0; \
if [ "$$(id -u)" = 0 ]; then \
	echo "Installing system packages:" $$missing; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
else \
	echo "Some system packages are missing. Please run this once and try again:"; \
	echo "  sudo apt-get install" $$missing; exit 2; \
fi
endef

system-window:
	$(call packages,$(PYTHON_PACKAGES) $(WINDOW_PACKAGES))

system-test:
	$(call packages,$(PYTHON_PACKAGES) $(WINDOW_PACKAGES) $(TEST_PACKAGES))

clean:
	rm -rf $(VENV) build dist *.egg-info demo
