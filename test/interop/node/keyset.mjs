// Reads a key set like strict libraries do: every key must have an alg and a type that the library
// knows. It reads the set from standard input and prints the kinds of its keys.
import { importJWK } from 'jose'
import { readFileSync } from 'node:fs'

const { keys } = JSON.parse(readFileSync(0, 'utf8'))
for (const key of keys) {
  await importJWK(key) // throws without alg
}
console.log(JSON.stringify(keys.map((key) => `${key.kty} ${key.alg} ${key.use}`)))
