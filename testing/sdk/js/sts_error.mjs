// Tries to call STS and prints the error as a user sees it, causes included; then exits with 1.
// A call that works is reported on stderr and exits with 0, so that a test that waits for an error fails.
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

try {
  const { Arn } = await new STSClient({}).send(new GetCallerIdentityCommand({}));
  console.error(`no error: ${Arn}`);
} catch (error) {
  const texts = [];
  for (let cause = error; cause; cause = cause.cause) texts.push(`${cause.name}: ${cause.message}`);
  console.log(texts.join("\ncaused by: "));
  process.exitCode = 1;
}
