"""Makes a call every <interval> seconds for <seconds> seconds, and two calls at least, with one client, as a
long-running application does.

Usage: boto3_refresh.py <seconds> [<interval>]
Prints one line: {"accessKeyIds": [each once, in order of appearance], "calls": n, "errors": [texts]}.
"""

import json
import sys
import time

from signing_key import sts_client

seconds = float(sys.argv[1])
interval = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
client, keys = sts_client()
calls, errors = 0, []
end = time.monotonic() + seconds
while True:
    calls += 1
    try:
        client.get_caller_identity()
    except Exception as error:  # whatever it is, it is what the application would see
        errors.append(f"{type(error).__name__}: {error}")
    if calls > 1 and time.monotonic() + interval > end:
        break
    time.sleep(interval)
print(json.dumps({"accessKeyIds": list(dict.fromkeys(keys)), "calls": calls, "errors": errors}))
