package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/html"
)

const grantTypeCIBA = "urn:openid:params:grant-type:ciba"

// cibaPlans returns the plans of FAPI-CIBA. The suite has none for push mode.
func cibaPlans() []plan {
	var all []plan
	for _, mode := range []string{"poll", "ping"} {
		for _, method := range []string{"private_key_jwt", "mtls"} {
			all = append(all, plan{Label: dashed("fapi-ciba-" + mode + "-" + method), Name: "fapi-ciba-id1-test-plan", Variant: map[string]string{
				"fapi_ciba_profile": "plain_fapi", "client_registration": "static_client", "ciba_mode": mode, "client_auth_type": method,
			}})
		}
	}
	return all
}

// isCIBA reports whether the plan is one of FAPI-CIBA.
func (p *plan) isCIBA() bool { return strings.HasPrefix(p.Name, "fapi-ciba-") }

// cibaClient adds what the clients of the CIBA plans need.
func (p *plan) cibaClient(c map[string]any, base string) {
	c["grant_types"] = []string{grantTypeCIBA, "refresh_token"}
	c["backchannel_authentication_request_signing_alg"] = "PS256"
	c["backchannel_token_delivery_mode"] = p.Variant["ciba_mode"]
	if p.Variant["ciba_mode"] == "ping" {
		c["backchannel_client_notification_endpoint"] = base + "/ciba-notification-endpoint"
	}
}

// approvePath is where the suite says what the user should do: allow or deny the last request of a
// plan.
const approvePath = "/approve/"

// answerCIBA answers the last request of the plan with that label on the account page of the user.
func (a *api) answerCIBA(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	err := answerRequest(ctx, a.issuer, "Conformance "+r.PathValue("label"), r.FormValue("action"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintln(w, `{"answered": true}`)
}

func answerRequest(ctx context.Context, issuer, clientName, answer string) error {
	b, err := newBrowser(issuer)
	if err != nil {
		return err
	}
	b.answer = answer
	if err := b.visit(ctx, issuer+"/account"); err != nil {
		return err
	}
	account, ok := lastPage(b.pages)
	if !ok {
		return fmt.Errorf("no account page")
	}
	links := approvalLinks(account.body, clientName)
	if len(links) == 0 {
		return fmt.Errorf("the account page has no request of %s", clientName)
	}
	if err := b.visit(ctx, issuer+links[0]); err != nil {
		return err
	}
	if done, ok := lastPage(b.pages); !ok || !strings.Contains(done.url, "answer="+map[string]string{"allow": "allowed", "deny": "denied"}[answer]) {
		return fmt.Errorf("the request was not answered: the last page is %s", withoutQuery(done.url))
	}
	return nil
}

// approvalLinks returns the paths of the requests of a client on the account page, the newest first.
func approvalLinks(body, clientName string) []string {
	document, err := html.Parse(strings.NewReader(body))
	if err != nil {
		return nil
	}
	var links []string
	for item := range document.Descendants() {
		if item.Type != html.ElementNode || item.Data != "li" || !strings.Contains(text(item), clientName) {
			continue
		}
		for node := range item.Descendants() {
			if href := attribute(node, "href"); node.Data == "a" && strings.Contains(href, "/approve?request=") {
				links = append(links, href)
			}
		}
	}
	return links
}

func text(node *html.Node) string {
	var b strings.Builder
	for n := range node.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
	}
	return b.String()
}
