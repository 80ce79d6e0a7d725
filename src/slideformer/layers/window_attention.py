# SPDX-License-Identifier: Apache-2.0
"""Attention inside square windows, as in the Swin Transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.dot_product import dot_product_attention
from slideformer.layers.linear import Linear
from slideformer.layers.map_checks import check_heads, check_map
from slideformer.layers.open_size import open_size
from slideformer.layers.patch import pad_to_multiple

# Far below every logit, yet finite, so that no runtime meets infinity minus infinity. Swin's own -100 leaves
# weights of 1e-44, with which a processor computes many times slower than with the zeros that these are.
EXCLUDED = -128.0


class WindowAttention(nn.Module):
    """Self-attention inside windows that tile the map, regular or shifted (Liu et al., 2021, section 3.2).

    A map that is not a multiple of the window is padded with zeros on the right and at the bottom; the
    padding takes part in the attention, as in Swin. Shifted windows start half a window further, and
    positions that only the cyclic shift brought together do not attend to each other. An axis no longer than
    the window is not shifted.

    Args:
        dim: channels C of the map, a multiple of ``num_heads``.
        num_heads: heads G.
        window_size: side w of a window, in positions.
        shift: whether the windows are shifted by ``window_size // 2``.
        qkv_bias: whether the projection to query, key and value has a bias.
        attn_drop: dropout of the attention weights, a probability.
        proj_drop: dropout of the output, a probability.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``, any ``H`` and ``W`` at every call.

    Raises:
        ValueError: ``dim`` is not a multiple of ``num_heads``, or ``window_size`` is less than 1; on a call,
            ``x`` is not a map of C channels.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int = 7,
        *,
        shift: bool = False,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        if window_size < 1:
            raise ValueError(f"window_size must be at least 1, got {window_size}")
        self.dim = dim
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift = window_size // 2 if shift else 0
        self.attn_drop = attn_drop
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, num_heads))
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        index = torch.empty(window_size**2, window_size**2, dtype=torch.long)
        self.register_buffer("relative_position_index", index, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters of this layer itself, and its buffer."""
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.init_non_persistent_buffers()

    def init_non_persistent_buffers(self) -> None:
        """Fill the buffers that are not in the state dict: timm's hook for models from the meta device."""
        index = self.relative_position_index
        index.copy_(relative_position_index(self.window_size, index.device))

    def forward(self, x: Tensor) -> Tensor:
        """Attend: ``(B, H, W, C) -> (B, H, W, C)``."""
        check_map(x, self.dim)
        height, width = x.shape[1:3]
        if open_size(height, width):
            return self.forward_any_size(x)
        rows, columns = (self.shift if size > self.window_size else 0 for size in (height, width))
        padded = pad_to_multiple(roll(x, rows, columns), self.window_size)
        bias = self.bias(padded, rows, columns)
        out = join(self.attend(partition(padded, self.window_size), bias), self.window_size, padded)
        return roll(out[:, :height, :width], -rows, -columns)

    def attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Attend inside each window: ``(B, M, N, C) -> (B, M, N, C)``, ``bias`` as `bias` gives it."""
        batch, count, positions, _ = windows.shape
        heads = self.qkv(windows).unflatten(-1, (3 * self.num_heads, -1)).transpose(2, 3)  # (B, M, 3 G, N, D)
        # Windows with biases of their own share an axis with the heads, and all images share the bias; other
        # windows share an axis with the images, which copies nothing. Rank 4 either way.
        axis = 0 if bias.ndim == 3 else 1
        query, key, value = (x.flatten(axis, axis + 1) for x in heads.chunk(3, dim=2))
        out = dot_product_attention(
            query,
            key,
            value,
            mask=bias.reshape(1, -1, positions, positions).to(query.dtype),
            dropout=self.attn_drop if self.training else 0.0,
        )
        # Every size is given, because an empty batch leaves none to infer.
        channels = self.dim // self.num_heads
        out = out.reshape(batch, count, self.num_heads, positions, channels).transpose(2, 3)
        return self.proj_drop(self.proj(out.flatten(3)))

    def bias(self, padded: Tensor, rows: int, columns: int) -> Tensor:
        """The logits' offset: ``(G, N, N)``, or ``(M, G, N, N)`` with the mask of a shifted map."""
        bias = self.position_bias()
        if rows == 0 == columns:
            return bias
        _, height, width, _ = padded.shape
        row = torch.arange(height, device=padded.device)[:, None]
        column = torch.arange(width, device=padded.device)
        region = region_numbers(row, column, (height - rows, width - columns))
        region = partition(region[None, :, :, None], self.window_size)[0, ..., 0]  # (M, N)
        return bias + cross_region_mask(region, bias.dtype)[:, None]

    def position_bias(self) -> Tensor:
        """Relative position bias of every pair of positions: ``(G, N, N)``."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)

    def forward_any_size(self, x: Tensor) -> Tensor:
        """The same attention as a program that holds for every H and W: ``(B, H, W, C) -> (B, H, W, C)``.

        An exported program may not depend on the size of its example, not even on whether one window
        covers the map. So no axis here counts only windows, of which there may be one, and one gather
        in each direction does shift, padding and partition.
        """
        tiling = Tiling(x, self.window_size, self.shift)
        positions, heads = tiling.positions, tiling.count * self.num_heads
        # One row of zeros after the map, for the padding to read.
        rows = F.pad(x.flatten(1, 2), (0, 0, 0, 1)).index_select(1, tiling.sources())  # (B, N M, C)
        query, key, value = (
            part.flatten(1).unflatten(1, (positions, heads, self.dim // self.num_heads)).transpose(1, 2)
            for part in self.qkv(rows).chunk(3, dim=-1)
        )
        bias = self.position_bias().index_select(
            0, torch.arange(heads, device=x.device) % self.num_heads
        )  # (M G, N, N)
        if self.shift:
            bias = bias + cross_region_mask(tiling.regions(self.num_heads), bias.dtype)
        out = dot_product_attention(query, key, value, mask=bias[None].to(query.dtype))
        # Always a copy: whether the transpose is contiguous depends on the runtime's attention.
        out = out.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        out = out.flatten(1).unflatten(1, (positions * tiling.count, self.dim))
        out = out.index_select(1, tiling.targets()).unflatten(1, x.shape[1:3])
        return self.proj(out)

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return (
            f"dim={self.dim}, num_heads={self.num_heads}, window_size={self.window_size}, shift={self.shift}"
        )


def relative_position_index(window_size: int, device: torch.device | None = None) -> Tensor:
    """Row of the bias table for each pair of positions in a window: ``(N, N)``, N = w * w."""
    place = torch.arange(window_size, device=device)
    distance = place[:, None] - place + window_size - 1  # (w, w), of query and key
    rows = distance.repeat_interleave(window_size, 0).repeat_interleave(window_size, 1)
    return rows * (2 * window_size - 1) + distance.repeat(window_size, window_size)


def region_numbers(row: Tensor, column: Tensor, first: tuple[int | Tensor, int | Tensor]) -> Tensor:
    """Number of each position's region: the cyclic shift moved rows and columns from ``first`` on."""
    return 2 * (row >= first[0]).long() + (column >= first[1]).long()


def cross_region_mask(region: Tensor, dtype: torch.dtype) -> Tensor:
    """Mask of the pairs in different regions: ``(..., N) -> (..., N, N)``, 0 or far below 0."""
    return (region[..., :, None] != region[..., None, :]).to(dtype) * EXCLUDED


def roll(x: Tensor, rows: int, columns: int) -> Tensor:
    """Move a map ``(B, H, W, C)`` cyclically up and to the left."""
    return x if rows == 0 == columns else torch.roll(x, (-rows, -columns), (1, 2))


def partition(x: Tensor, window_size: int) -> Tensor:
    """Split a map into M windows of N positions: ``(B, H, W, C) -> (B, M, N, C)``."""
    batch, height, width, channels = x.shape
    rows, columns = height // window_size, width // window_size
    # A row of a window is one run of memory, so rank 4 is enough.
    x = x.reshape(batch * rows, window_size, columns, window_size * channels).transpose(1, 2)
    return x.reshape(batch, rows * columns, window_size * window_size, channels)


def join(windows: Tensor, window_size: int, like: Tensor) -> Tensor:
    """Undo `partition`: ``(B, M, N, C) -> (B, H, W, C)``, the shape of ``like``."""
    batch, height, width, channels = like.shape
    rows, columns = height // window_size, width // window_size
    x = windows.reshape(batch * rows, columns, window_size, window_size * channels).transpose(1, 2)
    return x.reshape(batch, height, width, channels)


class Tiling:
    """The source of each position of each window, as index arithmetic in tensors.

    M windows of N = w * w positions tile the padded map; number ``n * M + m`` is position n of window m.
    """

    def __init__(self, x: Tensor, window_size: int, shift: int) -> None:
        height, width = x.shape[1:3]
        # Rounded up with positive numbers alone: ONNX rounds a negative quotient towards zero.
        rows, across = ((size + window_size - 1) // window_size for size in (height, width))
        self.device = x.device
        self.window_size = window_size
        self.positions = window_size**2
        self.count = rows * across
        self.places = height * width
        # As tensors, so that the arithmetic is done, and the shift chosen, when the program runs.
        self.height, self.width, self.rows, self.across, self.windows = (
            torch.full((), size, device=self.device) for size in (height, width, rows, across, self.count)
        )
        self.shift = [torch.where(size > window_size, shift, 0) for size in (self.height, self.width)]

    def place(self, position: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of positions of windows on the padded, shifted map."""
        row = window // self.across * self.window_size + position // self.window_size
        return row, window % self.across * self.window_size + position % self.window_size

    def sources(self) -> Tensor:
        """Place in the flat map ``(H W + 1)`` that each position of each window reads: ``(N M)``."""
        number = torch.arange(self.positions * self.count, device=self.device)
        row, column = self.place(number // self.windows, number % self.windows)
        source = (row + self.shift[0]) % self.height * self.width + (column + self.shift[1]) % self.width
        inside = (row < self.height) & (column < self.width)
        return torch.where(inside, source, self.height * self.width)

    def targets(self) -> Tensor:
        """Number, in windows, of each position of the flat map: ``(H W)``."""
        place = torch.arange(self.places, device=self.device)
        row = (place // self.width - self.shift[0]) % self.height
        column = (place % self.width - self.shift[1]) % self.width
        window = row // self.window_size * self.across + column // self.window_size
        position = row % self.window_size * self.window_size + column % self.window_size
        return position * self.windows + window

    def regions(self, num_heads: int) -> Tensor:
        """Region of each position of each window, for each head: ``(M G, N)``."""
        position = torch.arange(self.positions, device=self.device)
        window = torch.arange(self.count * num_heads, device=self.device)[:, None] // num_heads
        row, column = self.place(position, window)
        sides = (self.rows * self.window_size, self.across * self.window_size)
        return region_numbers(row, column, (sides[0] - self.shift[0], sides[1] - self.shift[1]))
