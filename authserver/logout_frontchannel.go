package authserver

import (
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// maxFrames is how many clients are told of a logout by the browser.
const maxFrames = 20

// frame is an address by which the browser tells a client of a logout. It was made when the
// session ended, from what was known of the client then.
type frame struct {
	URL string `json:"u"`
}

// frames returns the clients of a session that want to be told by the browser (OpenID
// Connect Front-Channel Logout, section 3).
func (c *call) frames(who *Authentication) ([]frame, error) {
	if who == nil {
		return nil, nil
	}
	found, err := c.s.participants(c.r.Context(), c.now, who.sessionNames())
	if err != nil {
		return nil, err
	}
	var frames []frame
	for _, p := range found {
		if p.client.FrontchannelLogoutURI != "" && len(frames) < maxFrames {
			frames = append(frames, frame{URL: c.s.frameURL(p.client, p.session)})
		}
	}
	return frames, nil
}

// frameURL names the session beside the issuer, also to clients that do not insist on it:
// a page that says whose session is meant cannot sign out of another (section 2).
func (s *Server) frameURL(cl *client, session string) string {
	return cl.FrontchannelLogoutURI + querySeparator(cl.FrontchannelLogoutURI) +
		url.Values{"iss": {s.config.Issuer}, "sid": {s.sessionFor(cl, session)}}.Encode()
}

// signedOut ends the answer to a logout: back to the client, or to the page that says that
// it is done; by way of that page, if other clients must be told by the browser first.
// frames and to were found out before the session ended.
func (c *call) signedOut(frames []frame, to string) error {
	c.s.SessionsEnded()
	if len(frames) == 0 && to == "" {
		c.redirect(c.s.basePath + c.s.config.Pages.SignedOut)
		return nil
	}
	if len(frames) == 0 {
		c.redirect(to)
		return nil
	}
	i := &interaction{began: c.now, ended: &endedLogout{Frames: frames, ContinueTo: to}}
	ticket, err := c.interactionTicket(i, true)
	if err != nil {
		return err
	}
	if err := c.s.config.Store.Put(c.r.Context(), c.now, ticket); err != nil {
		return fmt.Errorf("store what follows a logout: %w", err)
	}
	c.redirect(c.s.basePath + c.s.config.Pages.SignedOut + "?interaction=" + url.QueryEscape(i.id))
	return nil
}

// endedLogout is a logout whose session has ended, and what the browser has still to do.
type endedLogout struct {
	Frames []frame `json:"f"`
	// ContinueTo was verified when the session was ended.
	ContinueTo string `json:"t,omitempty"`
}

// endedInteraction describes what the page after a logout has to show.
func endedInteraction(id string, ended *endedLogout) *Interaction {
	shown := &Interaction{ID: id, ContinueTo: ended.ContinueTo, SignedOut: true}
	for _, f := range ended.Frames {
		shown.Frames = append(shown.Frames, f.URL)
	}
	return shown
}

// SignOut ends the sign-in session of the browser of r without a request of a client, and
// writes the answer: the clients that take part are told, and the page says that it is
// done. If end is not nil it ends the session, in the place of Users.SignOut: somebody's
// other sessions too, perhaps.
func (s *Server) SignOut(w http.ResponseWriter, r *http.Request, end func() error) {
	c := s.newCall(w, r)
	c.endpoint = s.routes[s.basePath+"/logout"]
	c.finish(c.signOut(end))
}

func (c *call) signOut(end func() error) error {
	who, err := c.s.config.Users.SignedIn(c.r)
	if err != nil {
		return fmt.Errorf("find out who is signed in: %w", err)
	}
	frames, err := c.frames(who)
	if err != nil {
		return err
	}
	if end == nil {
		end = func() error { return c.s.config.Users.SignOut(c.w, c.r) }
	}
	if err := end(); err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return c.signedOut(frames, "")
}

// endedLifetime is how long the page after a logout can be shown again.
const endedLifetime = 5 * time.Minute
