"""Resolves credentials with boto3's default chain.

Prints one line: {"accessKeyId": ..., "secretAccessKey": ..., "sessionToken": ...}.
"""

import json
import sys

import boto3

credentials = boto3.Session().get_credentials()
if credentials is None:
    sys.exit("boto3 found no credentials")
frozen = credentials.get_frozen_credentials()
print(json.dumps({
    "accessKeyId": frozen.access_key,
    "secretAccessKey": frozen.secret_key,
    "sessionToken": frozen.token,
}))
