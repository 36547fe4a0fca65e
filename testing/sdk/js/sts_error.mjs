// Tries to call STS and prints the error as a user sees it, causes included; then exits with 1.
// A call that works is reported on stderr and exits with 0, so that a test that waits for an error fails.
// Usage: sts_error.mjs [from-http]
// With from-http the client has the container's credential provider alone, and the error is printed as console.log
// prints it, with its members.
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { inspect } from "node:util";

const fromHttp = process.argv[2] === "from-http";
const options = fromHttp ? { credentials: (await import("@aws-sdk/credential-providers")).fromHttp({}) } : {};
try {
  const { Arn } = await new STSClient(options).send(new GetCallerIdentityCommand({}));
  console.error(`no error: ${Arn}`);
} catch (error) {
  const texts = [];
  for (let cause = error; cause; cause = cause.cause) texts.push(`${cause.name}: ${cause.message}`);
  console.log(fromHttp ? inspect(error) : texts.join("\ncaused by: "));
  process.exitCode = 1;
}
