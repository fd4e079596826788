// An authorization server that nobody here wrote (panva's oidc-provider), on a free port of the loopback interface.
// It says where it is on its first line, and ends when whoever started it does: its stdin is closed then.
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const ours = JSON.parse(process.env.PEER);
const lives = new Map(ours.clients.map((client) => [client.client_id, client.life_s]));
const life = (ctx, token, client) => lives.get(client?.clientId) ?? 3600;

const configuration = (issuer) => ({
  clients: ours.clients.map(({ life_s, ...client }) => client),
  scopes: ['openid', 'offline_access', 'read', 'write'],
  cookies: { keys: ['of no value'] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async (ctx, client, code) =>
    client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
  ttl: {
    AccessToken: life, ClientCredentials: life, AuthorizationCode: 60, Grant: 3600, IdToken: 600,
    Interaction: 600, RefreshToken: 3600, Session: 3600,
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    rpInitiatedLogout: { enabled: false },
  },
});

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration(issuer));
  provider.on('server_error', (ctx, error) => console.error(error));
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});
process.stdin.resume().on('end', () => process.exit(0));
