# Coverage-guided fuzzing of the C core; the main Makefile includes this. Every tests/fuzz/fuzz_NAME.c
# is a target, its first inputs are in tests/fuzz/corpus/NAME, and what runs find is kept under build.
#
#   make fuzz                                 all targets, 30 seconds each, two at a time
#   make fuzz FUZZ_SECONDS=600 FUZZ_NAMES=gro   one target, longer
#   make fuzz FUZZ_SECONDS=0 FUZZ_ARGS=-runs=50000000   so many executions of each
#   build/fuzz/fuzz_NAME FILE                 one input again, as a crash names it

FUZZ_SECONDS ?= 30
FUZZ_NAMES ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_ARGS ?=
FUZZ_CC ?= clang
FUZZ_SANITIZE ?= address,undefined
FUZZ_CFLAGS = -std=c11 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -g -O2 -Icsrc/core \
    -fsanitize=$(FUZZ_SANITIZE) -fno-sanitize-recover=all
FUZZ_CORE = $(patsubst csrc/core/%.c,build/fuzz/core/%.o,$(wildcard csrc/core/*.c))
# A small quarantine of freed memory is several times as fast, and no target frees more than that.
FUZZ_RUN = ASAN_OPTIONS=quarantine_size_mb=4:malloc_context_size=1 build/fuzz/fuzz_NAME -max_total_time=$(FUZZ_SECONDS) \
    -max_len=128 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix=build/fuzz/NAME- \
    $(FUZZ_ARGS) build/fuzz/corpus/NAME tests/fuzz/corpus/NAME

.PHONY: fuzz
.SECONDARY: $(FUZZ_CORE)

# Coverage is that of the core alone: what a target compares would only lead astray, and costs time.
build/fuzz/core/%.o: csrc/core/%.c $(wildcard csrc/core/*.h) tests/fuzz/targets.mk
	@command -v $(FUZZ_CC) >/dev/null || { echo 'make fuzz needs clang (Debian: clang)' >&2; exit 1; }
	@mkdir -p build/fuzz/core
	@$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp -c -o $@ $<

build/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(wildcard tests/fuzz/*.h) $(FUZZ_CORE)
	@$(FUZZ_CC) $(FUZZ_CFLAGS) -c -o $@.o $<
	@$(FUZZ_CC) -fsanitize=fuzzer,$(FUZZ_SANITIZE) -o $@ $@.o $(FUZZ_CORE) -lpthread

fuzz: $(FUZZ_NAMES:%=build/fuzz/fuzz_%)
	@mkdir -p $(FUZZ_NAMES:%=build/fuzz/corpus/%)
	@printf '%s\n' $(FUZZ_NAMES) | xargs -P 2 -I NAME sh -c \
	    '$(FUZZ_RUN) >build/fuzz/NAME.log 2>&1 || { tail -n 40 build/fuzz/NAME.log; echo "fuzz_NAME failed"; exit 1; }'
	@printf '%-12s %12s %12s\n' target executions 'a second'
	@awk 'FNR == 1 { name = FILENAME; sub(".*/", "", name); sub("[.]log$$", "", name) } \
	    $$1 == "stat::number_of_executed_units:" { runs = $$2 } \
	    $$1 == "stat::average_exec_per_sec:" { sum += runs; speed += $$2; printf "%-12s %12d %12d\n", name, runs, $$2 } \
	    END { printf "%-12s %12d %12d\n", "sum", sum, speed }' $(FUZZ_NAMES:%=build/fuzz/%.log)
