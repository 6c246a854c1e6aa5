package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// ErrUserCode says that a user code is not that of a device that waits.
var ErrUserCode = errors.New("authserver: no device waits with this user code")

// Device is a device that waits for the person's decision.
type Device struct {
	// UserCode is what the device shows, XXXX-XXXX.
	UserCode string
	// Address is where the device asked from, and Began when.
	Address netip.Addr
	Began   time.Time
}

// device is what an interaction knows of a device request.
type device struct {
	code   string // the user code's letters
	stored userCodeData
}

// deviceAnswer is what the person decided, as the data of a ticket.
type deviceAnswer struct {
	Denied        bool           `json:"d,omitempty"`
	Authorization *authorization `json:"a,omitempty"`
}

var ruleUserCodes = rule{
	must:    "not too many user codes were tried",
	section: "RFC 8628, section 5.1", code: oauth.TemporarilyUnavailable,
	says: "too many attempts; try again in a minute",
	fix:  "wait a minute, or sign in first: whoever is signed in has attempts of their own",
}

// BeginDevice begins the interaction in which a person decides on the device that shows a
// user code, and writes the answer: a redirect to the next page. The error is ErrUserCode
// or a *TryLaterError, and then nothing was written.
func (s *Server) BeginDevice(w http.ResponseWriter, r *http.Request, typed string) error {
	c := s.newCall(w, r)
	who, err := s.config.Users.SignedIn(r)
	if err != nil {
		c.finish(err)
		return nil
	}
	i, err := c.beginDevice(typed, who)
	if later, ok := errors.AsType[*TryLaterError](err); ok {
		return later
	}
	if errors.Is(err, ErrUserCode) {
		return ErrUserCode
	}
	if err == nil {
		err = c.advance(i, who)
	}
	c.finish(err)
	return nil
}

// beginDevice looks for the device with a user code, unless too many wrong ones came. The
// limit of the address comes first, or in its place that of the person, whom strangers at the
// same address must not keep out. The limit of everybody together refuses only those who have
// failed before: one guess from each of many addresses gains nothing, and a person who types
// the right code passes.
func (c *call) beginDevice(typed string, who *Authentication) (*interaction, error) {
	code := readUserCode(typed)
	if code == "" {
		return nil, ErrUserCode // it can be nobody's, so it is no guess
	}
	party, everybody := ratelimit.NewKey(c.network()), ratelimit.NewKey()
	if who != nil {
		party = ratelimit.NewKey("subject", who.Subject)
	}
	own, all := c.s.limits.userCodes, c.s.limits.allUserCodes
	own.Load(c.r.Context(), c.now, party)
	failed := own.Used(c.now, party) > 0
	if wait := own.Take(c.now, party); wait > 0 { // counted before, because guesses can be parallel
		return nil, c.tooManyUserCodes(wait)
	}
	if failed {
		all.Load(c.r.Context(), c.now, everybody)
		if wait := all.Wait(c.now, everybody); wait > 0 {
			own.Undo(c.now, party)
			return nil, c.tooManyUserCodes(wait)
		}
	}
	i, err := c.deviceInteraction(code)
	if errors.Is(err, ErrUserCode) {
		all.Take(c.now, everybody)
	} else {
		own.Undo(c.now, party)
	}
	return i, err
}

func (c *call) tooManyUserCodes(wait time.Duration) error {
	_ = c.refuse(&ruleUserCodes, c.s.remoteAddr(c.r).String())
	return &TryLaterError{After: wholeSeconds(wait)}
}

// deviceInteraction verifies the request of the device that waits with a user code.
func (c *call) deviceInteraction(code string) (*interaction, error) {
	if code == "" {
		return nil, ErrUserCode
	}
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, ticketkind.UserCode.Hash(code))
	if errors.Is(err, storage.ErrNotFound) || err == nil && !ticket.Spent.IsZero() {
		return nil, ErrUserCode
	}
	if err != nil {
		return nil, fmt.Errorf("look up user code: %w", err)
	}
	i := &interaction{device: &device{code: code}}
	if err := json.Unmarshal(ticket.Data, &i.device.stored); err != nil {
		return nil, fmt.Errorf("read user code: %w", err)
	}
	if c.params, err = c.parseParams(i.device.stored.Query); err != nil {
		return nil, err
	}
	cl, err := c.clientByID(i.device.stored.ClientID)
	if errors.Is(err, errUnknownClient) {
		return nil, c.must(false, &ruleClientKnown)
	}
	if err != nil {
		return nil, err
	}
	c.client = cl
	i.request, err = c.verifyDeviceRequest(cl)
	return i, err
}

// resumeDevice loads the request of a device and verifies it anew.
func (c *call) resumeDevice(id string, data *interactionData) (*interaction, error) {
	i, err := c.deviceInteraction(data.UserCode)
	if errors.Is(err, ErrUserCode) {
		return nil, ErrInteractionExpired
	}
	if err != nil {
		return nil, err
	}
	i.id, i.began = id, time.UnixMilli(data.Began)
	return i, nil
}

// describe is what the page shows of the device.
func (d *device) describe() *Device {
	const half = userCodeLength / 2
	return &Device{UserCode: d.code[:half] + "-" + d.code[half:], Address: d.stored.Address, Began: time.UnixMilli(d.stored.Began)}
}

// decideDevice stores what the person decided, where the device will find it, and ends the
// user code and the interaction with it: whoever decides first decides.
func (c *call) decideDevice(i *interaction, answer deviceAnswer) error {
	data, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode the answer to a device: %w", err)
	}
	key := storage.Key{Kind: ticketkind.DeviceAnswer}
	copy(key.ID[:], i.device.stored.Device)
	began := time.UnixMilli(i.device.stored.Began)
	ticket := storage.Ticket{Key: key, Data: data, Expires: began.Add(deviceLifetime + deviceOutlives)}
	page := c.s.config.Pages.Device + "?answer=denied"
	if a := answer.Authorization; a != nil {
		ticket.Grant, ticket.Family = a.Grant, a.Family
		page = c.s.config.Pages.Device + "?answer=allowed"
	}
	err = c.s.config.Store.Spend(c.r.Context(), c.now, []storage.Key{ticketkind.Interaction.Hash(i.id), ticketkind.UserCode.Hash(i.device.code)}, ticket)
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return c.must(false, &ruleInteraction)
	}
	if err != nil {
		return fmt.Errorf("store the answer to a device: %w", err)
	}
	c.redirect(c.s.basePath + page)
	return nil
}

// approveDevice lets the device have what the person allowed. The device takes no part in
// the browser's session: it goes on when the person signs out there.
func (c *call) approveDevice(i *interaction, a authorization) error {
	a.Session = ""
	return c.decideDevice(i, deviceAnswer{Authorization: &a})
}
