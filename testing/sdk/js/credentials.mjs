// Resolves credentials with the default chain of AWS's SDK for JavaScript.
// Prints one line: {"accessKeyId": ..., "secretAccessKey": ..., "sessionToken": ...}.
import { fromNodeProviderChain } from "@aws-sdk/credential-providers";

const { accessKeyId, secretAccessKey, sessionToken } = await fromNodeProviderChain()();
console.log(JSON.stringify({ accessKeyId, secretAccessKey, sessionToken }));
