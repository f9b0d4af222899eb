/*
 * fuzz_command.c - libFuzzer target: the command parser. The first byte says where the line comes from, and how much
 * room there is for the reason.
 *
 * Whatever the line: no crash, a command that makes sense or a reason that fits, and never an API key in that reason.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "command_check.h"

#define SECRET "S3cr3tK3y" /* the corpus has it as the value of api_key */

static void expect(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	as_command command;
	if (n == 0) {
		return 0;
	}
	size_t room = data[0] & 1 ? 512 : data[0] >> 2;
	char *line = malloc(n), *error = calloc(1, room + 1);
	memcpy(line, data + 1, n - 1);
	line[n - 1] = '\0';
	int failed = as_command_parse(line, data[0] & 2 ? "own" : NULL, &command, error, room);
	if (failed) {
		expect(failed == AS_EINVAL, "the wrong error");
		expect(room < 2 || error[0], "no reason");
		expect(strnlen(error, room + 1) <= room, "the reason is not ended");
		const char *key = strstr(line, "api_key=" SECRET), *value = strstr(line, SECRET);
		int once = key && value == key + 8 && !strstr(value + 1, SECRET); /* elsewhere it is no key, and may be shown */
		expect(!once || !strstr(error, SECRET), "the key is shown");
	} else {
		const char *wrong = check_command(&command);
		expect(!wrong, wrong);
	}
	as_command_free(&command);
	free(line);
	free(error);
	return 0;
}
