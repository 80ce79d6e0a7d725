# SPDX-License-Identifier: Apache-2.0
"""The embedded set of scenes: photographs with pasted objects, labelled for detection and segmentation."""
