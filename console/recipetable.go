package console

// recipes are the applications that the console knows, by name. Redirect URIs and settings are those of
// the documentation of each application. Placeholders are in braces: see recipe.fill.
//
// withoutPKCE is set where the documentation does not say that the application sends a code challenge.
var recipes = [...]recipe{
	{id: "argocd", name: "Argo CD", about: "Continuous delivery for Kubernetes", redirects: []string{"{base}/auth/callback"}, scope: "openid profile email groups", idTokenClaims: []string{"email", "groups"}, withoutPKCE: true,
		where: "In the ConfigMap argocd-cm, with the secret in argocd-secret", paste: `data:
  url: {base}
  oidc.config: |
    name: {name}
    issuer: {issuer}
    clientID: {client_id}
    clientSecret: $oidc.clientSecret
    requestedScopes: [openid, profile, email, groups]
# kubectl -n argocd patch secret argocd-secret --type merge -p '{"stringData":{"oidc.clientSecret":"{client_secret}"}}'`},
	{id: "audiobookshelf", name: "Audiobookshelf", about: "Audiobooks and podcasts", redirects: []string{"{base}/auth/openid/callback", "{base}/auth/openid/mobile-redirect"}, scope: "openid profile email groups",
		where: "Settings → Authentication → OpenID Connect Authentication", paste: `Issuer URL: {issuer}   (then press Auto-populate)
Client ID: {client_id}
Client Secret: {client_secret}
Signing Algorithm: RS256
Allowed Mobile Redirect URIs: audiobookshelf://oauth
Subfolder for Redirect URLs: None`},
	{id: "bookstack", name: "BookStack", about: "Wiki", redirects: []string{"{base}/oidc/callback"}, scope: "openid profile email groups", idTokenClaims: []string{"name", "email", "groups"},
		where: "In the file .env", paste: `AUTH_METHOD=oidc
OIDC_NAME={name}
OIDC_ISSUER={issuer}
OIDC_ISSUER_DISCOVER=true
OIDC_CLIENT_ID={client_id}
OIDC_CLIENT_SECRET={client_secret}
OIDC_DISPLAY_NAME_CLAIMS=name
OIDC_ADDITIONAL_SCOPES=groups
OIDC_GROUPS_CLAIM=groups`},
	{id: "forgejo", name: "Forgejo", about: "Git hosting", redirects: []string{"{base}/user/oauth2/sso/callback"}, scope: "openid profile email groups",
		where: "On the server of Forgejo. The name sso is part of the redirect URI", paste: `forgejo admin auth add-oauth --provider=openidConnect --name=sso \
  --key={client_id} --secret={client_secret} \
  --auto-discover-url={issuer}/.well-known/openid-configuration \
  --scopes='openid email profile groups'`},
	{id: "freshrss", name: "FreshRSS", about: "Feed reader", redirects: []string{"{base_with_port}/i/oidc/"}, scope: "openid profile email", withoutPKCE: true,
		where: "Environment of the container", paste: `OIDC_ENABLED=1
OIDC_PROVIDER_METADATA_URL={issuer}/.well-known/openid-configuration
OIDC_CLIENT_ID={client_id}
OIDC_CLIENT_SECRET={client_secret}
OIDC_CLIENT_CRYPTO_KEY=   # a random value: openssl rand -hex 32
OIDC_REMOTE_USER_CLAIM=preferred_username
OIDC_SCOPES=openid profile email
OIDC_X_FORWARDED_HEADERS=X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto`},
	{id: "gitea", name: "Gitea", about: "Git hosting", redirects: []string{"{base}/user/oauth2/sso/callback"}, scope: "openid profile email groups", withoutPKCE: true,
		where: "On the server of Gitea. The name sso is part of the redirect URI", paste: `gitea admin auth add-oauth --provider=openidConnect --name=sso \
  --key={client_id} --secret={client_secret} \
  --auto-discover-url={issuer}/.well-known/openid-configuration \
  --scopes='openid email profile groups'`},
	{id: "gitlab", name: "GitLab", about: "Git hosting and CI", redirects: []string{"{base}/users/auth/openid_connect/callback"}, scope: "openid profile email groups",
		where: "In /etc/gitlab/gitlab.rb, then gitlab-ctl reconfigure", paste: `gitlab_rails['omniauth_providers'] = [
  {
    name: "openid_connect",
    label: "{name}",
    args: {
      name: "openid_connect",
      scope: ["openid", "profile", "email", "groups"],
      response_type: "code",
      issuer: "{issuer}",
      discovery: true,
      client_auth_method: "basic",
      uid_field: "preferred_username",
      pkce: true,
      client_options: {
        identifier: "{client_id}",
        secret: "{client_secret}",
        redirect_uri: "{base}/users/auth/openid_connect/callback"
      }
    }
  }
]`},
	{id: "grafana", name: "Grafana", about: "Dashboards", redirects: []string{"{base}/login/generic_oauth"}, logout: []string{"{base}/login"}, scope: "openid profile email groups", idTokenClaims: []string{"email", "name", "groups", "preferred_username"},
		where: "Environment of Grafana, or the same settings in [auth.generic_oauth] of grafana.ini", paste: `GF_SERVER_ROOT_URL={base}
GF_AUTH_GENERIC_OAUTH_ENABLED=true
GF_AUTH_GENERIC_OAUTH_NAME={name}
GF_AUTH_GENERIC_OAUTH_CLIENT_ID={client_id}
GF_AUTH_GENERIC_OAUTH_CLIENT_SECRET={client_secret}
GF_AUTH_GENERIC_OAUTH_SCOPES=openid profile email groups
GF_AUTH_GENERIC_OAUTH_AUTH_URL={issuer}/authorize
GF_AUTH_GENERIC_OAUTH_TOKEN_URL={issuer}/token
GF_AUTH_GENERIC_OAUTH_API_URL={issuer}/userinfo
GF_AUTH_GENERIC_OAUTH_AUTH_STYLE=InHeader
GF_AUTH_GENERIC_OAUTH_USE_PKCE=true
GF_AUTH_GENERIC_OAUTH_LOGIN_ATTRIBUTE_PATH=preferred_username
GF_AUTH_GENERIC_OAUTH_NAME_ATTRIBUTE_PATH=name
GF_AUTH_GENERIC_OAUTH_GROUPS_ATTRIBUTE_PATH=groups`},
	{id: "harbor", name: "Harbor", about: "Container registry", redirects: []string{"{base}/c/oidc/callback"}, scope: "openid profile email groups offline_access", idTokenClaims: []string{"name", "email", "groups", "preferred_username"}, withoutPKCE: true,
		where: "Administration → Configuration → Authentication, with Auth Mode OIDC", paste: `OIDC Provider Name: {name}
OIDC Endpoint: {issuer}
OIDC Client ID: {client_id}
OIDC Client Secret: {client_secret}
Group Claim Name: groups
OIDC Scope: openid,profile,email,groups,offline_access
Username Claim: preferred_username`},
	{id: "hedgedoc", name: "HedgeDoc", about: "Notes in Markdown", redirects: []string{"{base}/auth/oauth2/callback"}, scope: "openid profile email", method: "client_secret_post", withoutPKCE: true,
		where: "Environment of HedgeDoc", paste: `CMD_OAUTH2_PROVIDERNAME={name}
CMD_OAUTH2_AUTHORIZATION_URL={issuer}/authorize
CMD_OAUTH2_TOKEN_URL={issuer}/token
CMD_OAUTH2_USER_PROFILE_URL={issuer}/userinfo
CMD_OAUTH2_CLIENT_ID={client_id}
CMD_OAUTH2_CLIENT_SECRET={client_secret}
CMD_OAUTH2_SCOPE=openid email profile
CMD_OAUTH2_USER_PROFILE_USERNAME_ATTR=preferred_username
CMD_OAUTH2_USER_PROFILE_DISPLAY_NAME_ATTR=name
CMD_OAUTH2_USER_PROFILE_EMAIL_ATTR=email`},
	{id: "home-assistant", name: "Home Assistant", about: "Home automation, with the integration auth_oidc", redirects: []string{"{base}/auth/oidc/callback"}, scope: "openid profile groups", method: "client_secret_post", idTokenClaims: []string{"name", "preferred_username", "groups"},
		where: "In configuration.yaml", paste: `auth_oidc:
  client_id: {client_id}
  client_secret: {client_secret}
  discovery_url: {issuer}/.well-known/openid-configuration
  display_name: {name}`},
	{id: "immich", name: "Immich", about: "Photos and videos", redirects: []string{"{base}/auth/login", "{base}/user-settings", "{base}/api/oauth/mobile-redirect"}, scope: "openid profile email",
		where: "Administration → Settings → OAuth Authentication", paste: `Issuer URL: {issuer}
Client ID: {client_id}
Client Secret: {client_secret}
Scope: openid profile email
Token Endpoint Auth Method: client_secret_basic
Mobile Redirect URI Override: on
Mobile Redirect URI: {base}/api/oauth/mobile-redirect`},
	{id: "jellyfin", name: "Jellyfin", about: "Media server, with the SSO plugin", redirects: []string{"{base}/sso/OID/redirect/sso"}, scope: "openid profile groups", method: "client_secret_post",
		where: "Dashboard → Plugins → SSO-Auth. Users sign in at {base}/sso/OID/start/sso", paste: `Name of the OID Provider: sso
OID Endpoint: {issuer}
OpenID Client ID: {client_id}
OID Secret: {client_secret}
Enabled: on
Role Claim: groups
Request Additional Scopes: groups
Set default username claim: preferred_username
Scheme Override: https`},
	{id: "jenkins", name: "Jenkins", about: "Builds, with the plugin oic-auth", redirects: []string{"{base}/securityRealm/finishLogin"}, scope: "openid profile email groups",
		where: "Configuration as code (or the same fields under Manage Jenkins → Security)", paste: `jenkins:
  securityRealm:
    oic:
      clientId: {client_id}
      clientSecret: {client_secret}
      serverConfiguration:
        wellKnown:
          wellKnownOpenIDConfigurationUrl: {issuer}/.well-known/openid-configuration
          scopesOverride: openid profile email groups
      userNameField: preferred_username
      fullNameFieldName: name
      emailFieldName: email
      groupsFieldName: groups
      properties:
        - pkce`},
	{id: "komga", name: "Komga", about: "Comics and books", redirects: []string{"{base}/login/oauth2/code/sso"}, scope: "openid profile email", withoutPKCE: true,
		where: "In application.yml", paste: `spring:
  security:
    oauth2:
      client:
        registration:
          sso:
            provider: sso
            client-id: {client_id}
            client-secret: {client_secret}
            client-name: {name}
            scope: openid,profile,email
            authorization-grant-type: authorization_code
            redirect-uri: "{baseScheme}://{baseHost}{basePort}{basePath}/login/oauth2/code/sso"
        provider:
          sso:
            issuer-uri: {issuer}
            user-name-attribute: preferred_username`},
	{id: "kubectl", name: "kubectl", about: "Kubernetes on the command line, with the plugin kubelogin", kind: "native", redirects: []string{"http://localhost:8000", "http://localhost:18000"}, scope: "openid profile email groups", idTokenClaims: []string{"email", "groups", "preferred_username"},
		where: "On each user’s computer; the last lines are options of the API server", paste: `kubectl krew install oidc-login
kubectl config set-credentials sso \
  --exec-api-version=client.authentication.k8s.io/v1beta1 \
  --exec-command=kubectl --exec-arg=oidc-login --exec-arg=get-token \
  --exec-arg=--oidc-issuer-url={issuer} \
  --exec-arg=--oidc-client-id={client_id} \
  --exec-arg=--oidc-extra-scope=groups

# kube-apiserver
--oidc-issuer-url={issuer}
--oidc-client-id={client_id}
--oidc-username-claim=preferred_username
--oidc-groups-claim=groups`},
	{id: "linkwarden", name: "Linkwarden", about: "Bookmarks", redirects: []string{"{base}/api/v1/auth/callback/authelia"}, scope: "openid profile email groups", withoutPKCE: true,
		where: "Environment of Linkwarden, which calls its setting for any provider Authelia", paste: `NEXT_PUBLIC_AUTHELIA_ENABLED=true
AUTHELIA_WELLKNOWN_URL={issuer}/.well-known/openid-configuration
AUTHELIA_CLIENT_ID={client_id}
AUTHELIA_CLIENT_SECRET={client_secret}`},
	{id: "mealie", name: "Mealie", about: "Recipes for the kitchen", redirects: []string{"{base}/login"}, scope: "openid profile email groups",
		where: "Environment of Mealie", paste: `OIDC_AUTH_ENABLED=true
OIDC_SIGNUP_ENABLED=true
OIDC_CONFIGURATION_URL={issuer}/.well-known/openid-configuration
OIDC_CLIENT_ID={client_id}
OIDC_CLIENT_SECRET={client_secret}
OIDC_PROVIDER_NAME={name}`},
	{id: "miniflux", name: "Miniflux", about: "Feed reader", redirects: []string{"{base}/oauth2/oidc/callback"}, scope: "openid profile email", withoutPKCE: true,
		where: "Environment of Miniflux", paste: `OAUTH2_PROVIDER=oidc
OAUTH2_OIDC_DISCOVERY_ENDPOINT={issuer}
OAUTH2_OIDC_PROVIDER_NAME={name}
OAUTH2_CLIENT_ID={client_id}
OAUTH2_CLIENT_SECRET={client_secret}
OAUTH2_REDIRECT_URL={base}/oauth2/oidc/callback
OAUTH2_USER_CREATION=1`},
	{id: "minio", name: "MinIO", about: "Object storage; the base URL is that of its console", redirects: []string{"{base}/oauth_callback"}, scope: "openid profile email groups", idTokenClaims: []string{"email", "groups", "preferred_username"}, withoutPKCE: true,
		where: "Environment of MinIO", paste: `MINIO_IDENTITY_OPENID_CONFIG_URL={issuer}/.well-known/openid-configuration
MINIO_IDENTITY_OPENID_CLIENT_ID={client_id}
MINIO_IDENTITY_OPENID_CLIENT_SECRET={client_secret}
MINIO_IDENTITY_OPENID_SCOPES=openid,profile,email,groups
MINIO_IDENTITY_OPENID_REDIRECT_URI={base}/oauth_callback
MINIO_IDENTITY_OPENID_DISPLAY_NAME={name}
MINIO_IDENTITY_OPENID_CLAIM_NAME=groups
MINIO_IDENTITY_OPENID_CLAIM_USERINFO=on`},
	{id: "nextcloud", name: "Nextcloud", about: "Files and calendars, with the app user_oidc", redirects: []string{"{base}/apps/user_oidc/code"}, scope: "openid profile email groups", method: "client_secret_post", idTokenClaims: []string{"name", "email", "groups", "preferred_username"},
		where: "On the server of Nextcloud; the second part belongs in config.php", paste: `occ user_oidc:provider {name_word} --clientid={client_id} --clientsecret={client_secret} \
  --discoveryuri={issuer}/.well-known/openid-configuration --scope='openid email profile groups'

'user_oidc' => [
  'default_token_endpoint_auth_method' => 'client_secret_post',
  'enrich_login_id_token_with_userinfo' => true,
],`},
	{id: "oauth2-proxy", name: "oauth2-proxy", about: "A proxy that signs users in for applications that cannot", redirects: []string{"{base}/oauth2/callback"}, scope: "openid profile email groups",
		where: "Environment of oauth2-proxy", paste: `OAUTH2_PROXY_PROVIDER=oidc
OAUTH2_PROXY_OIDC_ISSUER_URL={issuer}
OAUTH2_PROXY_CLIENT_ID={client_id}
OAUTH2_PROXY_CLIENT_SECRET={client_secret}
OAUTH2_PROXY_REDIRECT_URL={base}/oauth2/callback
OAUTH2_PROXY_CODE_CHALLENGE_METHOD=S256
OAUTH2_PROXY_SCOPE=openid profile email groups
OAUTH2_PROXY_EMAIL_DOMAINS=*
OAUTH2_PROXY_COOKIE_SECRET=   # openssl rand -base64 32 | tr -- '+/' '-_'`},
	{id: "open-webui", name: "Open WebUI", about: "Chat with language models", redirects: []string{"{base}/oauth/oidc/callback"}, scope: "openid profile email groups",
		where: "Environment of Open WebUI", paste: `WEBUI_URL={base}
ENABLE_OAUTH_SIGNUP=true
OAUTH_CLIENT_ID={client_id}
OAUTH_CLIENT_SECRET={client_secret}
OPENID_PROVIDER_URL={issuer}/.well-known/openid-configuration
OAUTH_PROVIDER_NAME={name}
OAUTH_SCOPES=openid email profile groups
OAUTH_CODE_CHALLENGE_METHOD=S256`},
	{id: "outline", name: "Outline", about: "Knowledge base", redirects: []string{"{base}/auth/oidc.callback"}, scope: "openid profile email offline_access", method: "client_secret_post", withoutPKCE: true,
		where: "Environment of Outline", paste: `URL={base}
OIDC_CLIENT_ID={client_id}
OIDC_CLIENT_SECRET={client_secret}
OIDC_AUTH_URI={issuer}/authorize
OIDC_TOKEN_URI={issuer}/token
OIDC_USERINFO_URI={issuer}/userinfo
OIDC_USERNAME_CLAIM=preferred_username
OIDC_DISPLAY_NAME={name}
OIDC_SCOPES=openid offline_access profile email`},
	{id: "paperless", name: "Paperless-ngx", about: "Documents", redirects: []string{"{base}/accounts/oidc/sso/login/callback/"}, scope: "openid profile email",
		where: "Environment of Paperless-ngx", paste: `PAPERLESS_APPS=allauth.socialaccount.providers.openid_connect
PAPERLESS_SOCIALACCOUNT_PROVIDERS={"openid_connect":{"SCOPE":["openid","profile","email"],"OAUTH_PKCE_ENABLED":true,"APPS":[{"provider_id":"sso","name":"{name}","client_id":"{client_id}","secret":"{client_secret}","settings":{"server_url":"{issuer}","token_auth_method":"client_secret_basic"}}]}}`},
	{id: "portainer", name: "Portainer", about: "Containers", redirects: []string{"{base}"}, scope: "openid profile email groups", method: "client_secret_post", withoutPKCE: true,
		where: "Settings → Authentication → OAuth, with the provider Custom", paste: `Client ID: {client_id}
Client secret: {client_secret}
Authorization URL: {issuer}/authorize
Access token URL: {issuer}/token
Resource URL: {issuer}/userinfo
Redirect URL: {base}
User identifier: preferred_username
Scopes: openid profile groups email
Auth Style: In Params`},
	{id: "proxmox", name: "Proxmox VE", about: "Virtual machines", redirects: []string{"{base}"}, scope: "openid profile email groups", idTokenClaims: []string{"email", "groups", "preferred_username"},
		where: "Datacenter → Permissions → Realms → Add → OpenID Connect Server", paste: `Issuer URL: {issuer}
Realm: sso
Client ID: {client_id}
Client Key: {client_secret}
Username Claim: Default (subject)
Scopes: openid email profile groups
Groups Claim: groups`},
	{id: "rancher", name: "Rancher", about: "Kubernetes clusters", redirects: []string{"{base}/verify-auth"}, scope: "openid profile email groups", idTokenClaims: []string{"name", "email", "groups", "preferred_username"}, withoutPKCE: true,
		where: "Users & Authentication → Auth Provider → Generic OIDC", paste: `Client ID: {client_id}
Client Secret: {client_secret}
Issuer: {issuer}
Rancher URL: {base}/verify-auth
Scopes: openid profile email groups
Groups field: groups`},
	{id: "seafile", name: "Seafile", about: "Files", redirects: []string{"{base}/oauth/callback/"}, scope: "openid profile email", withoutPKCE: true,
		where: "In seahub_settings.py", paste: `ENABLE_OAUTH = True
OAUTH_CLIENT_ID = "{client_id}"
OAUTH_CLIENT_SECRET = "{client_secret}"
OAUTH_REDIRECT_URL = "{base}/oauth/callback/"
OAUTH_PROVIDER_DOMAIN = "{issuer_host}"
OAUTH_AUTHORIZATION_URL = "{issuer}/authorize"
OAUTH_TOKEN_URL = "{issuer}/token"
OAUTH_USER_INFO_URL = "{issuer}/userinfo"
OAUTH_SCOPE = ["openid", "profile", "email"]
OAUTH_ATTRIBUTE_MAP = {
    "sub": (True, "uid"),
    "email": (False, "email"),
    "name": (False, "name"),
}`},
	{id: "synapse", name: "Synapse", about: "Matrix server", redirects: []string{"{base}/_synapse/client/oidc/callback"}, scope: "openid profile email", withoutPKCE: true,
		where: "In homeserver.yaml", paste: `oidc_providers:
  - idp_id: sso
    idp_name: {name}
    discover: true
    issuer: {issuer}
    client_id: {client_id}
    client_secret: {client_secret}
    scopes: [openid, profile, email]
    user_profile_method: userinfo_endpoint
    user_mapping_provider:
      config:
        subject_template: "{{ user.sub }}"
        localpart_template: "{{ user.preferred_username }}"
        display_name_template: "{{ user.name }}"
        email_template: "{{ user.email }}"`},
	{id: "vault", name: "Vault", about: "Secrets", redirects: []string{"{base}/ui/vault/auth/oidc/oidc/callback", "http://localhost:8250/oidc/callback"}, scope: "openid profile email groups", idTokenClaims: []string{"email", "groups", "preferred_username"},
		where: "On the command line of Vault", paste: `vault auth enable oidc
vault write auth/oidc/config oidc_discovery_url={issuer} \
  oidc_client_id={client_id} oidc_client_secret={client_secret} default_role=default
vault write auth/oidc/role/default user_claim=sub groups_claim=groups \
  oidc_scopes=profile,email,groups token_policies=default \
  allowed_redirect_uris={base}/ui/vault/auth/oidc/oidc/callback \
  allowed_redirect_uris=http://localhost:8250/oidc/callback`},
	{id: "vikunja", name: "Vikunja", about: "Tasks", redirects: []string{"{base}/auth/openid/sso"}, scope: "openid profile email", withoutPKCE: true,
		where: "In config.yml", paste: `auth:
  openid:
    enabled: true
    providers:
      sso:
        name: {name}
        authurl: {issuer}
        clientid: {client_id}
        clientsecret: {client_secret}
        scope: openid profile email`},
	{id: "wikijs", name: "Wiki.js", about: "Wiki. It shows its redirect URI when you have configured it", scope: "openid profile email", method: "client_secret_post", withoutPKCE: true,
		where: "Administration → Authentication → Add Strategy → Generic OpenID Connect / OAuth2", paste: `Display Name: {name}
Client ID: {client_id}
Client Secret: {client_secret}
Authorization Endpoint URL: {issuer}/authorize
Token Endpoint URL: {issuer}/token
User Info Endpoint URL: {issuer}/userinfo
Issuer: {issuer}
Email Claim: email
Display Name Claim: name`},
}
