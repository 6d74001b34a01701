"""A self-hosted, IRC-like chat and presence server for VR headsets, on trio.

`serve` runs a server inside a trio program, `Server` is the blocking form, `open_client` talks to one.
"""

from ._config import Config as Config
from ._server import Handle as Handle
from ._server import serve as serve
from ._statistics import Statistics as Statistics
from ._version import __version__ as __version__
