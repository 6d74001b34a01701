"""A self-hosted, IRC-like chat and presence server for VR headsets, on trio.

`serve` runs a server inside a trio program, `Server` is the blocking form, `open_client` talks to a server,
`trio_vrchat.testing` is the server in memory, for tests. `help(trio_vrchat.Client)` and so on say more.
"""

from ._blocking import Server as Server
from ._client import Client as Client
from ._config import Config as Config
from ._errors import AccessDenied as AccessDenied
from ._errors import BadRequest as BadRequest
from ._errors import CannotConnect as CannotConnect
from ._errors import ClientError as ClientError
from ._errors import ConfigError as ConfigError
from ._errors import Conflict as Conflict
from ._errors import ConnectionLost as ConnectionLost
from ._errors import InternalError as InternalError
from ._errors import InvalidStructure as InvalidStructure
from ._errors import ListenError as ListenError
from ._errors import NotInRoom as NotInRoom
from ._errors import RecordingError as RecordingError
from ._errors import ReplayError as ReplayError
from ._errors import RequestError as RequestError
from ._errors import SlowDown as SlowDown
from ._errors import StoreError as StoreError
from ._errors import TooMuch as TooMuch
from ._errors import Unavailable as Unavailable
from ._errors import UnknownCommand as UnknownCommand
from ._errors import VrchatError as VrchatError
from ._events import Disconnected as Disconnected
from ._events import Event as Event
from ._events import Joined as Joined
from ._events import Left as Left
from ._events import Missed as Missed
from ._events import Moved as Moved
from ._events import Reconnected as Reconnected
from ._events import Refused as Refused
from ._events import Said as Said
from ._events import Transform as Transform
from ._events import Vector as Vector
from ._open_client import open_client as open_client
from ._server import Handle as Handle
from ._server import serve as serve
from ._statistics import Histogram as Histogram
from ._statistics import Statistics as Statistics
from ._version import __version__ as __version__

# Where people import a name from is the name that tracebacks and help should show.
for _exported in list(globals().values()):
    if getattr(_exported, "__module__", "").startswith(f"{__name__}._"):
        _exported.__module__ = __name__
