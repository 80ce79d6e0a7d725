# SPDX-License-Identifier: Apache-2.0
"""What holds of every family: sizes, sliding stages, features, gradients, and that it learns."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import slideformer.models as models
from slideformer.layers.drop_path import DropPath
from tests.models.families import FAMILIES, LAST_SLIDING, SLIDING, kinds, small
from tests.tiers import fast

every_family = pytest.mark.parametrize("name", FAMILIES)


def sliding(model: nn.Module) -> list[int]:
    """The stages in which a block slides."""
    return [number for number, stage in enumerate(kinds(model)) if "Slide" in stage]


@every_family
def test_the_first_stages_slide_and_no_others(name: str) -> None:
    assert sliding(small(name)) == SLIDING.get(name, [0, 1])


@every_family
def test_slide_stages_are_an_argument(name: str) -> None:
    assert sliding(small(name, slide_stages=(1, 2))) == [1, 2]
    assert sliding(small(name, slide_stages=())) == []


@every_family
def test_stages_that_slide_may_use_neighborhood_attention(name: str) -> None:
    model, sliding_model = small(name, local_attention="neighborhood", kernel_size=5), small(name)
    for stage, blocks, before in zip(model.stages, kinds(model), kinds(sliding_model), strict=True):
        assert blocks == ["Neighborhood" if kind == "Slide" else kind for kind in before]
        for block, kind in zip(stage.blocks, before, strict=True):
            assert kind != "Slide" or block.attention.kernel_size == 5
    assert torch.isfinite(model(torch.randn(1, 3, 64, 64))).all()


def test_an_unknown_local_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="local_attention must be one of slide, neighborhood, got 'natten'"):
        small("slide_swin_tiny", local_attention="natten")


@every_family
@pytest.mark.parametrize("beyond", [True, False], ids=["beyond", "before"])
def test_a_stage_that_cannot_slide_is_refused(name: str, beyond: bool) -> None:
    last = LAST_SLIDING.get(name, 3)
    with pytest.raises(ValueError, match=rf"slide_stages must be from 0, the first, to {last}\b.*, got \("):
        small(name, slide_stages=(0, last + 1) if beyond else (-1,))


@every_family
def test_what_is_given_for_each_stage_must_be_given_for_all(name: str) -> None:
    with pytest.raises(ValueError, match=r"num_heads.* must have one entry for each stage, got .*\(1, 2\)"):
        small(name, num_heads=(1, 2))


@every_family
def test_a_stage_without_blocks_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"depths must be at least 1 block in each stage, got \(1, 0, 1, 1\)"
    ):
        small(name, depths=(1, 0, 1, 1))


@every_family
@pytest.mark.parametrize("argument", ["depths", "num_heads", "slide_stages"])
def test_a_number_in_place_of_a_sequence_is_refused(name: str, argument: str) -> None:
    told = rf"{argument} must be a sequence of numbers, got 2; use \(2,\) for one"
    with pytest.raises(ValueError, match=told):
        small(name, **{argument: 2})


@every_family
@pytest.mark.parametrize("size", [(32, 32), (33, 45), (61, 130), (7, 90), (1, 1)], ids=str)
@pytest.mark.parametrize("slide_stages", [(0, 1), ()], ids=["slide", "plain"])
def test_one_model_takes_images_of_every_size(
    name: str, slide_stages: tuple[int, ...], size: tuple[int, int]
) -> None:
    logits = small(name, slide_stages=slide_stages)(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


@every_family
@pytest.mark.parametrize("slide_stages", [(0, 1), ()], ids=["slide", "plain"])
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_a_batch_of_no_images_has_no_logits(name: str, slide_stages: tuple[int, ...], training: bool) -> None:
    model = small(name, slide_stages=slide_stages).train(training)
    assert model(torch.randn(0, 3, 61, 130)).shape == (0, 5)


@every_family
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = small(name).train()
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@every_family
def test_gradient_checkpointing_runs_each_block_twice_and_changes_no_gradient(name: str) -> None:
    model, image = small(name, drop_path_rate=0.0).train(), torch.randn(2, 3, 33, 40)
    model(image).sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    model.set_grad_checkpointing()
    blocks = [block for stage in model.stages for block in stage.blocks]
    run: list[nn.Module] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda block, _: run.append(block))
    model(image).sum().backward()
    # Once forward, and once more backward, last block first.
    assert run == [*blocks, *reversed(blocks)]
    for parameter, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[parameter], msg=parameter)


@every_family
def test_merging_changes_no_output(name: str) -> None:
    model = small(name)
    merged = models.reparameterize(model)
    for scale in (1e-3, 1.0, 1e2):
        image = scale * torch.randn(2, 3, 37, 45)
        assert (merged(image) - model(image)).abs().max() < 1e-5
    assert models.is_merged(merged)
    assert not models.is_merged(model)


@every_family
def test_features_are_one_map_a_stage(name: str) -> None:
    model = small(name, features_only=True)
    maps = model(torch.randn(1, 3, 65, 96))
    assert [tuple(y.shape[2:]) for y in maps] == [(17, 24), (9, 12), (5, 6), (3, 3)]
    assert [y.shape[1] for y in maps] == model.feature_info.channels()
    assert model.feature_info.reduction() == [4, 8, 16, 32]


@every_family
def test_intermediates_are_the_features_of_the_model(name: str) -> None:
    model, image = small(name), torch.randn(1, 3, 64, 40)
    last, maps = model.forward_intermediates(image, norm=True)
    torch.testing.assert_close(last, model.forward_features(image))
    positions = maps[-1].flatten(2).transpose(1, 2)
    # A class token, if there is one, stands first.
    torch.testing.assert_close(last.flatten(1, -2)[:, -positions.shape[1] :], positions)
    (only,) = model.forward_intermediates(
        image, indices=[1], output_fmt="NHWC", stop_early=True, intermediates_only=True
    )
    torch.testing.assert_close(only.permute(0, 3, 1, 2), maps[1])


@every_family
def test_a_shortened_model_classifies_again(name: str) -> None:
    model = small(name)
    model.prune_intermediate_layers([1])
    model.reset_classifier(7, "avg")
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 7)


@every_family
def test_a_new_classifier_keeps_pooling_dtype_and_mode(name: str) -> None:
    model = small(name).double()
    model.reset_classifier(7)
    assert model(torch.zeros(1, 3, 64, 64, dtype=torch.float64)).shape == (1, 7)
    assert model.get_classifier() is model.head.fc
    assert not model.head.training
    model.reset_classifier(0, "")
    features = model.forward_features(torch.zeros(1, 3, 64, 64, dtype=torch.float64))
    assert model.forward_head(features).shape == features.shape


@every_family
def test_a_classifier_that_cannot_be_built_leaves_the_old_one(name: str) -> None:
    model, image = small(name), torch.randn(2, 3, 64, 64)
    before = model(image)
    with pytest.raises(ValueError, match=r"global_pool must be .*'avg'.*, got 'nonsense'"):
        model.reset_classifier(7, "nonsense")
    assert model.num_classes == 5
    assert model.global_pool != "nonsense"
    assert torch.equal(model(image), before)


@every_family
def test_layers_are_grouped_from_stem_to_head(name: str) -> None:
    model = small(name)
    groups = timm.models.group_parameters(model, model.group_matcher(), return_values=False, reverse=True)
    assert set(groups) == {name for name, _ in model.named_parameters()}
    order = ["patch_embed.", "stages.0.blocks.", "stages.1.blocks.", "stages.3.blocks.", "head."]
    first = [min(number for name, number in groups.items() if name.startswith(part)) for part in order]
    assert first == sorted(set(first))


@every_family
def test_weight_decay_leaves_named_parameters_alone(name: str) -> None:
    model = small(name)
    assert model.no_weight_decay() <= {name for name, _ in model.named_parameters()}
    assert "stages.0.blocks.0.attention.key_bias" in model.no_weight_decay()


class Norm(nn.LayerNorm):
    """One that no layer takes unless told."""


@every_family
@pytest.mark.parametrize("slide_stages", [(0, 1), ()], ids=["slide", "plain"])
def test_every_option_reaches_every_layer(name: str, slide_stages: tuple[int, ...]) -> None:
    model = small(
        name,
        slide_stages=slide_stages,
        deform=False,
        qkv_bias=False,
        norm_layer=Norm,
        drop_rate=0.1,
        proj_drop_rate=0.2,
        attn_drop_rate=0.3,
        drop_path_rate=0.4,
    )
    blocks = [block for stage in model.stages for block in stage.blocks]
    assert model.head.drop.p == 0.1
    assert {(block.attention.proj_drop.p, block.mlp.drop.p) for block in blocks} == {(0.2, 0.2)}
    assert {block.attention.attn_drop for block in blocks} == {0.3}
    rates = [block.drop_path.drop_prob for block in blocks]
    assert rates == pytest.approx([0.4 * number / (len(blocks) - 1) for number in range(len(blocks))])
    assert {type(norm) for block in blocks for norm in (block.norm1, block.norm2)} == {Norm}
    assert Norm in (type(model.norm), type(model.stages[-1].norm))
    names = {parameter for parameter, _ in model.named_parameters()}
    assert [each for each in names if each.endswith(("qkv.bias", "query.bias", "key_value.bias"))] == []
    assert [each for each in names if ".shift." in each] == []


@pytest.mark.parametrize("name", fast(FAMILIES))
def test_sixteen_digits_are_learned_in_thirty_steps(name: str) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    images = torch.from_numpy(digits.images[:16]).float()[:, None] / 16
    images = F.interpolate(images, scale_factor=4).expand(-1, 3, -1, -1)
    labels = torch.from_numpy(digits.target[:16])
    torch.manual_seed(0)
    model = small(name, num_classes=10, drop_path_rate=0.0).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
    assert (model.eval()(images).argmax(1) == labels).all()


@every_family
def test_every_parameter_has_a_gradient_where_all_images_skip_all_branches(name: str) -> None:
    model = small(name).train()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 1.0
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert not [name for name, x in model.named_parameters() if x.grad is None or not x.grad.isfinite().all()]
