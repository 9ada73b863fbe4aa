# The C tests built for other machines, and run here; the main Makefile includes this. An x86 runs 32-bit
# programs by itself, for the rest there is qemu-user. It passes on less than the kernel takes, so that
# parts of the tests are left out there, which is said.
#
#   make test-cross                   all machines; -j2 for two programs at a time
#   make test-cross CROSS=s390x       one of them
#
# i686     32 bits
# i686-64  32 bits, with times of 64
# armhf    32 bits, with times of 64; emulated
# s390x    64 bits, the highest byte first; emulated
# powerpc  32 bits, the highest byte first; emulated

CROSS ?= i686 i686-64 armhf s390x powerpc
CROSS_PACKAGES = gcc-i686-linux-gnu gcc-arm-linux-gnueabihf gcc-s390x-linux-gnu gcc-powerpc-linux-gnu \
    libc6-dev-i386-cross libc6-dev-armhf-cross libc6-dev-s390x-cross libc6-dev-powerpc-cross qemu-user
CROSS_CORE = $(patsubst csrc/core/%.c,%,$(wildcard csrc/core/*.c))
TIME_64 = -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64

.PHONY: test-cross

# Each machine in both builds, with and without recvmmsg.
#   $(call cross,NAME,COMPILER,EMULATOR,FLAGS)
define cross
$(call cross_build,$(1),$(2),$(3),$(4))
$(call cross_build,$(1)-nommsg,$(2),$(3),$(4) -DIPV4BATCH_NO_MMSG=1)
endef

define cross_build
$(CROSS_CORE:%=build/cross/$(1)/%.o): build/cross/$(1)/%.o: csrc/core/%.c $(wildcard csrc/core/*.h) tests/core/cross.mk
	@for tool in $(2) $(3); do command -v $$$$tool >/dev/null || \
	    { echo "make test-cross needs $$$$tool (Debian: $(CROSS_PACKAGES))" >&2; exit 1; }; done
	@mkdir -p build/cross/$(1)
	@$(2) $(C_WARNINGS) -g -O1 $(4) -Icsrc/core -c -o $$@ $$<

$(C_TESTS:%=build/cross/$(1)/%.passed): build/cross/$(1)/%.passed: tests/core/%.c $(wildcard tests/core/*.h) \
    $(CROSS_CORE:%=build/cross/$(1)/%.o)
	@$(2) $(C_WARNINGS) -g -O1 $(4) -static -Icsrc/core -Itests/core -o build/cross/$(1)/$$* $$(filter %.c %.o,$$^) -lpthread
	@$(if $(3),IPV4BATCH_TEST_EMULATED=1) timeout 60 $(3) build/cross/$(1)/$$* 2>build/cross/$(1)/$$*.log || \
	    { cat build/cross/$(1)/$$*.log; echo '$$* failed on $(1)'; exit 1; }
	@touch $$@
endef

$(eval $(call cross,i686,i686-linux-gnu-gcc,,))
$(eval $(call cross,i686-64,i686-linux-gnu-gcc,,$(TIME_64)))
$(eval $(call cross,armhf,arm-linux-gnueabihf-gcc,qemu-arm,$(TIME_64)))
$(eval $(call cross,s390x,s390x-linux-gnu-gcc,qemu-s390x,))
$(eval $(call cross,powerpc,powerpc-linux-gnu-gcc,qemu-ppc,))

CROSS_LOGS = $(foreach name,$(CROSS),build/cross/$(name)/*.log build/cross/$(name)-nommsg/*.log)

test-cross: $(foreach name,$(CROSS),$(C_TESTS:%=build/cross/$(name)/%.passed) $(C_TESTS:%=build/cross/$(name)-nommsg/%.passed))
	@grep -H '^left out' $(CROSS_LOGS) | sed 's,.*/\(.*\)[.]log:,\1: ,' | sort -u
	@echo '$(words $(C_TESTS)) C tests passed on: $(CROSS), with recvmmsg and without'
