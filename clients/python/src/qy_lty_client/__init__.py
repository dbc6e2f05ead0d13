"""Client of qy-lty: a WebSocket that survives bad networks, and the REST API."""

from ._backoff import BackOff
from ._errors import GoneError, QyLtyError, RequestError, RestError
from ._options import Options
from ._sends import Frame, Outcome, Send
from ._store import FileStore, State, Store, StoredSend
from .chat import ChatStream
from .client import DeviceWebSocketClient
from .pairing import pair
from .rest import RestClient

__version__ = "0.2.0"

__all__ = [
    "BackOff", "ChatStream", "DeviceWebSocketClient", "FileStore", "Frame", "GoneError", "Options", "Outcome", "QyLtyError", "RequestError",
    "RestClient", "RestError", "Send", "State", "Store", "StoredSend", "__version__", "pair",
]
