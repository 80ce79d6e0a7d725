# SPDX-License-Identifier: Apache-2.0
"""The K x K window: the only place that knows kernel size, dilation, border and the order of taps.

Every border is handled in the same three steps, so that no backend has special cases:

1. `Window.pad` surrounds the map with zeros,
2. `Window.shifted` reads one tap for every position from the padded map,
3. `Window.logit_offset` excludes taps outside the map by adding minus infinity to their logit.

Taps run row by row: tap ``t`` is row ``t // K_cols`` and column ``t % K_cols`` of the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Border = Literal["zeros", "mask", "clamp"]
BORDERS: tuple[str, ...] = get_args(Border)


def clamped(size: int, *, least: int | None = None, most: int | None = None) -> int:
    """A size within one bound or both; symbolic in an exported program, a tensor in a traced one."""
    if isinstance(size, Tensor):
        return size.clamp(least, most)
    size = size if least is None else cast("int", torch.sym_max(least, size))
    return size if most is None else cast("int", torch.sym_min(most, size))


@dataclass(frozen=True)
class Axis:
    """One axis of the window, of K taps with a spacing, laid over a map of ``size`` positions."""

    size: int
    kernel_size: int
    dilation: int
    border: Border

    @property
    def span(self) -> int:
        """Distance from the first tap to the last, in positions."""
        return self.dilation * (self.kernel_size - 1)

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after the map, in positions."""
        if self.border != "clamp":
            return self.span // 2, self.span // 2
        # A clamped window leaves the map only where the map is smaller than the window.
        # Without dilation there is one grid whatever the size, which matters where the size is symbolic.
        grids = 1 if self.dilation == 1 else clamped(self.size, most=self.dilation)
        return 0, clamped(grids + self.span - self.size, least=0)

    def starts(self, device: torch.device) -> Tensor:
        """Place of the first tap in the padded axis, for each position: ``(size,)``."""
        position = torch.arange(self.size, device=device)
        if self.border != "clamp":
            return position
        # Positions with the same remainder modulo the dilation form a grid of their own, in which
        # the window slides inward until it holds K neighbours (or all, where there are fewer).
        remainder, place = position % self.dilation, position // self.dilation
        length = (self.size - remainder + self.dilation - 1) // self.dilation
        first = torch.minimum(place - self.kernel_size // 2, length - self.kernel_size).clamp(min=0)
        return first * self.dilation + remainder

    def sources(self, device: torch.device) -> Tensor:
        """Place in the unpadded axis that each tap reads, for each position: ``(size, K)``."""
        taps = torch.arange(self.kernel_size, device=device) * self.dilation
        return self.starts(device)[:, None] + taps - self.padding[0]

    def inside(self, device: torch.device) -> Tensor:
        """Whether each tap is on the map: ``(size, K)``, bool."""
        sources = self.sources(device)
        return (sources >= 0) & (sources < self.size)

    def relative(self, device: torch.device) -> Tensor:
        """Index of each tap's distance from its query, in ``[0, 2K - 2]``: ``(size, K)``."""
        position = torch.arange(self.size, device=device)[:, None]
        distance = self.sources(device) - position
        return distance.div(self.dilation, rounding_mode="floor") + self.kernel_size - 1

    @property
    def always_inside(self) -> bool:
        """Whether it is known, for this very size, that no tap leaves the map."""
        # A symbolic size (while exporting) is not an int: then nothing is known and the mask is built.
        return (
            self.border == "clamp"
            and isinstance(self.size, int)
            and self.size > self.span + self.dilation - 1
        )


@dataclass(frozen=True)
class Window:
    """A K_rows x K_cols neighbourhood, its dilation and its border."""

    kernel_size: tuple[int, int]
    dilation: tuple[int, int]
    border: Border

    @property
    def taps(self) -> int:
        """Number of taps T."""
        return self.kernel_size[0] * self.kernel_size[1]

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        """The window's two axes over a map of this size."""
        rows, columns = zip(self.kernel_size, self.dilation, strict=True)
        return Axis(height, *rows, self.border), Axis(width, *columns, self.border)

    def offset(self, tap: int) -> tuple[int, int]:
        """Rows and columns from the window's first tap to this one, in positions."""
        row, column = divmod(tap, self.kernel_size[1])
        return row * self.dilation[0], column * self.dilation[1]

    def pad(self, x: Tensor) -> Tensor:
        """Surround a map ``(B, H, W, ...)`` by the zeros that its windows reach."""
        rows, columns = (axis.padding for axis in self.axes(x.shape[1], x.shape[2]))
        return F.pad(x, (*(0, 0) * (x.ndim - 3), *columns, *rows))

    def crop(self, padded: Tensor, height: int, width: int) -> Tensor:
        """Undo `pad`."""
        rows, columns = (axis.padding[0] for axis in self.axes(height, width))
        return padded[:, rows : rows + height, columns : columns + width]

    def starts(self, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """First tap of each row and column of positions in the padded map; None where it is the position."""
        if self.border != "clamp":
            return None
        rows, columns = self.axes(height, width)
        return rows.starts(device), columns.starts(device)

    def shifted(self, padded: Tensor, tap: int, rows: slice, starts: tuple[Tensor, Tensor] | None) -> Tensor:
        """The map at this tap of every position of some rows: ``(B, rows, W, ...)``.

        A view for the borders ``"zeros"`` and ``"mask"``, a copy for ``"clamp"``.
        """
        row, column = self.offset(tap)
        if starts is None:
            width = padded.shape[2] - (self.kernel_size[1] - 1) * self.dilation[1]
            return padded[:, rows.start + row : rows.stop + row, column : column + width]
        return padded.index_select(1, starts[0][rows] + row).index_select(2, starts[1] + column)

    def add_shifted(
        self,
        padded: Tensor,
        tap: int,
        rows: slice,
        starts: tuple[Tensor, Tensor] | None,
        a: Tensor,
        b: Tensor,
    ) -> None:
        """Add a product to the padded map, in place, at the places that `shifted` reads: its transpose."""
        if starts is None:
            self.shifted(padded, tap, rows, starts).addcmul_(a, b)
            return
        (row, column), update = self.offset(tap), a * b
        wide = update.new_zeros((*update.shape[:2], padded.shape[2], *update.shape[3:]))
        padded.index_add_(1, starts[0][rows] + row, wide.index_add_(2, starts[1] + column, update))

    def logit_offset(self, height: int, width: int, logit_bias: Tensor | None, like: Tensor) -> Tensor | None:
        """The logits' part that does not depend on the query: the bias, and minus infinity outside the map.

        Args:
            height: rows H of the map.
            width: columns W of the map.
            logit_bias: ``(G, T)`` by tap, or ``(G, 2 K_rows - 1, 2 K_cols - 1)`` by relative position.
            like: gives the device and the dtype.

        Returns:
            A tensor that broadcasts to ``(H, W, G, T)``, or None where nothing is added.
        """
        rows, columns = self.axes(height, width)
        device = like.device
        bias = None
        if logit_bias is not None:
            bias = logit_bias.to(like.dtype)[None, None]
            if logit_bias.ndim == 3:
                table = logit_bias.to(like.dtype)[:, rows.relative(device).flatten()]  # (G, H K, 2K-1)
                table = table.unflatten(1, (height, -1))[..., columns.relative(device).flatten()]
                bias = table.unflatten(-1, (width, -1)).permute(1, 3, 0, 2, 4).flatten(3)  # (H, W, G, T)
        if self.border == "zeros" or (rows.always_inside and columns.always_inside):
            return bias
        inside = rows.inside(device)[:, None, :, None] & columns.inside(device)[None, :, None, :]
        inside = inside.flatten(2)[:, :, None]  # (H, W, 1, T)
        nothing = torch.zeros((), dtype=like.dtype, device=device) if bias is None else bias
        return torch.where(inside, nothing, -torch.inf)
