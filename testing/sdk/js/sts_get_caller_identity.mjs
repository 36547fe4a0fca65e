// Asks STS who we are, with nothing but the environment.
// Prints one line: {"arn": ..., "accessKeyId": ...}, the key being the one that signed the call.
import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import { stsClient } from "./signing-key.mjs";

const { client, keys } = stsClient();
const { Arn } = await client.send(new GetCallerIdentityCommand({}));
console.log(JSON.stringify({ arn: Arn, accessKeyId: keys.at(-1) }));
