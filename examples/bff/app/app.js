// The page has no tokens. It sends its requests to its backend, which has them.
const who = document.querySelector("#who")

async function get(path) {
  const response = await fetch(path, { headers: { "X-CSRF": "1" } })
  if (response.status === 401) return null // not signed in, or not anymore
  if (!response.ok) throw new Error(`${path}: status ${response.status}`)
  return response.json()
}

try {
  const session = await get("/auth/session")
  const content = session && (await get("/api/notes"))
  if (content) {
    who.textContent = `Hello, ${session.claims.name ?? session.sub}.`
    document.querySelector("#notes").append(...content.notes.map(note => {
      const item = document.createElement("li")
      item.textContent = note
      return item
    }))
    document.querySelector("#sign-out").hidden = false
  } else {
    who.innerHTML = 'You are not signed in. <a href="/auth/sign-in">Sign in</a>'
  }
} catch (error) {
  who.textContent = `Error: ${error.message}.`
}
