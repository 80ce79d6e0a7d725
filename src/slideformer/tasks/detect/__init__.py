# SPDX-License-Identifier: Apache-2.0
"""Detection and instance segmentation: data in COCO's format, training, evaluation, prediction."""
