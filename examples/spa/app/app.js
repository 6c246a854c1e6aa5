// A public client in the browser: the authorization code flow with PKCE (RFC 10017, section
// 6.3). Tokens are only kept in a variable, so a reload requests new ones. An attacker who can
// run a script in this page can still get them; that is why a backend is better.
import { settings } from "./settings.js"

const redirectURI = location.origin + "/"
const say = text => (document.querySelector("#who").textContent = text)

const base64url = bytes => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)))

async function metadata() {
  const response = await fetch(settings.issuer + "/.well-known/openid-configuration")
  const found = await response.json()
  if (found.issuer !== settings.issuer) throw new Error("the metadata has another issuer")
  return found
}

async function signIn() {
  const verifier = random(), state = random()
  sessionStorage.setItem(state, verifier)
  const challenge = base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))))
  location.assign((await metadata()).authorization_endpoint + "?" + new URLSearchParams({
    response_type: "code", client_id: settings.clientID, redirect_uri: redirectURI, scope: "notes.read",
    resource: settings.api, state, code_challenge: challenge, code_challenge_method: "S256",
  }))
}

// redeem removes the authorization response from the address bar before anything else.
async function redeem(parameters) {
  history.replaceState(null, "", "/")
  const verifier = sessionStorage.getItem(parameters.get("state"))
  sessionStorage.clear()
  if (!verifier) throw new Error("the response does not belong to a sign-in in this tab")
  if (parameters.get("iss") !== settings.issuer) throw new Error("the response has another issuer")
  if (parameters.has("error")) throw new Error(parameters.get("error_description") ?? parameters.get("error"))
  const response = await fetch((await metadata()).token_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code", client_id: settings.clientID, redirect_uri: redirectURI,
      code: parameters.get("code"), code_verifier: verifier,
    }),
  })
  const tokens = await response.json()
  if (!response.ok) throw new Error(tokens.error_description ?? tokens.error)
  return tokens
}

async function showNotes(tokens) {
  const response = await fetch(settings.api + "/notes", { headers: { Authorization: "Bearer " + tokens.access_token } })
  if (!response.ok) throw new Error("the API responded with status " + response.status)
  const content = await response.json()
  say("Your notes:")
  document.querySelector("#notes").append(...content.notes.map(note => {
    const item = document.createElement("li")
    item.textContent = note
    return item
  }))
}

const parameters = new URLSearchParams(location.search)
try {
  if (parameters.has("state")) {
    await showNotes(await redeem(parameters))
  } else {
    say("You are not signed in.")
    const button = document.querySelector("#sign-in")
    button.hidden = false
    button.onclick = () => signIn().catch(error => say(error.message))
  }
} catch (error) {
  say(`Error: ${error.message}.`)
}
