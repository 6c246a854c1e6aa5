package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// result is the result of a module: when it ran, with which versions, and the reasons if it
// did not pass.
type result struct {
	Module  string            `json:"module"`
	Date    string            `json:"date"`
	Commit  string            `json:"commit,omitempty"` // of the server
	Against string            `json:"against"`          // versions of server and suite
	Variant map[string]string `json:"variant,omitempty"`
	Result  string            `json:"result"`
	Reasons []string          `json:"reasons,omitempty"`
	// Refused is what the default settings refuse, if that is why the module failed.
	Refused string `json:"refused,omitempty"`
}

const moduleTimeout = 6 * time.Minute

// picturePatience is how long after a visit the suite may request a screenshot of a page that
// was not shown, or wait for a redirect while the browser is on an error page. After that
// it is a failure.
const picturePatience = time.Minute

// runModule runs one module to its end.
func (r *run) runModule(ctx context.Context, p *plan, planID string, m module) result {
	ended := result{Module: m.Name, Variant: m.Variant, Date: today(), Commit: r.commit, Against: r.versions}
	// Other modules may have fetched the keys just before they rotate, so this one runs alone.
	if rotates(m) {
		r.keys.Lock()
		defer r.keys.Unlock()
	} else {
		r.keys.RLock()
		defer r.keys.RUnlock()
	}
	ctx, cancel := context.WithTimeout(ctx, moduleTimeout)
	defer cancel()
	id, err := r.suite.createModule(ctx, planID, m)
	if err != nil {
		ended.Result, ended.Reasons = "FAILED", []string{err.Error()}
		return ended
	}
	st, err := r.drive(ctx, p, id, m)
	ended.Result = st.Result
	if err != nil {
		ended.Result, ended.Reasons = "FAILED", []string{err.Error()}
	} else if st.Status == "INTERRUPTED" || !slices.Contains(kinds, st.Result) {
		ended.Result, ended.Reasons = "FAILED", []string{fmt.Sprintf("the suite reports status %s and result %q", st.Status, st.Result)}
	}
	if ended.Result != "PASSED" {
		ended.Reasons = append(ended.Reasons, r.reasons(context.WithoutCancel(ctx), id)...)
	}
	ended.Refused = p.refused(ended)
	return ended
}

// drive acts as the end user while a module runs.
func (r *run) drive(ctx context.Context, p *plan, id string, m module) (state, error) {
	b, err := newBrowser(r.server.issuer)
	if err != nil {
		return state{}, err
	}
	if strings.Contains(m.Name, "user-rejects-authentication") {
		b.username, b.answer = "grace", "deny" // ada has consented in an earlier module and is not asked again
	}
	visit := b.visit
	if strings.Contains(m.Name, "reused-request-uri-prior-to-auth-completion") {
		visit = b.look // the first time
	}
	if p.frames() {
		real, end, err := newRealBrowser(ctx, r.chromium, r.server.issuer)
		if err != nil {
			return state{}, err
		}
		defer end()
		visit = real.visit
	}
	started := false
	for {
		st, err := r.suite.state(ctx, id)
		if err != nil {
			return st, err
		}
		switch st.Status {
		case "FINISHED", "INTERRUPTED":
			return st, nil
		case "CONFIGURED":
			// A busy suite reports this state for a while after the start.
			if started {
				break
			}
			started = true
			if rotates(m) {
				if err := r.server.rotateKeys(ctx); err != nil {
					return st, err
				}
				time.Sleep(2 * time.Second) // the server notices within a second
			}
			if err := r.suite.call(ctx, "POST", "runner/"+id, nil, nil, nil); err != nil {
				return st, err
			}
		case "WAITING":
			attended, err := r.attend(ctx, id, b, visit)
			if err != nil {
				return st, err
			}
			if attended && !p.frames() {
				visit = b.visit
			}
		}
		select {
		case <-ctx.Done():
			return st, errors.New("not finished after " + moduleTimeout.String() + ", status " + st.Status)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// errorPage begins the reason of a module that waits for a redirect in vain.
const errorPage = "the server showed an error page at "

func rotates(m module) bool { return strings.Contains(m.Name, "rotate-keys") }

// attend visits the next pending address and reports true, or uploads the screenshots that the suite
// requests.
func (r *run) attend(ctx context.Context, id string, b *browser, visit func(context.Context, string) error) (bool, error) {
	addresses, err := r.suite.pending(ctx, id)
	if err != nil {
		return false, err
	}
	if len(addresses) > 0 {
		// The suite no longer reports the address as pending, unless it wants a second visit.
		if err := r.suite.visited(ctx, id, addresses[0]); err != nil {
			return false, err
		}
		return true, visit(ctx, addresses[0])
	}
	return false, r.uploadPictures(ctx, id, b)
}

func (r *run) uploadPictures(ctx context.Context, id string, b *browser) error {
	// The suite requests a screenshot before a redirect that makes it unnecessary has arrived.
	if len(b.pages) == 0 || time.Since(b.visitedAt) < 3*time.Second {
		return nil
	}
	asked, err := r.suite.wanted(ctx, id)
	if err != nil {
		return err
	}
	last := b.pages[len(b.pages)-1]
	if len(asked) == 0 && !b.uploaded && last.status >= http.StatusBadRequest && time.Since(b.visitedAt) > r.patience {
		at, err := url.Parse(last.url)
		if err != nil {
			return err
		}
		return fmt.Errorf("%s (status %d) instead of a redirect", errorPage+at.Path, last.status)
	}
	for _, a := range asked {
		shown, err := picture(a.Source, b.pages)
		if err != nil && time.Since(b.visitedAt) < r.patience {
			return nil // a slow suite may not have processed the redirect yet
		}
		if err != nil {
			return err
		}
		html, err := b.withStyle(ctx, shown)
		if err != nil {
			return err
		}
		taken, err := r.screenshot(ctx, html)
		if err != nil {
			return err
		}
		if err := r.suite.upload(ctx, id, a.Upload, taken); err != nil {
			return err
		}
		b.uploaded = true
	}
	return nil
}

// reasons returns the entries of a module's log that are not a success.
func (r *run) reasons(ctx context.Context, id string) []string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	entries, err := r.suite.log(ctx, id)
	if err != nil {
		return []string{err.Error()}
	}
	var reasons []string
	for _, e := range entries {
		switch e.Result {
		case "FAILURE", "WARNING", "SKIPPED", "REVIEW", "INTERRUPTED":
			reasons = append(reasons, fmt.Sprintf("%s: %s: %s", e.Result, e.Source, e.Message))
		}
	}
	return reasons
}
