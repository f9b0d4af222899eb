/*
 * test_wipe.c - no memory that is given back still holds a key, a password or a token.
 *
 * The sanitizers call a hook before each free(), realloc()'s included, of this program and of the libraries in it.
 */
#define _GNU_SOURCE
#include "support.h"

#include "audio_stream_ws.h"
#include "command.h"
#include "url.h"
#include "wipe.h"

#define SECRET "S3cr3tK3y-of-nobody"

/* Of sanitizer/allocator_interface.h, which gcc's packages leave out. */
int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *, size_t),
											  void (*free_hook)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *block);

static const char *volatile wanted;
static _Atomic int left_behind;

static void on_malloc(const volatile void *block, size_t bytes)
{
	(void)block, (void)bytes;
}

static void on_free(const volatile void *block)
{
	const char *secret = wanted;
	if (secret && memmem((const void *)block, __sanitizer_get_allocated_size(block), secret, strlen(secret))) {
		left_behind++;
	}
}

static int watch(void **state)
{
	(void)state;
	left_behind = 0;
	wanted = SECRET;
	return 0;
}

static int unwatch(void **state)
{
	(void)state;
	wanted = NULL;
	return 0;
}

static void test_the_hook_sees_what_is_not_wiped(void **state)
{
	(void)state;
	free(strdup("a " SECRET));
	assert_int_equal(left_behind, 1);
	as_wipe_free(strdup("a " SECRET));
	as_wipe_free(NULL);
	assert_int_equal(left_behind, 1);
}

static void set(as_options *options, const char *name, const char *value)
{
	char error[200];
	assert_int_equal(as_options_set(options, name, value, error, sizeof(error)), 0);
}

static void test_options(void **state)
{
	(void)state;
	as_options *options = NULL, *copy = NULL;
	assert_int_equal(as_options_new(&options), 0);
	for (int twice = 0; twice < 2; twice++) {
		set(options, "OPENAI_API_KEY", "sk-" SECRET);
		set(options, "MOD_AUDIO_STREAM_HTTP_AUTH_PASSWORD", SECRET);
		set(options, "OPENAI_REALTIME_URL", "wss://h/?key=" SECRET);
		set(options, "STREAM_EXTRA_HEADERS", "{\"X-Key\": \"" SECRET "\"}");
	}
	assert_int_equal(as_options_copy(options, &copy), 0);
	as_options_free(options);
	as_options_free(copy);
	assert_int_equal(left_behind, 0);
}

static void test_commands(void **state)
{
	(void)state;
	static const char *const lines[] = {
		"u openai_start voice=marin api_key=" SECRET " instructions='be nice'",
		"u openai_start rate=1 api_key=" SECRET,
		"u start wss://h/" SECRET " mono 8000 text",
		"u s send_text {\"token\": \"" SECRET "\"}",
		"u opnai_start api_key=" SECRET,
	};
	for (size_t i = 0; i < COUNT(lines); i++) {
		char error[200];
		as_command command;
		as_command_parse(lines[i], NULL, &command, error, sizeof(error));
		as_command_free(&command);
		assert_int_equal(left_behind, 0);
	}
}

static void check(const as_streamer_start *start, const as_options *options, int expected)
{
	char error[300];
	assert_int_equal(as_streamer_check(start, options, error, sizeof(error)), expected);
	assert_int_equal(left_behind, 0);
}

static void test_what_connecting_needs(void **state)
{
	(void)state;
	static char long_key[600];
	as_options *options = NULL;
	snprintf(long_key, sizeof(long_key), "%0*d" SECRET, 500, 0); /* longer than what is printed into at first */
	assert_int_equal(as_options_new(&options), 0);
	set(options, "OPENAI_API_KEY", SECRET);
	set(options, "MOD_AUDIO_STREAM_HTTP_AUTH_USER", "me");
	set(options, "MOD_AUDIO_STREAM_HTTP_AUTH_PASSWORD", SECRET);
	check(&(as_streamer_start){.dialect = AS_DIALECT_OPENAI}, options, 0);
	check(&(as_streamer_start){.dialect = AS_DIALECT_OPENAI, .url = "ws://h/", .api_key = long_key}, options, 0);
	check(&(as_streamer_start){.dialect = AS_DIALECT_OPENAI, .url = "ws://h/"}, options, AS_EINVAL);
	check(&(as_streamer_start){.dialect = AS_DIALECT_OPENAI, .url = "wss://e.azure.com/?t=" SECRET, .api_key = SECRET},
		  options, 0);
	check(&(as_streamer_start){.dialect = AS_DIALECT_BINARY, .url = "ws://h/" SECRET "?t=" SECRET}, options, 0);
	check(&(as_streamer_start){.dialect = AS_DIALECT_BINARY, .url = "ws://me:" SECRET "@h/"}, options, AS_EINVAL);
	set(options, "MOD_AUDIO_STREAM_HTTP_AUTH_PASSWORD", long_key);
	check(&(as_streamer_start){.dialect = AS_DIALECT_JSON, .url = "ws://h/"}, options, 0);
	set(options, "STREAM_EXTRA_HEADERS", "{\"X-Tenant\": \"blue\", \"X-Key\": \"a " SECRET "\"}");
	check(&(as_streamer_start){.dialect = AS_DIALECT_JSON, .url = "ws://h/"}, options, 0);
	as_options_free(options);
	assert_int_equal(left_behind, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_hook_sees_what_is_not_wiped, watch, unwatch),
		cmocka_unit_test_setup_teardown(test_options, watch, unwatch),
		cmocka_unit_test_setup_teardown(test_commands, watch, unwatch),
		cmocka_unit_test_setup_teardown(test_what_connecting_needs, watch, unwatch),
	};
	__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
