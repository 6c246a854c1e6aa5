// An OpenID Provider with oidc-provider, for tests of a server that signs its users in there. It prints its
// issuer when it is ready, and ends when its standard input is closed. A POST to /test/name changes the name
// of its user.
import { createServer } from 'node:http'
import Provider from 'oidc-provider'

const env = process.env
const server = createServer()
await new Promise((ready) => server.listen(0, '127.0.0.1', ready))
const issuer = `http://127.0.0.1:${server.address().port}`
let name = 'Alice Example'

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: env.CLIENT_ID,
      client_secret: env.CLIENT_SECRET,
      redirect_uris: [env.ISSUER + '/upstream/node/callback'],
      post_logout_redirect_uris: [env.ISSUER + '/upstream/node/post-logout'],
      backchannel_logout_uri: env.ISSUER + '/upstream/node/backchannel-logout',
      backchannel_logout_session_required: true,
    },
  ],
  claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name, email: id + '@node.example', email_verified: true }),
  }),
  // Its own function refuses requests to loopback addresses.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  features: {
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
  },
})
provider.on('backchannel.error', (_, error) => console.error(error))
const callback = provider.callback()
server.on('request', (request, response) => {
  if (request.method === 'POST' && request.url === '/test/name') {
    name = 'Alice Married'
    response.end()
    return
  }
  callback(request, response)
})
console.log(issuer)
process.stdin.resume().on('end', () => process.exit())
