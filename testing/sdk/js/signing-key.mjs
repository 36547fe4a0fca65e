// An STS client that notes the access key id of each request as it leaves.
import { STSClient } from "@aws-sdk/client-sts";

export function stsClient() {
  const client = new STSClient({});
  const keys = [];
  const note = (next) => (args) => {
    const header = args.request.headers.authorization ?? args.request.headers.Authorization;
    keys.push(/Credential=([^/]+)\//.exec(header)[1]);
    return next(args);
  };
  client.middlewareStack.add(note, { step: "deserialize", priority: "low", name: "noteSigningKey" });
  return { client, keys };
}
