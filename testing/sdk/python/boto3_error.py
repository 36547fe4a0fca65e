"""Tries to call STS and prints the error as a user sees it, causes included; then exits with 1.

A call that works is reported on stderr and exits with 0, so that a test that waits for an error fails.
"""

import sys
import traceback

import boto3

try:
    answer = boto3.client("sts").get_caller_identity()
except Exception as error:
    cause, texts = error, []
    while cause is not None:
        texts.append("".join(traceback.format_exception_only(cause)).strip())
        cause = cause.__cause__ or cause.__context__
    print("\ncaused by: ".join(texts))
    sys.exit(1)
print(f"no error: {answer['Arn']}", file=sys.stderr)
