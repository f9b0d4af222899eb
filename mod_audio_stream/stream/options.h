/*
 * options.h - inside of as_options: everything that can be set, read-only once a streamer has it.
 *
 * options.c holds one table: for each field its names (channel variable, environment, audio_stream.conf.xml), kind,
 * range and default; docs/streaming.md shows it. options_jitter.c says what the presets and watermarks mean. Strings are
 * owned by the options; "" means not set. An empty value is the same as none: setting it changes nothing.
 */
#ifndef STREAM_OPTIONS_H
#define STREAM_OPTIONS_H

#include "audio_stream_ws.h"
#include "jitter.h"

#define AS_FRAMES_MAX 80000   /* 10 s */
#define AS_LOW_WATERMARK 160  /* the defaults of buffer_low_watermark, */
#define AS_HIGH_WATERMARK 640 /* and buffer_high_watermark: as good as not set */

/* Frames: the unit of the watermarks, see as_options_watermark_ms(). */
typedef struct as_preset {
	int min_frames, max_frames, target_ms; /* low_latency_config, balanced_config, high_quality_config */
} as_preset;

struct as_options {
	/* what is sent */
	int frame_ms;       /* STREAM_FRAME_MS 20 (5..60): one binary message, one "media" */
	int buffer_size_ms; /* STREAM_BUFFER_SIZE 20 (multiple of 20): captured audio sent at a time */
	int max_queue_ms;   /* STREAM_MAX_QUEUE_MS 0: captured audio waiting to be sent; the oldest beyond is dropped;
							   0 = as long as the capture ring, buffer_secs */
	int buffer_secs;    /* MOD_AUDIO_STREAM_BUFFER_SECS 40: the capture ring */
	char *codec;        /* STREAM_CODEC L16|ULAW: AS_DIALECT_JSON */
	char *dialect;      /* STREAM_DIALECT auto|binary|json: auto = as the command form says */
	/* what is played */
	int inject_buffer_ms;    /* STREAM_INJECT_BUFFER_MS 5000: above it stream_buffer_overrun is fired */
	int inject_strict;       /* STREAM_INJECT_BUFFER_STRICT false: and what would go beyond it is refused */
	int inject_min_ms;       /* STREAM_INJECT_MIN_BUFFER_MS 0: prebuffer; more than 0 switches adaptive buffering off */
	int inject_log_every_ms; /* STREAM_INJECT_LOG_EVERY_MS 1000: stream statistics in the log (DEBUG); 0 = never */
	int allow_file;          /* STREAM_ALLOW_FILE_INJECTION false */
	char *file_dir;          /* conf file-injection-dir: files are played from below it only; "" = none are */
	long max_base64;         /* STREAM_MAX_AUDIO_BASE64_LEN 4MB: characters; "4MB", "512k" or a number */
	int adaptive;            /* conf adaptive_buffer_enabled true */
	int low_watermark_frames, high_watermark_frames; /* conf buffer_low_watermark 160, buffer_high_watermark 640 */
	double adaptive_threshold;                       /* conf adaptive_threshold 0.1 */
	as_preset low_latency, balanced, high_quality;   /* conf low_latency_config 160,320,5 ... */
	/* the connection */
	char *allow_hosts;          /* conf allow-hosts: patterns of hosts.h; "" = all */
	int connect_timeout_ms;     /* STREAM_CONNECT_TIMEOUT_MS 5000; 0 = none */
	int reconnect_max;          /* STREAM_RECONNECT_MAX 0 attempts in a row */
	int reconnect_delay_ms;     /* STREAM_RECONNECT_DELAY_MS 500, doubled each time, +-20 % */
	int reconnect_delay_max_ms; /* STREAM_RECONNECT_DELAY_MAX_MS 30000 */
	int reconnect_going_away;   /* STREAM_RECONNECT_GOING_AWAY true: also after CLOSE 1001, and one without a code */
	int ping_interval_s;        /* STREAM_PING_INTERVAL_S 10: a server silent for so long is pinged; 0 = never */
	int heart_beat_s;           /* STREAM_HEART_BEAT 0: seconds between stream_heartbeat events; 0 = none. Pings, too */
	int last_words_ms; /* STREAM_LAST_WORDS_MS 0: from the last text to our CLOSE, unless the server's comes first */
	int graceful_timeout_ms; /* STREAM_GRACEFUL_TIMEOUT_MS 30000: graceful-shutdown gives up after this */
	int deflate;             /* STREAM_MESSAGE_DEFLATE false */
	char *extra_headers;     /* STREAM_EXTRA_HEADERS: a JSON object of strings */
	char *subprotocol;       /* MOD_AUDIO_STREAM_SUBPROTOCOL_NAME audio.freeswitch.org: AS_DIALECT_JSON; with
							   AS_DIALECT_BINARY only when it has been set (subprotocol_set) */
	int subprotocol_set;
	char *auth_user, *auth_password;                  /* MOD_AUDIO_STREAM_HTTP_AUTH_USER, _PASSWORD */
	char *tls_ca_file, *tls_key_file, *tls_cert_file; /* STREAM_TLS_CA_FILE ...; "": the system's authorities */
	int tls_skip_hostname;                            /* STREAM_TLS_DISABLE_HOSTNAME_VALIDATION,
							   MOD_AUDIO_STREAM_SKIP_SERVER_CERT_HOSTNAME_CHECK */
	int tls_allow_selfsigned;                         /* MOD_AUDIO_STREAM_ALLOW_SELFSIGNED */
	int tls_allow_expired;                            /* MOD_AUDIO_STREAM_ALLOW_EXPIRED */
	/* told to the server in "start" */
	char *auth_id, *account_id, *subaccount_id, *rate, *unit; /* channel variables stream_auth_id ... */
	/* logging */
	int suppress_log; /* STREAM_SUPPRESS_LOG false */
	int debug_json;   /* STREAM_DEBUG_JSON false: text messages in the log (DEBUG), keys and audio left out */
	/* openai_start */
	char *openai_url, *openai_api_key, *openai_model, *openai_voice, *openai_instructions; /* OPENAI_REALTIME_URL ... */
	double openai_vad_threshold;                                                           /* VAD_THRESHOLD 0.5 */
	int openai_vad_silence_ms, openai_vad_prefix_ms; /* VAD_SILENCE_DURATION_MS 300, VAD_PREFIX_PADDING_MS 300 */
	/* the module, from the environment and audio_stream.conf.xml only */
	int service_threads; /* MOD_AUDIO_STREAM_SERVICE_THREADS 2 (1..5) */
	int memory_mb;       /* MOD_AUDIO_STREAM_MEMORY_MB 512: that servers can make all streams together hold */
	int one_leg_stereo;  /* STREAM_ALLOW_ONE_LEG_STEREO false: stereo before the call is bridged */
};

/* Watermarks count samples at 8 kHz, whatever the stream's rate: 160 are 20 ms. */
int as_options_watermark_ms(int frames);
/* Low latency below 16 kHz one way, high quality from 16 kHz both ways or where there is much jitter, else balanced. */
as_preset as_options_preset(const as_options *options, int rate_hz, int bidirectional, int high_jitter);
/* What that means for the prebuffer: it begins at the preset's min. Where the jitter measured asks for more than the
 * preset's max there is much of it, so the bound is the high quality preset's max. A watermark that is not at its
 * default holds in place of either. */
as_jitter_config as_options_jitter(const as_options *options, int rate_hz, int bidirectional);

/* One row of the table, in words, for the documents and their test. */
typedef struct as_option_row {
	const char *variable, *env, *param; /* as as_option_variable() and the others say */
	const char *standard;               /* the default as it would be written */
	char allowed[96];
} as_option_row;
/* 0, or AS_ENOENT past the end. */
int as_option_describe(int i, as_option_row *out);

#endif
