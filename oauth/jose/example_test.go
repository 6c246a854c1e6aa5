package jose_test

import (
	"encoding/json"
	"fmt"
	"log"

	"github.com/valetkey/valetkey/oauth/jose"
)

// A server signs a token and publishes its public key. An API verifies the token.
func Example() {
	key, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.ES256, "2026-11", key)
	if err != nil {
		log.Fatal(err)
	}
	token, err := signer.Sign("at+jwt", []byte(`{"iss":"https://login.example.com","sub":"alice"}`))
	if err != nil {
		log.Fatal(err)
	}
	published, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{signer.Public()}})
	if err != nil {
		log.Fatal(err)
	}

	keys, err := jose.ParsePublishedKeySet(published)
	if err != nil {
		log.Fatal(err)
	}
	payload, header, err := jose.Verify(token, keys, jose.Expected{
		Algorithms: []jose.Algorithm{jose.ES256}, Types: []string{"at+jwt"},
	})
	if err != nil {
		log.Fatal(err)
	}
	claims, err := jose.ParseClaims(payload, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(header.KeyID, claims.Subject)

	_, _, err = jose.Verify(token, keys, jose.Expected{Algorithms: []jose.Algorithm{jose.ES256}, Types: []string{"logout+jwt"}})
	fmt.Println(err)
	// Output:
	// 2026-11 alice
	// jose: the typ is not accepted
}

// A message is encrypted to a public key.
func ExampleEncrypt() {
	key, err := jose.GenerateKey(jose.ECDHES)
	if err != nil {
		log.Fatal(err)
	}
	recipient, err := jose.NewDecrypter("enc-1", key)
	if err != nil {
		log.Fatal(err)
	}
	token, err := jose.Encrypt(jose.ECDHES, jose.A256GCM, recipient.Public(), jose.Message{Payload: []byte("confidential")})
	if err != nil {
		log.Fatal(err)
	}
	payload, _, err := jose.Decrypt(token, []*jose.Decrypter{recipient}, []jose.Algorithm{jose.ECDHES})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", payload)
	// Output: confidential
}
