# SPDX-License-Identifier: Apache-2.0
"""Extensions of Sphinx for this site: links, docstrings, the command line."""
