# SPDX-License-Identifier: Apache-2.0
"""Operator and layer in a network of somebody's own do what PyTorch's layers do there."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

from slideformer import SlideAttention, slide_attention


class Network(nn.Module):
    """A stem, the operator, the layer, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 4, 1)
        self.qkv, self.layer = nn.Linear(16, 48), SlideAttention(16, 2)
        self.recompute = False

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image).permute(0, 2, 3, 1)
        x = checkpoint(self.attend, x, use_reentrant=False) if self.recompute else self.attend(x)
        return self.head(x.permute(0, 3, 1, 2))

    def attend(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (6, -1)).chunk(3, dim=3)
        x = x + slide_attention(query, key, value, kernel_size=5).flatten(3)
        return x + self.layer(x)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


IMAGE = torch.randn(2, 3, 37, 51, generator=torch.Generator().manual_seed(0))


def loaded(network: Network) -> Network:
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other = Network().eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


COPIES: dict[str, Callable[[Network], Network]] = {
    "deepcopy": deepcopy,
    "pickle": lambda network: pickle.loads(pickle.dumps(network)),
    "state dict": loaded,
    "channels last": lambda network: deepcopy(network).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_computes_the_same(copy: Callable[[Network], Network], network: Network) -> None:
    image = IMAGE.to(memory_format=torch.channels_last)
    torch.testing.assert_close(copy(network)(image), network(IMAGE))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.bfloat16, 5e-2), (torch.float16, 5e-3)], ids=str
)
def test_a_network_in_another_precision_agrees_and_trains(
    dtype: torch.dtype, tolerance: float, network: Network
) -> None:
    output = deepcopy(network).to(dtype)(IMAGE.to(dtype))
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), network(IMAGE), atol=tolerance, rtol=0)
    output.sum().backward()


def gradients(network: Network) -> list[Tensor]:
    return list(torch.autograd.grad(network(IMAGE).square().sum(), list(network.parameters())))


def test_gradient_checkpointing_changes_no_gradient(network: Network) -> None:
    wanted = gradients(network)
    network.recompute = True
    torch.testing.assert_close(gradients(network), wanted)


def test_gradients_of_each_image_are_those_of_one(network: Network) -> None:
    parameters = dict(network.named_parameters())

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(network, parameters, (image[None],)).square().mean()

    found = vmap(grad(loss), (None, 0))(parameters, IMAGE)
    wanted = grad(loss)(parameters, IMAGE[1])
    torch.testing.assert_close({name: x[1] for name, x in found.items()}, wanted)


def test_several_networks_run_as_one(network: Network) -> None:
    networks = [network, Network().eval()]
    parameters, buffers = stack_module_state(networks)  # type: ignore[arg-type]

    def run(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return functional_call(network, (parameters, buffers), (IMAGE,))

    torch.testing.assert_close(
        vmap(run)(parameters, buffers), torch.stack([network(IMAGE) for network in networks])
    )


def test_several_threads_run_one_network(network: Network) -> None:
    wanted = network(IMAGE).detach()
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: network(IMAGE).detach(), range(8)):
            torch.testing.assert_close(found, wanted)
