package telemetry

import (
	"net"
	"net/http"
	"net/netip"
)

// Handler serves /metrics in the text format of Prometheus. It refuses hosts that are names, except
// localhost: a page in a browser on this machine could use them for DNS rebinding. If named is set, it
// accepts any host.
func (t *Telemetry) Handler(named bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		t.collect(r.Context())
		w.Header().Set("Content-Type", contentTypePrometheus)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(t.prometheus()) // an error means that the client has closed the connection
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !named && !addressOrLocalhost(r.Host) {
			http.Error(w, "This listener only handles requests for an IP address or localhost.", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func addressOrLocalhost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost"
}
