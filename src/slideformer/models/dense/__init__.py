# SPDX-License-Identifier: Apache-2.0
"""Models that answer for places in a picture: detectors and segmenters over any backbone."""
