# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one exception of the lab."""


class LabError(Exception):
    """Something the user can act on; the text says what."""
