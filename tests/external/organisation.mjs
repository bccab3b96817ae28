// An organisation's identity provider: people with groups, and machines. The library is certified, and its pages are its own.
//
//   node organisation.mjs BRIDGE SECRET      (the addresses of the bridge; the secret of every application)
//
// Tells `{"issuer": ...}` when it answers. After a line on its input it signs with a new key, publishes the old one too, and tells
// `{"kid": ...}`.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

// The library's remarks are no answers.
console.info = console.error;
const [, , bridge, secret] = process.argv;
const GROUPS = { amina: ['staff', 'mothers-readers'], visitor: ['staff'] };
const tell = (told) => console.log(JSON.stringify(told));
const machine = (client_id) => ({
  client_id, client_secret: secret, redirect_uris: [], response_types: [], grant_types: ['client_credentials'],
});

function newKey() {
  const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
  return { ...key, kid: randomUUID(), alg: 'RS256', use: 'sig' };
}

function provider(issuer, keys) {
  return new Provider(issuer, {
    jwks: { keys },
    cookies: { keys: [randomUUID()] },
    clients: [
      {
        client_id: 'data-explorer', client_secret: secret, redirect_uris: [`${bridge}/oauth/callback/acme`],
        grant_types: ['authorization_code', 'refresh_token'],
      },
      machine('robot'),
      machine('hasty-robot'),
    ],
    pkce: { required: () => true },
    scopes: ['openid', 'profile', 'groups'],
    claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
    // Claims of the scopes are in the ID token, as organisations have it.
    conformIdTokenClaims: false,
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, preferred_username: `${id}@acme.example`, groups: GROUPS[id] ?? [] }),
    }),
    issueRefreshToken: () => true,
    extraTokenClaims: (_, token) => (token.kind === 'ClientCredentials' ? { groups: ['mothers-readers'] } : undefined),
    ttl: { ClientCredentials: (_, token, client) => (client.clientId === 'hasty-robot' ? 1 : 600) },
    features: {
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          scope: '', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  });
}

let answer;
const server = createServer((request, response) => answer(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  let keys = [newKey()];
  answer = provider(issuer, keys).callback();
  tell({ issuer });
  createInterface({ input: process.stdin }).on('line', () => {
    keys = [newKey(), ...keys];
    answer = provider(issuer, keys).callback();
    tell({ kid: keys[0].kid });
  });
});
