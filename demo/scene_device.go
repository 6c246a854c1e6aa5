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
		key: "device", title: "TV or command line: sign in on another device", button: "Show the code",
		about:    "A TV, a printer or a command line on another machine shows a short code. The user enters it at the authorization server, in a browser on another device, and confirms that the code is on a device in front of them. Meanwhile, the device asks every few seconds.",
		clientID: "television", clientName: "Living room television", applicationType: oauth.ApplicationNative,
		grantTypes: []string{oauth.GrantTypeDeviceCode, oauth.GrantTypeRefreshToken}, scopes: []string{scopeRead},
		configure: declareOtherDevice, run: runDevice, resume: resumeDevice,
		breaks: []breakage{
			{key: "pending", title: "Too early", about: "Request the tokens before the user has decided.", code: oauth.AuthorizationPending},
			{key: "hurry", title: "Too fast", about: "Poll twice within a second.", code: oauth.SlowDown},
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
	codes, err := c.DeviceAuthorization(recorded(ctx, &w.recording, "Request two codes: a long one for the device, a short one for the user"))
	if err != nil {
		return w.refused(err)
	}
	w.state = codes
	poll := url.Values{"grant_type": {oauth.GrantTypeDeviceCode}, "device_code": {codes.DeviceCode}}
	switch w.breakKey() {
	case "pending":
		return d.ask(ctx, w, poll, "Ask whether the user has decided; they have not")
	case "hurry":
		if err := d.ask(ctx, w, poll, "Ask whether the user has decided"); err != nil {
			return err
		}
		return d.ask(ctx, w, poll, "Ask again immediately")
	case "refuse":
		somebody := person.New(Username, Password)
		somebody.Deny = true
		if err := somebody.Allow(codes.VerificationURIComplete); err != nil {
			return fmt.Errorf("refuse on the page: %w", err)
		}
		return d.ask(ctx, w, poll, "Ask whether the user has decided; they denied access")
	case "other":
		w.scene.clientID = otherDevice
		return d.ask(ctx, w, poll, "Poll as another client")
	}
	w.waits = codes.VerificationURIComplete
	w.waitsFor = "On the device: go to " + codes.VerificationURI + " and enter " + codes.UserCode + ".\nThe QR code leads to the same page with the code filled in; the user compares it with the device."
	qrCode, err := deviceqr.Encode(codes.VerificationURIComplete)
	if err != nil {
		return err
	}
	w.qrCode = qrCode
	w.answer = "The device shows " + codes.UserCode + " and waits."
	return nil
}

func resumeDevice(ctx context.Context, d *Demo, w *walk) error {
	tokens, err := d.clients[w.scene.key].PollDevice(recorded(ctx, &w.recording, "Ask with the long code whether the user has decided"), w.state.(*client.DeviceAuthorization))
	if err != nil {
		return w.refused(err)
	}
	w.waits, w.qrCode, w.tokens = "", nil, tokens
	return d.callAPI(ctx, w)
}
