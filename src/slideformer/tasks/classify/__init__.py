# SPDX-License-Identifier: Apache-2.0
"""Image classification: train, evaluate, predict."""

from slideformer.lazy import lazy_names

__all__ = ["Request", "Source", "register_source"]
__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "slideformer.tasks.classify.sources"))
