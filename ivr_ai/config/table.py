"""The table of settings: one row for each, with its names, default, kind and meaning.

A setting is added here and nowhere else: what reads it finds it as an attribute of Settings, and the
documentation is generated from its row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .headers import HeaderName, HeaderPairs, Headers
from .kinds import (
    Choice,
    Flag,
    Kind,
    LogLevel,
    Number,
    ReadableFile,
    Setting,
    SocketUrl,
    Text,
    Whole,
)
from .texts import APOLOGY, INSTRUCTIONS

SERVICE = "Service"
CONVERSATION = "Conversation"
TURNS = "Turn taking"
AUDIO = "Audio"
FAILURES = "Failures and limits"
OPERATION = "Operation"
LEFT_OVER = "Accepted without effect"

_RATES = (8000, 16000, 24000, 32000, 44100, 48000)
_DIRECTORY = "the path of a directory, or empty"


def setting(group: str, name: str, default: Any, kind: Kind, meaning: str, **more: Any) -> Any:
    """A field of Settings and its row of the table."""
    row = {"group": group, "name": name, "default": default, "kind": kind, "meaning": meaning, **more}
    return field(default=default, metadata={"setting": row})


@dataclass(frozen=True, kw_only=True, repr=False)
class Table:
    """The rows. Settings adds where values come from and what becomes of them."""

    api_key: str = setting(
        SERVICE,
        "OPENAI_API_KEY",
        "",
        Text(pattern="[!-~]+", says="a key: printable characters without spaces"),
        "Key, sent as `OPENAI_API_KEY_HEADER` says. Empty sends none, which suits a local server.",
        secret=True,
        bridge="The same.",
    )
    api_key_header: str = setting(
        SERVICE,
        "OPENAI_API_KEY_HEADER",
        "auto",
        HeaderName(),
        "Header that carries the key: `Authorization` gets `Bearer ` before it, any other the bare key. "
        "`auto` is `api-key` on Azure (azure.com, azure.us, azure.cn), unless the key is an Entra token, and "
        "`Authorization` elsewhere.",
    )
    extra_headers: HeaderPairs = setting(  # noqa: RUF009
        SERVICE,
        "OPENAI_EXTRA_HEADERS",
        (),
        Headers(),
        'More headers of the request that opens the connection, for gateways: `{"X-Tenant": "blue"}`. They '
        "replace ours of the same name, such as `User-Agent`. Values are never shown.",
    )
    realtime_url: str = setting(
        SERVICE,
        "OPENAI_REALTIME_URL",
        "wss://api.openai.com/v1/realtime",
        SocketUrl(),
        "The Realtime server to talk to: OpenAI, Azure, a self-hosted one, or `ivr-ai sim`. A user and a "
        "password in it go as `Authorization: Basic`.",
    )
    model: str = setting(
        SERVICE,
        "OPENAI_REALTIME_MODEL",
        "gpt-realtime-2.1",
        Text(pattern=r"\S+", empty=False, says="a model's name, without spaces"),
        "Model. Any name is accepted; one that OpenAI has shut down or will shut down is warned about.",
        bridge="The same. The old default `gpt-4o-realtime-preview` was shut down on 2026-05-07.",
    )
    dialect: str = setting(
        SERVICE,
        "OPENAI_REALTIME_DIALECT",
        "auto",
        Choice(among=("auto", "ga", "beta")),
        "Event names and shapes. `auto` is `beta` when the URL has an `api-version` query (Azure), else "
        "`ga`, and changes when the server turns out to speak the other. OpenAI itself speaks only `ga`.",
    )
    ca_file: str = setting(
        SERVICE,
        "WSS_PEM",
        "",
        ReadableFile(),
        "PEM bundle of certificate authorities to trust instead of the system's.",
        bridge="The same.",
    )
    connect_timeout_ms: int = setting(
        SERVICE,
        "IVR_AI_CONNECT_TIMEOUT_MS",
        5000,
        Whole("ms", 100, 60000),
        "How long connecting may take, from the first packet to the configured session.",
    )
    close_timeout_ms: int = setting(
        SERVICE,
        "IVR_AI_CLOSE_TIMEOUT_MS",
        500,
        Whole("ms", 0, 10000),
        "How long to wait for the server's answer to our close. Some never answer.",
    )
    ping_interval_s: float = setting(
        SERVICE,
        "IVR_AI_PING_INTERVAL_S",
        15.0,
        Number("s", 0, 3600),
        "Time between our pings. 0 sends none.",
    )
    ping_timeout_s: float = setting(
        SERVICE,
        "IVR_AI_PING_TIMEOUT_S",
        5.0,
        Number("s", 0.1, 600),
        "A ping unanswered this long means the connection is lost. Less than the interval.",
    )
    max_message_bytes: int = setting(
        SERVICE,
        "IVR_AI_MAX_MESSAGE_BYTES",
        16777216,
        Whole("bytes", 65536, 1073741824),
        "A longer message from the server ends the connection.",
    )
    transport: str = setting(
        SERVICE,
        "IVR_AI_TRANSPORT",
        "native",
        Choice(among=("native", "python")),
        "Who carries the audio: `native`, the C library, or `python`, threads of the call. What only "
        "`python` can do (a proxy from the environment, turns decided here) uses it anyway.",
    )
    uplink_max_ms: int = setting(
        SERVICE,
        "IVR_AI_UPLINK_MAX_MS",
        5000,
        Whole("ms", 100, 30000),
        "`native`: what the caller says waits this long for a server that does not read; then the oldest "
        "of it is dropped, and counted.",
    )

    voice: str = setting(
        CONVERSATION,
        "OPENAI_REALTIME_VOICE",
        "marin",
        Text(pattern=r"\S+", empty=False, says="a voice's name, without spaces"),
        "Voice: alloy, ash, ballad, coral, echo, sage, shimmer, verse, marin, cedar, or the id of a custom "
        "voice, `voice_...`.",
        bridge="The same. The default was `alloy`.",
    )
    instructions: str = setting(
        CONVERSATION,
        "OPENAI_SYSTEM_INSTRUCTIONS",
        INSTRUCTIONS,
        Text(empty=False, says="text, not empty", prose=True),
        "Who the assistant is and how it behaves: the system prompt.",
        bridge="The same.",
        shown_default="built in, see below",
    )
    greeting: str = setting(
        CONVERSATION,
        "OPENAI_GREETING",
        "",
        Text(prose=True),
        "What to say first, as an instruction to the model. Empty waits for the caller to speak.",
    )
    greeting_interruptible: bool = setting(
        CONVERSATION,
        "IVR_AI_GREETING_INTERRUPTIBLE",
        False,
        Flag(),
        "Whether the caller may cut the greeting short. When not, the name and the notice in it are always "
        "said.",
    )
    temperature: float = setting(
        CONVERSATION,
        "OPENAI_TEMPERATURE",
        0.6,
        Number("", 0, 2),
        "Randomness. Sent in the `beta` dialect only: `ga` servers reject it.",
        bridge="Sent in the `beta` dialect only, because OpenAI now rejects it.",
    )
    speed: float = setting(
        CONVERSATION, "OPENAI_SPEED", 1.0, Number("", 0.25, 1.5), "How fast the voice speaks; 1 is normal."
    )
    max_output_tokens: int | str = setting(
        CONVERSATION,
        "OPENAI_MAX_OUTPUT_TOKENS",
        "inf",
        Whole("tokens", 1, 4096, word="inf"),
        "Longest reply. `inf` leaves it to the model.",
    )
    reasoning_effort: str = setting(
        CONVERSATION,
        "OPENAI_REASONING_EFFORT",
        "",
        Choice(among=("", "minimal", "low", "medium", "high", "xhigh")),
        "How much a model of the gpt-realtime-2 family thinks before it speaks. Empty: its default.",
    )
    transcription_model: str = setting(
        CONVERSATION,
        "OPENAI_TRANSCRIPTION_MODEL",
        "",
        Text(pattern=r"\S+", says="a model's name, without spaces, or empty"),
        "Model that writes down what the caller says, for logs and timelines. Empty writes nothing down.",
    )
    language: str = setting(
        CONVERSATION,
        "OPENAI_LANGUAGE",
        "",
        Text(
            pattern=r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", says="a language code such as en or pt-BR, or empty"
        ),
        "The caller's language, told to the transcription model. Empty detects it.",
    )

    turn_detection: str = setting(
        TURNS,
        "OPENAI_TURN_DETECTION",
        "server_vad",
        Choice(among=("server_vad", "semantic_vad", "none")),
        "Who decides that the caller's turn is over: the server by silence, the server by what was said, "
        "or not the server at all.",
    )
    eagerness: str = setting(
        TURNS,
        "OPENAI_VAD_EAGERNESS",
        "auto",
        Choice(among=("low", "medium", "high", "auto")),
        "`semantic_vad`: how soon it takes the turn. `low` waits up to 8 s, `medium` and `auto` up to 4 s, "
        "`high` up to 2 s.",
    )
    vad_threshold: float = setting(
        TURNS,
        "VAD_THRESHOLD",
        0.5,
        Number("", 0, 1),
        "`server_vad`: how sure it must be that it hears speech. Raise it on noisy lines.",
        bridge="The same.",
    )
    vad_silence_ms: int = setting(
        TURNS,
        "VAD_SILENCE_DURATION_MS",
        300,
        Whole("ms", 0, 10000),
        "`server_vad`: silence that ends the caller's turn. Less answers sooner, and cuts in on pauses.",
        bridge="The same.",
    )
    vad_prefix_ms: int = setting(
        TURNS,
        "VAD_PREFIX_PADDING_MS",
        300,
        Whole("ms", 0, 10000),
        "`server_vad`: audio kept from before speech was detected.",
        bridge="The same.",
    )
    vad_idle_timeout_ms: int = setting(
        TURNS,
        "VAD_IDLE_TIMEOUT_MS",
        0,
        Whole("ms", 0, 300000),
        "`server_vad`: the model speaks up after this much silence. 0 is never.",
    )
    barge_in: bool = setting(
        TURNS,
        "IVR_AI_BARGE_IN",
        True,
        Flag(),
        "Whether the caller's speech interrupts the reply being played.",
    )
    input_mode: str = setting(
        TURNS,
        "OPENAI_INPUT_MODE",
        "buffer",
        Choice(among=("buffer", "item")),
        "`buffer` sends the caller's audio as it comes; `item` sends each utterance whole, as a conversation "
        "item.",
        bridge="The same.",
    )
    utterance_max_s: float = setting(
        TURNS,
        "IVR_AI_UTTERANCE_MAX_S",
        30.0,
        Number("s", 1, 600),
        "Longest turn where turns are decided here (`OPENAI_TURN_DETECTION` none, `OPENAI_INPUT_MODE` item): "
        "after that the caller's turn counts as over.",
    )

    audio_format: str = setting(
        AUDIO,
        "OPENAI_AUDIO_FORMAT",
        "auto",
        Choice(among=("auto", "pcm", "pcmu", "pcma")),
        "What goes to and from the server. `auto`: a G.711 call keeps its own format end to end, others use "
        "`pcm`.",
    )
    resample_input: bool = setting(
        AUDIO,
        "OPENAI_RESAMPLE_INPUT",
        True,
        Flag(),
        "0 sends `pcm` at the call's own rate, for servers that take it. OpenAI does not.",
        bridge="The same; without effect on G.711, which is passed through.",
    )
    input_rate_hz: int = setting(
        AUDIO,
        "OPENAI_INPUT_SAMPLE_RATE",
        24000,
        Whole("Hz", among=_RATES),
        "Rate of `pcm` audio to the server.",
        bridge="The same; without effect on G.711.",
    )
    output_rate_hz: int = setting(
        AUDIO,
        "OPENAI_OUTPUT_SAMPLE_RATE",
        24000,
        Whole("Hz", among=_RATES),
        "Rate of `pcm` audio from the server.",
        bridge="The same; without effect on G.711.",
    )
    noise_reduction: str = setting(
        AUDIO,
        "OPENAI_NOISE_REDUCTION",
        "",
        Choice(among=("", "near_field", "far_field")),
        "The server's noise reduction: `near_field` for handsets and headsets, `far_field` for "
        "speakerphones. Empty is off.",
    )
    sample_rate_hz: int = setting(
        AUDIO,
        "FS_SAMPLE_RATE",
        8000,
        Whole("Hz", among=_RATES),
        "Rate of a call where this program chooses it (`make demo`). In FreeSWITCH the call's codec decides.",
        bridge="Inside FreeSWITCH the call's codec decides; used where this program chooses the rate.",
    )
    channels: int = setting(
        AUDIO,
        "FS_CHANNELS",
        1,
        Whole(among=(1,), because="each call leg is a stream of its own"),
        "Channels in a stream. Always 1: each call leg is a stream of its own.",
        bridge="Only 1: each call leg is a stream of its own.",
    )
    frame_ms: int = setting(
        AUDIO,
        "FS_FRAME_MS",
        20,
        Whole("ms", among=(10, 20, 30, 40, 60)),
        "Audio sent to the server at once while the caller speaks.",
        bridge="Size of what is sent while the caller speaks. Frames in the call follow its codec.",
    )
    quiet_chunk_ms: int = setting(
        AUDIO,
        "IVR_AI_QUIET_CHUNK_MS",
        100,
        Whole("ms", 10, 1000),
        "Audio sent at once while the caller is silent: larger, which saves CPU. At least `FS_FRAME_MS`.",
    )
    speech_hang_ms: int = setting(
        AUDIO,
        "IVR_AI_SPEECH_HANG_MS",
        500,
        Whole("ms", 0, 10000),
        "How long after the caller's last speech the small chunks go on.",
    )
    prebuffer_ms: int = setting(
        AUDIO,
        "PLAYOUT_PREBUFFER_MS",
        100,
        Whole("ms", 0, 5000),
        "Audio held before a reply starts to play. More bridges a jittery network, and delays every reply.",
        bridge="The same.",
    )

    response_timeout_s: float = setting(
        FAILURES,
        "IVR_AI_RESPONSE_TIMEOUT_S",
        20.0,
        Number("s", 0, 600),
        "No reply this long after the caller's turn is a failure. 0 waits for ever.",
    )
    apology_text: str = setting(
        FAILURES,
        "IVR_AI_APOLOGY_TEXT",
        APOLOGY,
        Text(prose=True),
        'Spoken by a local voice when a call fails. `""` in a profile is silence.',
    )
    apology_file: str = setting(
        FAILURES,
        "IVR_AI_APOLOGY_FILE",
        "",
        Text(says="the path of a sound file, or empty"),
        "PCM WAV file to play instead of the apology text. A relative path starts at FreeSWITCH's "
        "`sounds_dir`; outside FreeSWITCH, at the working directory. A file that cannot be read is warned "
        "about, and the text spoken.",
    )
    failure_action: str = setting(
        FAILURES,
        "IVR_AI_FAILURE_ACTION",
        "hangup",
        Choice(among=("hangup", "transfer", "return")),
        "What follows a failure and its apology: `return` goes on in the dialplan.",
    )
    failure_transfer: str = setting(
        FAILURES,
        "IVR_AI_FAILURE_TRANSFER",
        "",
        Text(pattern=r"\S+(\s+\S+){0,2}", says='"extension [dialplan [context]]", or empty'),
        'Where `transfer` goes: "extension [dialplan [context]]".',
    )
    end_action: str = setting(
        FAILURES,
        "IVR_AI_END_ACTION",
        "hangup",
        Choice(among=("hangup", "return")),
        "What follows a conversation that ended well: `return` goes on in the dialplan.",
    )
    max_call_s: float = setting(
        FAILURES,
        "IVR_AI_MAX_CALL_S",
        3540.0,
        Number("s", 0, 86400),
        "The conversation ends after this long, once the sentence under way has been said. 0 is no limit. "
        "OpenAI's own is 3600 s, and cuts sentences: stay below it.",
    )
    max_calls: int = setting(
        FAILURES,
        "IVR_AI_MAX_CALLS",
        0,
        Whole("", 0, 100000),
        "Conversations at the same time in this FreeSWITCH; more are refused before the answer. 0 is no "
        "limit.",
    )
    reconnect_max: int = setting(
        FAILURES,
        "IVR_AI_RECONNECT_MAX",
        3,
        Whole("", 0, 20),
        "How often within a minute a connection that is lost in mid-call is made again. 0 is never: its loss "
        "is a failure at once.",
    )
    hold_keep_s: float = setting(
        FAILURES,
        "IVR_AI_HOLD_KEEP_S",
        30.0,
        Number("s", 0, 3600),
        "How long what was being said when the caller put the call on hold waits for the resume. After that "
        "it is dropped, and the model is told what was heard.",
    )

    agent: str = setting(
        OPERATION,
        "IVR_AI_AGENT",
        "default",
        Text(
            pattern="[A-Za-z0-9][A-Za-z0-9._-]*",
            empty=False,
            says="a profile's name: letters, digits, dots, dashes and underscores",
        ),
        "Agent profile, a file `<name>.toml`. The profile `default` may be missing. Not a key of profiles.",
    )
    agents_dir: str = setting(
        OPERATION,
        "IVR_AI_AGENTS_DIR",
        "",
        Text(says=_DIRECTORY),
        "Directory of the profiles. Empty is `ivr_ai/agents` in FreeSWITCH's configuration directory. "
        "Not a key of profiles.",
    )
    log_level: str = setting(
        OPERATION,
        "LOG_LEVEL",
        "INFO",
        LogLevel(),
        "The least important messages to log.",
        bridge="The same.",
    )
    timeline_dir: str = setting(
        OPERATION,
        "IVR_AI_TIMELINE_DIR",
        "",
        Text(says=_DIRECTORY),
        "Directory in which each call leaves `<uuid>.json`, its events. Empty leaves none.",
    )

    out_rate_hz: int = setting(
        LEFT_OVER,
        "FS_OUT_SAMPLE_RATE",
        24000,
        Whole("Hz", among=_RATES),
        "Replies are converted straight to the call's rate.",
        bridge="Accepted, without effect: replies are converted straight to the call's rate.",
    )
    send_json_audio: bool = setting(
        LEFT_OVER,
        "FS_SEND_JSON_AUDIO",
        True,
        Flag(),
        "Audio reaches the call in memory, not as JSON over a bridge's socket.",
        bridge="Accepted, without effect: audio reaches the call in memory.",
    )
    send_json_handshake: bool = setting(
        LEFT_OVER,
        "FS_SEND_JSON_HANDSHAKE",
        True,
        Flag(),
        "There is no bridge's socket to shake hands on.",
        bridge="Accepted, without effect: there is no bridge's socket to shake hands on.",
    )


# Read by `ivr-ai sim` from its environment. Calls never look at them: the names are everybody's.
SIM = (
    Setting(
        "host",
        "HOST",
        "127.0.0.1",
        Text(pattern=r"[^\s/]+", empty=False, says="a host name or address"),
        "ivr-ai sim",
        "Where `ivr-ai sim` listens; `--host` wins.",
        bridge="There is no bridge that listens: only `ivr-ai sim` does. The default was `0.0.0.0`.",
    ),
    Setting(
        "port",
        "PORT",
        8765,
        Whole("", 0, 65535),
        "ivr-ai sim",
        "Port on which `ivr-ai sim` listens, 0 for a free one; `--port` wins.",
        bridge="There is no bridge that listens: only `ivr-ai sim` does.",
    ),
)
