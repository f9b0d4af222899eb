# Which FreeSWITCH: asked of ivr_ai/freeswitch_install.py, once, and only by targets that need to know.
# On the command line FS_PREFIX=/opt/freeswitch chooses another one, and any of modulesdir= scriptdir= confdir= libdir=
# includedir= overrides what it says of itself.

FS_PREFIX ?=
FS_QUERY = $(PYTHON) -I ivr_ai/freeswitch_install.py --prefix '$(FS_PREFIX)' \
	--modulesdir '$(if $(filter command line,$(origin modulesdir)),$(modulesdir))' \
	--includedir '$(if $(filter command line,$(origin includedir)),$(includedir))'
FS_FACTS = $(eval FS_FACTS := $(shell $(FS_QUERY)))$(FS_FACTS)
fs_fact = $(patsubst $(1)=%,%,$(filter $(1)=%,$(FS_FACTS)))

FS_FOUND = $(call fs_fact,prefix)
FS_VERSION = $(call fs_fact,version)
FS_BINDIR = $(call fs_fact,bindir)
FS_PYTHON = $(call fs_fact,python)
FS_PYTHON_VERSION = $(call fs_fact,python_version)
includedir = $(call fs_fact,includedir)
libdir = $(call fs_fact,libdir)
modulesdir = $(call fs_fact,modulesdir)
scriptdir = $(call fs_fact,scriptdir)
confdir = $(call fs_fact,confdir)

# One line each, for recipes: $(need-freeswitch) stops without a FreeSWITCH, $(need-headers) without its headers too,
# $(need-python) without its Python.
need-freeswitch = $(if $(FS_FOUND),@:,@echo 'no FreeSWITCH found$(if $(FS_PREFIX), under $(FS_PREFIX)): install it, or \
	name its prefix with FS_PREFIX=DIR' >&2; exit 1)
need-headers = $(if $(FS_FOUND),@$(if $(call fs_fact,headers),:,$(FS_QUERY) --get headers_error >&2; exit 1),$(need-freeswitch))
need-python = @$(if $(FS_PYTHON),:,$(FS_QUERY) --get python_error >&2; exit 1)
