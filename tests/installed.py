# SPDX-License-Identifier: Apache-2.0
"""Check an installed slideformer: its kernels are there, and a layer and a model compute.

python tests/installed.py
"""

import timm
import torch

import slideformer
from slideformer.ops.cpu import library

assert library.missing() is None, library.missing()
torch.manual_seed(0)
query, key, value = torch.randn(3, 2, 9, 7, 3, 32)
results = {
    backend: slideformer.slide_attention(query, key, value, kernel_size=3, backend=backend)
    for backend in ("cpu", "reference")
}
torch.testing.assert_close(results["cpu"], results["reference"], atol=1e-5, rtol=1e-5)
model = timm.create_model("slide_swin_nano", num_classes=10).eval()
with torch.no_grad():
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 10)
print(f"slideformer {slideformer.__version__} of {slideformer.__file__} works")
