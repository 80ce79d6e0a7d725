# SPDX-License-Identifier: Apache-2.0
"""Models by name; importing this package registers them with timm."""

from slideformer.models.convert import config_from_authors, load_authors, load_host, read_authors
from slideformer.models.counts import HOST_TOP1, PUBLISHED, Counts, count
from slideformer.models.merge import is_merged, reparameterize
from slideformer.models.pyramid import Pyramid
from slideformer.models.slide_cswin import SlideCSwin
from slideformer.models.slide_dat import SlideDat
from slideformer.models.slide_mvit_v2 import SlideMvitV2
from slideformer.models.slide_nat import SlideNat
from slideformer.models.slide_pvt import SlidePvt
from slideformer.models.slide_pvt_v2 import SlidePvtV2
from slideformer.models.slide_swin import SlideSwin
from slideformer.models.warm_start import WarmStart, warm_start

__all__ = [
    "HOST_TOP1",
    "PUBLISHED",
    "Counts",
    "Pyramid",
    "SlideCSwin",
    "SlideDat",
    "SlideMvitV2",
    "SlideNat",
    "SlidePvt",
    "SlidePvtV2",
    "SlideSwin",
    "WarmStart",
    "config_from_authors",
    "count",
    "is_merged",
    "load_authors",
    "load_host",
    "read_authors",
    "reparameterize",
    "warm_start",
]
