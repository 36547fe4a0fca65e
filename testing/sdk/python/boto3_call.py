"""Makes one call of any service, once, and prints what came of it.

Usage: boto3_call.py '{"service": "eks-auth", "operation": "assume_role_for_pod_identity", "endpoint": "http://...",
    "region": "...", "parameters": {...},
    "keys": {"accessKeyId": "...", "secretAccessKey": "...", "sessionToken": "..."}}'

Without "keys" the call goes unsigned. Prints the answer (times as ISO 8601) and exits with 0, or
{"code": ..., "status": ..., "message": ...} and exits with 1; "status" is null where there was no answer, or none that
can be read.
"""

import json
import sys

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

call = json.loads(sys.argv[1])
keys = call.get("keys")
config = Config(retries={"total_max_attempts": 1}, signature_version=None if keys else UNSIGNED)
client = boto3.client(
    call["service"],
    endpoint_url=call["endpoint"],
    region_name=call["region"],
    aws_access_key_id=keys["accessKeyId"] if keys else None,
    aws_secret_access_key=keys["secretAccessKey"] if keys else None,
    aws_session_token=keys.get("sessionToken") if keys else None,
    config=config,
)


def fail(code, status, message):
    print(json.dumps({"code": code, "status": status, "message": message}))
    sys.exit(1)


try:
    answer = getattr(client, call["operation"])(**call.get("parameters", {}))
except ClientError as error:
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    fail(error.response["Error"]["Code"], status, error.response["Error"].get("Message"))
except (BotoCoreError, ResponseParserError) as error:
    fail(type(error).__name__, None, str(error))
del answer["ResponseMetadata"]
print(json.dumps(answer, default=lambda time: time.isoformat()))
