// A host made with one of the official TypeScript SDKs: it knows nothing but the bridge's address, and a person has a browser.
//
//   node host.mjs PACKAGE document|registration URL TENANT
//
// It connects, lists tools, asks for a number, calls a tool that needs more than it was allowed, goes on with a token that is good
// no more, and then gives its tokens back. Each step is a JSON line; after `open`, the browser has to go to the `address`.
import { createServer } from 'node:http';

const [, , sdk, identity, url, tenant] = process.argv;
const parts = sdk === '@modelcontextprotocol/sdk' ? ['/client/index.js', '/client/streamableHttp.js', '/client/auth.js'] : [''];
const modules = await Promise.all(parts.map((part) => import(sdk + part)));
const { Client, StreamableHTTPClientTransport, UnauthorizedError, discoverAuthorizationServerMetadata } = Object.assign({}, ...modules);

const tell = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));

let arrive;
const callback = createServer((request, response) => {
  response.end('You may close this page.');
  arrive(new URL(request.url, memory.redirectUrl).searchParams);
});
await new Promise((listening) => callback.listen(0, '127.0.0.1', listening));

// What a host keeps for a server.
const memory = {
  redirectUrl: `http://127.0.0.1:${callback.address().port}/callback`,
  get clientMetadata() {
    return {
      client_name: 'A host in TypeScript',
      redirect_uris: [this.redirectUrl],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
      application_type: 'native',
    };
  },
  // A published document, which the bridge knows without fetching it.
  clientMetadataUrl: identity === 'document' ? 'https://claude.ai/oauth/claude-code-client-metadata' : undefined,
  clientInformation: () => memory.client,
  saveClientInformation: (client) => { memory.client = client; },
  tokens: () => memory.kept,
  saveTokens: (tokens) => { memory.kept = tokens; },
  invalidateCredentials: (what) => {
    if (what !== 'client') memory.kept = undefined;
    if (what === 'client' || what === 'all') memory.client = undefined;
  },
  codeVerifier: () => memory.verifier,
  saveCodeVerifier: (verifier) => { memory.verifier = verifier; },
  redirectToAuthorization: (address) => {
    memory.answer = new Promise((resolve) => { arrive = resolve; });
    tell('open', { address: String(address), scopes: address.searchParams.get('scope') });
  },
};

// Does the work, and once more after the person has signed in where that is asked for.
async function connected(work) {
  const client = new Client({ name: 'host', version: '1' });
  const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: memory });
  try {
    await client.connect(transport);
    return await work(client);
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    const answer = await memory.answer;
    await transport.finishAuth(sdk === '@modelcontextprotocol/sdk' ? answer.get('code') : answer);
  } finally {
    await client.close();
  }
  return connected(work);
}

const call = (name, more = {}) => connected((client) => client.callTool({ name, arguments: { tenant, ...more } }));
const count = async () => (await call('query', { sql: 'SELECT count(*) FROM cases' })).structuredContent.data.rows[0][0];

tell('tools', { names: (await connected((client) => client.listTools())).tools.map((tool) => tool.name) });
tell('answer', { cases: await count(), client_id: memory.client.client_id, scopes: memory.kept.scope });

const more = await call('set_semantics').catch((error) => ({ refused: String(error.message) }));
tell('step_up', { success: more.structuredContent?.success, refused: more.refused, scopes: memory.kept.scope });

const before = memory.kept;
memory.kept = { ...before, access_token: 'of yesterday' };
tell('refresh', { cases: await count(), is_new: memory.kept.refresh_token !== before.refresh_token });

const { revocation_endpoint } = await discoverAuthorizationServerMetadata(new URL(url).origin);
const body = new URLSearchParams({ token: memory.kept.refresh_token, client_id: memory.client.client_id });
const revoked = await fetch(revocation_endpoint, { method: 'POST', body });
tell('revoked', { status: revoked.status });
// Ends with `open`: nothing that it holds is good now.
await connected((client) => client.listTools());
