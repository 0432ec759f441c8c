"""Speech as arrays: synthesis with phoneme times, forced alignment, recognition, loudness."""
