// A public client that runs in the browser: the code flow with PKCE (RFC 10017, section
// 6.3). Tokens are kept in a variable alone, so that a reload asks for new ones; whoever can
// run a script in this page can have them all the same, which is why a backend is better.
import { settings } from "./settings.js"

const redirectURI = location.origin + "/"
const say = text => (document.querySelector("#who").textContent = text)

const base64url = bytes => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)))

async function metadata() {
  const answer = await fetch(settings.issuer + "/.well-known/openid-configuration")
  const found = await answer.json()
  if (found.issuer !== settings.issuer) throw new Error("the metadata is another issuer's")
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

// redeem takes the answer out of the address bar before anything else.
async function redeem(answer) {
  history.replaceState(null, "", "/")
  const verifier = sessionStorage.getItem(answer.get("state"))
  sessionStorage.clear()
  if (!verifier) throw new Error("the answer belongs to no sign-in of this tab")
  if (answer.get("iss") !== settings.issuer) throw new Error("the answer is another issuer's")
  if (answer.has("error")) throw new Error(answer.get("error_description") ?? answer.get("error"))
  const response = await fetch((await metadata()).token_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code", client_id: settings.clientID, redirect_uri: redirectURI,
      code: answer.get("code"), code_verifier: verifier,
    }),
  })
  const tokens = await response.json()
  if (!response.ok) throw new Error(tokens.error_description ?? tokens.error)
  return tokens
}

async function showNotes(tokens) {
  const response = await fetch(settings.api + "/notes", { headers: { Authorization: "Bearer " + tokens.access_token } })
  if (!response.ok) throw new Error("the API answered " + response.status)
  const answer = await response.json()
  say("The API answered.")
  document.querySelector("#notes").append(...answer.notes.map(note => {
    const item = document.createElement("li")
    item.textContent = note
    return item
  }))
}

const answer = new URLSearchParams(location.search)
try {
  if (answer.has("state")) {
    await showNotes(await redeem(answer))
  } else {
    say("Nobody is signed in.")
    const button = document.querySelector("#sign-in")
    button.hidden = false
    button.onclick = () => signIn().catch(error => say(error.message))
  }
} catch (error) {
  say(`That did not work: ${error.message}.`)
}
