"""The container's health check: exits with 0 while the server says that requests may be sent to it."""

import os
import sys
from urllib.request import urlopen

_URL = f"http://127.0.0.1:{os.environ.get('EXECUTION_PORT', '8080')}/health/ready"
_SECONDS = 4

try:
    urlopen(_URL, timeout=_SECONDS).close()
except OSError as error:  # no answer, or one that says no
    sys.exit(str(error))
