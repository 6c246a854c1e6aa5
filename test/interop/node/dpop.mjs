// Gets tokens that are bound to a key with openid-client and oauth4webapi (DPoP), in a pushed
// request, and uses and refreshes them. The server requires nonces.
import * as client from 'openid-client'
import { createInterface } from 'node:readline/promises'

const env = process.env
const config = await client.discovery(
  new URL(env.ISSUER), env.CLIENT_ID, { use_mtls_endpoint_aliases: false, id_token_signed_response_alg: 'ES256' }, client.None(),
  { execute: [client.allowInsecureRequests] })
const keyPair = await client.randomDPoPKeyPair('ES256')
const DPoP = client.getDPoPHandle(config, keyPair)

const input = createInterface({ input: process.stdin })
const lines = input[Symbol.asyncIterator]()

const verifier = client.randomPKCECodeVerifier()
const state = client.randomState()
const address = await client.buildAuthorizationUrlWithPAR(config, {
  redirect_uri: env.REDIRECT_URI, scope: 'openid offline_access', state,
  code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
}, { DPoP })
console.log(address.href)
const callback = new URL((await lines.next()).value)
input.close()

const tokens = await client.authorizationCodeGrant(config, callback, {
  pkceCodeVerifier: verifier, expectedState: state, idTokenExpected: true,
}, undefined, { DPoP })
const info = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP })
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })

// Without the key, the token and the refresh token are useless.
const bearer = await client.fetchUserInfo(config, refreshed.access_token, info.sub).then(() => 'accepted', () => 'refused')
const unbound = await client.refreshTokenGrant(config, refreshed.refresh_token).then(() => 'accepted', (e) => e.error)
const other = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
const otherKey = await client.refreshTokenGrant(config, refreshed.refresh_token, undefined, { DPoP: other }).then(() => 'accepted', (e) => e.error)

console.log(JSON.stringify({
  subject: info.sub, type: tokens.token_type, refreshed: refreshed.token_type, bearer, unbound, otherKey,
}))
