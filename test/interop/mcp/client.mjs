// The client of the official TypeScript SDK. It prints the URL for the browser, reads the callback
// URL from standard input, and finally prints the results of the tools.
import { createInterface } from "node:readline/promises";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const { MCP_SERVER, CLIENT_METADATA_URL, REDIRECT_URI } = process.env;
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const stored = {};
const provider = {
  redirectUrl: REDIRECT_URI,
  clientMetadataUrl: CLIENT_METADATA_URL || undefined,
  clientMetadata: {
    client_name: "Example MCP Client",
    redirect_uris: [REDIRECT_URI],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  state: () => (stored.state = crypto.randomUUID()),
  clientInformation: () => stored.client,
  saveClientInformation: (client) => (stored.client = client),
  tokens: () => stored.tokens,
  saveTokens: (tokens) => (stored.tokens = tokens),
  redirectToAuthorization: (address) => console.log(address.href),
  saveCodeVerifier: (verifier) => (stored.verifier = verifier),
  codeVerifier: () => stored.verifier,
};

// signedIn calls what, and calls it again after the user has signed in if that is required.
let client, transport;
async function signedIn(what) {
  try {
    return await what();
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    const callback = new URL((await input.next()).value);
    if (callback.searchParams.get("state") !== stored.state) throw new Error("the callback has another state");
    await transport.finishAuth(callback.searchParams.get("code"));
    return await what();
  }
}

async function connect() {
  client = new Client({ name: "test", version: "1" });
  transport = new StreamableHTTPClientTransport(new URL(MCP_SERVER), { authProvider: provider });
  await client.connect(transport);
}

async function call(name, args) {
  const result = await client.callTool({ name, arguments: args });
  return result.content[0].text;
}

await signedIn(connect);
// The access token is not valid any more: the client uses the refresh token.
stored.tokens.access_token = "expired";
const before = await call("list_notes", {});
const refreshed = stored.tokens.access_token !== "expired";
// With a refresh token, the SDK would refresh when another scope is required.
delete stored.tokens.refresh_token;
const added = await signedIn(() => call("add_note", { text: "Feed the cat" }));
const after = await call("list_notes", {});
await client.close();
console.log(JSON.stringify({ before, added, after, refreshed, client: stored.client.client_id }));
process.exit(0);
