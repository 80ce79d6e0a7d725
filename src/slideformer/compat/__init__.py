# SPDX-License-Identifier: Apache-2.0
"""Interfaces of other libraries over the operator, so that code written for them runs unchanged."""
