// Signs a user in with Microsoft's library, gets tokens with the refresh token, and gets
// tokens for the application itself. MSAL puts client-request-id into the URL of the token
// endpoint. Settings come from the environment; see node/signin.mjs.
import { ConfidentialClientApplication, CryptoProvider, ProtocolMode } from '@azure/msal-node'
import { createInterface } from 'node:readline/promises'

const env = process.env
const application = (clientId, clientSecret) => new ConfidentialClientApplication({
  auth: { clientId, clientSecret, authority: env.ISSUER, knownAuthorities: [new URL(env.ISSUER).host] },
  system: { protocolMode: ProtocolMode.OIDC },
})
const app = application(env.CLIENT_ID, env.CLIENT_SECRET)

const { verifier, challenge } = await new CryptoProvider().generatePkceCodes()
const request = { scopes: ['profile', 'email', env.API_SCOPE], redirectUri: env.REDIRECT_URI }
console.log(await app.getAuthCodeUrl({
  ...request, state: 'the-state', nonce: 'the-nonce', codeChallenge: challenge, codeChallengeMethod: 'S256',
}))
const input = createInterface({ input: process.stdin })
const callback = new URL((await input[Symbol.asyncIterator]().next()).value)
input.close()

const signedIn = await app.acquireTokenByCode(
  { ...request, code: callback.searchParams.get('code'), codeVerifier: verifier, nonce: 'the-nonce', state: callback.searchParams.get('state') },
  { state: 'the-state', code: callback.searchParams.get('code') })
const call = async (token) => (await fetch(env.API_URL, { headers: { authorization: `Bearer ${token}` } })).json()
const api = await call(signedIn.accessToken)
const refreshed = await app.acquireTokenSilent({ ...request, account: signedIn.account, forceRefresh: true })
const apiRefreshed = await call(refreshed.accessToken)

const own = await application(env.SERVICE_ID, env.SERVICE_SECRET).acquireTokenByClientCredential({ scopes: [env.API_SCOPE] })
const apiService = await call(own.accessToken)

console.log(JSON.stringify({
  subject: signedIn.idTokenClaims.sub,
  api: api.subject,
  rotated: refreshed.accessToken !== signedIn.accessToken && !refreshed.fromCache,
  api_refreshed: apiRefreshed.subject,
  api_service: apiService.client,
}))
