"""The processor of this computer: what the last bits, and the seconds, of a run depend on."""

from __future__ import annotations

import platform
from pathlib import Path

#: By the flags of Linux, the widest first.
SIMD = {"avx512f": "AVX-512", "avx2": "AVX2"}


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Its model and vector instructions, such as ``AMD EPYC 9B14 (AVX-512)``.

    Where there is no such file, what Python's ``platform`` knows of it.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    if "model name" not in found:
        return platform.processor() or platform.machine()
    flags = found.get("flags", "").split()
    width = next((name for flag, name in SIMD.items() if flag in flags), "no AVX2")
    return f"{found['model name']} ({width})"
