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

// seal is what the application gives the browser to keep and takes back: neither to be
// read nor changed there, nor used in another place than it was made for.
type seal struct{ aead cipher.AEAD }

// maxSealedBytes bounds what is opened. Browsers keep 4096 bytes a cookie.
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
		return errors.New("client: sealed value is too long")
	}
	closed, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return errors.New("client: sealed value is malformed")
	}
	plain, err := s.aead.Open(nil, nil, closed, []byte(place))
	if err != nil {
		return errors.New("client: sealed value was changed, or sealed by another key")
	}
	if err := json.Unmarshal(plain, into); err != nil {
		return fmt.Errorf("client: open sealed value: %w", err)
	}
	return nil
}

// cookieName gives a cookie the prefix that keeps other hosts of the domain from setting
// it (RFC 6265bis, section 4.1.3.2); only https can have it.
func (p *RelyingParty) cookieName(name string) string {
	if p.origin.Scheme == "https" {
		return "__Host-" + p.prefix + name
	}
	return p.prefix + name
}

// setCookie sets a cookie for all of the application. seconds is zero for one that goes
// with the browser, and negative for one to forget. crossSite lets it come with a form
// that the provider's page posts; on http no browser would take that.
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
