"""Access to the REST API of a server, and sending of data for one run."""

from .http import HttpTransport
from .ws import WsTransport

__all__ = ["HttpTransport", "WsTransport"]
