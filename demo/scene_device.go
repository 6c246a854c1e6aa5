package demo

import (
	"context"
	"fmt"
	"net/url"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/deviceqr"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func deviceScene() scene {
	return scene{
		key: "device", title: "TV or command line: device authorization grant", button: "Show the code",
		about:    "A TV, a printer or a command line has no browser. It shows a short code, which the user enters at the authorization server in a browser on another device. Meanwhile, the device polls for its tokens every few seconds (RFC 8628).",
		clientID: "television", clientName: "Living room television", applicationType: oauth.ApplicationNative,
		grantTypes: []string{oauth.GrantTypeDeviceCode, oauth.GrantTypeRefreshToken}, scopes: []string{scopeRead},
		configure: declareOtherDevice, run: runDevice, resume: resumeDevice,
		breaks: []breakage{
			{key: "pending", title: "Too early", about: "Request the tokens before the user has decided.", code: oauth.AuthorizationPending},
			{key: "hurry", title: "Too fast", about: "Poll twice within a second. Devices must respect the interval.", code: oauth.SlowDown},
			{key: "refuse", title: "User denies access", about: "A simulated user clicks Deny.", code: oauth.AccessDenied},
			{key: "other", title: "Another client's code", about: "Poll with a device code that was issued to another client.", code: oauth.InvalidGrant},
		},
	}
}

const otherDevice = "radio"

func declareOtherDevice(_ *Demo, c *configuration.Configuration) error {
	c.Clients = append(c.Clients, configuration.Client{ID: otherDevice, ClientMetadata: oauth.ClientMetadata{
		ClientName: "Kitchen radio", TokenEndpointAuthMethod: oauth.AuthMethodNone, GrantTypes: []string{oauth.GrantTypeDeviceCode},
	}})
	return nil
}

func runDevice(ctx context.Context, d *Demo, w *walk) error {
	c := d.clients[w.scene.key]
	codes, err := c.DeviceAuthorization(recorded(ctx, &w.recording, "Request two codes. The device keeps the long one to poll with, the user types the short one (RFC 8628, section 3.2)."))
	if err != nil {
		return w.refused(err)
	}
	w.state = codes
	poll := url.Values{"grant_type": {oauth.GrantTypeDeviceCode}, "device_code": {codes.DeviceCode}}
	switch w.breakKey() {
	case "pending":
		return d.ask(ctx, w, poll, "Poll for the tokens. The user has not decided yet, so the device must keep waiting (RFC 8628, section 3.5).")
	case "hurry":
		if err := d.ask(ctx, w, poll, "Poll for the tokens. The user has not decided yet (RFC 8628, section 3.5)."); err != nil {
			return err
		}
		return d.ask(ctx, w, poll, "Poll again immediately. The device must wait for the interval between polls (RFC 8628, section 3.5).")
	case "refuse":
		user := person.New(Username, Password)
		user.Deny = true
		if err := user.Allow(codes.VerificationURIComplete); err != nil {
			return fmt.Errorf("deny access on the page: %w", err)
		}
		return d.ask(ctx, w, poll, "Poll for the tokens. The user denied access, so the device must stop (RFC 8628, section 3.5).")
	case "other":
		w.scene.clientID = otherDevice
		return d.ask(ctx, w, poll, "Poll as another client. A device code works only for the client that it was issued to (RFC 8628, section 3.4).")
	}
	w.waits = codes.VerificationURIComplete
	w.waitsFor = "The device shows: go to " + codes.VerificationURI + " and enter " + codes.UserCode + ".\nThe QR code opens the same page with the code filled in. The user still compares it with the device, so that a code from someone else is noticed (RFC 8628, section 5.4)."
	qrCode, err := deviceqr.Encode(codes.VerificationURIComplete)
	if err != nil {
		return err
	}
	w.qrCode = qrCode
	w.result = "The device shows " + codes.UserCode + " and is waiting."
	return nil
}

func resumeDevice(ctx context.Context, d *Demo, w *walk) error {
	tokens, err := d.clients[w.scene.key].PollDevice(recorded(ctx, &w.recording, "Poll for the tokens with the long code. It works once, for this client, and only after the user has allowed it (RFC 8628, section 3.4)."), w.state.(*client.DeviceAuthorization))
	if err != nil {
		return w.refused(err)
	}
	w.waits, w.qrCode, w.tokens = "", nil, tokens
	return d.callAPI(ctx, w)
}
