package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	partyBank   = "bank API"
	typePayment = "payment"
)

// payment is the type of authorization details of this scene, and what the bank pays.
type payment struct {
	Type     string `json:"type"`
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
	Creditor string `json:"creditor"`
}

// printsPayment is what the shop requests.
func printsPayment() payment { return payment{typePayment, "24.90", "EUR", "Print shop"} }

func paymentScene() scene {
	return scene{
		key: "payment", title: "Consent to one payment: authorization details (RAR)", button: "Sign in and pay for the prints",
		about:    "A scope would permit payments in general. Authorization details (RFC 9396) permit one payment: the user sees the amount and the creditor on the consent page, and the token contains exactly that.",
		clientID: "print-shop", clientSecret: "demo-secret-of-the-print-shop-01234", clientName: "Print shop",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		scopes:          []string{oauth.ScopeOpenID}, callback: "/payment/callback",
		adjust: func(d *Demo, config *client.Config) {
			config.AuthorizationDetails, config.Resources = []any{printsPayment()}, []string{d.addressOf(partyBank)}
		},
		configure: func(d *Demo, config *configuration.Configuration) error {
			config.AuthorizationDetailsTypes = append(config.AuthorizationDetailsTypes, authserver.AuthorizationDetailsType{
				Type:    typePayment,
				Consent: "Pay {{.amount}} {{.currency}} to {{.creditor}}",
				Schema: json.RawMessage(`{
					"type": "object", "additionalProperties": false, "required": ["amount", "currency", "creditor"],
					"properties": {
						"amount": {"type": "string", "pattern": "^[0-9]{1,6}\\.[0-9]{2}$"},
						"currency": {"const": "EUR"},
						"creditor": {"type": "string", "maxLength": 70}
					}
				}`),
			})
			for i := range config.Clients {
				if c := &config.Clients[i]; c.ID == "print-shop" {
					c.AuthorizationDetailsTypes = []string{typePayment}
					c.AccessTokenLifetime = record.Duration(sceneLifetime)
				}
			}
			bank, err := d.serve(partyBank, bank(d))
			config.Resources = append(config.Resources, record.Resource{Identifier: bank, Name: "Bank"})
			return err
		},
		run: runPayment,
		breaks: []breakage{
			{key: "amount", title: "Another amount", about: "Ask the bank to pay more than the user has allowed.", fresh: true, code: oauth.AccessDenied},
			{key: "widen", title: "More in the next token", about: "Refresh the token, and request a higher amount.", fresh: true, code: oauth.InvalidAuthorizationDetails},
			{key: "schema", title: "Hidden member", about: "Add a member to the request that the type does not have, so that the consent page would not show it.", fresh: true, code: oauth.InvalidAuthorizationDetails},
			{key: "type", title: "Another type", about: "Request a type that is not declared for this client.", fresh: true, code: oauth.InvalidAuthorizationDetails},
		},
	}
}

// bank pays what is in the token, and nothing else.
func bank(d *Demo) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guard, err := resourceserver.New(resourceserver.Config{Issuer: d.issuer, Resource: "http://" + r.Host, Logger: d.logger})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		guard.Require()(http.HandlerFunc(pay)).ServeHTTP(w, r)
	})
}

func pay(w http.ResponseWriter, r *http.Request) {
	var ordered payment
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<10))
	if err == nil {
		err = json.Unmarshal(body, &ordered)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	token, _ := resourceserver.TokenFromContext(r.Context())
	w.Header().Set("Content-Type", "application/json")
	for _, detail := range token.Details {
		var allowed payment
		if json.Unmarshal(detail, &allowed) == nil && allowed == ordered {
			// An error means that the client left.
			_ = json.NewEncoder(w).Encode(map[string]any{"paid": ordered, "debtor": token.Subject})
			return
		}
	}
	w.WriteHeader(http.StatusForbidden)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": oauth.AccessDenied, "error_description": "the token does not allow this payment"})
}

func runPayment(ctx context.Context, d *Demo, w *walk) error {
	ordered := printsPayment()
	switch w.breakKey() {
	case "widen":
		ordered.Amount = "2490.00"
		details, err := json.Marshal([]payment{ordered})
		if err != nil {
			return fmt.Errorf("encode authorization details: %w", err)
		}
		form := url.Values{"grant_type": {oauth.GrantTypeRefreshToken}, "refresh_token": {w.tokens.RefreshToken}, "authorization_details": {string(details)}}
		return d.ask(ctx, w, form, "Request a new token for a higher amount. A client can narrow what the user has allowed, never widen it (RFC 9396, section 6.1).")
	case "schema":
		return d.askWrongly(ctx, w, "Request a payment with a member that the type does not have. The server knows every member of a type, and refuses others (RFC 9396, section 5).", func(query url.Values) {
			query.Set("authorization_details", `[{"type":"payment","amount":"24.90","currency":"EUR","creditor":"Print shop","monthly":true}]`)
		})
	case "type":
		return d.askWrongly(ctx, w, "Request another type. The operator declares the types of each client (RFC 9396, section 5).", func(query url.Values) {
			query.Set("authorization_details", `[{"type":"account_information"}]`)
		})
	case "amount":
		ordered.Amount = "2490.00"
		if err := d.order(ctx, w, ordered, "Ask the bank to pay a hundred times as much. The bank compares the order with the authorization details of the token (RFC 9396, section 9)."); err != nil || !w.failed {
			return err
		}
		w.recording.refuse(record.Check{Rule: "the payment is one that the token allows", Section: "RFC 9396, section 9", Detail: w.result})
		return nil
	}
	return d.order(ctx, w, ordered, "Ask the bank to pay. The token contains the payment that the user has allowed, and the bank does exactly that (RFC 9396, section 9).")
}

// order sends a payment to the bank.
func (d *Demo) order(ctx context.Context, w *walk, ordered payment, purpose string) error {
	body, err := json.Marshal(ordered)
	if err != nil {
		return fmt.Errorf("encode a payment: %w", err)
	}
	request, err := http.NewRequestWithContext(recorded(ctx, &w.recording, purpose), http.MethodPost, d.addressOf(partyBank)+"/payments", strings.NewReader(string(body)))
	if err != nil {
		return fmt.Errorf("call the bank: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+w.tokens.AccessToken)
	request.Header.Set("Content-Type", "application/json")
	return d.deliver(w, request)
}
