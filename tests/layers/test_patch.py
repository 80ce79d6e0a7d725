# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from timm.models.pvt_v2 import OverlapPatchEmbed
from timm.models.swin_transformer import PatchMerging as TimmPatchMerging

from slideformer.layers.patch import ConvMerging, PatchEmbed, PatchMerging, pad_to_multiple


def test_patches_are_a_convolution_and_a_norm() -> None:
    embed, image = PatchEmbed(3, 8, 4), torch.randn(2, 3, 12, 20)
    patches = F.conv2d(image, embed.proj.weight, embed.proj.bias, stride=4).permute(0, 2, 3, 1)
    torch.testing.assert_close(embed(image), embed.norm(patches))


@pytest.mark.parametrize("size", [(13, 20), (12, 17), (1, 1), (5, 7)], ids=str)
def test_an_image_of_any_size_is_padded_at_the_right_and_bottom(size: tuple[int, int]) -> None:
    embed, image = PatchEmbed(3, 8, 4), torch.randn(2, 3, *size)
    padded = F.pad(image, (0, -size[1] % 4, 0, -size[0] % 4))
    assert embed(image).shape == (2, -(-size[0] // 4), -(-size[1] // 4), 8)
    torch.testing.assert_close(embed(image), embed(padded))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 8, 8), r"an image must be \(B, 3, height, width\), got \(3, 8, 8\); add the batch"),
        (torch.zeros(1, 1, 8, 8), r"an image must be \(B, 3, height, width\), got \(1, 1, 8, 8\)"),
        (torch.zeros(1, 3, 0, 8), r"an image must have at least one pixel, got \(1, 3, 0, 8\)"),
    ],
    ids=["rank", "channels", "empty"],
)
def test_what_is_no_image_is_refused(image: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatchEmbed(3, 8, 4)(image)


def test_a_patch_of_no_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="in_chans, dim and patch_size must be at least 1, got 3, 8 and 0"):
        PatchEmbed(3, 8, 0)


@pytest.mark.parametrize("size", [(8, 6), (7, 6), (8, 5), (1, 1), (9, 3)], ids=str)
def test_merging_agrees_with_swin(size: tuple[int, int]) -> None:
    merging, theirs = PatchMerging(6, 12), TimmPatchMerging(6, 12)
    merging.load_state_dict(theirs.state_dict())
    x = torch.randn(2, *size, 6)
    torch.testing.assert_close(merging(x), theirs(x))


def test_merging_refuses_a_map_of_other_channels() -> None:
    with pytest.raises(ValueError, match=r"x must be a map \(B, H, W, C\) with C = 6, got \(1, 4, 4, 5\)"):
        PatchMerging(6, 12)(torch.zeros(1, 4, 4, 5))


def test_merging_to_no_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="dim and out_dim must be at least 1, got 6 and 0"):
        PatchMerging(6, 0)


def test_a_map_that_fits_is_not_copied_for_padding() -> None:
    x = torch.randn(1, 14, 7, 2)
    assert pad_to_multiple(x, 7) is x


@pytest.mark.parametrize("size", [(16, 12), (13, 18), (1, 1), (3, 7)], ids=str)
def test_overlapping_patches_are_timms(size: tuple[int, int]) -> None:
    embed, theirs = PatchEmbed(3, 8, 4, kernel_size=7), OverlapPatchEmbed(7, 4, 3, 8)
    embed.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, *size)
    torch.testing.assert_close(embed(image), theirs(image))


def test_the_zeros_around_the_image_are_an_argument() -> None:
    embed, image = PatchEmbed(3, 8, 4, kernel_size=7, padding=2), torch.randn(2, 3, 16, 12)
    patches = F.conv2d(image, embed.proj.weight, embed.proj.bias, stride=4, padding=2).permute(0, 2, 3, 1)
    torch.testing.assert_close(embed(image), embed.norm(patches))


@pytest.mark.parametrize("padding", [1, 4])
def test_zeros_that_make_more_or_fewer_patches_are_refused(padding: int) -> None:
    with pytest.raises(ValueError, match=f"padding must be from 2 to 3, got {padding}"):
        PatchEmbed(3, 8, 4, kernel_size=7, padding=padding)


@pytest.mark.parametrize("kernel_size", [3, 8])
def test_a_kernel_that_leaves_gaps_or_spans_two_patches_is_refused(kernel_size: int) -> None:
    with pytest.raises(ValueError, match=f"kernel_size must be from 4 to 7, got {kernel_size}"):
        PatchEmbed(3, 8, 4, kernel_size=kernel_size)


@pytest.mark.parametrize("size", [(8, 6), (7, 6), (8, 5), (1, 1)], ids=str)
def test_overlapping_merging_is_timms(size: tuple[int, int]) -> None:
    merging, theirs = ConvMerging(6, 12, kernel_size=3), OverlapPatchEmbed(3, 2, 6, 12)
    merging.load_state_dict(theirs.state_dict())
    x = torch.randn(2, *size, 6)
    torch.testing.assert_close(merging(x), theirs(x.permute(0, 3, 1, 2)))


def test_merging_by_convolution_pads_an_odd_map() -> None:
    merging, x = ConvMerging(6, 12, kernel_size=2), torch.randn(2, 7, 5, 6)
    torch.testing.assert_close(merging(x), merging(F.pad(x, (0, 0, 0, 1, 0, 1))))
    assert merging(x).shape == (2, 4, 3, 12)


def test_merging_by_convolution_may_have_no_bias() -> None:
    assert ConvMerging(6, 12, kernel_size=3, bias=False).proj.bias is None


def test_merging_by_convolution_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="kernel_size must be from 2 to 3, got 4"):
        ConvMerging(6, 12, kernel_size=4)
    with pytest.raises(ValueError, match="dim and out_dim must be at least 1, got 0 and 12"):
        ConvMerging(0, 12, kernel_size=2)
    with pytest.raises(ValueError, match=r"x must be a map \(B, H, W, C\) with C = 6, got \(1, 4, 4, 5\)"):
        ConvMerging(6, 12, kernel_size=2)(torch.zeros(1, 4, 4, 5))
