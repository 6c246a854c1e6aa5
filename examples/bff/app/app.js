// The page has no tokens: it asks its own backend, which has them.
const who = document.querySelector("#who")

async function ask(path) {
  const answer = await fetch(path, { headers: { "X-CSRF": "1" } })
  if (answer.status === 401) return null // nobody is signed in, or not any more
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`)
  return answer.json()
}

try {
  const session = await ask("/auth/session")
  const answer = session && (await ask("/api/notes"))
  if (answer) {
    who.textContent = `Hello, ${session.claims.name ?? session.sub}.`
    document.querySelector("#notes").append(...answer.notes.map(note => {
      const item = document.createElement("li")
      item.textContent = note
      return item
    }))
    document.querySelector("#sign-out").hidden = false
  } else {
    who.innerHTML = 'Nobody is signed in. <a href="/auth/sign-in">Sign in</a>'
  }
} catch (error) {
  who.textContent = `That did not work: ${error.message}.`
}
