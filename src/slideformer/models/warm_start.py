# SPDX-License-Identifier: Apache-2.0
"""Start a model from weights that were trained: of the same model, or of its plain host."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.layers.slide_attention import SlideAttention
from slideformer.models.convert.hosts import HOSTS, convert_host
from slideformer.models.convert.state import check_tensors, listed, load_all_or_none

State = Mapping[str, Tensor]
# The share of the tensors, of the model and of the weights, that must have a counterpart.
LEAST_SHARE = 0.9


def joined_projections(state: State, name: str, own: Tensor) -> Tensor | None:
    """Query, key and value of a host that projects them separately, in one tensor."""
    parts = [name.replace(".qkv.", f".{part}.") for part in ("query", "key_value")]
    return torch.cat([state[part] for part in parts]) if all(part in state for part in parts) else None


def resized_table(state: State, name: str, own: Tensor) -> Tensor | None:
    """A table of relative positions, for a window of another size: interpolated over two or three axes."""
    table = state.get(name)
    if table is None:
        return None
    if own.ndim in (3, 4):  # (heads, distance along each axis)
        mode = "bicubic" if own.ndim == 3 else "trilinear"
        return F.interpolate(table[None], own.shape[1:], mode=mode)[0]
    # Swin: (rows x columns, heads), 2 K - 1 of each. Tables of one axis or by tap have the heads in front.
    before, after = (math.isqrt(len(x)) for x in (table, own))
    squares = all(side % 2 and side**2 == len(x) for side, x in ((before, table), (after, own)))
    if own.ndim != 2 or table.shape[1] != own.shape[1] or not squares:
        return None
    square = table.T.unflatten(1, (before, before))
    return F.interpolate(square[None], (after, after), mode="bicubic")[0].flatten(1).T


def resized_map(state: State, name: str, own: Tensor) -> Tensor | None:
    """A vector for every position of a map, for a map of another size: as the layer interpolates it."""
    learned = state.get(name)
    if learned is None:
        return None
    return F.interpolate(learned.permute(0, 3, 1, 2), own.shape[1:3], mode="bilinear").permute(0, 2, 3, 1)


def resized_axis(state: State, name: str, own: Tensor) -> Tensor | None:
    """A vector for every distance along one axis, for an axis of another length, as timm interpolates it."""
    learned = state.get(name)
    return None if learned is None else F.interpolate(learned.T[None], len(own), mode="linear")[0].T


# Which tensors can be derived where none of that name and shape is given, and how.
DERIVED: tuple[tuple[str, Callable[[State, str, Tensor], Tensor | None], str], ...] = (
    (r"\.qkv\.(weight|bias)$", joined_projections, "joined from query, key and value"),
    (r"\.relative_position_bias_table$", resized_table, "interpolated to this window"),
    (r"\.downsample\.1\.weight$", resized_map, "interpolated to this map"),
    (r"\.relative_position_(rows|columns)$", resized_axis, "interpolated to this map"),
)
# The parameters that a sliding block has and its host lacks: at zero, its shift is the plain one.
SLIDING = {"shift.weight": "shift", "shift.bias": "shift", "key_bias": "key bias"}


@dataclass(frozen=True)
class WarmStart:
    """Where the tensors of a model came from. Printed, it is a summary; `lines` go through all tensors.

    Attributes:
        taken: names of tensors that are the given ones.
        derived: name of a tensor -> how it was derived from given ones.
        new: name of a tensor -> what it is called in the summary: shift and key bias are 0, others keep the
            model's initial values.
        unused: names of given tensors that the model has no use for.
    """

    taken: tuple[str, ...]
    derived: Mapping[str, str]
    new: Mapping[str, str]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.taken) + len(self.derived) + len(self.new)
        text = f"{len(self.taken)} of {total} tensors taken"
        if self.derived:
            text += f", {len(self.derived)} derived"
        if self.new:
            text += f"; new: {listed(list(dict.fromkeys(self.new.values())))}"
        return text + (f"; {len(self.unused)} given tensors unused" if self.unused else "")

    def lines(self) -> list[str]:
        """One line a tensor."""
        return [
            *(f"taken    {name}" for name in self.taken),
            *(f"derived  {name}: {how}" for name, how in self.derived.items()),
            *(f"new      {name}: {what}" for name, what in self.new.items()),
            *(f"unused   {name}" for name in self.unused),
        ]


@torch.no_grad()
def warm_start(model: nn.Module, state_dict: State) -> WarmStart:
    """Load what fits of trained weights, derive what can be derived, and report tensor by tensor.

    The weights are those of the same model, or of its plain host, of which the sliding blocks take the
    projections and begin as plain local attention: learned shift and key bias are 0 (paper, section 4.2). A
    classifier of another number of classes stays new. Tables of positions are interpolated to another size.

    Args:
        model: any of timm's or ours; it keeps its device and dtype.
        state_dict: names of the model, or of a plain host's public weights (timm's or its authors').

    Returns:
        The report; ``print`` shows its summary.

    Raises:
        UserError: less than 90 % of the model, or of the weights, has a counterpart in the other, such as for
            another family or size; nothing is loaded.

    Example:
        >>> import timm
        >>> from slideformer.models import warm_start
        >>> host = timm.create_model("swin_tiny_patch4_window7_224")
        >>> model = timm.create_model("slide_swin_tiny", num_classes=5)
        >>> print(warm_start(model, host.state_dict()))
        167 of 181 tensors taken; new: key bias, shift, head; 6 given tensors unused
    """
    own = model.state_dict()
    state = in_own_names(model, state_dict)
    sliding = tuple(f"{name}." for name, x in model.named_modules() if isinstance(x, SlideAttention))
    head = classifier_names(model)

    loaded: dict[str, Tensor] = {}
    derived, new, faults = dict[str, str](), dict[str, str](), list[str]()
    for name, tensor in own.items():
        given = state.get(name)
        if given is not None and given.shape == tensor.shape:
            loaded[name] = given
        elif (found := derive(state, name, tensor)) is not None:
            loaded[name], derived[name] = found
        elif given is None and (slides := sliding_part(name, sliding)):
            loaded[name], new[name] = torch.zeros_like(tensor), slides
        elif name.startswith(head):
            new[name] = "head"
        else:
            shape = "" if given is None else f" (want {tuple(tensor.shape)}, got {tuple(given.shape)})"
            new[name] = f"{name}{shape}"
            faults.append(new[name])
    used = {name for name in state if name in loaded} | sources_of(derived)
    unused = tuple(name for name in state if name not in used)
    spare = [name for name in unused if name not in own and not name.startswith((*sliding, *head))]
    check_share("of the model's tensors must be in the weights", faults, len(own))
    check_share("of the weights must have a place in the model", spare, len(state))
    load_all_or_none(model, {**own, **loaded})
    taken = tuple(name for name in loaded if name not in derived and name not in new)
    return WarmStart(taken, derived, new, unused)


def in_own_names(model: nn.Module, state: State) -> State:
    """The weights in the model's names: as they are, or converted from a plain host's."""
    own = model.state_dict()
    check_tensors(state)
    if type(model) not in HOSTS:
        return state
    converted = convert_host(type(model), state)
    return max(state, converted, key=lambda names: len(own.keys() & names.keys()))


def derive(state: State, name: str, own: Tensor) -> tuple[Tensor, str] | None:
    """A tensor that is computed from given ones, and how; None where there is no way."""
    if name in state and state[name].ndim != own.ndim:
        return None
    for pattern, rule, how in DERIVED:
        if re.search(pattern, name):
            try:
                found = rule(state, name, own)
            except RuntimeError:  # a file may hold tensors of any shape and dtype: there is no way from these
                return None
            if found is not None and found.shape == own.shape:
                return found, how
    return None


def sources_of(derived: Iterable[str]) -> set[str]:
    """Names of the given tensors that derived ones were computed from."""
    parts = (name.replace(".qkv.", f".{part}.") for name in derived for part in ("query", "key_value"))
    return {*derived, *parts}


def sliding_part(name: str, sliding: tuple[str, ...]) -> str:
    """The name in the summary of a tensor that only sliding blocks have; empty for any other."""
    block = next((block for block in sliding if name.startswith(block)), None)
    return "" if block is None else SLIDING.get(name.removeprefix(block), "")


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """The beginnings of the names of the tensors of the classifier, by timm's facts about the model."""
    config = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


def check_share(must: str, lacking: list[str], total: int) -> None:
    """Check that few tensors lack a counterpart."""
    if len(lacking) > (1 - LEAST_SHARE) * total:
        raise UserError(
            f"at least {LEAST_SHARE:.0%} {must}, got {total - len(lacking)} of {total}: are they of another "
            f"family or size? without counterpart: {listed(lacking)}; nothing was loaded"
        )
