/*
 * command_test.h - what tests of the command parser share.
 */
#ifndef AS_TESTS_COMMAND_TEST_H
#define AS_TESTS_COMMAND_TEST_H

#include "support.h"

#include "command.h"

#define OWN "own-uuid"

static as_command command;
static char error[512];

static inline int parse_as(const char *line, const char *own_uuid)
{
	as_command_free(&command);
	memset(&command, 0xAA, sizeof(command)); /* whatever was there before does not count */
	error[0] = '\0';
	return as_command_parse(line, own_uuid, &command, error, sizeof(error));
}

static inline void understood(const char *line, const char *own_uuid, as_verb verb, const char *uuid,
							  const char *stream_id)
{
	assert_int_equal(parse_as(line, own_uuid), 0);
	assert_string_equal(error, "");
	assert_int_equal(command.verb, verb);
	assert_string_equal(command.uuid, uuid);
	assert_string_equal(command.stream_id, stream_id);
	assert_int_equal(command.has_stream_id, strcmp(stream_id, AS_DEFAULT_STREAM) != 0);
}

static inline void refused(const char *line, const char *own_uuid, const char *reason)
{
	assert_int_equal(parse_as(line, own_uuid), AS_EINVAL);
	assert_non_null(strstr(error, reason));
}

#endif
