"""What was made now against what was recorded: by hash where the machine computes alike, by a digest everywhere.

The tolerances of the digests lie ten times above what torch without vector instructions changed in any record
(a tenth of a level of 255, 6e-6 of a weight, two in ten thousand of a loss), and below what another seed changes.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

FILE = Path(__file__).with_name("same_bytes.json")
FIGURES = 4
"""Significant digits of a digest."""


@dataclass
class Made:
    """Something to record.

    Attributes:
        sha: of all its bytes.
        numbers: what the digest looks at, any shape.
        by: whose fingerprint the hash holds for, "arithmetic" or "files".
        near: how far a value may be from the recorded one; the mean and the deviation a quarter of it.
        places: how many values are recorded, at fixed places.
        strays: how many of them may be further away. Adam moves a weight by a whole step even where its gradient is
            nothing but rounding.
        facts: what must be equal on every machine.
        losses: of the steps that were printed; five in a thousand apart at most.
    """

    sha: str
    numbers: np.ndarray
    by: str = "arithmetic"
    near: float = 1.0
    places: int = 16
    strays: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    def digest(self) -> dict[str, Any]:
        flat = np.asarray(self.numbers, np.float64).ravel()
        at = (np.arange(1, self.places + 1) * 0.6180339887 % 1 * len(flat)).astype(int)
        found = {"shape": list(self.numbers.shape), "facts": self.facts, "losses": self.losses}
        return {**found, "mean": rounded(flat.mean()), "std": rounded(flat.std()), "values": rounded(flat[at])}


def rounded(x: Any) -> Any:
    """To a few significant digits."""
    if np.ndim(x):
        return [rounded(one) for one in x]
    return float(f"{float(x):.{FIGURES}g}")


def sha(*parts: bytes | str | np.ndarray | torch.Tensor) -> str:
    """Of bytes, texts and arrays with their type and shape."""
    found = hashlib.sha256()
    for part in parts:
        if torch.is_tensor(part):
            part = part.detach().contiguous().numpy()
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype} {part.shape}".encode())
            part = np.ascontiguousarray(part).tobytes()
        found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()


def differences(made: Made, digest: dict[str, Any], hashed: str | None) -> list[str]:
    """What is not as recorded. `hashed`: the recorded hash; None: recorded where arithmetic is different."""
    now, wrong = made.digest(), []
    if hashed not in (None, made.sha):
        wrong.append(f"hash: {made.sha[:12]} instead of {hashed[:12]}")
    for name in ("shape", "facts"):
        if now[name] != digest[name]:
            wrong.append(f"digest: {name} {now[name]} instead of {digest[name]}")
    for name in ("mean", "std"):
        if abs(now[name] - digest[name]) > made.near / 4:
            wrong.append(f"digest: {name} {now[name]} instead of {digest[name]}")
    far = np.count_nonzero(np.abs(np.subtract(now["values"], digest["values"])) > made.near)
    if far > made.strays:
        wrong.append(f"digest: {far} of {made.places} values {now['values']} instead of {digest['values']}")
    if len(now["losses"]) != len(digest["losses"]) or not np.allclose(now["losses"], digest["losses"], rtol=0.005):
        wrong.append(f"digest: losses {now['losses']} instead of {digest['losses']}")
    return wrong


class Reference:
    """The file of what was recorded; or, while it is written anew, what is there so far."""

    def __init__(self, anew: bool) -> None:
        self.anew = anew
        kept = {} if anew else json.loads(FILE.read_text())
        self.digests: dict[str, dict] = kept.get("digests", {})
        self.hashes: dict[str, dict[str, str]] = kept.get("hashes", {})
        self.keys = {"arithmetic": arithmetic(), "files": files()}

    def differences(self, name: str, made: Made) -> list[str]:
        known = self.hashes.get(self.keys[made.by], {})
        return differences(made, self.digests[name], known.get(name))

    def check(self, name: str, made: Made) -> None:
        """Whether it is as recorded, or record it."""
        if self.anew:
            self.digests[name] = made.digest()
            self.hashes.setdefault(self.keys[made.by], {})[name] = made.sha
            return
        assert name in self.digests, f"{name} is not recorded: run with --record"
        wrong = self.differences(name, made)
        assert not wrong, f"{name} is not as recorded; " + "; ".join(wrong)

    def save(self) -> None:
        """A line for each record, so that a change shows what changed."""
        digests = ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in sorted(self.digests.items()))
        hashes = json.dumps(self.hashes, indent=1, sort_keys=True).replace("\n", "\n ")
        FILE.write_text(f'{{\n "digests": {{\n{digests}\n }},\n "hashes": {hashes}\n}}\n')


def simd() -> str:
    """What the processor can compute at once: libraries choose their code by it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    kinds = ("sse", "ssse", "avx", "fma", "bmi", "f16c", "pclmul", "vpclmul", "amx", "asimd", "sve", "crc32")
    return " ".join([platform.machine(), platform.system(), *sorted(flag for flag in flags if flag.startswith(kinds))])


def files() -> str:
    """Fingerprint of what encodes files: x264 and zlib choose their ways by the processor, too."""
    return "files " + sha(simd(), *(f"{name} {version(name)}" for name in ("av", "pillow")))[:16]


def arithmetic() -> str:
    """Fingerprint of how floats are rounded here: plain operations of torch at the sizes of the tiny networks."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    found = []
    for channels, made, side, kernel in ((3, 8, 16, 3), (48, 8, 4, 3), (8, 16, 4, 3), (16, 16, 2, 1), (8, 48, 64, 3)):
        x, weight = draw(6, channels, side, side), draw(made, channels, kernel, kernel).requires_grad_()
        for layout in (torch.contiguous_format, torch.channels_last):
            y = F.conv2d(x.to(memory_format=layout), weight.to(memory_format=layout), padding=kernel // 2)
            found += [y, *torch.autograd.grad(y.square().mean(), weight)]
        if made % 4 == 0:
            found.append(F.silu(F.group_norm(y, 4)))
    found.append(F.conv1d(draw(16, 8, 6), draw(8, 8, 3), padding=1))
    for rows, inner, columns in ((4, 8, 8), (16, 16, 32), (36, 8, 16), (256, 16, 16)):
        found += [draw(rows, inner) @ draw(inner, columns), draw(2, rows, inner) @ draw(2, inner, columns)]
    for length in (5, 16, 64):
        q, k, v = draw(3, 2, 2, length, 8)
        found += [F.scaled_dot_product_attention(q, k, v), (q @ k.mT / 8**0.5).softmax(-1) @ v]
    x = draw(4, 3, 16, 16)
    found += [
        x.exp(),
        x.sigmoid(),
        x.cos(),
        F.gelu(x),
        F.layer_norm(x, (16,)),
        F.normalize(x, dim=1),
        x.std(),
        x.half(),
    ]
    found += [F.interpolate(x, scale_factor=4, mode="bicubic"), F.interpolate(x, (5, 5), mode="area")]
    found += [F.interpolate(x, (8, 8), mode="bilinear", antialias=True), torch.rand(9, generator=generator)]
    names = ("torch", "numpy", "diffusers", "transformers", "accelerate", "opencv-python-headless", "av", "pillow")
    return "arithmetic " + sha(simd(), *(f"{name} {version(name)}" for name in names), *found)[:16]
