package doctor

// Severity says how bad a finding is.
type Severity string

// The severities. Something does not work, or is not safe, because of an Error. A Warning will be one,
// or is one for some users. Info is not a fault.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

func (s Severity) rank() int {
	switch s {
	case Error:
		return 0
	case Warning:
		return 1
	}
	return 2
}

// Entry describes a possible finding. Fix may have {issuer}, {host}, {name} (the host without a port),
// {path}, {backend} and {config}, which are replaced.
type Entry struct {
	Severity   Severity
	Title, Fix string
}

// Table has all findings by name. The names are stable: scripts and alerts may use them.
var Table = map[string]Entry{
	"issuer.not_https": {Error, "The issuer is http", `
Set issuer: https://… in {config}, and let a proxy or tls in {config} provide TLS. http is allowed on loopback only.`},
	"issuer.mismatch": {Error, "The server has another issuer", `
Clients refuse metadata whose issuer is not exactly the URL that they know (RFC 8414, section 3.3). Set issuer: {issuer} in {config}, without a slash at the end, or use the other URL everywhere.`},
	"issuer.unreachable": {Error, "The issuer's URL cannot be reached", `
Check that {name} resolves to the proxy (dig {name}), that the proxy runs (systemctl status nginx), and that no firewall is in between. To check before DNS is changed: --connect-to ADDRESS:443.`},
	"server.unreachable": {Error, "The server does not run, or the proxy cannot reach it", `
Start it (systemctl start valetkey) and read its log (journalctl -u valetkey -o cat). The address in the proxy (proxy_pass http://{backend}; in nginx, reverse_proxy {backend} in Caddy) must be listen in {config}.`},
	"server.not_ready": {Error, "The server does not handle requests now", `
Read its log: journalctl -u valetkey -o cat. If the database does not respond, start it; the findings about the database say more.`},
	"server.no_answer": {Warning, "The server has another master key than this configuration, or is another version", `
Run doctor with the configuration, the environment and the version of the running server. Otherwise what is behind the proxy cannot be checked.`},
	"server.other_version": {Info, "The server and this program are different versions", `
Restart the server if the program was replaced.`},
	"server.detail": {Warning, "The server reports a problem at /readyz", `
Read its log: journalctl -u valetkey -o cat.`},

	"tls.handshake_failed": {Error, "There is no TLS at the issuer's URL", `
In nginx: listen 443 ssl; with ssl_certificate and ssl_certificate_key. TLS 1.2 or 1.3 is required.`},
	"tls.expired": {Error, "The certificate has expired", `
Renew it (certbot renew), and reload the proxy (systemctl reload nginx). If it was renewed already, the proxy still uses the old one: reload it after each renewal (certbot renew --deploy-hook "systemctl reload nginx").`},
	"tls.not_yet_valid": {Error, "The certificate is not valid yet", `
Check the clock of this machine and of the authority that issued the certificate.`},
	"tls.expires_soon": {Warning, "The certificate expires within two weeks", `
Automatic renewal should have renewed it by now: systemctl status certbot.timer, certbot renew.`},
	"tls.wrong_name": {Error, "The certificate is for another name", `
Get a certificate for {name}, and check that the server block with server_name {name} is the one that responds.`},
	"tls.incomplete_chain": {Error, "The server does not send the certificates between its own and the authority's", `
Browsers may have them; other clients do not. In nginx: ssl_certificate …/fullchain.pem; instead of cert.pem. With tls in {config}: the certificate file must contain the whole chain.`},
	"tls.untrusted": {Error, "The certificate is of an authority that is not trusted", `
Use a public authority (certbot, Caddy), or give the private authority to every client, and to this program with --ca FILE.`},
	"tls.old_version": {Warning, "TLS 1.0 or 1.1 is accepted", `
In nginx: ssl_protocols TLSv1.2 TLSv1.3; (RFC 8996).`},

	"clock.skew": {Error, "The clocks of the server and of this machine differ", `
Tokens look expired or not yet valid to others, and authenticator apps do not work. Synchronize both clocks: timedatectl set-ntp true, then chronyc tracking.`},

	"proxy.bad_gateway": {Error, "The proxy cannot reach the server, which runs", `
In nginx: proxy_pass http://{backend};. With SELinux: setsebool -P httpd_can_network_connect 1.`},
	"proxy.not_this_server": {Error, "The proxy passes requests to another server", `
In nginx, the server block with server_name {name} needs proxy_pass http://{backend};. In Caddy: reverse_proxy {backend}.`},
	"proxy.redirected": {Error, "The proxy redirects requests", `
Remove the redirect for {name}, or change the issuer to its target. Clients follow no redirects of metadata and tokens.`},
	"proxy.host_not_forwarded": {Error, "The proxy changes the Host header", `
In nginx, in each location with proxy_pass: proxy_set_header Host $http_host;. Caddy passes it on unless header_up changes it.`},
	"proxy.path_changed": {Error, "The proxy changes paths", `
In nginx, proxy_pass must have no path, not even a slash: proxy_pass http://{backend};. In Caddy, use handle instead of handle_path. The issuer's path ({path}) must arrive at the server too.`},
	"proxy.forwarded_for_missing": {Error, "The proxy does not tell the addresses of clients", `
All users share the limits of one address. In nginx: proxy_set_header X-Forwarded-For $remote_addr;. Caddy sends it by default.`},
	"proxy.untrusted_forwarded_for": {Error, "The server does not trust the proxy", `
All users share the limits of the proxy's address. In {config}: trusted_proxies: [ADDRESS OF THE PROXY].`},
	"proxy.address_forgeable": {Error, "Clients can choose their address", `
They evade limits, and blame others in the log. The proxy must replace what clients send. In nginx: proxy_set_header X-Forwarded-For $remote_addr;, and proxy_set_header Forwarded "";. In {config}, trusted_proxies must have only the addresses of proxies, not whole networks with clients.`},
	"proxy.forwarded_proto_missing": {Info, "The proxy does not send X-Forwarded-Proto", `
Valetkey does not need it: the scheme is that of the issuer. Other programs behind the same proxy may. In nginx: proxy_set_header X-Forwarded-Proto $scheme;.`},
	"proxy.forwarded_proto_wrong": {Info, "X-Forwarded-Proto is not the scheme of the issuer", `
Valetkey does not use it: the scheme is that of the issuer. Another proxy in front may end TLS. In nginx: proxy_set_header X-Forwarded-Proto $scheme;.`},
	"proxy.request_headers_limited": {Error, "The proxy refuses long requests", `
Sign-ins with long state, request objects or id_token_hint fail. In nginx: large_client_header_buffers 4 32k;.`},
	"proxy.response_headers_limited": {Error, "The proxy refuses responses with long headers", `
Sign-ins fail with 502 when redirects contain tokens. In nginx: proxy_buffer_size 32k; proxy_buffers 8 32k; proxy_busy_buffers_size 64k;.`},
	"proxy.request_body_limited": {Error, "The proxy refuses forms that the server accepts", `
In nginx: client_max_body_size 1m;. In Caddy: request_body { max_size 1MB }.`},

	"cookies.removed": {Error, "The proxy removes cookies", `
Nobody can sign in. In nginx, remove proxy_hide_header Set-Cookie; and proxy_ignore_headers Set-Cookie;.`},
	"cookies.not_forwarded": {Error, "The proxy does not pass on cookies", `
Nobody stays signed in. In nginx, remove proxy_set_header Cookie …;.`},
	"cookies.not_secure": {Error, "The proxy makes cookies insecure", `
In nginx, remove nosecure from proxy_cookie_flags.`},
	"cookies.not_httponly": {Warning, "The proxy lets scripts read cookies", `
In nginx, remove nohttponly from proxy_cookie_flags.`},
	"cookies.samesite_changed": {Error, "The proxy changes SameSite", `
In nginx, remove samesite from proxy_cookie_flags. Lax is necessary: with Strict, users who come from an application look signed out.`},
	"cookies.path_changed": {Error, "The proxy changes the path of cookies", `
In nginx: proxy_cookie_path off;.`},
	"cookies.domain_added": {Error, "The proxy adds a domain to cookies", `
Other hosts of the domain get the cookies. In nginx: proxy_cookie_domain off;.`},

	"discovery.missing": {Error, "Metadata cannot be read", `
These must reach the server unchanged: {issuer}/.well-known/openid-configuration, and, with a path, also /.well-known/oauth-authorization-server{path} and /.well-known/openid-configuration{path} at the root of the host. deploy/nginx/valetkey-path.conf has the locations.`},
	"discovery.redirected": {Error, "Metadata is redirected", `
Clients must not follow this redirect, or refuse the issuer. Let {issuer} respond itself, or make the target the issuer. In nginx, look for return 301 and rewrite in the server block of {name}.`},
	"discovery.not_json": {Error, "Metadata is not JSON", `
Another program responds at this address, or the proxy shows a page of its own. In nginx, look for error_page and try_files in the server block of {name}.`},

	"cors.missing": {Error, "Applications in browsers cannot read metadata or keys", `
The server sends Access-Control-Allow-Origin; the proxy removes or replaces it. In nginx, remove proxy_hide_header Access-Control-Allow-Origin; and add_header Access-Control-….`},
	"cors.doubled": {Error, "Access-Control-Allow-Origin is there twice", `
Browsers refuse such a response. The server sends the header; remove it from the proxy. In nginx, remove add_header Access-Control-Allow-Origin …;.`},
	"cors.preflight": {Error, "Applications in browsers cannot request tokens", `
The proxy must pass on OPTIONS requests. In nginx, remove if ($request_method = OPTIONS) … and limit_except.`},

	"token.redirected": {Error, "Token requests are redirected", `
Clients lose the body of the request, or do not follow. Let {issuer} respond itself; in nginx, look for return 301 and rewrite in the server block of {name}.`},
	"token.blocked": {Error, "Token requests do not reach the server", `
Something in between responds instead: a web application firewall, a rule for methods, or a page for errors. In nginx, look for limit_except, error_page and proxy_intercept_errors.`},
	"token.cacheable": {Error, "Token responses may be cached", `
Others could get the tokens. The server sends Cache-Control: no-store (RFC 6749, section 5.1); the proxy replaces it. In nginx, remove expires …;, add_header Cache-Control …; and proxy_hide_header Cache-Control; from the server block of {name}.`},
	"token.compressed": {Warning, "Token responses are compressed", `
The length of a compressed response can tell what it contains (BREACH). In nginx, for this server block: gzip off;.`},

	"headers.content_security_policy": {Error, "The pages have lost their Content-Security-Policy", `
It is what keeps foreign scripts and frames out. In nginx, remove proxy_hide_header Content-Security-Policy; and add_header Content-Security-Policy …;.`},
	"headers.content_security_policy_doubled": {Warning, "The pages have a second Content-Security-Policy", `
Both apply, so pages may not work. In nginx, remove add_header Content-Security-Policy …; from the server block of {name}.`},
	"headers.strict_transport_security": {Warning, "Strict-Transport-Security is missing", `
The server sends it. In nginx, remove proxy_hide_header Strict-Transport-Security;.`},
	"pages.cacheable": {Error, "Pages may be cached", `
Others could see the pages of a user. In nginx, remove expires …;, add_header Cache-Control …; and proxy_cache from the server block of {name}.`},
	"http.not_redirected": {Error, "The pages are served over http too", `
In nginx, let port 80 have a server block with return 308 https://$host$request_uri; only.`},
	"http.redirect_loses_post": {Warning, "The redirect from http to https turns POST into GET", `
In nginx: return 308 https://$host$request_uri; instead of 301. In Caddy: redir https://{host}{uri} 308. Clients should use https from the start.`},

	"jwks.unusable": {Error, "The published keys cannot be read", `
Nobody can verify tokens. The jwks_uri in the metadata must reach the server unchanged.`},
	"jwks.stale": {Error, "The proxy sends old keys", `
After a rotation, tokens cannot be verified; after a leak, revoked keys are still accepted. In nginx, remove proxy_cache, proxy_cache_valid and proxy_ignore_headers from the server block of {name}, and empty the cache.`},
	"jwks.not_cacheable": {Warning, "The published keys cannot be cached", `
Every API requests them again and again. The server allows five minutes; the proxy replaces that. In nginx, remove expires …; and add_header Cache-Control …;.`},
	"jwks.cached_too_long": {Warning, "The published keys may be cached for a long time", `
After a leak, revoked keys are accepted for so long. In nginx, remove expires …; and add_header Cache-Control …;.`},

	"signing.failed": {Error, "The server cannot sign tokens", `
Read its log: journalctl -u valetkey -o cat. valetkey keys list --config {config} shows the keys.`},
	"signing.external_failed": {Error, "An external signer fails", `
Requests that need its signature get 503; the server does not sign with another key instead. The log of the program has the error of the signer (the external signer fails). Check that the HSM or the key management service responds within five seconds, and that the program may use the key. When the signer works again, so does the server.`},
	"signing.key_not_published": {Error, "The key that signs is not published", `
Clients refuse all tokens. All nodes must use one database and one master key, and no cache may be in between.`},
	"signing.slow": {Warning, "Signatures are slow", `
The processor is overloaded, or an external signer is slow. Compare with openssl speed ecdsap256.`},
	"signing.key_overdue": {Warning, "The signing key should have been replaced", `
Keys rotate by themselves. Look for "rotate signing keys" in the log, or run valetkey keys rotate --config {config}.`},

	"process.few_open_files": {Warning, "The process may have few open files", `
Connections are refused under load. In the systemd unit: LimitNOFILE=65536. In Compose: ulimits: { nofile: 65536 }.`},
	"process.open_files_used": {Error, "The process has hardly any open files left", `
Raise LimitNOFILE in the systemd unit, and find out who holds so many connections: ss -tnp | grep valetkey.`},

	"database.unreachable": {Error, "The database cannot be opened", `
Check that it runs, and database in {config}. With sqlite, the user of this program needs access to the file.`},
	"database.slow": {Warning, "The database is slow", `
Every sign-in waits for it about a dozen times. Put it near the server, in the same network.`},
	"database.newer": {Error, "A newer version has migrated the database", `
Start that version of valetkey. A server that runs keeps running, but does not start again.`},
	"database.journal_mode": {Warning, "The SQLite database does not use a write-ahead log", `
The server sets it when it opens the database, and the file system must support it: use a local disk, not NFS or SMB.`},
	"database.old_version": {Warning, "The version of PostgreSQL is old", `
Its project does not support it any more, and the tests of Valetkey do not run with it. Upgrade with pg_upgrade.`},
	"database.fsync_off": {Error, "fsync is off", `
After a power failure, the database is corrupt. In postgresql.conf: fsync = on.`},
	"database.full_page_writes_off": {Warning, "full_page_writes is off", `
After a power failure, the database may be corrupt, unless the file system writes pages as a whole. In postgresql.conf: full_page_writes = on.`},
	"database.synchronous_commit_off": {Error, "Commits are not durable", `
After a crash, used codes can be used again, and revoked tokens are valid again. In postgresql.conf: synchronous_commit = on, or ALTER ROLE … RESET synchronous_commit.`},
	"database.statement_pooling": {Error, "The connection pooler does not allow transactions", `
The server cannot work. In pgbouncer.ini: pool_mode = transaction.`},
	"database.read_only": {Error, "The database is a standby, or read-only", `
Use the address of the primary, or several with target_session_attrs=read-write in the URL.`},
	"database.clock_skew": {Warning, "The clock of the database differs", `
Synchronize the clocks: timedatectl set-ntp true.`},
	"database.connections": {Warning, "The database has hardly any connections left", `
Raise max_connections, put PgBouncer in between (pool_mode = transaction), or set pool_max_conns in the URL of each node.`},
	"database.disk_low": {Error, "The disk is nearly full", `
Nothing can be stored when it is full. Make room, or move the database. valetkey removes expired records by itself.`},

	"files.unusable": {Error, "A file cannot be read", `
Check the path in {config}, and the owner of the file. Run doctor as the user of the server: sudo -u valetkey valetkey doctor --config {config}.`},
	"files.master_key_readable": {Error, "Others can read the master key", `
It decrypts everything in the database, and the server refuses it. Run chmod 600 on it. If someone may have read it, all secrets have to be replaced.`},
	"files.private_key_readable": {Error, "Others can read the private key of the certificate", `
Run chmod 640 on it, with the group of the server. If someone may have read it, get a new certificate and revoke this one.`},
	"files.secret_readable": {Error, "Others can read a secret", `
Run chmod 640 on it, with the group of the server. If someone may have read it, replace the secret.`},
	"files.configuration_readable": {Warning, "Others can read the secrets in the configuration", `
Run chmod 640 {config}, with the group of the server, or put the secrets into files of their own (client_secret_file, password_file).`},
	"files.database_readable": {Error, "Others can read the database", `
Run chmod 600 on it. The server does so when it starts.`},

	"master_key.wrong": {Error, "The master key is not the one of the database", `
A server does not start with this configuration. Put the right key in place: after a rotation, the new one. During a rotation, every server needs both keys: the new one as the master key, and the former one as the previous master key (VALETKEY_PREVIOUS_MASTER_KEY, previous_master_key_file, previous_master_key_command). Without the key, only a backup with its own key helps.`},
	"master_key.previous_missing": {Error, "The previous master key is needed, and missing", `
A rotation is not finished. Configure the former key as the previous master key again (VALETKEY_PREVIOUS_MASTER_KEY, previous_master_key_file, previous_master_key_command, or with SQLite the file valetkey.db.key.previous), and run valetkey masterkey rotate --config {config}.`},
	"master_key.rotation_unfinished": {Warning, "A rotation of the master key is not finished", `
Run valetkey masterkey rotate --config {config} again. Until it has finished, servers need both keys to start.`},
	"master_key.not_rotated": {Info, "The new master key is not in force yet", `
Once all servers have both keys, run valetkey masterkey rotate --config {config}. To stay with the present key, make it the master key again, and remove the new one.`},
	"master_key.previous_unused": {Warning, "The previous master key is not needed anymore", `
Remove it from the configuration of all servers, and reload or restart them. Keep it with the backups that were made before the rotation: they need it.`},

	"mail.none": {Info, "The server sends no mail", `
Users who forget their password need an operator. In {config}: mail: {from: …, smtp: {host: …}}.`},
	"mail.unreachable": {Error, "The mail server cannot be reached", `
Check mail.smtp.host and port in {config}: 587 for STARTTLS, 465 with tls: implicit. Many networks block port 25.`},
	"mail.no_starttls": {Error, "The mail server does not offer STARTTLS", `
Messages are not sent without TLS. With port 465, set tls: implicit. Otherwise enable STARTTLS on the mail server.`},
	"mail.certificate": {Error, "The certificate of the mail server is not valid", `
mail.smtp.host in {config} must be a name in its certificate. For a private authority: outgoing.certificate_authorities.`},
	"mail.authentication": {Error, "The mail server refuses the password", `
Check mail.smtp.username and the content of password_file in {config}.`},
	"mail.refused": {Error, "The mail server refuses the connection", `
What was seen is its response. Try valetkey mail test --config {config} ADDRESS.`},
	"mail.not_encrypted": {Warning, "Messages are sent without TLS", `
Anyone in between can take over accounts. Remove mail.smtp.insecure_without_tls from {config}.`},

	// Of an MCP server.
	"mcp.unreachable": {Error, "The MCP server cannot be reached", `
Check the URL, which is the one that users give to their agents.`},
	"mcp.not_https": {Error, "The MCP server is http", `
Agents accept http on loopback only.`},
	"mcp.redirected": {Warning, "The MCP server redirects", `
Give agents the target. Some do not follow redirects, and the target is another resource.`},
	"mcp.not_protected": {Error, "The MCP server does not ask for a token", `
A request without a token must get 401 with WWW-Authenticate: Bearer resource_metadata="…". With Go: resourceserver.Config and guard.Require.`},
	"mcp.no_challenge": {Error, "The 401 does not say where the metadata is", `
Without WWW-Authenticate: Bearer resource_metadata="…" (RFC 9728, section 5.1), agents can only guess. Proxies must pass the header on, and browsers need Access-Control-Expose-Headers: WWW-Authenticate.`},
	"mcp.no_resource_metadata": {Error, "There is no protected resource metadata", `
Serve RFC 9728's JSON document at /.well-known/oauth-protected-resource followed by the path of the MCP server. In Go: http.Handle("GET "+guard.MetadataPath(), guard.Metadata()).`},
	"mcp.well_known_missing": {Warning, "The metadata is only where the 401 says, not at the well-known address", `
Some agents try only the well-known address: /.well-known/oauth-protected-resource followed by the path of the MCP server.`},
	"mcp.metadata_not_json": {Error, "The protected resource metadata is not JSON", `
Content-Type must be application/json, and the document an object with resource and authorization_servers.`},
	"mcp.resource_mismatch": {Error, "The metadata is about another resource", `
Agents refuse it (RFC 9728, section 3.3). resource must be the URL that users give to their agents, with the same scheme, host, port and path. In Go: resourceserver.Config.Resource.`},
	"mcp.no_authorization_server": {Error, "The metadata names no authorization server", `
authorization_servers must have at least one issuer.`},
	"mcp.authorization_server_metadata": {Error, "An authorization server has no metadata", `
It must respond at one of: /.well-known/oauth-authorization-server + path, /.well-known/openid-configuration + path, path + /.well-known/openid-configuration.`},
	"mcp.issuer_mismatch": {Error, "The authorization server has another issuer", `
The entry in authorization_servers and the issuer in the metadata must be the same text.`},
	"mcp.no_pkce": {Error, "The authorization server does not announce PKCE", `
Agents refuse it: code_challenge_methods_supported must contain S256.`},
	"mcp.no_registration": {Error, "Agents cannot identify themselves", `
The authorization server accepts neither client ID metadata documents nor registration, so every user has to enter a client_id. With Valetkey: client_id_metadata_documents: {allowed_hosts: ["*"], scope: "…"}.`},
	"mcp.no_metadata_documents": {Warning, "Agents can only register", `
Current agents prefer client ID metadata documents. With Valetkey: client_id_metadata_documents: {allowed_hosts: ["*"], scope: "…"}.`},
	"mcp.no_public_clients": {Warning, "The authorization server does not announce public clients", `
Agents on users' machines have no secret. token_endpoint_auth_methods_supported should contain none.`},
	"mcp.no_code_grant": {Error, "The authorization server does not support the code flow", `
response_types_supported must contain code, and authorization_endpoint and token_endpoint must be there.`},
	"mcp.no_iss": {Warning, "Authorization responses do not say who they are from", `
Agents that use several authorization servers check iss (RFC 9207). authorization_response_iss_parameter_supported should be true.`},
	"mcp.scope_unknown": {Warning, "The MCP server needs a scope that the authorization server does not know", `
Add it to scopes and to the resource at the authorization server, and to the scope of agents.`},
	"mcp.client_document": {Error, "The agent's metadata document cannot be used", `
It must be JSON at exactly the URL in its client_id, without a redirect, and have redirect_uris.`},
	"mcp.authorization_refused": {Error, "The authorization server refuses the agent", `
The redirect URI must be one of the document's, loopback with any port; the host of the document, the scope and the resource must be allowed. With Valetkey, valetkey explain with the reference on the error page says which rule refused it; client_id_metadata_documents in {config} allows hosts, scopes and redirect_schemes.`},
	"mcp.metadata_redirected": {Error, "Metadata is redirected", `
Agents may not follow. Serve the document at the address itself.`},
	"mcp.cors": {Warning, "Agents in browsers cannot read the metadata", `
Metadata needs Access-Control-Allow-Origin: *.`},
}
