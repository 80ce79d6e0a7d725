# SPDX-License-Identifier: Apache-2.0
"""Public weights converted to our names and layouts."""

from slideformer.models.convert.authors import config_from_authors, convert, load_authors
from slideformer.models.convert.hosts import convert_host, load_host
from slideformer.models.convert.state import load_all_or_none, read_authors

__all__ = [
    "config_from_authors",
    "convert",
    "convert_host",
    "load_all_or_none",
    "load_authors",
    "load_host",
    "read_authors",
]
