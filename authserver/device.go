package authserver

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// Device authorization (RFC 8628): a device without a browser asks here for two codes. The
// person brings the short one to a page of ours (device_approve.go), and the device comes
// back with the long one (grant_devicecode.go).

const prefixDeviceCode = "vk_dc_"

const (
	// deviceLifetime is how long the person has. Whoever tricks somebody into entering a code
	// needs time (RFC 10027, section 6.1.2).
	deviceLifetime = 10 * time.Minute
	// deviceOutlives is how much longer an expired code is known as such.
	deviceOutlives = 10 * time.Minute
	pollInterval   = 5 * time.Second
	// pollTolerance is what a network may take off the interval.
	pollTolerance = time.Second
)

// userCodeLetters are consonants that are told apart and make no words (RFC 8628, section
// 6.1): 34.5 bits in eight of them.
const (
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLength  = 8
)

// deviceCodeData is the data of a device code.
type deviceCodeData struct {
	ClientID string `json:"c"`
	Expires  int64  `json:"e"` // Unix milliseconds
}

// userCodeData is the data of a user code: the request as it came.
type userCodeData struct {
	Device   []byte     `json:"d"` // ID of the device code
	ClientID string     `json:"c"`
	Query    string     `json:"q"`
	Address  netip.Addr `json:"a"`
	Began    int64      `json:"b"` // Unix milliseconds
}

var ruleDeviceRequests = rule{
	must:    "not too many devices asked for codes from this address",
	section: "RFC 8628, section 5.1", code: oauth.TemporarilyUnavailable,
	says: "too many requests; try again in a minute",
	fix:  "wait a minute",
}

// deviceAuthorization is the device authorization endpoint (RFC 8628, section 3.1).
func (c *call) deviceAuthorization() error {
	if err := c.parseForm(); err != nil {
		return err
	}
	cl, err := c.authenticateClient()
	if err != nil {
		return err
	}
	if _, err := c.verifyDeviceRequest(cl); err != nil {
		return err
	}
	if err := c.takeInteraction(cl, &ruleDeviceRequests); err != nil {
		return err
	}
	deviceCode, userCode, err := c.newDeviceCodes(c.s.remoteAddr(c.r))
	if err != nil {
		return err
	}
	page := c.s.config.Issuer + c.s.config.Pages.Device
	return writeJSON(c.w, http.StatusOK, oauth.DeviceAuthorizationResponse{
		DeviceCode: deviceCode, UserCode: userCode, VerificationURI: page, VerificationURIComplete: page + "?user_code=" + userCode,
		ExpiresIn: int64(deviceLifetime / time.Second), Interval: int64(pollInterval / time.Second),
	})
}

// verifyDeviceRequest checks c.params, at the endpoint and again when the person decides.
func (c *call) verifyDeviceRequest(cl *client) (*authorizationRequest, error) {
	if err := c.must(cl.HasGrantType(oauth.GrantTypeDeviceCode), &ruleGrantTypeAllowed); err != nil {
		return nil, err
	}
	request := &authorizationRequest{client: cl, responseType: oauth.ResponseType{Code: true}}
	if err := c.verifyScope(request); err != nil {
		return nil, err
	}
	return request, c.verifyAuthentication(request)
}

func (c *call) newDeviceCodes(address netip.Addr) (deviceCode, userCode string, err error) {
	deviceCode = newSecret(prefixDeviceCode, c.now)
	key := secretKey(ticketkind.DeviceCode, prefixDeviceCode, deviceCode)
	expires := c.now.Add(deviceLifetime)
	device, err := json.Marshal(deviceCodeData{ClientID: c.client.ID, Expires: expires.UnixMilli()})
	if err != nil {
		return "", "", fmt.Errorf("encode device code: %w", err)
	}
	var asked params
	for _, name := range [...]string{"scope", "resource"} {
		for _, value := range c.params.all(name) {
			asked = append(asked, param{name, value})
		}
	}
	query := asked.encode()
	if err := c.countStoredBytes(c.client, len(query)); err != nil {
		return "", "", err
	}
	user, err := json.Marshal(userCodeData{
		Device: key.ID[:], ClientID: c.client.ID, Query: query, Address: address, Began: c.now.UnixMilli(),
	})
	if err != nil {
		return "", "", fmt.Errorf("encode user code: %w", err)
	}
	for range 3 {
		userCode = newUserCode()
		err = c.s.config.Store.Put(c.r.Context(), c.now,
			storage.Ticket{Key: key, Data: device, Expires: expires.Add(deviceOutlives)},
			storage.Ticket{Key: ticketkind.UserCode.Hash(readUserCode(userCode)), Data: user, Expires: expires})
		if !errors.Is(err, storage.ErrExists) { // somebody waits with the same user code
			break
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("store device code: %w", err)
	}
	return deviceCode, userCode, nil
}

// newUserCode returns a user code as people see it: XXXX-XXXX.
func newUserCode() string {
	var code strings.Builder
	var b [1]byte
	for code.Len() < userCodeLength+1 {
		if code.Len() == userCodeLength/2 {
			code.WriteByte('-')
		}
		// 240 is a multiple of 20, so that each letter is as likely.
		if rand.Read(b[:]); b[0] < 240 {
			code.WriteByte(userCodeLetters[int(b[0])%len(userCodeLetters)])
		}
	}
	return code.String()
}

// readUserCode returns the letters of what somebody typed, whatever its case and whatever
// stands between them; "" if it can be no code of ours.
func readUserCode(typed string) string {
	if len(typed) > 64 {
		return ""
	}
	var code strings.Builder
	for _, r := range strings.ToUpper(typed) {
		switch {
		case strings.ContainsRune(userCodeLetters, r):
			code.WriteRune(r)
		case r >= '0' && r <= '9' || r >= 'A' && r <= 'Z':
			return ""
		}
	}
	if code.Len() != userCodeLength {
		return ""
	}
	return code.String()
}
