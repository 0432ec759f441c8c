"""What x264 is told on every machine, so that its bytes depend on pixels and parameters only."""

from __future__ import annotations

from functools import cache

import cv2

_AVX_512F = 13
"""OpenCV's number of it; its Python module has no name for it."""
_WITHOUT_AVX_512 = "asm=AVX2,FMA3,BMI2,LZCNT"
"""What x264 finds for itself on a processor that has these and not AVX-512."""


@cache
def _of_processor() -> str:
    """The option that keeps x264 from AVX-512; empty where there is none.

    With AVX-512 the macroblock tree (x264 core 165, ``mbtree_propagate_list``) works on sixteen
    macroblocks at a time and lets what lies in memory behind a row's last one count: where a
    picture's width is no multiple of 256, two runs of the same frames differ by a few bits.
    Found by ``./understudy chaos``, shown with glibc's ``MALLOC_PERTURB_``. Keeping from it costs
    13% of the time on 1920x1080; doing without the tree costs nearly twice the bits there.
    """
    return _WITHOUT_AVX_512 if cv2.checkHardwareSupport(_AVX_512F) else ""


def x264_params(*options: str) -> str:
    """A value for ffmpeg's ``x264-params``.

    Args:
        options: ``name=value`` each.
    """
    return ":".join(filter(None, (*options, _of_processor())))
