# How the C parts are compiled. Sources are found by their directory, so a new file needs no change here.
#
#     build/libaudiostream.so.1       core/ wire/ net/ stream/    no FreeSWITCH
#     build/mod_audio_stream.so       freeswitch/                 links the library; finds it in build/
#     build/install/mod_audio_stream.so                           the same; finds the library in libdir
#     build/tests/{asan,tsan}/*       the library's and tests/    one program for each test_*.c and stress_*.c
#     build/tests/fuzz/NAME           and tests/fuzz_NAME.c       clang's libFuzzer with ASan and UBSan
#     build/tests/replay/NAME         the same, and replay.c      gcc: feeds it tests/corpus/NAME, as a test
#     build/tests/bench/*             tests/bench_*.c             links the library

CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
CFLAGS ?= -O2 -g
CLANG ?= clang

C_DIR := mod_audio_stream
PUBLIC_HEADERS := $(wildcard $(C_DIR)/include/*.h)
SONAME := libaudiostream.so.1
LIBRARY := build/$(SONAME)
MODULE_NAME := mod_audio_stream.so
MODULE := build/$(MODULE_NAME)

LAYERS := core wire net stream
CORE := $(patsubst $(C_DIR)/%.c,%,$(wildcard $(LAYERS:%=$(C_DIR)/%/*.c)))
# The module has its own copy of what makes threads: the library does not export it.
GLUE := $(patsubst $(C_DIR)/%.c,%,$(wildcard $(C_DIR)/freeswitch/*.c)) core/thread
# These belong to the module, and are tested without FreeSWITCH.
PARSER := $(filter freeswitch/command% freeswitch/worker freeswitch/event_limit,$(GLUE))
C_FILES := $(wildcard $(C_DIR)/*/*.[ch])
TEST_PROGRAMS := $(notdir $(basename $(wildcard $(C_DIR)/tests/test_*.c $(C_DIR)/tests/stress_*.c)))
TEST_HELPERS := $(filter-out $(addprefix tests/,test_% stress_% bench_% fuzz_% replay), \
	$(patsubst $(C_DIR)/%.c,%,$(wildcard $(C_DIR)/tests/*.c)))
FUZZERS := $(patsubst $(C_DIR)/tests/fuzz_%.c,%,$(wildcard $(C_DIR)/tests/fuzz_*.c))
SANITIZERS := asan tsan
C_TESTS := $(foreach s,$(SANITIZERS),$(addprefix build/tests/$(s)/,$(TEST_PROGRAMS))) $(FUZZERS:%=build/tests/replay/%)

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wformat=2 -Wvla -Werror=implicit-function-declaration \
	-Werror=incompatible-pointer-types -Werror=int-conversion -Werror=return-type
C_COMMON := $(WARNINGS) -fPIC -fvisibility=hidden -I$(C_DIR)/include $(LAYERS:%=-I$(C_DIR)/%) -iquote $(C_DIR)/freeswitch -MMD -MP

# Asked once, and only by recipes: what they name is there after `make deps`.
PACKAGES := speexdsp libwebsockets openssl zlib jansson sndfile libmpg123 ogg vorbis opus
PACKAGE_CFLAGS = $(eval PACKAGE_CFLAGS := $(shell pkg-config --cflags $(PACKAGES)))$(PACKAGE_CFLAGS)
PACKAGE_LIBS = $(eval PACKAGE_LIBS := $(shell pkg-config --libs $(PACKAGES)))$(PACKAGE_LIBS)
CORE_LIBS = $(PACKAGE_LIBS) -lpthread -lm -ldl

# What is shipped is hardened; setup.py does the same for the Python extension, and tests/install/test_hardening.py looks at all
# three. CFLAGS and LDFLAGS come after this and win. _FORTIFY_SOURCE needs optimization, and hides errors from sanitizers.
OPTIMIZED = $(filter -O -O1 -O2 -O3 -Os -Og -Oz -Ofast,$(CFLAGS))
UNFORTIFIED = $(if $(OPTIMIZED),,no)$(findstring -fsanitize,$(CFLAGS))$(findstring _FORTIFY_SOURCE,$(CFLAGS) $(CPPFLAGS))
FORTIFY = $(if $(UNFORTIFIED),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
CF_PROTECTION = $(eval CF_PROTECTION := $(shell $(CC) -fcf-protection -x c -c /dev/null -o /dev/null 2>/dev/null && \
	echo -fcf-protection))$(CF_PROTECTION)
HARDENED = -fstack-protector-strong -fstack-clash-protection $(CF_PROTECTION) $(FORTIFY)
HARDENED_LINK := -Wl,-z,relro,-z,now,-z,noexecstack

FLAGS_lib = $(HARDENED) $(CFLAGS)
TEST_WARNINGS := -Wno-format-nonliteral # tests have tables of formats
FLAGS_asan := $(TEST_WARNINGS) -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
FLAGS_tsan := $(TEST_WARNINGS) -O1 -g -fno-omit-frame-pointer -fsanitize=thread
FLAGS_fuzz := $(TEST_WARNINGS) -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all

define compile
	$(call say,CC,$<$(if $(filter-out lib,$(1)), ($(1))))
	@mkdir -p $(@D)
	@$(if $(filter fuzz,$(1)),$(CLANG),$(CC)) -std=c11 $(CPPFLAGS) $(C_COMMON) $(PACKAGE_CFLAGS) $(FLAGS_$(1)) -c $< -o $@
endef

build/obj/lib/%.o: $(C_DIR)/%.c mk/c.mk | deps
	$(call compile,lib)
build/obj/asan/%.o: $(C_DIR)/%.c | deps
	$(call compile,asan)
build/obj/tsan/%.o: $(C_DIR)/%.c | deps
	$(call compile,tsan)
build/obj/fuzz/%.o: $(C_DIR)/%.c | deps
	$(call compile,fuzz)

# Never unmapped: service threads run code of it, and others in the process may still hold what it gave them.
$(LIBRARY): $(CORE:%=build/obj/lib/%.o)
	$(call say,LINK,$@)
	@$(CC) -shared $(HARDENED_LINK) $(LDFLAGS) -Wl,-soname,$(SONAME) -Wl,-z,defs -Wl,-z,nodelete $^ $(CORE_LIBS) -o $@

build/libaudiostream.so: $(LIBRARY)
	@ln -sf $(SONAME) $@

# The module. FreeSWITCH's headers are GNU C, and its warnings are not ours to mend.
build/obj/module/%.o: $(C_DIR)/%.c mk/c.mk | deps
	$(need-headers)
	$(call say,CC,$< (FreeSWITCH $(FS_VERSION)))
	@mkdir -p $(@D)
	@$(CC) -std=gnu11 $(CPPFLAGS) $(C_COMMON) $(HARDENED) $(CFLAGS) -DHAVE_VISIBILITY=1 -DSWITCH_API_VISIBILITY=1 -isystem '$(includedir)' -c $< -o $@

define link-module
	$(call say,LINK,$@)
	@$(CC) -shared $(HARDENED_LINK) $(LDFLAGS) -Wl,-z,defs $(GLUE:%=build/obj/module/%.o) -Lbuild -laudiostream \
		-L'$(call fs_fact,libdir)' -lfreeswitch -lpthread -lm -ldl -Wl,-rpath,'$(1)' -Wl,-rpath,'$(call fs_fact,libdir)' -o $@
endef

$(MODULE): $(GLUE:%=build/obj/module/%.o) $(LIBRARY) | build/libaudiostream.so
	$(call link-module,$(CURDIR)/build)

build/install/$(MODULE_NAME): $(GLUE:%=build/obj/module/%.o) $(LIBRARY) build/install/libdir | build/libaudiostream.so
	$(call link-module,$(libdir))

# Changes when libdir does: what was linked for another directory is linked again.
build/install/libdir: FORCE
	@mkdir -p $(@D)
	@[ "$$(cat $@ 2>/dev/null)" = '$(libdir)' ] || echo '$(libdir)' > $@
.PHONY: FORCE
FORCE:

# Compiles the module's sources against other headers and keeps nothing: `make check-headers includedir=DIR`.
.PHONY: check-headers
check-headers:
	$(need-headers)
	$(call say,CHECK,$(GLUE) against $(includedir))
	@for source in $(GLUE:%=$(C_DIR)/%.c); do \
		$(CC) -std=gnu11 $(WARNINGS) -Werror -I$(C_DIR)/include $(LAYERS:%=-I$(C_DIR)/%) -isystem '$(includedir)' -fsyntax-only $$source; done

# Everything a test may use, as an archive: a program takes from it what it calls.
build/obj/%/all.a:
	@rm -f $@
	@ar rcs $@ $^

define test-program
build/obj/$(1)/all.a: $(addprefix build/obj/$(1)/,$(addsuffix .o,$(TEST_HELPERS) $(CORE) $(PARSER)))

build/tests/$(1)/%: build/obj/$(1)/tests/%.o build/obj/$(1)/all.a
	@mkdir -p $$(@D)
	@$$(CC) $(FLAGS_$(1)) $$^ -lcmocka $$(CORE_LIBS) -o $$@
endef
$(foreach s,$(SANITIZERS),$(eval $(call test-program,$(s))))

build/tests/replay/%: build/obj/asan/tests/fuzz_%.o build/obj/asan/tests/replay.o build/obj/asan/all.a
	@mkdir -p $(@D)
	@$(CC) $(FLAGS_asan) $^ $(CORE_LIBS) -o $@

build/obj/fuzz/all.a: $(CORE:%=build/obj/fuzz/%.o) $(PARSER:%=build/obj/fuzz/%.o)

build/tests/fuzz/%: build/obj/fuzz/tests/fuzz_%.o build/obj/fuzz/all.a
	@mkdir -p $(@D)
	@$(CLANG) $(FLAGS_fuzz) -fsanitize=fuzzer $^ $(CORE_LIBS) -o $@
.SECONDARY:

# Benchmarks run on the library as it is shipped.
BENCHES := $(patsubst $(C_DIR)/tests/%.c,build/tests/bench/%,$(wildcard $(C_DIR)/tests/bench_*.c))
build/tests/bench/%: build/obj/lib/tests/%.o $(LIBRARY) | build/libaudiostream.so
	@mkdir -p $(@D)
	@$(CC) $< -Lbuild -laudiostream -Wl,-rpath,'$$ORIGIN/../..' -o $@

-include $(shell find build/obj -name '*.d' 2>/dev/null)
