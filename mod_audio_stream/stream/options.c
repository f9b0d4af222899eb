/*
 * options.c - one table of everything that can be set, and what reads a value into it. Any thread; an as_options is not
 * shared while it is being set.
 */
#define _GNU_SOURCE
#include "options.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "extra_headers.h"
#include "hosts.h"
#include "utf8.h"
#include "wipe.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SUBPROTOCOL "audio.freeswitch.org" /* AS_DIALECT_JSON asks for it unless another has been set */
#define STRING_MAX 65536                   /* bytes */

typedef enum kind {
	INT,     /* int, least..most */
	STEP,    /* int, a multiple of least, up to most */
	SIZE,    /* long, least..most; 4MB, 512k */
	REAL,    /* double, least..most */
	FLAG,    /* int, 0 or 1 */
	CHOICE,  /* char *, one of among */
	TEXT,    /* char *, anything */
	TOKEN,   /* char *, as in an HTTP header: the subprotocol */
	PATH,    /* char *, a file or directory */
	CA_FILE, /* char *, a file, or SYSTEM for none */
	SECRET,  /* char *, never shown */
	HOSTS,   /* char *, patterns of hosts; a wrong one leaves none that is allowed */
	URL,     /* char *, never shown: there may be a password in it */
	HEADERS, /* char *, a JSON object of strings; never shown */
	PRESET,  /* as_preset */
	IGNORED, /* accepted, without effect */
} kind;

typedef struct row {
	const char *variable, *env, *param, *standard;
	kind kind;
	size_t offset;
	double least, most;
	const char *among; /* CHOICE: separated by "|" */
} row;

#define AT(field) offsetof(struct as_options, field)
#define STREAM(name, param) "STREAM_" name, "STREAM_" name, param
#define MODULE(name, param) "MOD_AUDIO_STREAM_" name, "MOD_AUDIO_STREAM_" name, param
#define CONF(param) "", "", param
#define SAME(name, param) name, name, param
#define VARIABLE(name) name, "", ""
#define WORDS(number) WORDS_OF(number)
#define WORDS_OF(number) #number
#define ON_OFF 0, 1, NULL
#define ANY 0, 0, NULL

static const row rows[] = {
	{STREAM("FRAME_MS", "frame-ms"), "20", INT, AT(frame_ms), 5, 60, NULL},
	{STREAM("BUFFER_SIZE", "buffer-size"), "20", STEP, AT(buffer_size_ms), 20, 1000, NULL},
	{STREAM("MAX_QUEUE_MS", "max-queue-ms"), "0", INT, AT(max_queue_ms), 0, 600000, NULL},
	{MODULE("BUFFER_SECS", "buffer-secs"), "40", INT, AT(buffer_secs), 1, 600, NULL},
	{STREAM("CODEC", "codec"), "L16", CHOICE, AT(codec), 0, 0, "L16|ULAW"},
	{STREAM("DIALECT", "dialect"), "auto", CHOICE, AT(dialect), 0, 0, "auto|binary|json"},
	{STREAM("INJECT_BUFFER_MS", "inject-buffer-ms"), "5000", INT, AT(inject_buffer_ms), 20, 600000, NULL},
	{STREAM("INJECT_BUFFER_STRICT", "inject-buffer-strict"), "false", FLAG, AT(inject_strict), ON_OFF},
	{STREAM("INJECT_MIN_BUFFER_MS", "inject-min-buffer-ms"), "0", INT, AT(inject_min_ms), 0, 10000, NULL},
	{STREAM("INJECT_LOG_EVERY_MS", "inject-log-every-ms"), "1000", INT, AT(inject_log_every_ms), 0, 3600000, NULL},
	{STREAM("ALLOW_FILE_INJECTION", "allow-file-injection"), "false", FLAG, AT(allow_file), ON_OFF},
	{CONF("file-injection-dir"), "", PATH, AT(file_dir), ANY},
	{STREAM("MAX_AUDIO_BASE64_LEN", "max-audio-base64-len"), "4MB", SIZE, AT(max_base64), 1024, 67108864, NULL},
	{CONF("adaptive_buffer_enabled"), "true", FLAG, AT(adaptive), ON_OFF},
	{CONF("buffer_low_watermark"), WORDS(AS_LOW_WATERMARK), INT, AT(low_watermark_frames), 0, AS_FRAMES_MAX, NULL},
	{CONF("buffer_high_watermark"), WORDS(AS_HIGH_WATERMARK), INT, AT(high_watermark_frames), 0, AS_FRAMES_MAX, NULL},
	{CONF("adaptive_threshold"), "0.1", REAL, AT(adaptive_threshold), 0, 1, NULL},
	{CONF("low_latency_config"), "160,320,5", PRESET, AT(low_latency), 0, AS_FRAMES_MAX, NULL},
	{CONF("balanced_config"), "320,640,10", PRESET, AT(balanced), 0, AS_FRAMES_MAX, NULL},
	{CONF("high_quality_config"), "640,1280,20", PRESET, AT(high_quality), 0, AS_FRAMES_MAX, NULL},
	{CONF("allow-hosts"), "", HOSTS, AT(allow_hosts), ANY},
	{STREAM("CONNECT_TIMEOUT_MS", "connect-timeout-ms"), "5000", INT, AT(connect_timeout_ms), 0, 600000, NULL},
	{STREAM("RECONNECT_MAX", "reconnect-max"), "0", INT, AT(reconnect_max), 0, 1000000, NULL},
	{STREAM("RECONNECT_DELAY_MS", "reconnect-delay-ms"), "500", INT, AT(reconnect_delay_ms), 10, 600000, NULL},
	{STREAM("RECONNECT_DELAY_MAX_MS", "reconnect-delay-max-ms"), "30000", INT, AT(reconnect_delay_max_ms), 10, 3600000,
	 NULL},
	{STREAM("RECONNECT_GOING_AWAY", "reconnect-going-away"), "true", FLAG, AT(reconnect_going_away), ON_OFF},
	{STREAM("PING_INTERVAL_S", "ping-interval-s"), "10", INT, AT(ping_interval_s), 0, 3600, NULL},
	{STREAM("HEART_BEAT", "heart-beat"), "0", INT, AT(heart_beat_s), 0, 3600, NULL},
	{STREAM("LAST_WORDS_MS", "last-words-ms"), "0", INT, AT(last_words_ms), 0, 10000, NULL},
	{STREAM("GRACEFUL_TIMEOUT_MS", "graceful-timeout-ms"), "30000", INT, AT(graceful_timeout_ms), 0, 600000, NULL},
	{STREAM("MESSAGE_DEFLATE", "message-deflate"), "false", FLAG, AT(deflate), ON_OFF},
	{STREAM("EXTRA_HEADERS", "extra-headers"), "", HEADERS, AT(extra_headers), ANY},
	{MODULE("SUBPROTOCOL_NAME", "subprotocol-name"), "", TOKEN, AT(subprotocol), ANY},
	{MODULE("HTTP_AUTH_USER", "http-auth-user"), "", TEXT, AT(auth_user), ANY},
	{MODULE("HTTP_AUTH_PASSWORD", "http-auth-password"), "", SECRET, AT(auth_password), ANY},
	{STREAM("TLS_CA_FILE", "tls-ca-file"), "", CA_FILE, AT(tls_ca_file), ANY},
	{STREAM("TLS_KEY_FILE", "tls-key-file"), "", PATH, AT(tls_key_file), ANY},
	{STREAM("TLS_CERT_FILE", "tls-cert-file"), "", PATH, AT(tls_cert_file), ANY},
	{STREAM("TLS_DISABLE_HOSTNAME_VALIDATION", "tls-disable-hostname-validation"), "false", FLAG, AT(tls_skip_hostname),
	 ON_OFF},
	{MODULE("SKIP_SERVER_CERT_HOSTNAME_CHECK", ""), "false", FLAG, AT(tls_skip_hostname), ON_OFF},
	{MODULE("ALLOW_SELFSIGNED", "allow-selfsigned"), "false", FLAG, AT(tls_allow_selfsigned), ON_OFF},
	{MODULE("ALLOW_EXPIRED", "allow-expired"), "false", FLAG, AT(tls_allow_expired), ON_OFF},
	{VARIABLE("stream_auth_id"), "", TEXT, AT(auth_id), ANY},
	{VARIABLE("stream_account_id"), "", TEXT, AT(account_id), ANY},
	{VARIABLE("stream_subaccount_id"), "", TEXT, AT(subaccount_id), ANY},
	{VARIABLE("stream_rate"), "", TEXT, AT(rate), ANY},
	{VARIABLE("stream_unit"), "", TEXT, AT(unit), ANY},
	{STREAM("SUPPRESS_LOG", "suppress-log"), "false", FLAG, AT(suppress_log), ON_OFF},
	{STREAM("DEBUG_JSON", "debug-json"), "false", FLAG, AT(debug_json), ON_OFF},
	{SAME("OPENAI_REALTIME_URL", "openai-realtime-url"), "wss://api.openai.com/v1/realtime", URL, AT(openai_url), ANY},
	{SAME("OPENAI_API_KEY", "openai-api-key"), "", SECRET, AT(openai_api_key), ANY},
	{SAME("OPENAI_REALTIME_MODEL", "openai-realtime-model"), "gpt-realtime-2.1", TEXT, AT(openai_model), ANY},
	{SAME("OPENAI_REALTIME_VOICE", "openai-realtime-voice"), "marin", TEXT, AT(openai_voice), ANY},
	{SAME("OPENAI_SYSTEM_INSTRUCTIONS", "openai-system-instructions"), "", TEXT, AT(openai_instructions), ANY},
	{SAME("VAD_THRESHOLD", "vad-threshold"), "0.5", REAL, AT(openai_vad_threshold), 0, 1, NULL},
	{SAME("VAD_SILENCE_DURATION_MS", "vad-silence-duration-ms"), "300", INT, AT(openai_vad_silence_ms), 0, 10000, NULL},
	{SAME("VAD_PREFIX_PADDING_MS", "vad-prefix-padding-ms"), "300", INT, AT(openai_vad_prefix_ms), 0, 10000, NULL},
	{"", "MOD_AUDIO_STREAM_SERVICE_THREADS", "service-threads", "2", INT, AT(service_threads), 1, 5, NULL},
	{"", "MOD_AUDIO_STREAM_MEMORY_MB", "memory-mb", "512", INT, AT(memory_mb), 16, 1048576, NULL},
	{"", "STREAM_ALLOW_ONE_LEG_STEREO", "allow-one-leg-stereo", "false", FLAG, AT(one_leg_stereo), ON_OFF},
	{SAME("FS_SEND_JSON_AUDIO", ""), "", IGNORED, 0, ANY},
};

static int is_string(const row *option)
{
	return option->kind >= CHOICE && option->kind <= HEADERS;
}

static void *field(as_options *options, const row *option)
{
	return (char *)options + option->offset;
}

static char **string_field(as_options *options, const row *option)
{
	return field(options, option);
}

/* ---- Errors ------------------------------------------------------------------------------------------------------ */

/* Where the reason goes, and what it is about. */
typedef struct reason {
	const char *name;
	char *text;
	size_t bytes;
} reason;

static int fail(const reason *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(const reason *why, const char *format, ...)
{
	va_list args;
	int n = snprintf(why->text, why->bytes, "%s ", why->name);
	size_t used = n > 0 && (size_t)n < why->bytes ? (size_t)n : why->bytes;
	va_start(args, format);
	vsnprintf(used < why->bytes ? why->text + used : NULL, why->bytes - used, format, args);
	va_end(args);
	return AS_EINVAL;
}

static int fail_allowed(const reason *why, const row *option, const char *value)
{
	as_option_row words;
	as_option_describe((int)(option - rows), &words);
	return fail(why, "is '%.64s' but must be %s", value, words.allowed);
}

/* ---- Values ------------------------------------------------------------------------------------------------------ */

static int read_whole(const char *text, long most, long *out)
{
	size_t digits = strspn(text, "0123456789");
	*out = digits > 0 && digits < 10 && !text[digits] ? strtol(text, NULL, 10) : -1;
	return *out >= 0 && *out <= most;
}

static int set_int(as_options *options, const row *option, const char *value, const reason *why)
{
	long number;
	int good = read_whole(value, (long)option->most, &number) && number >= (long)option->least;
	if (!good || (option->kind == STEP && number % (long)option->least)) {
		return fail_allowed(why, option, value);
	}
	*(int *)field(options, option) = (int)number;
	return 0;
}

/* 4194304, 4096k, 4096kB, 4M, 4MB: k is 1024. */
static int set_size(as_options *options, const row *option, const char *value, const reason *why)
{
	size_t digits = strspn(value, "0123456789");
	const char *unit = value + digits;
	long factor = tolower((unsigned char)*unit) == 'k' ? 1024 : tolower((unsigned char)*unit) == 'm' ? 1048576 : 1;
	unit += factor > 1;
	unit += factor > 1 && tolower((unsigned char)*unit) == 'b';
	long number = digits > 0 && digits < 10 ? strtol(value, NULL, 10) * factor : -1;
	if (*unit || number < (long)option->least || number > (long)option->most) {
		return fail_allowed(why, option, value);
	}
	*(long *)field(options, option) = number;
	return 0;
}

static int set_real(as_options *options, const row *option, const char *value, const reason *why)
{
	char *end;
	double number = strtod(value, &end);
	int plain = end > value && !*end && strspn(value, "0123456789.") == strlen(value);
	if (!plain || number < option->least || number > option->most) {
		return fail_allowed(why, option, value);
	}
	*(double *)field(options, option) = number;
	return 0;
}

static int set_flag(as_options *options, const row *option, const char *value, const reason *why)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
	for (size_t i = 0; i < COUNT(words); i++) {
		if (!strcasecmp(value, words[i])) {
			*(int *)field(options, option) = (int)(i & 1);
			return 0;
		}
	}
	return fail_allowed(why, option, value);
}

static int set_preset(as_options *options, const row *option, const char *value, const reason *why)
{
	char text[64], *rest = text;
	long numbers[3];
	snprintf(text, sizeof(text), "%s", value);
	for (int i = 0; i < 3; i++) {
		char *part = strsep(&rest, ",");
		part = part ? part + strspn(part, " ") : "";
		if (!read_whole(part, (long)option->most, &numbers[i])) {
			return fail_allowed(why, option, value);
		}
	}
	if (rest || numbers[0] > numbers[1] || numbers[2] > as_options_watermark_ms(AS_FRAMES_MAX)) {
		return fail_allowed(why, option, value);
	}
	*(as_preset *)field(options, option) = (as_preset){(int)numbers[0], (int)numbers[1], (int)numbers[2]};
	return 0;
}

/* ---- Strings ----------------------------------------------------------------------------------------------------- */

static int set_string(as_options *options, const row *option, const char *value, size_t n)
{
	char *copy = strndup(value, n), **string = string_field(options, option);
	if (!copy) {
		return AS_ENOMEM;
	}
	as_wipe_free(*string);
	*string = copy;
	return 0;
}

static int set_choice(as_options *options, const row *option, const char *value, const reason *why)
{
	for (const char *word = option->among; word; word = strchr(word, '|'), word += word != NULL) {
		size_t length = strcspn(word, "|");
		if (strlen(value) == length && !strncasecmp(value, word, length)) {
			return set_string(options, option, word, length);
		}
	}
	return fail_allowed(why, option, value);
}

static int has_control(const char *text)
{
	while ((unsigned char)*text >= ' ' && *text != 0x7f) {
		text++;
	}
	return *text != '\0';
}

static int check_header(const extra_header *header, const reason *why)
{
	if (!extra_header_is_token(header->name)) {
		return fail(why, "has a header whose name is empty or not made of letters, digits and -");
	}
	if (!header->value) {
		return fail(why, "must have a string as the value of %.64s", header->name);
	}
	return has_control(header->value)
			   ? fail(why, "must not have line ends or control characters in %.64s", header->name)
			   : 0;
}

/* value: UTF-8. */
static int check_headers(const char *value, const reason *why)
{
	extra_headers headers;
	int wrong = extra_headers_parse(value, &headers);
	if (wrong == AS_EINVAL) {
		return fail(why, "must be a JSON object of strings, such as {\"X-Tenant\": \"blue\"}");
	}
	for (size_t i = 0; !wrong && i < headers.count; i++) {
		wrong = check_header(&headers.all[i], why);
	}
	extra_headers_free(&headers);
	return wrong;
}

/* A caller's name may be in them, in whatever bytes it came. */
static int set_headers(as_options *options, const row *option, const char *value, const reason *why)
{
	char *clean = as_utf8_clean(value);
	int wrong = clean ? check_headers(clean, why) : AS_ENOMEM;
	wrong = wrong ? wrong : set_string(options, option, clean, strlen(clean));
	as_wipe_free(clean);
	return wrong;
}

static int check_url(const char *value, const reason *why)
{
	int scheme = !strncmp(value, "ws://", 5) ? 5 : !strncmp(value, "wss://", 6) ? 6 : 0;
	if (!scheme || !value[scheme] || has_control(value) || strchr(value, ' ')) {
		return fail(why, "must be a ws:// or wss:// URL");
	}
	return 0;
}

/* What limits where streams go does not fall back to no limit. */
static int set_hosts(as_options *options, const row *option, const char *value, const reason *why)
{
	char wrong[64];
	as_option_row words;
	if (!ws_hosts_check(value, wrong, sizeof(wrong))) {
		return set_string(options, option, value, strlen(value));
	}
	as_option_describe((int)(option - rows), &words);
	int failed = set_string(options, option, WS_HOSTS_NONE, strlen(WS_HOSTS_NONE));
	return failed ? failed
				  : fail(why, "has '%s' in it but must be %s; until that is right, no server is allowed", wrong,
						 words.allowed);
}

static int set_text(as_options *options, const row *option, const char *value, const reason *why)
{
	int wrong = 0;
	size_t length = strlen(value);
	if (length > STRING_MAX) {
		return fail(why, "is longer than %d bytes", STRING_MAX);
	}
	if (option->kind == HEADERS) {
		return set_headers(options, option, value, why);
	}
	if (option->kind == HOSTS) {
		return set_hosts(options, option, value, why);
	}
	if (option->kind == TOKEN && !extra_header_is_token(value)) {
		wrong = fail_allowed(why, option, value);
	} else if ((option->kind == PATH || option->kind == CA_FILE) && strspn(value, " \t\r\n") == length) {
		wrong = fail(why, "is blank but must be a path");
	} else if (option->kind == CA_FILE && !strcasecmp(value, "NONE")) {
		wrong =
			fail(why, "is NONE, but a server whose certificate nobody checks may be anybody: name the PEM file of the "
					  "authority that signed it, or SYSTEM");
	} else if (option->kind == CA_FILE && !strcasecmp(value, "SYSTEM")) {
		length = 0; /* the default */
	} else if (option->kind == SECRET && has_control(value)) {
		wrong = fail(why, "has a line end or control character in it");
	} else if (option->kind == URL) {
		wrong = check_url(value, why);
	}
	return wrong ? wrong : set_string(options, option, value, length);
}

/* ---- Setting ----------------------------------------------------------------------------------------------------- */

static int set_value(as_options *options, const row *option, const char *value, const reason *why)
{
	switch (option->kind) {
	case INT:
	case STEP:
		return set_int(options, option, value, why);
	case SIZE:
		return set_size(options, option, value, why);
	case REAL:
		return set_real(options, option, value, why);
	case FLAG:
		return set_flag(options, option, value, why);
	case CHOICE:
		return set_choice(options, option, value, why);
	case PRESET:
		return set_preset(options, option, value, why);
	case IGNORED:
		return 0;
	default:
		return set_text(options, option, value, why);
	}
}

int as_option_is(const char *a, const char *b)
{
	for (; *a && *b; a++, b++) {
		int dashes = strchr("-_", *a) && strchr("-_", *b);
		if (!dashes && tolower((unsigned char)*a) != tolower((unsigned char)*b)) {
			return 0;
		}
	}
	return !*a && !*b;
}

static const row *find(const char *name)
{
	for (size_t i = 0; *name && i < COUNT(rows); i++) {
		if (as_option_is(rows[i].variable, name) || as_option_is(rows[i].env, name) ||
			as_option_is(rows[i].param, name)) {
			return &rows[i];
		}
	}
	return NULL;
}

int as_ws_allow_hosts(const as_options *options)
{
	return ws_hosts_set(options->allow_hosts);
}

int as_option_is_secret(const char *name)
{
	const row *option = find(name);
	return option && (option->kind == SECRET || option->kind == URL || option->kind == HEADERS);
}

int as_options_set(as_options *options, const char *name, const char *value, char *error, size_t bytes)
{
	const row *option = find(name);
	reason why = {name, error, bytes};
	if (!option) {
		fail(&why, "is not an option");
		return AS_ENOENT;
	}
	if (!value || !*value) {
		return 0;
	}
	int failed = set_value(options, option, value, &why);
	if (failed == AS_ENOMEM) {
		fail(&why, "could not be set: out of memory");
	}
	options->subprotocol_set |= !failed && option->offset == AT(subprotocol);
	return failed;
}

long as_options_number(const as_options *options, const char *name)
{
	const row *option = find(name);
	const void *value = option ? (const char *)options + option->offset : NULL;
	switch (option ? option->kind : IGNORED) {
	case INT:
	case STEP:
	case FLAG:
		return *(const int *)value;
	case SIZE:
		return *(const long *)value;
	default:
		return 0;
	}
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */

int as_options_new(as_options **out)
{
	as_options *options = calloc(1, sizeof(*options));
	int failed = options ? 0 : AS_ENOMEM;
	for (size_t i = 0; !failed && i < COUNT(rows); i++) {
		reason nowhere = {rows[i].param, NULL, 0};
		const char *standard = rows[i].kind == TOKEN ? SUBPROTOCOL : rows[i].standard;
		failed = is_string(&rows[i]) ? set_string(options, &rows[i], standard, strlen(standard))
									 : set_value(options, &rows[i], standard, &nowhere);
	}
	if (failed) {
		as_options_free(options);
		return failed;
	}
	*out = options;
	return 0;
}

int as_options_copy(const as_options *options, as_options **out)
{
	as_options *copy = malloc(sizeof(*copy));
	if (!copy) {
		return AS_ENOMEM;
	}
	*copy = *options;
	int failed = 0;
	for (size_t i = 0; i < COUNT(rows); i++) {
		if (is_string(&rows[i])) {
			char **string = string_field(copy, &rows[i]);
			*string = strdup(*string);
			failed |= !*string;
		}
	}
	if (failed) {
		as_options_free(copy);
		return AS_ENOMEM;
	}
	*out = copy;
	return 0;
}

void as_options_free(as_options *options)
{
	for (size_t i = 0; options && i < COUNT(rows); i++) {
		if (is_string(&rows[i])) {
			as_wipe_free(*string_field(options, &rows[i]));
		}
	}
	free(options);
}

/* ---- The table in words ------------------------------------------------------------------------------------------ */

const char *as_option_variable(int i)
{
	return i >= 0 && (size_t)i < COUNT(rows) ? rows[i].variable : NULL;
}

const char *as_option_env(int i)
{
	return i >= 0 && (size_t)i < COUNT(rows) ? rows[i].env : NULL;
}

const char *as_option_param(int i)
{
	return i >= 0 && (size_t)i < COUNT(rows) ? rows[i].param : NULL;
}

static void describe_choice(const row *option, char *out, size_t bytes)
{
	snprintf(out, bytes, "%s", option->among);
	for (char *c; (c = strchr(out, '|'));) {
		*c = '/';
	}
}

static void describe_allowed(const row *option, char *out, size_t bytes)
{
	static const char *const words[] = {
		[FLAG] = "true or false",
		[TEXT] = "text",
		[TOKEN] = "letters, digits and -._",
		[PATH] = "a path",
		[CA_FILE] = "a path, or SYSTEM",
		[SECRET] = "text, never shown",
		[HOSTS] = "hosts, host:port, *.domain",
		[URL] = "a ws:// or wss:// URL",
		[HEADERS] = "a JSON object of strings",
		[IGNORED] = "anything",
	};
	double least = option->least, most = option->most;
	switch (option->kind) {
	case INT:
		snprintf(out, bytes, "%.0f to %.0f", least, most);
		break;
	case STEP:
		snprintf(out, bytes, "a multiple of %.0f up to %.0f", least, most);
		break;
	case SIZE:
		snprintf(out, bytes, "%.0f to %.0f; k and MB may be used", least, most);
		break;
	case REAL:
		snprintf(out, bytes, "%g to %g", least, most);
		break;
	case PRESET:
		snprintf(out, bytes, "min,max,target_ms; min up to max, both %.0f to %.0f", least, most);
		break;
	case CHOICE:
		describe_choice(option, out, bytes);
		break;
	default:
		snprintf(out, bytes, "%s", words[option->kind]);
	}
}

int as_option_describe(int i, as_option_row *out)
{
	if (i < 0 || (size_t)i >= COUNT(rows)) {
		return AS_ENOENT;
	}
	const row *option = &rows[i];
	*out = (as_option_row){option->variable, option->env, option->param, option->standard, ""};
	describe_allowed(option, out->allowed, sizeof(out->allowed));
	return 0;
}
