package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// pictures are the pages that modules request screenshots of, by the name of the condition,
// and the checks that need no human reviewer.
var pictures = map[string]struct {
	pick  func([]page) (page, bool)
	check func(page) error
}{
	"ExpectRedirectUriErrorPage":                                      {lastPage, checkRefusal},
	"ExpectRedirectUriMissingErrorPage":                               {lastPage, checkRefusal},
	"ExpectRequestMissingNonceErrorPage":                              {lastPage, checkRefusal},
	"ExpectResponseTypeMissingErrorPage":                              {lastPage, checkRefusal},
	"ExpectInvalidIdTokenHintErrorPage":                               {lastPage, checkRefusal},
	"ExpectIdTokenHintRequiredErrorPage":                              {lastPage, checkRefusal},
	"ExpectPostLogoutRedirectUriNotRegisteredErrorPage":               {lastPage, checkRefusal},
	"ExpectAccessDeniedErrorPage":                                     {lastPage, checkRefusal},
	"ExpectAuthorizationRequestWithoutRequestObjectErrorPage":         {lastPage, checkRefusal},
	"ExpectExpiredRequestObjectClaimErrorPage":                        {lastPage, checkRefusal},
	"ExpectInvalidAudienceErrorPage":                                  {lastPage, checkRefusal},
	"ExpectInvalidRequestInvalidRequestObjectOrAccessDeniedErrorPage": {lastPage, checkRefusal},
	"ExpectInvalidRequestUriErrorPage":                                {lastPage, checkRefusal},
	"ExpectPkceMissingErrorPage":                                      {lastPage, checkRefusal},
	"ExpectPlainPkceErrorPage":                                        {lastPage, checkRefusal},
	"ExpectRequestDifferentNonceInsideAndOutsideErrorPage":            {lastPage, checkRefusal},
	"ExpectRequestDifferentStateInsideAndOutsideErrorPage":            {lastPage, checkRefusal},
	"ExpectRequestObjectInvalidSignatureErrorPage":                    {lastPage, checkRefusal},
	"ExpectRequestObjectMissingExpClaimErrorPage":                     {lastPage, checkRefusal},
	"ExpectRequestObjectMissingNbfClaimErrorPage":                     {lastPage, checkRefusal},
	"ExpectRequestObjectMissingNonceErrorPage":                        {lastPage, checkRefusal},
	"ExpectRequestObjectMissingRedirectUriErrorPage":                  {lastPage, checkRefusal},
	"ExpectRequestObjectMissingScopeErrorPage":                        {lastPage, checkRefusal},
	"ExpectRequestObjectMissingStateErrorPage":                        {lastPage, checkRefusal},
	"ExpectRequestObjectUnverifiableErrorPage":                        {lastPage, checkRefusal},
	"ExpectRequestObjectWithBadAudClaimErrorPage":                     {lastPage, checkRefusal},
	"ExpectRequestObjectWithExpOver60ClaimErrorPage":                  {lastPage, checkRefusal},
	"ExpectRequestObjectWithLongNonceErrorPage":                       {lastPage, checkRefusal},
	"ExpectRequestObjectWithLongStateErrorPage":                       {lastPage, checkRefusal},
	"ExpectRequestObjectWithNbfOver60ClaimErrorPage":                  {lastPage, checkRefusal},
	"ExpectResponseModeQueryErrorPage":                                {lastPage, checkRefusal},
	"ExpectResponseTypeErrorPage":                                     {lastPage, checkRefusal},
	"ExpectSignedRS256RequestObjectErrorPage":                         {lastPage, checkRefusal},
	"ExpectSecondLoginPage":                                           {pageWithForm("/sign-in"), checkSignIn},
	"ExpectSuccessfulLogoutPage":                                      {lastPage, checkSignedOut},
	"ExpectLoginPageWithLogo":                                         {pageWithForm("/consent"), checkLogo},
	"ExpectLoginPageWithPolicyLink":                                   {pageWithForm("/consent"), checkLink("privacy policy")},
	"ExpectLoginPageWithTosLink":                                      {pageWithForm("/consent"), checkLink("terms of service")},
}

// picture returns the page that a condition requests, from the pages shown since the last
// visit. It returns an error if the condition is unknown, or if there is no such page, or if
// the page fails its check.
func picture(condition string, pages []page) (page, error) {
	wanted, known := pictures[condition]
	if !known {
		return page{}, fmt.Errorf("%s: unknown screenshot", condition)
	}
	found, ok := wanted.pick(pages)
	if !ok {
		return page{}, fmt.Errorf("%s: the page for the screenshot was not shown", condition)
	}
	if err := wanted.check(found); err != nil {
		return page{}, fmt.Errorf("%s: the page at %s: %w", condition, withoutQuery(found.url), err)
	}
	return found, nil
}

func lastPage(pages []page) (page, bool) {
	if len(pages) == 0 {
		return page{}, false
	}
	return pages[len(pages)-1], true
}

// pageWithForm picks the first page with a form whose action ends in path.
func pageWithForm(path string) func([]page) (page, bool) {
	return func(pages []page) (page, bool) {
		for _, p := range pages {
			if hasForm(p, path) {
				return p, true
			}
		}
		return page{}, false
	}
}

func hasForm(p page, path string) bool {
	for _, f := range forms(p.body) {
		if to, err := url.Parse(f.action); err == nil && strings.HasSuffix(to.Path, path) {
			return true
		}
	}
	return false
}

func checkStatus(p page, want int) error {
	if p.status != want {
		return fmt.Errorf("status %d, want %d", p.status, want)
	}
	return nil
}

// checkRefusal requires an error page without a form.
func checkRefusal(p page) error {
	if err := checkStatus(p, http.StatusBadRequest); err != nil {
		return err
	}
	if len(forms(p.body)) > 0 {
		return errors.New("the page has a form, so the request was not refused")
	}
	return nil
}

func checkSignIn(p page) error {
	if err := checkStatus(p, http.StatusOK); err != nil {
		return err
	}
	for _, f := range forms(p.body) {
		if f.fields.Has("password") {
			return nil
		}
	}
	return errors.New("the page has no password field")
}

func checkSignedOut(p page) error {
	if err := checkStatus(p, http.StatusOK); err != nil {
		return err
	}
	if hasForm(p, "/sign-out") {
		return errors.New("the page still asks whether to sign out")
	}
	if !strings.Contains(p.body, "signed out") {
		return errors.New("the page does not say that the user is signed out")
	}
	return nil
}

// checkLogo requires a logo that was fetched: withLogo put it into the page.
func checkLogo(p page) error {
	if err := checkStatus(p, http.StatusOK); err != nil {
		return err
	}
	if !strings.Contains(p.body, `<img src="data:image/`) {
		return errors.New("the page shows no logo")
	}
	return nil
}

// checkLink requires a link with that text to another site.
func checkLink(text string) func(page) error {
	return func(p page) error {
		if err := checkStatus(p, http.StatusOK); err != nil {
			return err
		}
		at, err := url.Parse(p.url)
		if err != nil {
			return err
		}
		document, err := html.Parse(strings.NewReader(p.body))
		if err != nil {
			return err
		}
		for node := range document.Descendants() {
			if node.Type != html.ElementNode || node.Data != "a" || node.FirstChild == nil || node.FirstChild.Data != text {
				continue
			}
			if to, err := url.Parse(attribute(node, "href")); err == nil && to.IsAbs() && to.Host != at.Host {
				return nil
			}
		}
		return fmt.Errorf("the page has no link to another site with the text %q", text)
	}
}

func withoutQuery(address string) string {
	before, _, _ := strings.Cut(address, "?")
	return before
}
