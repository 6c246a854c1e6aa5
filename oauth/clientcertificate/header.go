package clientcertificate

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

var errTooMany = fmt.Errorf("there are more than %d certificates", maxCertificates)

// parseRFC9440 parses the values of Client-Cert, a byte sequence, and of Client-Cert-Chain, a
// list of byte sequences (RFC 8941, sections 3.1 and 3.3.5). Neither has parameters.
func parseRFC9440(value, chain string) ([]*x509.Certificate, error) {
	items := []string{value}
	if chain != "" {
		others := strings.Split(chain, ",")
		if len(others) >= maxCertificates {
			return nil, errTooMany
		}
		items = append(items, others...)
	}
	var certificates []*x509.Certificate
	for _, item := range items {
		der, err := parseByteSequence(strings.Trim(item, " \t"))
		if err != nil {
			return nil, err
		}
		certificate, err := parseCertificate(der)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, certificate)
	}
	return certificates, nil
}

func parseByteSequence(item string) ([]byte, error) {
	if len(item) < 2 || item[0] != ':' || item[len(item)-1] != ':' || strings.ContainsAny(item, "\r\n") {
		return nil, errors.New("not a byte sequence: base64 between two colons (RFC 9440, section 2.1)")
	}
	// RFC 8941, section 4.2.7: padding may be missing.
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(item[1:len(item)-1], "="))
	if err != nil {
		return nil, errors.New("not a byte sequence: malformed base64")
	}
	return der, nil
}

// parsePEM parses URL-encoded certificates in PEM format, the client's own first. A plus sign is
// part of base64 and does not encode a space.
func parsePEM(value string) ([]*x509.Certificate, error) {
	text, err := url.PathUnescape(value)
	if err != nil {
		return nil, errors.New("not URL-encoded")
	}
	const begin = "-----BEGIN CERTIFICATE-----"
	var certificates []*x509.Certificate
	for rest := []byte(strings.TrimSpace(text)); len(rest) > 0; {
		// pem.Decode skips what is not a block.
		if !strings.HasPrefix(string(rest), begin) {
			return nil, errors.New("not a certificate in PEM format")
		}
		if len(certificates) == maxCertificates {
			return nil, errTooMany
		}
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 || strings.Count(string(rest[:len(rest)-len(after)]), begin) != 1 {
			return nil, errors.New("not a certificate in PEM format")
		}
		certificate, err := parseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, certificate)
		rest = []byte(strings.TrimSpace(string(after)))
	}
	if certificates == nil {
		return nil, errors.New("there is no certificate")
	}
	return certificates, nil
}

// parseXFCC parses the value of X-Forwarded-Client-Cert. Envoy writes one element for each hop.
// Only one is accepted: with several, the first ones come from clients, unless every hop checks
// them.
func parseXFCC(value string) ([]*x509.Certificate, error) {
	pairs, err := parseElement(value)
	if err != nil {
		return nil, err
	}
	text, ok := pairs["chain"] // contains the client's own certificate
	if !ok {
		text, ok = pairs["cert"]
	}
	if !ok {
		return nil, errors.New("it has neither Cert nor Chain: add cert: true to set_current_client_cert_details")
	}
	certificates, err := parsePEM(text)
	if err != nil {
		return nil, err
	}
	own, both := pairs["cert"]
	if _, chain := pairs["chain"]; !both || !chain {
		return certificates, nil
	}
	first, err := parsePEM(own)
	if err != nil {
		return nil, err
	}
	if !first[0].Equal(certificates[0]) {
		return nil, errors.New("the certificate in Cert is not the first one in Chain")
	}
	return certificates, nil
}

// parseElement parses the only element of the header: pairs of a name and a value, which may be
// quoted, separated by semicolons. Names are returned in lower case. URI and DNS may occur more
// than once, and are ignored.
func parseElement(value string) (map[string]string, error) {
	pairs := map[string]string{}
	for more := true; more; {
		name, rest, found := strings.Cut(value, "=")
		name = strings.ToLower(strings.Trim(name, " \t"))
		if !found || !isToken(name) {
			return nil, errors.New("not a list of pairs such as Cert=\"…\"")
		}
		text, after, err := parseValue(rest)
		if err != nil {
			return nil, err
		}
		if _, twice := pairs[name]; twice && name != "uri" && name != "dns" {
			return nil, fmt.Errorf("it has %s twice", name)
		}
		pairs[name] = text
		switch after = strings.TrimLeft(after, " \t"); {
		case after == "":
			more = false
		case after[0] == ';':
			value = after[1:]
		default:
			return nil, errors.New("it has more than one element: use forward_client_cert_details SANITIZE_SET")
		}
	}
	return pairs, nil
}

// parseValue returns the value at the beginning of text, without quotes, and what follows it.
func parseValue(text string) (value, after string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, ",;\"")
		if end < 0 {
			end = len(text)
		}
		return text[:end], text[end:], nil
	}
	var unquoted strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return unquoted.String(), text[i+1:], nil
		case '\\':
			if i++; i == len(text) {
				return "", "", errors.New("a quoted string does not end")
			}
		}
		unquoted.WriteByte(text[i])
	}
	return "", "", errors.New("a quoted string does not end")
}
