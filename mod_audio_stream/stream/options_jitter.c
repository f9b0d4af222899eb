/* options_jitter.c - what the presets and watermarks that have been set mean for the prebuffer. */
#include "options.h"

#define SAMPLES_PER_MS 8 /* of the watermarks' 8 kHz */

int as_options_watermark_ms(int frames)
{
	return frames / SAMPLES_PER_MS;
}

as_preset as_options_preset(const as_options *options, int rate_hz, int bidirectional, int high_jitter)
{
	if (high_jitter || (rate_hz >= 16000 && bidirectional)) {
		return options->high_quality;
	}
	return rate_hz < 16000 && !bidirectional ? options->low_latency : options->balanced;
}

as_jitter_config as_options_jitter(const as_options *options, int rate_hz, int bidirectional)
{
	as_preset preset = as_options_preset(options, rate_hz, bidirectional, 0);
	as_preset rough = as_options_preset(options, rate_hz, bidirectional, 1);
	int low = preset.min_frames, high = preset.max_frames > rough.max_frames ? preset.max_frames : rough.max_frames;
	low = options->low_watermark_frames == AS_LOW_WATERMARK ? low : options->low_watermark_frames;
	high = options->high_watermark_frames == AS_HIGH_WATERMARK ? high : options->high_watermark_frames;
	return (as_jitter_config){
		.low_ms = as_options_watermark_ms(low),
		.high_ms = as_options_watermark_ms(high > low ? high : low),
		.target_ms = preset.target_ms,
		.threshold = options->adaptive_threshold,
	};
}
