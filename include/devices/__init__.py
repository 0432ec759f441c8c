"""GPUs of this machine: which there are, whether they may be used, and who uses how much of them.

Where something is computed is in no key. A GPU and a CPU can differ by a code value here and there,
as processors with and without bfloat16 do; whoever makes an artifact first makes it for all.
"""
