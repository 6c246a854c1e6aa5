package wycheproof

// stricter are vectors called valid that jose refuses; milder are those called invalid
// that it accepts.
var (
	stricter = map[string]map[int]bool{
		"json_web_signature_test.json": {
			347: true, 351: true, // the key's alg is ES521, which is no algorithm
			346: true, 350: true, // the alg of the key is PS256, that of the token PS384
			372: true, 373: true, // a question mark within base64url
		},
		"json_web_key_test.json": {
			2: true, // sets of secrets, which jose does not have
		},
		"json_web_crypto_test.json": {
			48: true, // a set of secrets
		},
	}
	milder = map[string]map[int]bool{
		"json_web_signature_test.json": {
			367: true, 370: true, // the very token of vector 357, which is called valid
		},
	}
)
