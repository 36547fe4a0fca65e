"""Asks STS who we are, with nothing but the environment.

Prints one line: {"arn": ..., "accessKeyId": ...}, the key being the one that signed the call.
"""

import json

from signing_key import sts_client

client, keys = sts_client()
arn = client.get_caller_identity()["Arn"]
print(json.dumps({"arn": arn, "accessKeyId": keys[-1]}))
