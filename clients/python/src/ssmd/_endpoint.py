# SPDX-License-Identifier: Apache-2.0
"""Where the daemon is, and why it does not answer."""

import os
import stat

SYSTEM = "ipc:///run/ssmd/ssmd.sock"


def default_endpoint() -> str:
    """$SSMD_ENDPOINT, or $XDG_RUNTIME_DIR/ssmd/ssmd.sock when that socket exists, or the system's."""
    if named := os.environ.get("SSMD_ENDPOINT"):
        return named
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        path = f"{runtime}/ssmd/ssmd.sock"
        if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
            return f"ipc://{path}"
    return SYSTEM


def explain_silence(endpoint: str, why: str) -> str:
    """As far as it can be seen from here."""
    path = endpoint.removeprefix("ipc://")
    if path != endpoint and not path.startswith("@"):
        if not os.path.exists(path):
            return f"no daemon at {endpoint}: there is no such socket; is ssmd running?"
        if not os.access(path, os.W_OK):
            return f"the socket {path} may not be used by this user"
    return f"no daemon answers at {endpoint}{f' ({why})' if why else ''}; is ssmd running?"
