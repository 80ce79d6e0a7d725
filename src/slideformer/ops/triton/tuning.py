# SPDX-License-Identifier: Apache-2.0
"""The kernels with the tiles that each is tuned over at its first call for a size of head, window and map."""

from __future__ import annotations

from typing import Any

import triton

from slideformer.ops.triton import INTERPRETED
from slideformer.ops.triton.backward_deformed import backward_map_deformed, backward_query_deformed
from slideformer.ops.triton.backward_plain import backward_map_plain, backward_query_plain, gather_plain
from slideformer.ops.triton.devices import warp_size
from slideformer.ops.triton.forward_deformed import forward_deformed, logits_deformed, values_deformed
from slideformer.ops.triton.forward_plain import forward_plain, logits_plain, values_plain

# Tiles of positions (rows, columns) and the warps that share one. 16 positions a warp leave each thread
# the registers that a tile of 32 channels takes.
TILES = ((4, 8, 2), (8, 8, 4), (4, 16, 4), (8, 16, 8))
# Each warp loads the shift again: more positions a warp, where they fit, load it less often.
DEFORMED_TILES = (*TILES, (4, 8, 1), (8, 8, 2), (8, 16, 4))
# Where the shift's gradient is summed, too, a tile of more positions does not fit into registers.
MAP_TILES = ((8, 8, 4), (4, 16, 4), (4, 8, 2))
# Nothing but loads and sums: more warps hide more of the memory's latency.
PLAIN_TILES = (*TILES, (4, 8, 4), (8, 8, 8))
# Where shares of a sum are stored by program, the tile is given and only the warps are tuned.
TILE = {"BLOCK_H": 8, "BLOCK_W": 8}
DEFORMED_WARPS = ((8, 8, 4), (8, 8, 2))
PLAIN_WARPS = ((8, 8, 4), (8, 8, 8))
# Arguments of kernels that tuning chooses.
CONSTANTS = ("BLOCK_H", "BLOCK_W", "WARPS")
# Numbers of one map's tile that a thread may hold before registers spill, as the assembler says: more
# where they are packed in pairs and the logits are few.
TILE_NUMBERS = 16
PACKED_TILE_NUMBERS = 32


def affordable(configs: list[Any], arguments: dict[str, Any], **options: Any) -> list[Any]:
    """The configurations whose tiles fit the map and the registers, or the one that comes closest."""
    configs = [config for config in configs if (config.kwargs["BLOCK_H"] == 1) == (options["height"] == 1)]
    packed = options.get("TURN", False) and options["T_PAD"] == 16
    most, threads = PACKED_TILE_NUMBERS if packed else TILE_NUMBERS, warp_size()

    def held(config: Any) -> float:
        positions = config.kwargs["BLOCK_H"] * config.kwargs["BLOCK_W"]
        return positions * options["BLOCK"] / (threads * config.num_warps)

    fitting = [config for config in configs if held(config) <= most]
    return fitting if fitting else [min(configs, key=held)]


def tuned(kernel: Any, tiles: tuple[tuple[int, int, int], ...]) -> Any:
    """The kernel, tuned at the first call for each size of head, window and map."""
    # The interpreter has no time to compare.
    tiles = tiles[:1] if INTERPRETED else tiles
    # A map of one row is cut along it.
    lines = ((1, rows * columns, warps) for rows, columns, warps in tiles)
    configs = [
        triton.Config(
            {
                "BLOCK_H": rows,
                "BLOCK_W": columns,
                **({"WARPS": warps} if "WARPS" in kernel.arg_names else {}),
            },
            num_warps=warps,
            num_stages=1,
        )
        for rows, columns, warps in dict.fromkeys((*tiles, *lines))
    ]
    key = [name for name in ("D", "DV", "AXES", "size_class") if name in kernel.arg_names]
    return triton.autotune(configs, key=key, prune_configs_by={"early_config_prune": affordable})(kernel)


FORWARD_PLAIN = tuned(forward_plain, PLAIN_TILES)
FORWARD_DEFORMED = tuned(forward_deformed, DEFORMED_TILES)
BACKWARD_QUERY_PLAIN = tuned(backward_query_plain, PLAIN_WARPS)
BACKWARD_QUERY_DEFORMED = tuned(backward_query_deformed, DEFORMED_WARPS)
BACKWARD_MAP_PLAIN = tuned(backward_map_plain, PLAIN_TILES)
BACKWARD_MAP_DEFORMED = tuned(backward_map_deformed, MAP_TILES)
LOGITS_PLAIN = tuned(logits_plain, PLAIN_TILES)
LOGITS_DEFORMED = tuned(logits_deformed, DEFORMED_TILES)
VALUES_PLAIN = tuned(values_plain, PLAIN_TILES)
VALUES_DEFORMED = tuned(values_deformed, DEFORMED_TILES)
GATHER_PLAIN = tuned(gather_plain, PLAIN_TILES)
