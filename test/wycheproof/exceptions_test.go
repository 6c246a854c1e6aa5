package wycheproof

// stricter are valid vectors that jose rejects; milder are invalid vectors that it accepts.
var (
	stricter = map[string]map[int]bool{
		"json_web_signature_test.json": {
			347: true, 351: true, // the key's alg is ES521, which does not exist
			346: true, 350: true, // the key has alg PS256, the token PS384
			372: true, 373: true, // a question mark in base64url
		},
		"json_web_key_test.json": {
			2: true, // key sets with symmetric keys, which jose does not support
		},
		"json_web_crypto_test.json": {
			48: true, // a key set with symmetric keys
		},
	}
	milder = map[string]map[int]bool{
		"json_web_signature_test.json": {
			367: true, 370: true, // the same token as in vector 357, which is valid
		},
	}
)
