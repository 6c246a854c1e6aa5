package distinguishedname

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
)

// subject returns the DER encoding of a subject, one part for each pair of OID and value.
func subject(t testing.TB, parts ...any) []byte {
	t.Helper()
	var name pkix.RDNSequence
	for i := 0; i < len(parts); i += 2 {
		name = append(name, pkix.RelativeDistinguishedNameSET{{Type: parts[i].(asn1.ObjectIdentifier), Value: parts[i+1]}})
	}
	der, err := asn1.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

var (
	country      = asn1.ObjectIdentifier{2, 5, 4, 6}
	organization = asn1.ObjectIdentifier{2, 5, 4, 10}
	unit         = asn1.ObjectIdentifier{2, 5, 4, 11}
	common       = asn1.ObjectIdentifier{2, 5, 4, 3}
	userID       = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
)

func TestNamesAreComparedPartByPart(t *testing.T) {
	plain := subject(t, country, "GB", organization, "Example Ltd", common, "client")
	for _, test := range []struct {
		name    string
		subject []byte
		text    string
		want    bool
	}{
		{"in reverse order", plain, "CN=client,O=Example Ltd,C=GB", true},
		{"spaces next to separators", plain, "CN = client , O= Example Ltd, C=GB ", true},
		{"letter case", plain, "cn=CLIENT,o=example LTD,c=gb", true},
		{"several spaces are one", plain, `CN=client,O=Example   Ltd,C=GB`, true},
		{"escaped space at the end", plain, `CN=client\ ,O=Example Ltd,C=GB`, true},
		{"object identifiers", plain, "2.5.4.3=client,2.5.4.10=Example Ltd,2.5.4.6=GB", true},
		{"BER", plain, "CN=#1306636c69656e74,O=#0c0b4578616d706c65204c7464,C=GB", true},
		{"the order of the certificate", plain, "C=GB,O=Example Ltd,CN=client", false},
		{"a part less", plain, "CN=client,O=Example Ltd", false},
		{"a part more", plain, "CN=client,OU=x,O=Example Ltd,C=GB", false},
		{"another value", plain, "CN=client2,O=Example Ltd,C=GB", false},
		{"another type", plain, "OU=client,O=Example Ltd,C=GB", false},
		{"together in one part", plain, "CN=client+O=Example Ltd,C=GB", false},
		{"hexadecimal escapes", subject(t, common, "Lučić"), `CN=Lu\C4\8Di\C4\87`, true},
		{"decomposed characters", subject(t, common, "Lučić"), "CN=Luc\u030cic\u0301", true},
		{"special characters", subject(t, common, `a,b+c"d\e<f>g;h#i=j`), `CN=a\,b\+c\"d\\e\<f\>g\;h\#i\=j`, true},
		{"CA-14: a common name that contains another name", subject(t, common, "client,O=Example Ltd,C=GB"), "CN=client,O=Example Ltd,C=GB", false},
		{"CA-14: the same, with its escapes", subject(t, common, "client,O=Example Ltd,C=GB"), `CN=client\,O=Example Ltd\,C=GB`, true},
		{"CA-14: slashes", subject(t, common, "client/O=Example Ltd"), "CN=client,O=Example Ltd", false},
		{"CA-14: a name inside of a longer one", subject(t, country, "GB", common, "client", common, "client"), "CN=client,C=GB", false},
		{"UID", subject(t, common, "client", userID, "7"), "UID=7,CN=client", true},
		{"no subject", subject(t), "CN=client", false},
	} {
		parsed, err := Parse(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		got, err := OfSubject(test.subject)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got.Equal(parsed) != test.want || parsed.Equal(got) != test.want {
			t.Errorf("%s: equal: %v", test.name, !test.want)
		}
	}
	empty, err := OfSubject(subject(t))
	if err != nil || empty.Equal(Name{}) {
		t.Errorf("the empty name equals another: %v", err)
	}
}

func TestAttributesOfOnePartHaveNoOrder(t *testing.T) {
	der, err := asn1.Marshal(pkix.RDNSequence{{{Type: organization, Value: "Example"}, {Type: unit, Value: "Sales"}}, {{Type: common, Value: "client"}}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := OfSubject(der)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"CN=client,OU=Sales+O=Example": true, "CN=client,O=Example+OU=Sales": true,
		"CN=client,O=Example": false, "CN=client,O=Example+O=Example": false, "CN=client,OU=Sales,O=Example": false,
	} {
		if parsed, err := Parse(text); err != nil || got.Equal(parsed) != want {
			t.Errorf("%s: %v, %v", text, !want, err)
		}
	}
}

// CA-14: an embedded NUL ends a string in some programs.
func TestCA14_SubjectsWithControlCharacters(t *testing.T) {
	for _, der := range [][]byte{
		subject(t, common, "client\x00.evil.example"), subject(t, common, "client\u202e"), subject(t, common, "client\n"),
		[]byte("x"), append(subject(t, common, "client"), 0),
	} {
		if name, err := OfSubject(der); err == nil {
			t.Errorf("%x: accepted as %v", der, name)
		}
	}
}

func TestInvalidDistinguishedNames(t *testing.T) {
	for _, text := range []string{
		"", " ", "client", "CN", "CN=", "CN=a,", "CN=a,,O=b", "CN=a;O=b", `CN="a"`, "CN=a<b", `CN=a\`, `CN=a\x`, `CN=a\0`, "CN=a\x00",
		"/CN=client/O=Example", "X-Y=a", "1=a", "2..5=a", "02.5=a", "CN=#", "CN=#zz", "CN=#1306636c69", "CN=\xff", `CN=\FF`, `CN=\00`,
		strings.Repeat("CN=a,", 300) + "CN=a", strings.Repeat("CN=a,", 40) + "CN=a", strings.Repeat("CN=a+", 40) + "CN=a",
	} {
		if name, err := Parse(text); err == nil {
			t.Errorf("%q: accepted as %v", text, name)
		}
	}
}

// No input panics, and a name that was parsed equals itself.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"CN=client,O=Example Ltd,C=GB", `CN=a\,b\+c\"d\\e+OU=x, O=#1306636c69656e74`, "2.5.4.3=a", `CN=Lu\C4\8Di\C4\87`} {
		f.Add(text, []byte(text))
	}
	f.Add("CN=a", subject(f, common, "a"))
	f.Fuzz(func(t *testing.T, text string, der []byte) {
		if name, err := Parse(text); err == nil && !name.Equal(name) {
			t.Errorf("%q does not equal itself", text)
		}
		if name, err := OfSubject(der); err == nil && len(name) > 0 && !name.Equal(name) {
			t.Errorf("%x does not equal itself", der)
		}
	})
}
