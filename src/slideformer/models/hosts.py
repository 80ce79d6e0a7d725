# SPDX-License-Identifier: Apache-2.0
"""Timm's own implementations of plain hosts, by the model that improves them."""

TIMM_HOSTS = {
    "slide_mvit_v2_tiny": "mvitv2_tiny",
    "slide_mvit_v2_small": "mvitv2_small",
    "slide_pvt_v2_b1": "pvt_v2_b1",
    "slide_pvt_v2_b2": "pvt_v2_b2",
    "slide_pvt_v2_b3": "pvt_v2_b3",
    "slide_pvt_v2_b4": "pvt_v2_b4",
    "slide_swin_tiny": "swin_tiny_patch4_window7_224",
    "slide_swin_small": "swin_small_patch4_window7_224",
    "slide_swin_base": "swin_base_patch4_window7_224",
}
