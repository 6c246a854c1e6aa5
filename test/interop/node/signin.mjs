// Signs a user in and calls an API with openid-client, as its documentation shows.
// Settings come from the environment. It prints the URL for the browser, reads the
// callback URL from standard input, and prints what it found as JSON.
import * as client from 'openid-client'
import { createInterface } from 'node:readline/promises'

const env = process.env
const insecure = { execute: [client.allowInsecureRequests] } // http on loopback

const config = await client.discovery(
  new URL(env.ISSUER), env.CLIENT_ID, undefined, client.ClientSecretBasic(env.CLIENT_SECRET), insecure)

const verifier = client.randomPKCECodeVerifier()
const state = client.randomState()
const nonce = client.randomNonce()
const authorize = client.buildAuthorizationUrl(config, {
  redirect_uri: env.REDIRECT_URI,
  scope: 'openid profile email offline_access ' + env.API_SCOPE,
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  max_age: '3600',
  state,
  nonce,
})
console.log(authorize.href)

const input = createInterface({ input: process.stdin })
const callback = new URL((await input[Symbol.asyncIterator]().next()).value)
input.close()

const tokens = await client.authorizationCodeGrant(config, callback, {
  pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, maxAge: 3600, idTokenExpected: true,
})
const claims = tokens.claims()
const userinfo = await client.fetchUserInfo(config, tokens.access_token, claims.sub)
const call = async (c, token) => {
  const response = await client.fetchProtectedResource(c, token, new URL(env.API_URL), 'GET')
  return { status: response.status, ...(await response.json()) }
}
const api = await call(config, tokens.access_token)
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token)
const apiRefreshed = await call(config, refreshed.access_token)

const before = await client.tokenIntrospection(config, refreshed.access_token)
await client.tokenRevocation(config, refreshed.refresh_token)
const after = await client.tokenIntrospection(config, refreshed.access_token)
const apiAfter = await fetch(env.API_URL, { headers: { authorization: `Bearer ${refreshed.access_token}` } })
const refusal = await client.refreshTokenGrant(config, refreshed.refresh_token).then(() => 'none', (e) => e.error)

const service = await client.discovery(
  new URL(env.ISSUER), env.SERVICE_ID, undefined, client.ClientSecretPost(env.SERVICE_SECRET), insecure)
const own = await client.clientCredentialsGrant(service, { scope: env.API_SCOPE, resource: env.RESOURCE })
const apiService = await call(service, own.access_token)

const der = Buffer.from(env.KEY.replace(/-----[^-]+-----|\s/g, ''), 'base64')
const key = await crypto.subtle.importKey('pkcs8', der, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
const keyholder = await client.discovery(
  new URL(env.ISSUER), env.KEYHOLDER_ID, undefined, client.PrivateKeyJwt({ key, kid: 'one' }), insecure)
const byKey = await client.clientCredentialsGrant(keyholder, { scope: env.API_SCOPE, resource: env.RESOURCE })
const apiByKey = await call(keyholder, byKey.access_token)

const logout = client.buildEndSessionUrl(config, { id_token_hint: tokens.id_token })

console.log(JSON.stringify({
  subject: claims.sub,
  name: userinfo.name,
  email: userinfo.email,
  api: api.subject,
  rotated: refreshed.refresh_token !== tokens.refresh_token,
  api_refreshed: apiRefreshed.subject,
  active_before: before.active,
  active_after: after.active,
  api_after: apiAfter.status,
  refusal,
  api_service: apiService.client,
  api_by_key: apiByKey.client,
  logout: logout.href,
}))
