# SPDX-License-Identifier: Apache-2.0
"""One module for each kind of checkpoint; ssmd/convert/table.py lists them and says what each must have."""
