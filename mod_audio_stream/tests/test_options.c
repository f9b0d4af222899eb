/* test_options.c - reading options, what is refused and why, and that the documents show the same table. */
#define _GNU_SOURCE
#include "support.h"

#include "options.h"

static char error[256];

static as_options *fresh(void)
{
	as_options *options = NULL;
	assert_int_equal(as_options_new(&options), 0);
	return options;
}

static void set(as_options *options, const char *name, const char *value)
{
	error[0] = '\0';
	assert_int_equal(as_options_set(options, name, value, error, sizeof(error)), 0);
	assert_string_equal(error, "");
}

static void refused(as_options *options, const char *name, const char *value, const char *reason)
{
	assert_int_equal(as_options_set(options, name, value, error, sizeof(error)), AS_EINVAL);
	if (!strstr(error, reason)) {
		fail_msg("'%s' does not say '%s'", error, reason);
	}
	assert_int_equal(strncmp(error, name, strlen(name)), 0); /* it says which setting */
}

static void test_defaults(void **state)
{
	(void)state;
	as_options *o = fresh();
	assert_int_equal(o->frame_ms, 20);
	assert_int_equal(o->buffer_size_ms, 20);
	assert_int_equal(o->buffer_secs, 40);
	assert_string_equal(o->codec, "L16");
	assert_string_equal(o->dialect, "auto");
	assert_int_equal(o->inject_buffer_ms, 5000);
	assert_int_equal(o->inject_log_every_ms, 1000);
	assert_int_equal(o->max_base64, 4194304);
	assert_int_equal(o->adaptive, 1);
	assert_int_equal(o->low_watermark_frames, 160);
	assert_int_equal(o->high_watermark_frames, 640);
	assert_true(o->adaptive_threshold == 0.1);
	assert_int_equal(o->balanced.min_frames, 320);
	assert_int_equal(o->balanced.max_frames, 640);
	assert_int_equal(o->balanced.target_ms, 10);
	assert_int_equal(o->connect_timeout_ms, 5000);
	assert_int_equal(o->reconnect_max, 0);
	assert_int_equal(o->ping_interval_s, 10);
	assert_int_equal(o->heart_beat_s, 0);
	assert_string_equal(o->subprotocol, "audio.freeswitch.org");
	assert_int_equal(o->subprotocol_set, 0);
	assert_string_equal(o->openai_api_key, "");
	assert_true(o->openai_vad_threshold == 0.5);
	assert_int_equal(o->service_threads, 2);
	assert_int_equal(o->memory_mb, 512);
	assert_int_equal(o->allow_file | o->inject_strict | o->deflate | o->tls_skip_hostname | o->one_leg_stereo, 0);
	as_options_free(o);
}

/* Every default can be written down and read back: what the documents show is what holds. */
static void test_setting_a_default_changes_nothing(void **state)
{
	(void)state;
	as_options *untouched = fresh(), *o = fresh();
	as_option_row row;
	for (int i = 0; as_option_describe(i, &row) == 0; i++) {
		set(o, *row.variable ? row.variable : *row.env ? row.env : row.param, row.standard);
	}
	assert_int_equal(o->subprotocol_set, 0); /* it has no default to be written down */
	assert_string_equal(o->subprotocol, "audio.freeswitch.org");
	assert_memory_equal(&o->low_latency, &untouched->low_latency, 3 * sizeof(as_preset));
	assert_int_equal(o->max_base64, untouched->max_base64);
	assert_int_equal(o->frame_ms, untouched->frame_ms);
	assert_string_equal(o->openai_url, untouched->openai_url);
	as_options_free(o);
	as_options_free(untouched);
}

static void test_any_of_its_names(void **state)
{
	(void)state;
	static const char *const names[] = {"STREAM_FRAME_MS", "stream_frame_ms", "frame-ms", "FRAME_MS"};
	as_options *o = fresh();
	for (size_t i = 0; i < COUNT(names); i++) {
		char value[8];
		snprintf(value, sizeof(value), "%zu", 30 + i);
		set(o, names[i], value);
		assert_int_equal(o->frame_ms, 30 + i);
	}
	set(o, "buffer_low_watermark", "320");
	set(o, "buffer-high-watermark", "3200");
	set(o, "STREAM_AUTH_ID", "abc");
	assert_int_equal(o->low_watermark_frames, 320);
	assert_int_equal(o->high_watermark_frames, 3200);
	assert_string_equal(o->auth_id, "abc");
	set(o, "STREAM_TLS_DISABLE_HOSTNAME_VALIDATION", "true");
	assert_int_equal(o->tls_skip_hostname, 1);
	set(o, "MOD_AUDIO_STREAM_SKIP_SERVER_CERT_HOSTNAME_CHECK", "false"); /* the other seed's name for it */
	assert_int_equal(o->tls_skip_hostname, 0);
	assert_int_equal(as_options_set(o, "STREAM_FRAME", "20", error, sizeof(error)), AS_ENOENT);
	assert_string_equal(error, "STREAM_FRAME is not an option");
	assert_int_equal(as_options_set(o, "", "20", error, sizeof(error)), AS_ENOENT);
	as_options_free(o);
}

static void test_numbers_by_name(void **state)
{
	(void)state;
	as_options *o = fresh();
	set(o, "STREAM_ALLOW_ONE_LEG_STEREO", "yes");
	assert_int_equal(as_options_number(o, "buffer-secs"), 40);
	assert_int_equal(as_options_number(o, "STREAM_BUFFER_SIZE"), 20);
	assert_int_equal(as_options_number(o, "allow-one-leg-stereo"), 1);
	assert_int_equal(as_options_number(o, "max-audio-base64-len"), 4194304);
	assert_int_equal(as_options_number(o, "codec"), 0);
	assert_int_equal(as_options_number(o, "FS_SEND_JSON_AUDIO"), 0);
	assert_int_equal(as_options_number(o, "no-such-option"), 0);
	as_options_free(o);
}

static void test_an_empty_value_is_none(void **state)
{
	(void)state;
	as_options *o = fresh();
	set(o, "STREAM_FRAME_MS", "40");
	set(o, "STREAM_FRAME_MS", "");
	set(o, "STREAM_FRAME_MS", NULL);
	set(o, "STREAM_TLS_CA_FILE", "ca.pem");
	set(o, "STREAM_TLS_CA_FILE", "");
	assert_int_equal(o->frame_ms, 40);
	assert_string_equal(o->tls_ca_file, "ca.pem");
	as_options_free(o);
}

static void test_values(void **state)
{
	(void)state;
	static const struct {
		const char *value;
		long bytes;
	} sizes[] = {{"1024", 1024}, {"4MB", 4194304}, {"4m", 4194304}, {"512KB", 524288}, {"64mb", 67108864}};
	static const char *const on[] = {"true", "yes", "on", "1", "TRUE"};
	static const char *const off[] = {"false", "no", "off", "0", "OFF"};
	as_options *o = fresh();
	for (size_t i = 0; i < COUNT(sizes); i++) {
		set(o, "STREAM_MAX_AUDIO_BASE64_LEN", sizes[i].value);
		assert_int_equal(o->max_base64, sizes[i].bytes);
	}
	for (size_t i = 0; i < COUNT(on); i++) {
		set(o, "STREAM_MESSAGE_DEFLATE", on[i]);
		assert_int_equal(o->deflate, 1);
		set(o, "STREAM_MESSAGE_DEFLATE", off[i]);
		assert_int_equal(o->deflate, 0);
	}
	set(o, "STREAM_CODEC", "ulaw");
	assert_string_equal(o->codec, "ULAW");
	set(o, "STREAM_BUFFER_SIZE", "60");
	assert_int_equal(o->buffer_size_ms, 60);
	set(o, "adaptive_threshold", "0.25");
	assert_true(o->adaptive_threshold == 0.25);
	set(o, "high_quality_config", "640, 3200, 30");
	assert_int_equal(o->high_quality.max_frames, 3200);
	set(o, "STREAM_EXTRA_HEADERS", "{\"X-Tenant\": \"blue\", \"Authorization\": \"Bearer x\"}");
	assert_string_equal(o->extra_headers, "{\"X-Tenant\": \"blue\", \"Authorization\": \"Bearer x\"}");
	set(o, "STREAM_EXTRA_HEADERS", "{\"X-Caller\": \"Andr\xe9\"}");
	assert_string_equal(o->extra_headers, "{\"X-Caller\": \"Andr\xef\xbf\xbd\"}");
	set(o, "STREAM_TLS_CA_FILE", "ca.pem");
	assert_string_equal(o->tls_ca_file, "ca.pem");
	set(o, "STREAM_TLS_CA_FILE", "system");
	assert_string_equal(o->tls_ca_file, "");
	set(o, "tls-ca-file", "./SYSTEM");
	assert_string_equal(o->tls_ca_file, "./SYSTEM");
	set(o, "FS_SEND_JSON_AUDIO", "whatever");
	set(o, "MOD_AUDIO_STREAM_SUBPROTOCOL_NAME", "audio.drachtio.org");
	assert_string_equal(o->subprotocol, "audio.drachtio.org");
	assert_int_equal(o->subprotocol_set, 1);
	as_options_free(o);
}

static void test_what_is_refused(void **state)
{
	(void)state;
	static const struct {
		const char *name, *value, *reason;
	} wrong[] = {
		{"STREAM_FRAME_MS", "4", "is '4' but must be 5 to 60"},
		{"frame-ms", "61", "5 to 60"},
		{"STREAM_FRAME_MS", "20ms", "is '20ms' but must be 5 to 60"},
		{"STREAM_FRAME_MS", "-20", "5 to 60"},
		{"STREAM_FRAME_MS", "99999999999999999999", "5 to 60"},
		{"STREAM_BUFFER_SIZE", "30", "is '30' but must be a multiple of 20 up to 1000"},
		{"STREAM_BUFFER_SIZE", "0", "a multiple of 20"},
		{"STREAM_MESSAGE_DEFLATE", "maybe", "is 'maybe' but must be true or false"},
		{"STREAM_CODEC", "OPUS", "is 'OPUS' but must be L16/ULAW"},
		{"STREAM_DIALECT", "js", "must be auto/binary/json"},
		{"STREAM_MAX_AUDIO_BASE64_LEN", "4GB", "1024 to 67108864; k and MB may be used"},
		{"STREAM_MAX_AUDIO_BASE64_LEN", "65MB", "1024 to 67108864"},
		{"STREAM_MAX_AUDIO_BASE64_LEN", "MB", "1024 to 67108864"},
		{"adaptive_threshold", "1.5", "0 to 1"},
		{"adaptive_threshold", "nan", "0 to 1"},
		{"adaptive_threshold", "1e-1", "0 to 1"},
		{"balanced_config", "320,640", "must be min,max,target_ms; min up to max, both 0 to 80000"},
		{"balanced_config", "640,320,10", "min up to max"},
		{"balanced_config", "1,2,3,4", "min,max,target_ms"},
		{"balanced_config", "1,80001,3", "0 to 80000"},
		{"balanced_config", "a,b,c", "min,max,target_ms"},
		{"MOD_AUDIO_STREAM_SERVICE_THREADS", "6", "1 to 5"},
		{"MOD_AUDIO_STREAM_SUBPROTOCOL_NAME", "a b", "must be letters, digits and -._"},
		{"STREAM_TLS_CA_FILE", "  ", "is blank but must be a path"},
		{"STREAM_TLS_CA_FILE", "NONE", "is NONE, but a server whose certificate nobody checks may be anybody"},
		{"tls-ca-file", "none", "tls-ca-file is NONE"},
		{"STREAM_RECONNECT_GOING_AWAY", "maybe", "must be true or false"},
		{"OPENAI_REALTIME_URL", "https://user:S3CRET@h", "must be a ws:// or wss:// URL"},
		{"STREAM_EXTRA_HEADERS", "X-Tenant: blue", "must be a JSON object of strings"},
		{"STREAM_EXTRA_HEADERS", "[\"a\"]", "must be a JSON object of strings"},
		{"STREAM_EXTRA_HEADERS", "{\"a\": 1}", "must have a string as the value of a"},
		{"STREAM_EXTRA_HEADERS", "{\"X Y\": \"1\"}", "a header whose name is empty or not made of letters"},
		{"STREAM_EXTRA_HEADERS", "{\"\": \"1\"}", "a header whose name is empty"},
		{"STREAM_EXTRA_HEADERS", "{\"a\": \"b\\r\\nEvil: S3CRET\"}", "must not have line ends or control"},
		{"STREAM_EXTRA_HEADERS", "{\"a\": \"S3CRET\", \"a\": \"2\"}", "must be a JSON object of strings"},
		{"MOD_AUDIO_STREAM_HTTP_AUTH_PASSWORD", "S3CRET\n", "has a line end or control character in it"},
		{"OPENAI_API_KEY", "S3CRET\r", "has a line end or control character in it"},
	};
	as_options *o = fresh();
	set(o, "STREAM_EXTRA_HEADERS", "{\"kept\": \"1\"}");
	for (size_t i = 0; i < COUNT(wrong); i++) {
		refused(o, wrong[i].name, wrong[i].value, wrong[i].reason);
		assert_null(strstr(error, "S3CRET"));
	}
	assert_int_equal(o->frame_ms, 20); /* what was refused has changed nothing */
	assert_string_equal(o->extra_headers, "{\"kept\": \"1\"}");
	assert_int_equal(o->balanced.min_frames, 320);
	assert_int_equal(o->subprotocol_set, 0);
	as_options_free(o);
}

static void test_long_values_and_small_buffers(void **state)
{
	(void)state;
	as_options *o = fresh();
	char *text = calloc(1, 65538), small[8] = "1234567";
	memset(text, 'x', 65536);
	set(o, "OPENAI_SYSTEM_INSTRUCTIONS", text);
	text[65536] = 'x';
	refused(o, "OPENAI_SYSTEM_INSTRUCTIONS", text, "is longer than 65536 bytes");
	assert_int_equal(as_options_set(o, "STREAM_FRAME_MS", text, small, 4), AS_EINVAL);
	assert_int_equal(strlen(small), 3);
	assert_int_equal(small[4], '5');
	assert_int_equal(as_options_set(o, "STREAM_FRAME_MS", "x", NULL, 0), AS_EINVAL);
	free(text);
	as_options_free(o);
}

static void test_a_copy_is_its_own(void **state)
{
	(void)state;
	as_options *o = fresh(), *copy = NULL;
	set(o, "STREAM_FRAME_MS", "40");
	set(o, "OPENAI_API_KEY", "sk-1");
	assert_int_equal(as_options_copy(o, &copy), 0);
	set(o, "OPENAI_API_KEY", "sk-2");
	as_options_free(o);
	assert_int_equal(copy->frame_ms, 40);
	assert_string_equal(copy->openai_api_key, "sk-1");
	as_options_free(copy);
	as_options_free(NULL);
}

/* ---- What they mean ---------------------------------------------------------------------------------------------- */

static void test_presets(void **state)
{
	(void)state;
	as_options *o = fresh();
	static const struct {
		int rate_hz, bidirectional, high_jitter, min_frames;
	} cases[] = {{8000, 0, 0, 160}, {8000, 1, 0, 320},  {16000, 0, 0, 320}, {16000, 1, 0, 640},
				 {8000, 0, 1, 640}, {48000, 1, 0, 640}, {8000, 1, 1, 640}};
	for (size_t i = 0; i < COUNT(cases); i++) {
		as_preset preset = as_options_preset(o, cases[i].rate_hz, cases[i].bidirectional, cases[i].high_jitter);
		assert_int_equal(preset.min_frames, cases[i].min_frames);
	}
	as_options_free(o);
}

static void expect_jitter(const as_options *o, int rate_hz, int bidirectional, int low_ms, int high_ms, int target_ms)
{
	as_jitter_config config = as_options_jitter(o, rate_hz, bidirectional);
	assert_int_equal(config.low_ms, low_ms);
	assert_int_equal(config.high_ms, high_ms);
	assert_int_equal(config.target_ms, target_ms);
	assert_true(config.threshold == o->adaptive_threshold);
}

static void test_watermarks(void **state)
{
	(void)state;
	as_options *o = fresh();
	assert_int_equal(as_options_watermark_ms(160), 20);
	assert_int_equal(as_options_watermark_ms(640), 80);
	expect_jitter(o, 8000, 0, 20, 160, 5);
	expect_jitter(o, 8000, 1, 40, 160, 10);
	expect_jitter(o, 16000, 1, 80, 160, 20);
	set(o, "buffer_low_watermark", "800");
	set(o, "buffer_high_watermark", "3200");
	expect_jitter(o, 8000, 0, 100, 400, 5);
	set(o, "buffer_high_watermark", "400"); /* below the low one */
	expect_jitter(o, 8000, 0, 100, 100, 5);
	as_options_free(o);
}

/* ---- The documents ----------------------------------------------------------------------------------------------- */

static char *read_document(const char *path)
{
	FILE *file = fopen(path, "rb");
	assert_non_null(file); /* tests run in the repository's root */
	assert_int_equal(fseek(file, 0, SEEK_END), 0);
	size_t n = (size_t)ftell(file);
	char *text = calloc(1, n + 1);
	rewind(file);
	assert_int_equal(fread(text, 1, n, file), n);
	fclose(file);
	return text;
}

static int count(const char *text, const char *what)
{
	int found = 0;
	for (; (text = strstr(text, what)); text++) {
		found++;
	}
	return found;
}

/* A row of the documents' table, up to its last column. */
static void write_row(const as_option_row *row, char *line, size_t bytes)
{
	char names[256] = "", standard[64] = "";
	const char *const parts[] = {row->variable, strcasecmp(row->env, row->variable) ? row->env : "", row->param};
	static const char *const suffixes[] = {"", " (environment)", ""};
	for (size_t i = 0; i < COUNT(parts); i++) {
		const char *suffix = i == 0 && !*row->env ? " (variable)" : suffixes[i];
		size_t used = strlen(names);
		if (*parts[i]) {
			snprintf(names + used, sizeof(names) - used, "%s`%s`%s", used ? "<br>" : "", parts[i], suffix);
		}
	}
	if (*row->standard) {
		snprintf(standard, sizeof(standard), "`%s`", row->standard);
	}
	snprintf(line, bytes, "\n| %s | %s | %s |", names, standard, row->allowed);
}

static void test_docs_streaming_has_this_table(void **state)
{
	(void)state;
	char *document = read_document("docs/streaming.md"), line[512];
	char *table = strstr(document, "\n## Settings"), *end = table ? strstr(table + 1, "\n## ") : NULL;
	assert_non_null(table);
	if (end) {
		*end = '\0';
	}
	as_option_row row;
	int rows = 0, missing = 0;
	for (; as_option_describe(rows, &row) == 0; rows++) {
		write_row(&row, line, sizeof(line));
		if (!strstr(table, line)) {
			print_error("docs/streaming.md lacks: %s\n", line + 1);
			missing++;
		}
	}
	assert_int_equal(missing, 0);
	assert_int_equal(count(table, "\n| `"), rows);
	free(document);
}

/* The configuration file has each parameter once, at its default; the others are what freeswitch/config.c reads. */
static void test_the_configuration_file_has_every_parameter(void **state)
{
	(void)state;
	static const char *const own[] = {"capture-buffer-ms", "inject-max-ms",        "prebuffer-ms", "fade-ms",
									  "max-streams",       "max-streams-per-call", "event-rate",   "events"};
	char *document = read_document("conf/autoload_configs/audio_stream.conf.xml"), line[512];
	as_option_row row;
	int params = 0, missing = 0;
	for (int i = 0; as_option_describe(i, &row) == 0; i++) {
		snprintf(line, sizeof(line), "<param name=\"%s\" value=\"%s\"/>", row.param, row.standard);
		params += *row.param != '\0';
		if (*row.param && count(document, line) != 1) {
			print_error("audio_stream.conf.xml lacks: %s\n", line);
			missing++;
		}
	}
	for (size_t i = 0; i < COUNT(own); i++, params++) {
		snprintf(line, sizeof(line), "<param name=\"%s\" ", own[i]);
		assert_int_equal(count(document, line), 1);
	}
	assert_int_equal(missing, 0);
	assert_int_equal(count(document, "<param name="), params);
	free(document);
}

static void test_which_options_are_secret(void **state)
{
	(void)state;
	static const char *const secret[] = {"OPENAI_API_KEY",      "openai_api_key",
										 "OPENAI_REALTIME_URL", "STREAM_EXTRA_HEADERS",
										 "extra-headers",       "MOD_AUDIO_STREAM_HTTP_AUTH_PASSWORD"};
	static const char *const shown[] = {"STREAM_FRAME_MS", "stream_auth_id", "caller_id_name", ""};
	for (size_t i = 0; i < COUNT(secret); i++) {
		assert_int_equal(as_option_is_secret(secret[i]), 1);
	}
	for (size_t i = 0; i < COUNT(shown); i++) {
		assert_int_equal(as_option_is_secret(shown[i]), 0);
	}
}

static void test_names_end(void **state)
{
	(void)state;
	int i = 0;
	for (; as_option_variable(i); i++) {
		assert_true(*as_option_variable(i) || *as_option_env(i) || *as_option_param(i));
	}
	as_option_row row;
	assert_true(i > 40);
	assert_null(as_option_env(i));
	assert_null(as_option_param(i));
	assert_null(as_option_variable(-1));
	assert_int_equal(as_option_describe(i, &row), AS_ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_setting_a_default_changes_nothing),
		cmocka_unit_test(test_any_of_its_names),
		cmocka_unit_test(test_numbers_by_name),
		cmocka_unit_test(test_an_empty_value_is_none),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_long_values_and_small_buffers),
		cmocka_unit_test(test_a_copy_is_its_own),
		cmocka_unit_test(test_presets),
		cmocka_unit_test(test_watermarks),
		cmocka_unit_test(test_docs_streaming_has_this_table),
		cmocka_unit_test(test_the_configuration_file_has_every_parameter),
		cmocka_unit_test(test_which_options_are_secret),
		cmocka_unit_test(test_names_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
