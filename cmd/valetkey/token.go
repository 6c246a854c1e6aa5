package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// The short names of grant types that are URNs.
const (
	grantDevice   = "device_code"
	grantJWT      = "jwt-bearer"
	grantSAML     = "saml2-bearer"
	grantExchange = "token-exchange"
	grantCIBA     = "ciba"
)

type tokenCommand struct {
	clientFlags `embed:""`

	Grant string `help:"The grant: authorization_code, device_code, client_credentials, refresh_token, jwt-bearer, saml2-bearer, token-exchange, ciba or password." enum:"authorization_code,device_code,client_credentials,refresh_token,jwt-bearer,saml2-bearer,token-exchange,ciba,password" default:"authorization_code"`

	ACRValues []string       `name:"acr-values" help:"How the user must have signed in." placeholder:"ACR"`
	MaxAge    *time.Duration `help:"How long ago the user may have signed in, such as 5m; 0 always signs in again." placeholder:"DURATION"`
	Prompt    []string       `help:"The parameter prompt, such as login or consent." placeholder:"PROMPT"`
	LoginHint string         `help:"The user who will probably sign in; for ciba, the user who is asked." placeholder:"NAME"`

	BindingMessage string `help:"For ciba: a short text that the user sees beside the request." placeholder:"TEXT"`
	UserCodeFile   string `help:"For ciba: the file of the user's code, - for standard input, if the server requires one." placeholder:"FILE"`

	RefreshTokenFile   string   `help:"For refresh_token: the file of the token, - for standard input. The default is the kept token." placeholder:"FILE"`
	AssertionFile      string   `help:"For jwt-bearer and saml2-bearer: the file of the assertion, - for standard input." placeholder:"FILE"`
	SubjectTokenFile   string   `help:"For token-exchange: the file of the token, - for standard input. The default is the kept token." placeholder:"FILE"`
	SubjectTokenType   string   `help:"Its type, such as access_token, id_token or a URN." placeholder:"TYPE"`
	ActorTokenFile     string   `help:"For token-exchange: the file of the token of the acting party." placeholder:"FILE"`
	ActorTokenType     string   `help:"Its type." placeholder:"TYPE"`
	RequestedTokenType string   `help:"For token-exchange: the type of the new token." placeholder:"TYPE"`
	Audience           []string `help:"For token-exchange: who the new token is for." placeholder:"NAME"`
	Username           string   `help:"For password: the user. The password is read from the terminal or standard input." placeholder:"NAME"`

	Name    string        `help:"The name under which the token is kept for \"valetkey call\"." default:"default" placeholder:"NAME"`
	NoSave  bool          `help:"Do not keep the token."`
	JSON    bool          `help:"Print the whole response as JSON instead of the access token."`
	Timeout time.Duration `help:"How long to wait for the user." default:"10m"`
}

// Help is shown by "valetkey token --help".
func (tokenCommand) Help() string {
	return "Prints the access token, and keeps it with what is needed to use and renew it: \"valetkey call\" sends it. " +
		"Kept tokens are files of mode 0600 in the directory valetkey/tokens of the user's configuration directory.\n\n" +
		"Secrets are read from files, standard input or $VALETKEY_CLIENT_SECRET. Everything but the token is printed to standard error. $BROWSER names another browser.\n\n" +
		"Examples:\n" +
		"  valetkey token --issuer https://login.example.com --client-id cli --scope openid,photos:read --dpop\n" +
		"  valetkey call https://photos.example.com/albums\n" +
		"  valetkey token --grant client_credentials --issuer https://login.example.com --client-id report --key report.pem --dpop --name report\n" +
		"  valetkey token --grant client_credentials --issuer https://login.example.com --client-id batch --auth-method tls_client_auth --certificate batch.pem"
}

// Run gets a token.
func (c *tokenCommand) Run(ctx context.Context, o *output) error {
	if err := c.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	oauthClient, err := c.discover(ctx)
	if err != nil {
		return err
	}
	if c.Grant == oauth.GrantTypeRefreshToken && c.RefreshTokenFile == "" {
		unlock, err := lockToken(ctx, c.Name)
		if err != nil {
			return err
		}
		defer unlock()
	}
	kept, err := c.token(ctx, o, oauthClient)
	if err != nil {
		return err
	}
	if !c.NoSave && kept.usable() {
		if err := keepToken(c.Name, kept); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(o.out, kept.view())
	}
	fmt.Fprintln(o.out, kept.Tokens.AccessToken)
	return nil
}

func (c *tokenCommand) check() error {
	if err := checkTokenName(c.Name); err != nil {
		return err
	}
	needs := func(value, flag string) error {
		if value == "" {
			return usageError{fmt.Errorf("--grant %s needs %s", c.Grant, flag)}
		}
		return nil
	}
	var err error
	switch c.Grant {
	case grantJWT, grantSAML:
		err = needs(c.AssertionFile, "--assertion-file")
	case oauth.GrantTypePassword:
		err = needs(c.Username, "--username")
	case grantCIBA:
		err = needs(c.LoginHint, "--login-hint")
	}
	if err == nil && c.DPoP && c.DPoPKey == "" && c.NoSave {
		err = usageError{errors.New("a new DPoP key is kept with the token, so --no-save would lose it: pass --dpop-key FILE")}
	}
	if err != nil {
		return err
	}
	return c.absolute()
}

// token gets a token by the grant of the flags.
func (c *tokenCommand) token(ctx context.Context, o *output, from *client.Client) (*keptToken, error) {
	kept := &keptToken{Client: c.clientFlags, Grant: c.Grant}
	var err error
	switch c.Grant {
	case oauth.GrantTypeAuthorizationCode:
		kept.Tokens, err = c.signIn(ctx, o, from, signIn{ACRValues: c.ACRValues, MaxAge: c.MaxAge, Prompt: c.Prompt, LoginHint: c.LoginHint})
	case grantDevice:
		kept.Tokens, err = device(ctx, o, from)
	case grantCIBA:
		kept.Tokens, err = c.ciba(ctx, o, from)
	case oauth.GrantTypeClientCredentials:
		kept.Tokens, err = from.ClientCredentials(ctx)
	case oauth.GrantTypeRefreshToken:
		kept.Tokens, err = c.refresh(ctx, from)
	case grantJWT, grantSAML:
		var assertion string
		if assertion, err = readSecret(c.AssertionFile, "the assertion"); err != nil {
			return nil, err
		}
		if c.Grant == grantJWT {
			kept.Tokens, err = from.JWTBearer(ctx, assertion)
		} else {
			kept.Tokens, err = from.SAMLBearer(ctx, []byte(assertion))
		}
	case grantExchange:
		err = c.exchange(ctx, from, kept)
	case oauth.GrantTypePassword:
		var password string
		if password, err = readExistingPassword(o); err != nil {
			return nil, err
		}
		kept.Tokens, err = from.Password(ctx, c.Username, password)
	}
	return kept, err
}

// device signs the user in on another device.
func device(ctx context.Context, o *output, from *client.Client) (*client.Tokens, error) {
	d, err := from.DeviceAuthorization(ctx)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(o.log, "Open %s and enter the code %s\n", printable(d.VerificationURI), printable(d.UserCode))
	if d.VerificationURIComplete != "" {
		fmt.Fprintf(o.log, "or open %s and compare the code.\n", printable(d.VerificationURIComplete))
	}
	return from.WaitForDevice(ctx, d)
}

// ciba asks the user for approval on a page of their account (OpenID Connect CIBA).
func (c *tokenCommand) ciba(ctx context.Context, o *output, from *client.Client) (*client.Tokens, error) {
	request := client.BackchannelRequest{LoginHint: c.LoginHint, BindingMessage: c.BindingMessage, ACRValues: c.ACRValues}
	var err error
	if c.UserCodeFile != "" {
		if request.UserCode, err = readSecret(c.UserCodeFile, "the user's code"); err != nil {
			return nil, err
		}
	}
	details, err := parseDetails(c.AuthorizationDetails)
	if err != nil {
		return nil, err
	}
	request.AuthorizationDetails = details
	waiting, err := from.BackchannelAuthentication(ctx, request)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(o.log, "Waiting for %s to approve the request …\n", printable(c.LoginHint))
	return from.WaitForApproval(ctx, waiting)
}

// refresh uses a refresh token from a file, or the kept one with its key.
func (c *tokenCommand) refresh(ctx context.Context, from *client.Client) (*client.Tokens, error) {
	if c.RefreshTokenFile == "" {
		kept, err := readToken(c.Name)
		if err != nil {
			return nil, err
		}
		return from.Refresh(ctx, kept.Tokens)
	}
	token, err := readSecret(c.RefreshTokenFile, "the refresh token")
	if err != nil {
		return nil, err
	}
	return from.Refresh(ctx, &client.Tokens{RefreshToken: token})
}

// exchange exchanges a token from a file, or the kept one (RFC 8693).
func (c *tokenCommand) exchange(ctx context.Context, from *client.Client, kept *keptToken) (err error) {
	request := client.TokenExchangeRequest{
		SubjectTokenType: tokenType(c.SubjectTokenType), ActorTokenType: tokenType(c.ActorTokenType), RequestedTokenType: tokenType(c.RequestedTokenType),
		Resources: c.Resource, Audiences: c.Audience, Scopes: c.Scope,
	}
	if c.SubjectTokenFile == "" {
		subject, err := readToken(c.Name)
		if err != nil {
			return err
		}
		request.SubjectToken = subject.Tokens.AccessToken
		if subject.Client.ClientID == c.ClientID {
			request.DPoPKey = subject.Tokens.DPoPKey
		}
	} else if request.SubjectToken, err = readSecret(c.SubjectTokenFile, "the subject token"); err != nil {
		return err
	}
	if c.ActorTokenFile != "" {
		if request.ActorToken, err = readSecret(c.ActorTokenFile, "the actor token"); err != nil {
			return err
		}
	}
	details, err := parseDetails(c.AuthorizationDetails)
	if err != nil {
		return err
	}
	if len(details) > 0 {
		encoded, err := json.Marshal(details)
		if err != nil {
			return fmt.Errorf("encode authorization details: %w", err)
		}
		request.Parameters = map[string][]string{"authorization_details": {string(encoded)}}
	}
	token, err := from.TokenExchange(ctx, request)
	if err != nil {
		return err
	}
	kept.IssuedTokenType = token.IssuedTokenType
	kept.Tokens = &client.Tokens{
		AccessToken: token.Token, TokenType: token.TokenType, DPoPKey: token.DPoPKey, Expiry: token.Expiry, Issued: time.Now().Round(0),
		RefreshToken: token.RefreshToken, Scope: token.Scope,
	}
	return nil
}

// tokenType completes the short name of a token type (RFC 8693, section 3).
func tokenType(name string) string {
	if name == "" || strings.Contains(name, ":") {
		return name
	}
	return strings.TrimSuffix(oauth.TokenTypeAccessToken, "access_token") + name
}

// readExistingPassword prompts once, without echo. If standard input is not a terminal, its first
// line is the password.
func readExistingPassword(o *output) (string, error) {
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		password, err := prompt(o, fd, "Password: ")
		if err != nil {
			return "", err
		}
		return notEmpty(password)
	}
	return readPassword(o)
}

// tokenView is the token as JSON, with the names of the token response. The private key of a bound
// token stays in its file.
type tokenView struct {
	AccessToken     string            `json:"access_token"`
	TokenType       string            `json:"token_type"`
	IssuedTokenType string            `json:"issued_token_type,omitempty"`
	ExpiresIn       int64             `json:"expires_in,omitempty"`
	Scope           string            `json:"scope,omitempty"`
	Details         []json.RawMessage `json:"authorization_details,omitempty"`
	RefreshToken    string            `json:"refresh_token,omitempty"`
	IDToken         string            `json:"id_token,omitempty"`
	// Claims are those of the ID token, which is validated.
	Claims  json.RawMessage `json:"id_token_claims,omitempty"`
	DPoPJKT string          `json:"dpop_jkt,omitempty"`
}

func (k *keptToken) view() tokenView {
	t := k.Tokens
	v := tokenView{
		AccessToken: t.AccessToken, TokenType: t.TokenType, IssuedTokenType: k.IssuedTokenType, Scope: t.Scope.String(), Details: t.Details,
		RefreshToken: t.RefreshToken, IDToken: t.IDToken,
	}
	if !t.Expiry.IsZero() {
		v.ExpiresIn = max(0, int64(time.Until(t.Expiry)/time.Second))
	}
	if t.DPoPKey != nil {
		v.DPoPJKT = t.DPoPKey.Thumbprint()
	}
	if t.Identity != nil {
		if parts := strings.Split(t.IDToken, "."); len(parts) == 3 { // not encrypted
			v.Claims, _ = base64.RawURLEncoding.DecodeString(parts[1])
		}
	}
	return v
}
