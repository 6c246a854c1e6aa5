package client

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// seal encrypts values that the browser stores for the application. They cannot be read or
// changed there, or used for another purpose.
type seal struct{ aead cipher.AEAD }

// maxSealedBytes limits the values that are decrypted. Browsers store at most 4096 bytes per
// cookie.
const maxSealedBytes = 4096

func newSeal(key []byte) (seal, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return seal{}, fmt.Errorf("client: CookieKey: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return seal{}, fmt.Errorf("client: CookieKey: %w", err)
	}
	return seal{aead}, nil
}

func (s seal) close(place string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("client: seal: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, []byte(place))), nil
}

func (s seal) open(place, sealed string, into any) error {
	if len(sealed) > maxSealedBytes {
		return errors.New("client: encrypted value is too long")
	}
	closed, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return errors.New("client: encrypted value is malformed")
	}
	plain, err := s.aead.Open(nil, nil, closed, []byte(place))
	if err != nil {
		return errors.New("client: encrypted value was changed, or encrypted with another key")
	}
	if err := json.Unmarshal(plain, into); err != nil {
		return fmt.Errorf("client: decode encrypted value: %w", err)
	}
	return nil
}

// cookieName adds the prefix that prevents other hosts of the domain from setting the cookie
// (RFC 6265bis, section 4.1.3.2). It is possible with https only.
func (p *RelyingParty) cookieName(name string) string {
	if p.origin.Scheme == "https" {
		return "__Host-" + p.prefix + name
	}
	return p.prefix + name
}

// setCookie sets a cookie for all paths of the application. seconds is zero for a session
// cookie, and negative to delete it. crossSite makes browsers send it with a form that the
// provider's page posts; with http, no browser would accept that.
func (p *RelyingParty) setCookie(w http.ResponseWriter, name, value string, seconds int, crossSite bool) {
	cookie := &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: seconds,
		HttpOnly: true, Secure: p.origin.Scheme == "https", SameSite: http.SameSiteLaxMode,
	}
	if crossSite && cookie.Secure {
		cookie.SameSite = http.SameSiteNoneMode
	}
	http.SetCookie(w, cookie)
}
