// Package doctor plants faults behind a real nginx, in databases, mail servers and files, and tests that
// "valetkey doctor" finds each by its name, and nothing in a sound setup.
package doctor

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/doctor"
	"github.com/valetkey/valetkey/internal/mailtest"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/internal/probe"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	host   = "login.example.com"
	issuer = "https://" + host
)

// world is a server, and an nginx with a port for each fault. All ports serve the same issuer; doctor is
// told where to connect.
type world struct {
	dir     string
	config  configuration.Configuration // of the server, as its file has it
	file    string
	roots   *x509.CertPool
	backend string
	site    string // the shipped configuration of nginx, for this server
	http    string // that of port 80
}

// fault is something that is planted.
type fault struct {
	name string
	// nginx are pairs of text in the shipped configuration and its replacement.
	nginx []string
	// http are the same for the server of port 80.
	http []string
	// change plants it elsewhere.
	change func(*testing.T, *world, *doctor.Options)
	want   []string
}

const (
	proxyPass = "proxy_http_version 1.1;" // a line of the location, after which a fault adds others
	inServer  = "client_max_body_size 1m;"
)

// inLocation adds lines to the location, and inBlock to the server.
func inLocation(lines string) []string { return []string{proxyPass, proxyPass + "\n" + lines} }
func inBlock(lines string) []string    { return []string{inServer, inServer + "\n" + lines} }

// certificate uses files of the directory instead of the good ones.
func certificate(name string) []string {
	return []string{"fullchain.pem", name + ".pem"}
}

var faults = []fault{
	{name: "a sound setup"},
	{name: "Host is not forwarded", nginx: []string{"proxy_set_header Host $http_host;", ""}, want: []string{"proxy.host_not_forwarded"}},
	{name: "X-Forwarded-For is not set", nginx: []string{"proxy_set_header X-Forwarded-For $remote_addr;", ""}, want: []string{"proxy.forwarded_for_missing", "proxy.address_forgeable"}},
	{name: "X-Forwarded-For is passed on", nginx: []string{"X-Forwarded-For $remote_addr;", "X-Forwarded-For $http_x_forwarded_for;"}, want: []string{"proxy.forwarded_for_missing", "proxy.address_forgeable"}},
	{name: "X-Forwarded-Proto is missing", nginx: []string{"proxy_set_header X-Forwarded-Proto $scheme;", ""}, want: []string{"proxy.forwarded_proto_missing"}},
	{name: "X-Forwarded-Proto is wrong", nginx: []string{"X-Forwarded-Proto $scheme;", "X-Forwarded-Proto http;"}, want: []string{"proxy.forwarded_proto_wrong"}},
	{name: "the certificate has expired", nginx: certificate("expired"), want: []string{"tls.expired"}},
	{name: "the certificate expires soon", nginx: certificate("soon"), want: []string{"tls.expires_soon"}},
	{name: "the certificate is for another name", nginx: certificate("other"), want: []string{"tls.wrong_name"}},
	{name: "the chain is incomplete", nginx: certificate("leaf"), want: []string{"tls.incomplete_chain"}},
	{name: "the certificate signs itself", nginx: certificate("self"), want: []string{"tls.untrusted"}},
	{name: "the path is stripped", nginx: []string{"proxy_pass http://BACKEND;", "rewrite ^/[^.]*?/(.*)$ /$1 break;\nproxy_pass http://BACKEND;"}, want: []string{"proxy.path_changed"}},
	{name: "the path is normalized", nginx: []string{"proxy_pass http://BACKEND;", "proxy_pass http://BACKEND/;"}, want: []string{"proxy.path_changed"}},
	{name: "long requests are refused", nginx: []string{"large_client_header_buffers 4 32k;", ""}, want: []string{"proxy.request_headers_limited"}},
	{name: "long responses are refused", nginx: []string{"proxy_buffer_size 32k;", "", "proxy_buffers 8 32k;", "", "proxy_busy_buffers_size 64k;", ""}, want: []string{"proxy.response_headers_limited"}},
	{name: "large bodies are refused", nginx: []string{inServer, "client_max_body_size 8k;"}, want: []string{"proxy.request_body_limited"}},
	{name: "cookies become insecure", nginx: inLocation("proxy_cookie_flags ~ nosecure;"), want: []string{"cookies.not_secure"}},
	{name: "scripts can read cookies", nginx: inLocation("proxy_cookie_flags ~ nohttponly;"), want: []string{"cookies.not_httponly"}},
	{name: "SameSite is changed", nginx: inLocation("proxy_cookie_flags ~ samesite=strict;"), want: []string{"cookies.samesite_changed"}},
	{name: "the path of cookies is changed", nginx: inLocation("proxy_cookie_path / /login/;"), want: []string{"cookies.path_changed"}},
	{name: "cookies are removed", nginx: inLocation("proxy_hide_header Set-Cookie;"), want: []string{"cookies.removed"}},
	{name: "cookies are not passed on", nginx: inLocation(`proxy_set_header Cookie "";`), want: []string{"cookies.not_forwarded"}},
	{name: "CORS is removed", nginx: inLocation("proxy_hide_header Access-Control-Allow-Origin;"), want: []string{"cors.missing", "cors.preflight"}},
	{name: "CORS is doubled", nginx: inLocation("add_header Access-Control-Allow-Origin *;"), want: []string{"cors.doubled"}},
	{name: "OPTIONS is refused", nginx: inLocation("if ($request_method = OPTIONS) { return 403; }"), want: []string{"cors.preflight"}},
	{name: "discovery is redirected", nginx: inBlock("location = /.well-known/openid-configuration { return 301 https://www.example.com$request_uri; }"), want: []string{"discovery.redirected"}},
	{name: "one address of the metadata is missing", nginx: inBlock("location = /.well-known/oauth-authorization-server { return 404; }"), want: []string{"discovery.missing"}},
	{name: "metadata is a page", nginx: inBlock("location = /.well-known/oauth-authorization-server { default_type text/html; return 200 'Welcome'; }"), want: []string{"discovery.not_json"}},
	{name: "token responses are compressed", nginx: inBlock("gzip on; gzip_types application/json; gzip_min_length 1;"), want: []string{"token.compressed"}},
	{name: "token responses may be cached", nginx: inBlock("location = /token { proxy_pass http://BACKEND; proxy_set_header Host $http_host; proxy_hide_header Cache-Control; add_header Cache-Control max-age=60 always; }"), want: []string{"token.cacheable"}},
	{name: "token requests are redirected", nginx: inBlock("location = /token { return 301 https://login.example.com/token/; }"), want: []string{"token.redirected"}},
	{name: "a firewall refuses token requests", nginx: inBlock("location = /token { return 403; }"), want: []string{"token.blocked", "cors.preflight"}},
	{name: "http loses POST", http: []string{"return 308", "return 301"}, want: []string{"http.redirect_loses_post"}},
	{name: "http serves pages", http: []string{"return 308 https://$host$request_uri;", "location / { proxy_pass http://BACKEND; proxy_set_header Host login.example.com; }"}, want: []string{"http.not_redirected"}},
	{name: "the policy of pages is removed", nginx: inLocation("proxy_hide_header Content-Security-Policy;"), want: []string{"headers.content_security_policy"}},
	{name: "HSTS is removed", nginx: inLocation("proxy_hide_header Strict-Transport-Security;"), want: []string{"headers.strict_transport_security"}},
	{name: "keys cannot be cached", nginx: inBlock("location = /jwks { proxy_pass http://BACKEND; proxy_set_header Host $http_host; proxy_hide_header Cache-Control; add_header Cache-Control no-store; }"), want: []string{"jwks.not_cacheable"}},
	{name: "keys are cached for a year", nginx: inBlock("location = /jwks { proxy_pass http://BACKEND; proxy_set_header Host $http_host; proxy_hide_header Cache-Control; add_header Cache-Control max-age=31536000; }"), want: []string{"jwks.cached_too_long"}},
	{name: "the proxy reaches no server", nginx: []string{"BACKEND", "127.0.0.1:1"}, want: []string{"proxy.bad_gateway"}},
	{name: "another server responds", nginx: []string{"proxy_pass http://BACKEND;", "return 404;"}, want: []string{"proxy.not_this_server"}},

	{name: "the proxy is not trusted", change: func(t *testing.T, w *world, o *doctor.Options) {
		config := w.config
		config.TrustedProxies, config.Database = nil, "sqlite:"+filepath.Join(t.TempDir(), "v.db")
		config.Listen = serve(t, config)
		o.Configuration = &config
		o.ConnectTo = w.startNginx(t, w.server(config.Listen, nil))
	}, want: []string{"proxy.untrusted_forwarded_for"}},
	{name: "everything is a trusted proxy, and appends", change: func(t *testing.T, w *world, o *doctor.Options) {
		config := w.config
		config.TrustedProxies, config.Database = []string{"0.0.0.0/0"}, "sqlite:"+filepath.Join(t.TempDir(), "v.db")
		config.Listen = serve(t, config)
		o.Configuration = &config
		o.ConnectTo = w.startNginx(t, w.server(config.Listen, []string{"X-Forwarded-For $remote_addr;", `X-Forwarded-For "$http_x_forwarded_for, 192.0.2.7";`}))
	}, want: []string{"proxy.address_forgeable"}},
	{name: "the server does not run", change: func(t *testing.T, w *world, o *doctor.Options) {
		config := w.config
		config.Listen = freeAddress(t)
		o.Configuration = &config
		o.ConnectTo = w.startNginx(t, w.server(config.Listen, nil))
	}, want: []string{"server.unreachable"}},
	{name: "nothing listens", change: func(t *testing.T, w *world, o *doctor.Options) {
		o.ConnectTo = freeAddress(t)
	}, want: []string{"issuer.unreachable"}},
	{name: "the issuer has another name", change: func(_ *testing.T, w *world, o *doctor.Options) {
		config := w.config
		config.Issuer = "https://www.example.com"
		o.Configuration = &config
	}, want: []string{"issuer.mismatch"}},
	{name: "another master key", change: func(t *testing.T, w *world, o *doctor.Options) {
		config := w.config
		config.MasterKeyFile = masterKeyFile(t, t.TempDir(), 'B')
		o.Configuration = &config
	}, want: []string{"server.no_answer", "master_key.wrong"}},
	{name: "the master key is not rotated yet", change: masterKeys('B', 'A', nil), want: []string{"master_key.not_rotated"}},
	{name: "a rotation was interrupted", change: masterKeys('B', 'A', interruptRotation), want: []string{"master_key.rotation_unfinished"}},
	{name: "the previous master key is missing", change: masterKeys('B', 0, interruptRotation), want: []string{"master_key.previous_missing"}},
	{name: "the previous master key is not needed", change: masterKeys('B', 'A', rotate), want: []string{"master_key.previous_unused"}},
	{name: "the former master key after a rotation", change: masterKeys('A', 0, rotate), want: []string{"master_key.wrong"}},
	{name: "after a rotation", change: masterKeys('B', 0, rotate)},
	{name: "the clock is wrong", change: func(_ *testing.T, _ *world, o *doctor.Options) {
		o.Now = func() time.Time { return time.Now().Add(-10 * time.Minute) }
	}, want: []string{"clock.skew"}},
	{name: "few open files", change: func(t *testing.T, _ *world, _ *doctor.Options) {
		var before syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
		few := syscall.Rlimit{Cur: 1024, Max: before.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
				t.Error(err)
			}
		})
	}, want: []string{"process.few_open_files"}},

	{name: "others can read the master key", change: func(t *testing.T, w *world, o *doctor.Options) {
		config := w.config
		config.MasterKeyFile = masterKeyFile(t, t.TempDir(), 'A')
		if err := os.Chmod(config.MasterKeyFile, 0o644); err != nil {
			t.Fatal(err)
		}
		o.Configuration = &config
	}, want: []string{"files.master_key_readable"}},
	{name: "others can read the secrets in the configuration", change: func(t *testing.T, w *world, o *doctor.Options) {
		o.ConfigurationFile = filepath.Join(t.TempDir(), "valetkey.yaml")
		if err := os.WriteFile(o.ConfigurationFile, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}, want: []string{"files.configuration_readable"}},
	{name: "others can read the password of the mail server", change: func(t *testing.T, w *world, o *doctor.Options) {
		if err := os.Chmod(w.config.Mail.SMTP.PasswordFile, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(w.config.Mail.SMTP.PasswordFile, 0o600) })
	}, want: []string{"files.secret_readable"}},
	{name: "a file is missing", change: func(_ *testing.T, w *world, o *doctor.Options) {
		config := w.config
		config.Clients = []configuration.Client{{ID: "a", SecretFile: "/nonexistent"}}
		o.Configuration = &config
	}, want: []string{"files.unusable"}},
	{name: "the disk is full", change: func(_ *testing.T, _ *world, o *doctor.Options) {
		o.FreeDisk = func(string) (uint64, uint64, error) { return 100 << 20, 100 << 30, nil }
	}, want: []string{"database.disk_low"}},
	{name: "SQLite without a write-ahead log", change: func(t *testing.T, w *world, o *doctor.Options) {
		o.Configuration = w.with(t, "sqlite:"+deleteJournal(t))
	}, want: []string{"database.journal_mode"}},

	{name: "sound PostgreSQL", change: func(t *testing.T, w *world, o *doctor.Options) {
		o.Configuration = w.with(t, soundPostgreSQL(t))
	}},
	{name: "sound PostgreSQL behind PgBouncer", change: func(t *testing.T, w *world, o *doctor.Options) {
		o.Configuration = w.with(t, pgtest.PgBouncer(t, soundPostgreSQL(t)))
	}},
	{name: "fsync is off", change: func(t *testing.T, w *world, o *doctor.Options) {
		o.Configuration = w.with(t, pgtest.Database(t))
	}, want: []string{"database.fsync_off", "database.full_page_writes_off"}},
	{name: "commits are not durable", change: func(t *testing.T, w *world, o *doctor.Options) {
		o.Configuration = w.with(t, soundPostgreSQL(t)+"&options=-csynchronous_commit%3Doff")
	}, want: []string{"database.synchronous_commit_off"}},
	{name: "a read-only database", change: func(t *testing.T, w *world, o *doctor.Options) {
		o.Configuration = w.with(t, soundPostgreSQL(t)+"&options=-cdefault_transaction_read_only%3Don")
	}, want: []string{"database.read_only"}},
	{name: "PgBouncer allows no transactions", change: func(t *testing.T, w *world, o *doctor.Options) {
		o.Configuration = w.with(t, pgtest.PgBouncerMode(t, soundPostgreSQL(t), "statement"))
	}, want: []string{"database.statement_pooling"}},
	{name: "no database", change: func(t *testing.T, w *world, o *doctor.Options) {
		o.Configuration = w.with(t, "postgres://valetkey:secret-password@127.0.0.1:1/valetkey")
	}, want: []string{"database.unreachable"}},
	{name: "old and slow PostgreSQL", change: func(_ *testing.T, _ *world, o *doctor.Options) {
		o.Inspect = func(context.Context) (*doctor.Inspection, error) {
			return &doctor.Inspection{PostgreSQL: true, Version: "11.22", VersionNumber: 110022, Latency: 80 * time.Millisecond,
				SchemaVersion: 900, KnownVersion: 30, Connections: 96, MaxConnections: 100,
				Time: time.Now().Add(time.Minute), Received: time.Now()}, nil
		}
	}, want: []string{"database.old_version", "database.slow", "database.newer", "database.connections", "database.clock_skew"}},

	{name: "the mail server has no STARTTLS", change: mailFault(mailtest.Options{NoTLS: true, RequireAuth: true}, nil), want: []string{"mail.no_starttls"}},
	{name: "the mail server is not trusted", change: mailFault(mailtest.Options{RequireAuth: true}, func(c *configuration.Configuration) {
		c.Outgoing.CertificateAuthorities = ""
	}), want: []string{"mail.certificate"}},
	{name: "the mail password is wrong", change: mailFault(mailtest.Options{RequireAuth: true}, func(c *configuration.Configuration) {
		c.Mail.SMTP.Username = "another"
	}), want: []string{"mail.authentication"}},
	{name: "there is no mail server", change: mailFault(mailtest.Options{RequireAuth: true}, func(c *configuration.Configuration) {
		c.Mail.SMTP.Port = 1
	}), want: []string{"mail.unreachable"}},
	{name: "mail is not configured", change: mailFault(mailtest.Options{}, func(c *configuration.Configuration) { c.Mail = nil }), want: []string{"mail.none"}},

	// The last one, because it rotates the keys.
	{name: "the proxy has old keys", nginx: inBlock("location = /jwks { proxy_pass http://BACKEND; proxy_set_header Host $http_host; proxy_cache keys; proxy_cache_valid 200 1h; proxy_ignore_headers Cache-Control; }"),
		change: rotateBehindCache, want: []string{"jwks.stale"}},
}

func TestFindings(t *testing.T) {
	w := newWorld(t)
	sharedPostgreSQL.instance = pgtest.Start(t, "fsync=on", "full_page_writes=on")
	ports := make([]string, len(faults))
	httpPorts := make([]string, len(faults))
	var blocks strings.Builder
	free := freeAddresses(t, 2*len(faults))
	for i, f := range faults {
		if f.nginx == nil && f.http == nil && i > 0 {
			ports[i], httpPorts[i] = ports[0], httpPorts[0]
			continue
		}
		ports[i], httpPorts[i] = free[2*i], free[2*i+1]
		blocks.WriteString(w.block(t, ports[i], w.backend, f.nginx))
		blocks.WriteString(strings.ReplaceAll(replace(t, w.http, append([]string{"listen 80;", "listen " + httpPorts[i] + ";"}, f.http...)...), "BACKEND", w.backend))
	}
	w.run(t, blocks.String(), ports[0])

	planted := 0
	for i, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			config := w.config
			o := doctor.Options{
				Issuer: issuer, Configuration: &config, ConfigurationFile: w.file, Version: valetkey.Version,
				Roots: w.roots, ConnectTo: ports[i], HTTPPort: portOf(t, httpPorts[i]),
			}
			if f.change != nil {
				f.change(t, w, &o)
			}
			began := time.Now()
			report, err := doctor.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, finding := range report.Findings {
				got = append(got, finding.Name)
			}
			want := slices.Clone(f.want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				text, _ := json.MarshalIndent(report, "", "  ")
				t.Errorf("found %q, want %q\n%s", got, want, text)
			}
			if text, err := json.Marshal(report); err != nil || bytes.Contains(text, []byte(mailtest.Password)) || bytes.Contains(text, []byte("secret-password")) {
				t.Errorf("the report contains a secret (%v): %s", err, text)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
		planted += len(f.want)
	}
	if planted < 25 {
		t.Errorf("%d faults are planted", planted)
	}
}

// newWorld starts a sound server. Its configuration has mail and a client with a secret.
func newWorld(t *testing.T) *world {
	w := &world{dir: t.TempDir()}
	w.makeCertificates(t)
	mailServer := mailtest.Start(t, mailtest.Options{RequireAuth: true})
	password := filepath.Join(w.dir, "smtp.password")
	if err := os.WriteFile(password, []byte(mailtest.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	w.file = filepath.Join(w.dir, "valetkey.yaml")
	text := fmt.Sprintf(`
issuer: %s
database: sqlite:%s
master_key_file: %s
trusted_proxies: [127.0.0.1]
outgoing: {certificate_authorities: %s}
mail:
  from: Example <login@example.com>
  smtp: {host: %s, port: %d, tls: starttls, username: %s, password_file: %s}
clients:
  - client_id: photos
    client_secret: photos-3b1f8c2d7e6a4950-b7c1
    redirect_uris: ["https://photos.example/callback"]
`, issuer, filepath.Join(w.dir, "valetkey.db"), masterKeyFile(t, w.dir, 'A'), mailServer.CertificateAuthority,
		mailServer.Host, mailServer.Port, mailtest.Username, password)
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.config, err = configuration.Parse(w.file, []byte(text)); err != nil {
		t.Fatal(err)
	}
	w.backend = serve(t, w.config)
	w.config.Listen = w.backend

	shipped, err := os.ReadFile("../../deploy/nginx/valetkey.conf")
	if err != nil {
		t.Fatal(err)
	}
	w.site, w.http, _ = strings.Cut(string(shipped), "\nserver {\n    listen 80;")
	w.http = "\nserver {\n    listen 80;" + w.http
	w.site = replace(t, w.site, "127.0.0.1:8080", "BACKEND", "/etc/letsencrypt/live/"+host, w.dir)
	return w
}

// with returns the configuration with another database.
func (w *world) with(_ *testing.T, databaseURL string) *configuration.Configuration {
	config := w.config
	config.Database = databaseURL
	return &config
}

// serve starts a server, and returns its address.
func serve(t *testing.T, config configuration.Configuration) string {
	t.Helper()
	server, err := valetkey.New(valetkey.Config{Configuration: config, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// masterKeyFile writes a master key that consists of one letter in base64.
func masterKeyFile(t *testing.T, dir string, letter byte) string {
	path := filepath.Join(dir, "master.key")
	if err := os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{letter}, 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// masterKeys returns a fault: the configuration has these master keys (0 means none), the database was
// sealed with the key A, and then something was done with the keys B and A. The server is asked as before.
func masterKeys(current, previous byte, do func(*testing.T, *database.Database)) func(*testing.T, *world, *doctor.Options) {
	return func(t *testing.T, w *world, o *doctor.Options) {
		config := w.config
		config.Database = "sqlite:" + filepath.Join(t.TempDir(), "valetkey.db")
		open := func(current, previous byte) *database.Database {
			config.MasterKeyFile, config.PreviousMasterKeyFile = masterKeyFile(t, t.TempDir(), current), ""
			if previous != 0 {
				config.PreviousMasterKeyFile = masterKeyFile(t, t.TempDir(), previous)
			}
			d, err := database.Open(t.Context(), &config, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		first := open('A', 0)
		if err := first.CreateClient(t.Context(), &record.Client{ID: "app", Secrets: []string{"a secret"}}); err != nil {
			t.Fatal(err)
		}
		secret := first.MasterSecrets()[0]
		both := open('B', 'A')
		if do != nil {
			do(t, both)
		}
		for _, d := range []*database.Database{first, both} {
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
		config.MasterKeyFile, config.PreviousMasterKeyFile = masterKeyFile(t, t.TempDir(), current), ""
		if previous != 0 {
			config.PreviousMasterKeyFile = masterKeyFile(t, t.TempDir(), previous)
		}
		var err error
		if o.Key, err = database.Derive(secret, probe.Purpose); err != nil {
			t.Fatal(err)
		}
		o.Configuration = &config
	}
}

func rotate(t *testing.T, d *database.Database) {
	if _, err := d.RotateMasterKey(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// interruptRotation stops a rotation after its first transaction.
func interruptRotation(t *testing.T, d *database.Database) {
	stop := errors.New("stopped")
	defer func() {
		if r := recover(); r != stop {
			t.Fatalf("recovered %v", r)
		}
	}()
	_, _ = d.RotateMasterKey(t.Context(), func(database.MasterKeyState) { panic(stop) })
}

func mailFault(options mailtest.Options, change func(*configuration.Configuration)) func(*testing.T, *world, *doctor.Options) {
	return func(t *testing.T, w *world, o *doctor.Options) {
		server := mailtest.Start(t, options)
		config := w.config
		m, smtp := *config.Mail, *config.Mail.SMTP
		config.Mail, m.SMTP = &m, &smtp
		smtp.Port, config.Outgoing.CertificateAuthorities = server.Port, server.CertificateAuthority
		if change != nil {
			change(&config)
		}
		o.Configuration = &config
	}
}

// soundPostgreSQL returns the URL of a database on a server with durable commits, which the tests share.
var sharedPostgreSQL struct {
	instance *pgtest.Instance
	count    int
}

func soundPostgreSQL(t *testing.T) string {
	t.Helper()
	s := &sharedPostgreSQL
	s.count++
	return s.instance.Database(fmt.Sprintf("sound_%d", s.count))
}

// deleteJournal returns the path of a SQLite database with the journal mode "delete".
func deleteJournal(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "v.db")
	sqlite, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(sqlite, path, "CREATE TABLE t (x)").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rotateBehindCache fills the cache of the proxy and then revokes the keys.
func rotateBehindCache(t *testing.T, w *world, o *doctor.Options) {
	if _, err := doctor.Run(t.Context(), *o); err != nil {
		t.Fatal(err)
	}
	store, err := database.Open(t.Context(), &w.config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	keys := func() string {
		request, err := http.NewRequest(http.MethodGet, "http://"+w.backend+"/jwks", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var text bytes.Buffer
		if _, err := text.ReadFrom(response.Body); err != nil {
			t.Fatal(err)
		}
		return text.String()
	}
	before := keys()
	if _, err := authserver.RotateKeys(t.Context(), store, time.Now(), authserver.KeyRotation{Revoke: true}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); keys() == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server does not publish the new keys")
		}
	}
}

// TestSoundIssuerWithAPath has the other shipped file, in which the metadata has locations of its own.
func TestSoundIssuerWithAPath(t *testing.T) {
	w := newWorld(t)
	config := w.config
	config.Issuer, config.Database = issuer+"/login", "sqlite:"+filepath.Join(t.TempDir(), "v.db")
	config.Listen = serve(t, config)
	shipped, err := os.ReadFile("../../deploy/nginx/valetkey-path.conf")
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	w.run(t, replace(t, string(shipped), "listen 443 ", "listen "+address+" ", "127.0.0.1:8080", config.Listen,
		"/etc/letsencrypt/live/www.example.com", w.dir, "www.example.com", host), address)
	report, err := doctor.Run(t.Context(), doctor.Options{
		Issuer: config.Issuer, Configuration: &config, ConfigurationFile: w.file, Version: valetkey.Version, Roots: w.roots, ConnectTo: address,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) > 0 || !slices.Contains(report.Passed, "discovery") {
		text, _ := json.MarshalIndent(report, "", "  ")
		t.Errorf("%s", text)
	}
}
