# Needs Python 3.12, git and make; everything else goes into .venv on first use.
VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
README := README.md
PLUGIN := plugins/lerobot_policy_vqbet_course

is_312 := import sys; sys.exit(sys.version_info[:2] != (3, 12))

# A shim of pyenv can be on the path and yet fail: what is found is run, not only looked up.
PYTHON = $(shell for p in python3.12 python3 python; do \
	$$p -c '$(is_312)' >/dev/null 2>&1 && exec $$p -c 'import sys; print(sys.executable)'; done; \
	uv python find --system --no-python-downloads 3.12 2>/dev/null)
UV = $(or $(shell uv --version >/dev/null 2>&1 && echo uv),$(BIN)/uv)

# A fresh environment's own kernel, also where the user has others of the same name.
export JUPYTER_PREFER_ENV_PATH := 1

.DEFAULT_GOAL := help
.PHONY: help course check test test-slow test-browser jupyter labs readme stage quarto site wheel lock clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1:/p' Makefile | awk -F: '{ printf "%-16s%s\n", $$1, $$2 }'

# Three, as a test often waits for a process of its own; files in the order of their names, then the lessons.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3
FAST = $$(grep -rl --include='test_*.py' 'mark\.fast' tests)

course: $(READY) ## run every lesson and write _runs/course/report.html (ARGS="--profile full --only 01,02")
	@$(BIN)/vqbet-course course $(ARGS)

check: $(READY) ## a minute: ruff, mypy, and the fast tests, the one of imports among them
	@$(BIN)/ruff check --quiet && $(BIN)/ruff format --check --quiet
	@$(BIN)/mypy & types=$$!; $(PYTEST) -n 2 --dist load -q -m "fast and not slow" $(ARGS) $(FAST); tests=$$?; \
		wait $$types && exit $$tests
	@echo "make check: all passed - ruff, mypy, and the fast tests, with the contract of imports."

test: $(READY) ## all tests but the slow ones: units, package and lessons in step, the lessons' own cells (ARGS="-k tokens")
	@$(PYTEST) --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)
	@echo "make test: all passed - units, package and lessons in step, the lessons' own test cells."

test-slow: $(READY) ## the slow tests that make test leaves out
	@$(PYTEST) --dist loadfile -m slow $(ARGS)

test-browser: $(READY) ## lessons, explorers and pages in a real Chromium, which must be installed
	@VQBET_BROWSER=required $(BIN)/python -m pytest $$(grep -l skip_without_chromium tests/course/*.py) $(ARGS)

jupyter: $(READY) ## open the lessons in JupyterLab (ARGS="--no-browser --port 8888")
	@$(BIN)/python -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/nbs/index.ipynb \
		$(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

labs: $(READY) ## write the student editions in labs/ from the lessons
	@$(BIN)/vqbet-course labs

readme: $(READY) ## write README.md from nbs/index.ipynb
	@$(BIN)/python -m nbconvert --log-level WARN --to markdown --RegexRemovePreprocessor.patterns='#\|\s*hide' \
		--stdout nbs/index.ipynb > $(README).tmp
	@sed -E -e 's#(\]\(|src=")((images/)?[A-Za-z0-9_-]+\.(ipynb|png|svg|gif|mp4))#\1nbs/\2#g' \
		-e 's#(\]\(|src=")\.\./#\1#g' -e '/^#\|/d' $(README).tmp | \
		awk '/^```/ { if (!inside && $$0 == "```") $$0 = "```python"; inside = !inside } 1' > $(README)
	@rm -f $(README).tmp

stage: $(READY) ## put the pages of the website into pages/, with the outputs of `make course`
	@$(BIN)/python -m vqbet_course.course.site

quarto:
	@command -v quarto >/dev/null || { echo "make site: Quarto is needed to render the site; get it from" \
		"quarto.org/docs/get-started, then run make site again" >&2; exit 2; }

site: quarto stage ## render the website into _docs/ with Quarto; any warning is an error
	@mkdir -p pages && rm -rf _docs
	@NO_COLOR=1 quarto render pages > pages/render.log 2>&1; status=$$?; cat pages/render.log; test $$status -eq 0
	@! grep -wE 'WARN|WARNING|ERROR' pages/render.log >&2 || { echo "make site: warnings, see above" >&2; exit 1; }
	@mv pages/_site _docs

wheel: $(READY) ## build dist/*.tar.gz and dist/*.whl
	@$(BIN)/python -m build --no-isolation

lock: $(READY) ## pin the newest versions that settings.ini allows in requirements.lock
	@$(UV) pip compile setup.py --extra dev --extra arms --universal --python-version 3.12 --upgrade --quiet \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links -o $(VENV)/requirements.lock
	@{ sed -n 1p requirements.lock; cat $(VENV)/requirements.lock; } > requirements.lock.tmp
	@mv requirements.lock.tmp requirements.lock

clean: ## remove the course's report, the site and all caches; your own runs and .venv stay
	@rm -rf _runs/course _docs pages build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name .venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

$(READY): requirements.lock settings.ini setup.py pyproject.toml $(PLUGIN)/pyproject.toml
	$(if $(PYTHON),,$(error Python 3.12 is needed and was not found: install it, then run make again))
	@$(BIN)/python -c '$(is_312)' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV)
	@$(UV) --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv
	@echo "make: installing the locked packages into $(VENV) (about 6 GB on Linux)"
	@$(UV) pip sync --quiet --python $(BIN)/python requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable $(PLUGIN)
	@touch $@
