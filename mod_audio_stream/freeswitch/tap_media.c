/*
 * tap_media.c - whether a call has audio that we can have, in what codec; asks for media where there is none yet.
 *
 * The call's rate is known only while there is media. An unanswered inbound call gets early media. An outbound one cannot:
 * whether there is any is for its far end to say, and a leg that is marked as if there were ends the ringback of the call
 * that waits for it, and `originate` with it.
 */
#include "status.h"
#include "tap_internal.h"

int tap_encoding(switch_core_session_t *session)
{
	switch_codec_implementation_t read = {0};
	switch_core_session_get_read_impl(session, &read);
	if (!read.iananame) {
		return 0;
	}
	return !strcasecmp(read.iananame, "PCMU") ? AS_PCMU : !strcasecmp(read.iananame, "PCMA") ? AS_PCMA : AS_S16;
}

/* In UDPTL mode, and where packets are passed on as they are, FreeSWITCH drops audio frames, or sends them among the packets
 * of the other leg, and in either case the media bugs have had them before. */
switch_bool_t tap_has_audio(switch_core_session_t *session)
{
	switch_channel_t *channel = switch_core_session_get_channel(session);
	switch_rtp_t *rtp = switch_core_media_get_rtp_session(session, SWITCH_MEDIA_TYPE_AUDIO);
	if (switch_channel_test_flag(channel, CF_PROXY_MODE) || switch_channel_test_flag(channel, CF_PROXY_MEDIA)) {
		return SWITCH_FALSE;
	}
	switch_bool_t packets = rtp && (switch_rtp_test_flag(rtp, SWITCH_RTP_FLAG_UDPTL) ||
									switch_rtp_test_flag(rtp, SWITCH_RTP_FLAG_PROXY_MEDIA));
	return packets ? SWITCH_FALSE : SWITCH_TRUE;
}

/* Media that bypasses FreeSWITCH is brought back for a dialplan, as for other applications that need it. The re-INVITE is
 * waited for, for seconds, so only the call's own thread does that; an API command is refused. */
static switch_bool_t bring_back(switch_core_session_t *session)
{
	switch_channel_t *channel = switch_core_session_get_channel(session);
	if (switch_channel_test_flag(channel, CF_PROXY_MODE) && switch_core_session_in_thread(session)) {
		switch_ivr_media(switch_core_session_get_uuid(session), SMF_NONE);
	}
	return switch_channel_test_flag(channel, CF_PROXY_MODE) ? SWITCH_FALSE : SWITCH_TRUE;
}

switch_status_t tap_ask_for_media(switch_core_session_t *session, char *error, size_t bytes)
{
	switch_channel_t *channel = switch_core_session_get_channel(session);
	const char *uuid = switch_core_session_get_uuid(session);
	if (!switch_channel_up_nosig(channel)) {
		return tap_refuse(error, bytes, SWITCH_STATUS_GENERR, "call %s has ended", uuid);
	}
	if (switch_channel_test_flag(channel, CF_PROXY_MEDIA) || switch_channel_text_only(channel)) {
		return tap_refuse(error, bytes, SWITCH_STATUS_GENERR,
						  "call %s has no audio to stream: its media is proxied, or text only", uuid);
	}
	if (!bring_back(session)) {
		return tap_refuse(error, bytes, SWITCH_STATUS_GENERR,
						  "call %s has no audio to stream: its media bypasses FreeSWITCH; `uuid_media <uuid>` brings "
						  "it back",
						  uuid);
	}
	if (switch_channel_media_up(channel)) {
		return SWITCH_STATUS_SUCCESS;
	}
	if (switch_channel_direction(channel) == SWITCH_CALL_DIRECTION_OUTBOUND) {
		return tap_refuse(error, bytes, SWITCH_STATUS_GENERR,
						  "call %s has no media yet: its far end has neither answered nor sent early media; start the "
						  "stream then, as with execute_on_media or execute_on_answer",
						  uuid);
	}
	if (switch_channel_pre_answer(channel) != SWITCH_STATUS_SUCCESS) {
		return tap_refuse(error, bytes, SWITCH_STATUS_GENERR, "call %s got no early media", uuid);
	}
	return SWITCH_STATUS_SUCCESS;
}

switch_status_t tap_not_opened(switch_core_session_t *session, int result, char *error, size_t bytes)
{
	switch_codec_implementation_t read = {0};
	switch_core_session_get_read_impl(session, &read);
	if (result != AS_EINVAL) {
		return tap_refuse(error, bytes, status_of(result), "%s", as_strerror(result));
	}
	if (!read.iananame) {
		return tap_refuse(error, bytes, SWITCH_STATUS_GENERR, "call %s has no codec yet",
						  switch_core_session_get_uuid(session));
	}
	switch_snprintf(
		error, bytes,
		"the call's codec is %s at %u Hz with packets of %d ms; streams take 8000 to 48000 Hz and 5 to 120 ms",
		read.iananame, read.actual_samples_per_second, read.microseconds_per_packet / 1000);
	return SWITCH_STATUS_GENERR;
}
