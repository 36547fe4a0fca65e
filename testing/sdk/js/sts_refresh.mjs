// Makes a call every <interval> seconds for <seconds> seconds, and two calls at least, with one client, as a
// long-running application does.
// Usage: sts_refresh.mjs <seconds> [<interval>]
// Prints one line: {"accessKeyIds": [each once, in order of appearance], "calls": n, "errors": [texts]}.
import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import { setTimeout as sleep } from "node:timers/promises";
import { stsClient } from "./signing-key.mjs";

const seconds = Number(process.argv[2]);
const interval = Number(process.argv[3] ?? 1);
const { client, keys } = stsClient();
const errors = [];
let calls = 0;
const end = performance.now() + seconds * 1000;
for (;;) {
  calls += 1;
  try {
    await client.send(new GetCallerIdentityCommand({}));
  } catch (error) {
    errors.push(`${error.name}: ${error.message}`);
  }
  if (calls > 1 && performance.now() + interval * 1000 > end) break;
  await sleep(interval * 1000);
}
console.log(JSON.stringify({ accessKeyIds: [...new Set(keys)], calls, errors }));
