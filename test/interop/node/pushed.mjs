// Signs a user in with openid-client and oauth4webapi, with a request that is signed (JAR) and
// pushed (PAR) and a response that is a JWT (JARM), as their documentation shows it.
import * as client from 'openid-client'
import { createInterface } from 'node:readline/promises'

const env = process.env
const der = Buffer.from(env.KEY.replace(/-----[^-]+-----|\s/g, ''), 'base64')
const key = await crypto.subtle.importKey('pkcs8', der, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
const config = await client.discovery(
  new URL(env.ISSUER), env.CLIENT_ID,
  { authorization_signed_response_alg: 'ES256', id_token_signed_response_alg: 'ES256', use_mtls_endpoint_aliases: false },
  client.PrivateKeyJwt({ key, kid: 'one' }),
  { execute: [client.allowInsecureRequests, client.useJwtResponseMode] })

const input = createInterface({ input: process.stdin })
const lines = input[Symbol.asyncIterator]()

const signIn = async (address) => {
  console.log(address.href)
  return new URL((await lines.next()).value)
}

const request = async () => {
  const verifier = client.randomPKCECodeVerifier()
  const state = client.randomState()
  return { verifier, state, parameters: {
    redirect_uri: env.REDIRECT_URI, scope: 'openid', state,
    code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  } }
}

// Pushed and signed.
const first = await request()
const signed = await client.buildAuthorizationUrlWithJAR(config, first.parameters, { key, kid: 'one' })
const address = await client.buildAuthorizationUrlWithPAR(config, signed.searchParams)
const callback = await signIn(address)
const tokens = await client.authorizationCodeGrant(config, callback, {
  pkceCodeVerifier: first.verifier, expectedState: first.state, idTokenExpected: true,
})

// Only pushed: the server requires a signature.
const second = await request()
const refusal = await client.buildAuthorizationUrlWithPAR(config, second.parameters).then(() => 'none', (e) => e.error)

// Only signed: the server requires that it is pushed. The refusal is a JWT too.
const third = await request()
const plain = await client.buildAuthorizationUrlWithJAR(config, { ...third.parameters, response_mode: 'jwt' }, { key, kid: 'one' })
plain.searchParams.set('redirect_uri', env.REDIRECT_URI)
plain.searchParams.set('response_mode', 'jwt')
plain.searchParams.set('response_type', 'code')
plain.searchParams.set('state', third.state)
const unpushed = await client.authorizationCodeGrant(config, await signIn(plain), {
  pkceCodeVerifier: third.verifier, expectedState: third.state,
}).then(() => 'none', (e) => e.error)

input.close()
console.log(JSON.stringify({
  subject: tokens.claims().sub, parameters: [...address.searchParams.keys()].sort().join(' '),
  response: [...callback.searchParams.keys()].join(' '), refusal, unpushed,
}))
