"""Makes calls of any service, each once, and prints what came of them, a line each.

Usage: boto3_call.py '{"service": "eks-auth", "operation": "assume_role_for_pod_identity", "endpoint": "http://...",
    "region": "...", "parameters": {...},
    "keys": {"accessKeyId": "...", "secretAccessKey": "...", "sessionToken": "..."}}' ...

Without "keys" a call goes unsigned. Prints the answer (times as ISO 8601), or {"code": ..., "status": ...,
"message": ...}; "status" is null where there was no answer, or none that can be read. Exits with 0 where every call
was answered, else with 1.
"""

import json
import sys

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError



def client_of(call):
    keys = call.get("keys")
    config = Config(retries={"total_max_attempts": 1}, signature_version=None if keys else UNSIGNED)
    return boto3.client(
        call["service"],
        endpoint_url=call["endpoint"],
        region_name=call["region"],
        aws_access_key_id=keys["accessKeyId"] if keys else None,
        aws_secret_access_key=keys["secretAccessKey"] if keys else None,
        aws_session_token=keys.get("sessionToken") if keys else None,
        config=config,
    )


def failure(code, status, message):
    return {"code": code, "status": status, "message": message}


def make(call):
    """Returns whether the call was answered, and what is to be printed."""
    client = client_of(call)
    try:
        answer = getattr(client, call["operation"])(**call.get("parameters", {}))
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return False, failure(error.response["Error"]["Code"], status, error.response["Error"].get("Message"))
    except (BotoCoreError, ResponseParserError) as error:
        return False, failure(type(error).__name__, None, str(error))
    del answer["ResponseMetadata"]
    return True, answer


all_answered = True
for argument in sys.argv[1:]:
    answered, outcome = make(json.loads(argument))
    all_answered &= answered
    print(json.dumps(outcome, default=lambda time: time.isoformat()))
sys.exit(0 if all_answered else 1)
