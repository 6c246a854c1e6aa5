// An OpenID Provider with oidc-provider, for tests of a client and an API. It prints its issuer when
// it is ready, and ends when its standard input is closed.
import { createServer } from 'node:http'
import Provider from 'oidc-provider'

const env = process.env
const server = createServer()
await new Promise((ready) => server.listen(0, '127.0.0.1', ready))
const issuer = `http://127.0.0.1:${server.address().port}`

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: env.CLIENT_ID,
      client_secret: env.CLIENT_SECRET,
      redirect_uris: [env.REDIRECT_URI],
      grant_types: ['authorization_code', 'refresh_token'],
      scope: 'openid profile email offline_access',
    },
    {
      client_id: 'native',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1/callback'],
      grant_types: ['authorization_code'],
      scope: 'openid',
    },
    {
      client_id: env.SERVICE_ID,
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: 'ES256',
      jwks: JSON.parse(env.SERVICE_JWKS),
      redirect_uris: [],
      response_types: [],
      grant_types: ['client_credentials'],
      scope: env.API_SCOPE,
    },
  ],
  scopes: ['openid', 'offline_access', env.API_SCOPE],
  claims: { openid: ['sub'], profile: ['name'], email: ['email'] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: 'Alice Example', email: 'alice@example.com' }),
  }),
  rotateRefreshToken: true,
  enabledJWA: { clientAuthSigningAlgValues: ['ES256'] },
  features: {
    clientCredentials: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({ scope: env.API_SCOPE, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } }),
    },
  },
})
server.on('request', provider.callback())
console.log(issuer)
process.stdin.resume().on('end', () => process.exit())
