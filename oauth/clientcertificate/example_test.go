package clientcertificate_test

import (
	"fmt"
	"log"
	"net/http/httptest"
	"net/netip"

	"github.com/valetkey/valetkey/oauth/clientcertificate"
)

// An API behind a proxy reads the certificate from the header Client-Cert. A client that connects
// directly cannot set it.
func ExampleBehind() {
	source, err := clientcertificate.Behind([]netip.Prefix{netip.MustParsePrefix("10.0.0.7/32")}, "Client-Cert", "")
	if err != nil {
		log.Fatal(err)
	}
	for _, peer := range []string{"10.0.0.7:50000", "203.0.113.9:50000"} {
		request := httptest.NewRequest("GET", "/notes", nil)
		request.RemoteAddr = peer
		request.Header.Set("Client-Cert", ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:")
		certificates, err := source.Certificates(request)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(peer, len(certificates))
		for _, certificate := range certificates {
			fmt.Println(certificate.Subject, clientcertificate.Thumbprint(certificate))
		}
	}
	// Output:
	// 10.0.0.7:50000 1
	// CN=BC v68ffgcPn6jdYpBfFY2nP4ShE2Yk-6_Mk5PI9yh6aes
	// 203.0.113.9:50000 0
}
