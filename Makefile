# SPDX-License-Identifier: Apache-2.0
# ssmd. `make help` lists the targets. Everything is built below $(BUILD); nothing else is written but by demo and install.
# BUILD, CC, CXX, NVCC, GENCODE, CFLAGS, PREFIX, DESTDIR, GOLDEN, SANITIZE, RACES and INPUT may be set on the command line.
# Sources are found by folder: a new file in an existing room needs no line here.
BUILD    ?= build
PREFIX   ?= /usr/local
LIBDIR   ?= $(PREFIX)/lib
VERSION  := 0.1.0
SOVERSION := 0
COMMIT   := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
CFLAGS   ?= -O2 -g
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef -Wpointer-arith \
            -Wcast-align -Wwrite-strings -Werror
ifeq ($(SANITIZE),)
HARDEN   := -fstack-protector-strong -D_FORTIFY_SOURCE=2
LDHARDEN := -Wl,-z,relro,-z,now
else
HARDEN   := -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all -fno-var-tracking
LDHARDEN := -fsanitize=$(SANITIZE)
endif
ALLC     := -std=gnu11 -D_GNU_SOURCE -I. -I$(BUILD) -fPIC -fvisibility=hidden -pthread $(WARN) $(HARDEN) $(CFLAGS) -MMD -MP
ALLLD    := -pthread $(LDHARDEN) $(LDFLAGS)

# One short line for each step; V=1 shows the commands.
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $@; )

# ---- what is built from what ------------------------------------------------------------------------------------------
ARCH     := $(shell uname -m)
ISAS     := ref $(if $(filter x86_64,$(ARCH)),avx2 avx512)
ISA_ref    := $(if $(SANITIZE),-O1,-O3)# sixteen lanes as plain C, instrumented and unrolled, take gcc minutes a file
ISA_avx2   := -O3 -mavx2 -mfma -mf16c
ISA_avx512 := -O3 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
# Bits are defined by the source: sums in the order written, fused products only where SSM_FMA says so.
BITS     := -ffp-contract=off -fno-math-errno -fno-trapping-math

obj       = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
SSM_OBJ  := $(call obj,$(wildcard ssm/*.c ssm/layers/*.c)) \
            $(foreach i,$(ISAS),$(patsubst ssm/cpu/%.c,$(BUILD)/obj/ssm/cpu/%.$(i).o,$(wildcard ssm/cpu/*.c)))
PROTO_OBJ  := $(call obj,$(wildcard proto/*.c)) $(BUILD)/obj/proto/ssmd.pb-c.o
DAEMON_OBJ := $(call obj,$(filter-out daemon/main.c,$(wildcard daemon/*.c)))
CLIENT_OBJ := $(call obj,$(filter-out clients/c/example.c,$(wildcard clients/c/*.c)))
AUDIO_OBJ  := $(call obj,$(wildcard clients/audio/*.c))
LIBSSM   := $(BUILD)/lib/libssm.a
LIBPROTO := $(BUILD)/lib/libproto.a
LIBDAEMON := $(BUILD)/lib/libdaemon.a
LIBCLIENT := $(BUILD)/lib/libssmclient.a
LIBAUDIO := $(BUILD)/lib/libaudio.a
SHARED   := $(BUILD)/lib/libssm.so.$(SOVERSION) $(BUILD)/lib/libssmclient.so.$(SOVERSION)
PROGRAMS := $(addprefix $(BUILD)/bin/,ssmd ssmctl ssmrun)
TESTS    := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/ssm/test_*.c tests/proto/test_*.c tests/daemon/test_*.c \
              tests/clients/test_*.c tests/fuzz/test_*.c tests/conform/test_*.c tests/golden/test_*.c tests/sys/test_*.c))
# Suites that run once more with several I/O threads.
PORTED   := $(patsubst %,$(BUILD)/tests/sys/test_%@io_threads=3,crowd delivery faults lifecycle ports resume streams)
TEST_HELP := $(call obj,$(filter-out $(wildcard tests/*/test_*.c),$(wildcard tests/*/*.c)) bench/lib/models.c)
BENCH_HELP := $(call obj,$(wildcard bench/lib/*.c) tests/ssm/making.c tests/ssm/model_dir.c)
FUZZERS  := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_SECONDS ?= 60
VENV     := $(BUILD)/venv
PYTHON_CLIENT := $(shell find clients/python -type f ! -path '*/__pycache__/*') proto/ssmd.proto
PYTHON_SOURCES := clients/python tests/python
BENCHES  := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))

# What a machine with a GPU and no development packages needs (make portable).
PORTABLE := $(BUILD)/portable
CUDA_TESTS := $(patsubst tests/%.c,tests/%,tests/golden/test_golden.c $(wildcard tests/conform/test_*.c) \
                $(shell grep -l 'trial_main\|running_isas' tests/ssm/test_*.c))
CUDA_BENCHES := bench/cuda bench/ssm-load
CARRIED  := $(addprefix $(PORTABLE)/,$(CUDA_TESTS) $(CUDA_BENCHES) $(PROGRAMS:$(BUILD)/%=%))
# Where check-cuda and bench-cuda find programs: there, or built here.
CUDA_TREE = $(if $(wildcard $(PORTABLE)/commit),$(PORTABLE),$(BUILD))

SSM_LIBS    := -ljansson -lkissfft-float -lxxhash -lm
PROTO_LIBS  := -lprotobuf-c
CLIENT_LIBS := -lzmq $(PROTO_LIBS)
DAEMON_LIBS := -lzmq $(PROTO_LIBS) -linih -lmicrohttpd $(SSM_LIBS)
AUDIO_LIBS  := -lsndfile -lm
CTL_LIBS    := $(CLIENT_LIBS) $(AUDIO_LIBS) -lsamplerate -ljansson
TEST_LIBS   := -lcmocka $(DAEMON_LIBS) $(AUDIO_LIBS)

.DEFAULT_GOAL := all
.PHONY: all programs libraries deps demo check check-asan check-tsan check-races fuzz bench fmt lint install clean help
all: programs libraries
programs: $(PROGRAMS)
libraries: $(LIBSSM) $(LIBCLIENT) $(SHARED)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALLC) $(if $(filter ssm/%,$<),$(BITS)) -DSSMD_VERSION='"$(VERSION)"' -c $< -o $@
define isa_rule
$$(BUILD)/obj/ssm/cpu/%.$(1).o: ssm/cpu/%.c
	@mkdir -p $$(@D)
	$$(call say,CC)$$(CC) $$(ALLC) $$(ISA_$(1)) $$(BITS) -Wno-psabi -DSSM_ISA=$(1) -c $$< -o $$@
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$(i))))

# The generated codec: not ours to warn about.
$(BUILD)/proto/ssmd.pb-c.c: proto/ssmd.proto
	@mkdir -p $(@D)
	$(call say,PROTOC)protoc-c --c_out=$(BUILD) $<
$(BUILD)/proto/ssmd.pb-c.h: $(BUILD)/proto/ssmd.pb-c.c ;
$(BUILD)/obj/proto/ssmd.pb-c.o: $(BUILD)/proto/ssmd.pb-c.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) -std=gnu11 -fPIC -fvisibility=hidden $(HARDEN) $(CFLAGS) -I$(BUILD) -c $< -o $@
$(PROTO_OBJ) $(DAEMON_OBJ) $(CLIENT_OBJ) $(filter-out %/report.o,$(call obj,daemon/main.c \
  $(wildcard clients/c/ctl/*.c bench/*.c bench/*/*.c tests/*/*.c))): | $(BUILD)/proto/ssmd.pb-c.h

$(LIBSSM): $(SSM_OBJ)
$(LIBPROTO): $(PROTO_OBJ)
$(LIBDAEMON): $(DAEMON_OBJ)
$(LIBCLIENT): $(CLIENT_OBJ) $(PROTO_OBJ)
$(LIBAUDIO): $(AUDIO_OBJ)
$(BUILD)/lib/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $^
$(BUILD)/lib/libssm.so.$(SOVERSION): $(SSM_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -shared -Wl,-soname,$(@F) $(ALLLD) $^ $(SSM_LIBS) -o $@ && ln -sf $(@F) $(BUILD)/lib/libssm.so
$(BUILD)/lib/libssmclient.so.$(SOVERSION): $(CLIENT_OBJ) $(PROTO_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -shared -Wl,-soname,$(@F) $(ALLLD) $^ $(CLIENT_LIBS) -o $@ && ln -sf $(@F) $(BUILD)/lib/libssmclient.so

# A device's plugin is looked for beside them, where make leaves it and where install puts it.
PLUGIN_LD := -Wl,-rpath,'$$ORIGIN/../lib'
# Programs, below $(BUILD) and once more below $(PORTABLE), where they find their libraries beside them.
define program_rules
$(1)/bin/ssmd: $$(call obj,daemon/main.c) $$(LIBDAEMON) $$(LIBPROTO) $$(LIBSSM)
	@mkdir -p $$(@D)
	$$(call say,LD)$$(CC) $$(ALLLD) $$(PLUGIN_LD) $$^ $$(DAEMON_LIBS) -o $$@
$(1)/bin/ssmctl: $$(call obj,$$(wildcard clients/c/ctl/*.c)) $$(LIBCLIENT) $$(LIBAUDIO)
	@mkdir -p $$(@D)
	$$(call say,LD)$$(CC) $$(ALLLD) $$^ $$(CTL_LIBS) -o $$@
$(1)/bin/ssmrun: $$(call obj,$$(wildcard clients/run/*.c)) $$(LIBSSM) $$(LIBAUDIO)
	@mkdir -p $$(@D)
	$$(call say,LD)$$(CC) $$(ALLLD) $$(PLUGIN_LD) $$^ $$(SSM_LIBS) $$(AUDIO_LIBS) -o $$@
$(1)/tests/%: $$(BUILD)/obj/tests/%.o $$(TEST_HELP) $$(LIBDAEMON) $$(LIBCLIENT) $$(LIBPROTO) $$(LIBSSM) $$(LIBAUDIO)
	@mkdir -p $$(@D)
	$$(call say,LD)$$(CC) $$(ALLLD) $$^ $$(TEST_LIBS) -o $$@
$(1)/bench/ssm-load: $$(call obj,$$(wildcard bench/load/*.c))
$(1)/bench/%: $$(BUILD)/obj/bench/%.o $$(BENCH_HELP) $$(LIBCLIENT) $$(LIBPROTO) $$(LIBSSM)
	@mkdir -p $$(@D)
	$$(call say,LD)$$(CC) $$(ALLLD) $$^ $$(CLIENT_LIBS) $$(SSM_LIBS) -lcmocka -o $$@
endef
$(foreach root,$(BUILD) $(PORTABLE),$(eval $(call program_rules,$(root))))
$(PORTABLE)/%: ALLLD += -s -Wl,--as-needed -Wl,--disable-new-dtags -Wl,-rpath,'$$ORIGIN/../lib:$$ORIGIN/../../lib'
# A fuzz target is one function; here it becomes libFuzzer's.
$(patsubst tests/fuzz/fuzz_%.c,$(BUILD)/bin/%,$(FUZZERS)): $(BUILD)/bin/%: tests/fuzz/fuzz_%.c $(LIBPROTO) $(LIBSSM)
	@mkdir -p $(@D)
	$(call say,FUZZ)$(CC) $(ALLC) -Dfuzz_$*=LLVMFuzzerTestOneInput -fsanitize=fuzzer $^ $(ALLLD) $(PROTO_LIBS) $(SSM_LIBS) -o $@

# ---- the GPU: cuda/ by nvcc, and the same sources as C++ against tests/cuda_host, which needs no GPU --------------------
CUDA_HOST := $(BUILD)/cuda_host/libssm-cuda.so
HOST_OBJ   = $(patsubst %,$(BUILD)/obj/cuda_host/%.o,$(1))
# fmaf as an instruction where there is one: the same bits in half the time. Kernels look at memory as other types.
HOST_FMA  := $(if $(filter x86_64,$(ARCH)),$(shell grep -w avx2 /proc/cpuinfo | grep -qw fma && echo -mavx2 -mfma))
HOST_CXX  := -x c++ -std=gnu++17 -Itests/cuda_host -I. -fPIC -fvisibility=hidden -fno-strict-aliasing -pthread $(BITS) \
             $(HOST_FMA) -Wall -Wextra -Werror -Wno-unknown-pragmas $(HARDEN) \
             $(if $(SANITIZE),-fsanitize-sections=cuda_shared) $(CFLAGS) -MMD -MP
NVCC      ?= $(or $(shell command -v nvcc),$(wildcard /usr/local/cuda/bin/nvcc))
GENCODE   ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]
NVCCFLAGS := -std=c++17 --fmad=false -O3 -lineinfo -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra \
             -Werror all-warnings -Xptxas -v -cudart static --compress-mode=size -I.
CUDA_OBJ  := $(patsubst cuda/%.cu,$(BUILD)/obj/cuda/%.o,$(wildcard cuda/*.cu))
HOST_TESTS := $(patsubst tests/%.cu,$(BUILD)/tests/%,$(wildcard tests/cuda_host/test_*.cu))
# Tests of kernels by themselves, which make rows and uploads as they like: without what makes them for a program.
CUDA_KERNELS := $(filter-out $(patsubst %,cuda/%.cu,build compile device graph plugin pool program),$(wildcard cuda/*.cu))
CUDA_KERNEL_TESTS := $(patsubst tests/%.cu,$(BUILD)/tests/%,$(wildcard tests/cuda/test_*.cu))
TESTS     += $(HOST_TESTS) $(CUDA_KERNEL_TESTS)

$(BUILD)/obj/cuda_host/%.o: %
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(HOST_CXX) $(if $(RACES),-DCUDA_HOST_RACES $(if $(filter %.cu,$<),-fsanitize=thread)) -c $< -o $@
$(CUDA_HOST): $(call HOST_OBJ,$(wildcard cuda/*.cu tests/cuda_host/*.cpp)) tests/cuda_host/exports.map
	@mkdir -p $(@D)
	$(call say,LD)$(CXX) -shared -Wl,-z,defs -Wl,--version-script=tests/cuda_host/exports.map $(ALLLD) $(filter %.o,$^) -o $@
$(HOST_TESTS): $(BUILD)/tests/%: $(BUILD)/obj/cuda_host/tests/%.cu.o $(call HOST_OBJ,$(wildcard tests/cuda_host/*.cpp))
	@mkdir -p $(@D)
	$(call say,LD)$(CXX) $(ALLLD) $^ -lcmocka -o $@
$(BUILD)/lib/libkernels.a: $(call HOST_OBJ,$(CUDA_KERNELS))
$(CUDA_KERNEL_TESTS): $(BUILD)/tests/%: $(BUILD)/obj/cuda_host/tests/%.cu.o $(call HOST_OBJ,$(wildcard tests/cuda_host/*.cpp)) $(BUILD)/lib/libkernels.a
	@mkdir -p $(@D)
	$(call say,LD)$(CXX) $(ALLLD) $^ -lcmocka -o $@
# What ptxas says of each kernel stays beside the object.
$(BUILD)/obj/cuda/%.o: cuda/%.cu
	@mkdir -p $(@D)
	$(call say,NVCC)$(NVCC) $(NVCCFLAGS) $(GENCODE) -MMD -MP -c $< -o $@ 2>$(@:.o=.ptxas) || { cat $(@:.o=.ptxas) >&2; exit 1; }
$(BUILD)/lib/libssm-cuda.so: $(CUDA_OBJ) cuda/exports.map
	@mkdir -p $(@D)
	$(call say,LD)$(NVCC) -shared -cudart static $(GENCODE) -Xlinker --version-script=cuda/exports.map -Xlinker -z,defs $(CUDA_OBJ) -o $@
.PHONY: cuda
cuda: ## the GPU backend: needs nvcc, no GPU; registers and spills of each kernel
	@[ -n "$(NVCC)" ] || { echo "make cuda: there is no nvcc, neither on PATH nor in /usr/local/cuda/bin: install the CUDA toolkit 13 (cuda-toolkit-13-0 of NVIDIA's packages for your system), or say where it is with NVCC=FILE" >&2; exit 1; }
	@$(MAKE) --no-print-directory NVCC="$(NVCC)" $(BUILD)/lib/libssm-cuda.so
	@scripts/cuda-kernels "$(NVCC)" cuda/spills.txt $(CUDA_OBJ:.o=.ptxas)

# Kernels alone, timed (cuda/lab): programs of the same objects, in a folder beside the plugin that those are of.
LABS      := $(patsubst cuda/lab/%.cu,lab/%,$(filter-out cuda/lab/lab.cu,$(wildcard cuda/lab/*.cu)))
HOST_LABS := $(addprefix $(BUILD)/cuda_host/,$(LABS))
LIB_LABS  := $(addprefix $(BUILD)/lib/,$(LABS))
.PHONY: cuda-lab
cuda-lab: $(LIB_LABS)
$(LIB_LABS): $(BUILD)/lib/lab/%: $(BUILD)/obj/cuda/lab/%.o $(BUILD)/obj/cuda/lab/lab.o $(BUILD)/obj/bench/lib/report.o $(CUDA_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)$(NVCC) -cudart static $(GENCODE) -Xcompiler -static-libstdc++,-static-libgcc $^ -o $@
$(HOST_LABS): $(BUILD)/cuda_host/lab/%: $(BUILD)/obj/cuda_host/cuda/lab/%.cu.o $(BUILD)/obj/bench/lib/report.o \
  $(call HOST_OBJ,$(wildcard cuda/*.cu tests/cuda_host/*.cpp) cuda/lab/lab.cu)
	@mkdir -p $(@D)
	$(call say,LD)$(CXX) $(ALLLD) $^ -o $@

# The Python client, in an environment of its own.
$(VENV)/tools: clients/python/pyproject.toml scripts/python-venv
	@scripts/python-venv tools $(VENV)
$(VENV)/client: $(VENV)/tools $(PYTHON_CLIENT)
	$(call say,PIP)scripts/python-venv client $(VENV)

# ---- what is run ------------------------------------------------------------------------------------------------------
deps: ## install the Debian packages that are missing
	@scripts/deps build
demo: ## a real recording through a resident model; INPUT=file for yours
	@scripts/deps demo
	@$(MAKE) --no-print-directory programs
	@BUILD=$(BUILD) scripts/demo $(INPUT)
check: ## install what is missing, build, run every test; GOLDEN=DIR adds cases
	@scripts/deps check
	@$(MAKE) --no-print-directory all tests lint-layers $(VENV)/client
	@BUILD=$(BUILD) GOLDEN=$(GOLDEN) VERSION=$(VERSION) SOVERSION=$(SOVERSION) CC="$(CC)" \
	  scripts/run-tests $(TESTS) $(PORTED) scripts/check-metrics scripts/check-python scripts/check-install
.PHONY: tests lint-layers
tests: $(TESTS) $(CUDA_HOST) $(HOST_LABS)
lint-layers:
	@scripts/lint-layers
check-asan: ## every test under the address and undefined-behaviour sanitizers
	@scripts/deps check
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan SANITIZE=address,undefined CFLAGS="-O1 -g" programs tests
	@BUILD=$(BUILD)/asan GOLDEN=$(GOLDEN) scripts/run-tests $(patsubst $(BUILD)/%,$(BUILD)/asan/%,$(TESTS) $(PORTED))
check-tsan: ## the tests with threads under the thread sanitizer
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan SANITIZE=thread CFLAGS="-O1 -g" programs tests
	@TSAN_OPTIONS=ignore_noninstrumented_modules=1 BUILD=$(BUILD)/tsan GOLDEN=$(GOLDEN) scripts/run-tests $(patsubst $(BUILD)/%,$(BUILD)/tsan/%,$(TESTS) $(PORTED))
check-races: tests ## the GPU kernels, without a GPU, looking for threads that race; slow
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/races RACES=1 $(patsubst $(BUILD)/%,$(BUILD)/races/%,$(CUDA_HOST) $(HOST_TESTS))
	@TEST_TIMEOUT=7200 BUILD=$(BUILD)/races scripts/run-tests $(patsubst $(BUILD)/%,$(BUILD)/races/%,$(HOST_TESTS)) \
	  $(filter $(addprefix %/test_,conform layers selective dplr attention recurrent rls multirate),$(TESTS))
fuzz: ## look for inputs that break a decoder; FUZZ_SECONDS for each
	@scripts/deps fuzz
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz CC=clang WARN= \
	  SANITIZE=fuzzer-no-link,address,undefined CFLAGS="-O1 -g" fuzzers
	@for f in $(patsubst tests/fuzz/fuzz_%.c,%,$(FUZZERS)); do mkdir -p $(BUILD)/fuzz/found/$$f; echo "fuzzing $$f"; \
	  $(BUILD)/fuzz/bin/$$f -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=20 -dict=tests/fuzz/json.dict \
	  -artifact_prefix=$(BUILD)/fuzz/$$f- $(BUILD)/fuzz/found/$$f tests/fuzz/corpus/$$f || exit 1; done
.PHONY: fuzzers
fuzzers: $(patsubst tests/fuzz/fuzz_%.c,$(BUILD)/bin/%,$(FUZZERS))
bench: ## measure: JSON lines, tables, pictures in $(BUILD)/results
	@scripts/deps bench
	@$(MAKE) --no-print-directory programs $(BENCHES)
	@BUILD=$(BUILD) COMMIT=$(COMMIT) scripts/run-bench
portable: $(CARRIED) ## gather in $(BUILD)/portable what runs on a machine with a GPU and no packages; GOLDEN=DIR too
	@BUILD=$(BUILD) COMMIT=$(COMMIT) GOLDEN=$(GOLDEN) MAKE="$(MAKE)" NVCC="$(NVCC)" scripts/portable
check-cuda: ## the suites on the GPU that is here, and compute-sanitizer; uses $(BUILD)/portable if that is here
	@$(cuda_ready)
	@BUILD=$(CUDA_TREE) COMMIT=$(COMMIT) GOLDEN=$(GOLDEN) scripts/check-cuda $(CUDA_TESTS)
bench-cuda: ## measure on the GPU that is here, some three minutes; likewise
	@$(cuda_ready)
	@BUILD=$(CUDA_TREE) RESULTS=$(BUILD)/results COMMIT=$(COMMIT) scripts/bench-cuda
.PHONY: portable check-cuda bench-cuda
# Nothing to do where programs were carried to; plugin and lab are built if they were not among them.
define cuda_ready
$(if $(filter $(PORTABLE),$(CUDA_TREE)),:,scripts/deps check && \
  $(MAKE) --no-print-directory programs $(addprefix $(BUILD)/,$(CUDA_TESTS) $(CUDA_BENCHES))) && \
  { [ -n "$$SSMD_CUDA_LIBRARY" ] || [ -e $(PORTABLE)/lib/libssm-cuda.so ] || $(MAKE) --no-print-directory cuda cuda-lab; }
endef
fmt: ## format the C and Python sources
	@scripts/deps lint
	@$(MAKE) --no-print-directory $(VENV)/tools
	clang-format -i $$(git ls-files --cached --others --exclude-standard '*.[ch]')
	$(VENV)/bin/ruff format --no-cache --config clients/python/pyproject.toml $(PYTHON_SOURCES)
lint: lint-layers ## who includes whom, clang-format, cppcheck, shellcheck, ruff, mypy
	@scripts/deps lint
	@$(MAKE) --no-print-directory $(VENV)/client
	clang-format --dry-run -Werror $$(git ls-files --cached --others --exclude-standard '*.[ch]')
	cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,portability --library=posix,gnu,bsd -j2 -I. \
	  -D_GNU_SOURCE -DSSM_ISA=ref '-DSTAILQ_HEAD(n,t)=struct n{struct t*f;}' ssm daemon proto clients
	shellcheck --severity=warning $$(git ls-files scripts .ci | xargs grep -l '^#!/bin/.*sh')
	$(VENV)/bin/ruff format --no-cache --check --config clients/python/pyproject.toml $(PYTHON_SOURCES)
	$(VENV)/bin/ruff check --no-cache --config clients/python/pyproject.toml $(PYTHON_SOURCES)
	$(VENV)/bin/mypy --cache-dir $(BUILD)/mypy --config-file clients/python/pyproject.toml -p ssmd
	$(VENV)/bin/mypy --cache-dir $(BUILD)/mypy --config-file clients/python/pyproject.toml \
	  clients/python/hatch_build.py clients/python/examples tests/python
install: all ## DESTDIR= PREFIX= LIBDIR=
	@BUILD=$(BUILD) DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) LIBDIR=$(LIBDIR) VERSION=$(VERSION) SOVERSION=$(SOVERSION) scripts/install
clean: ## remove what was built
	rm -rf $(BUILD)
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
