"""Signs a user in and calls an API with Authlib.

Settings come from the environment. It prints the URL for the browser, reads the
callback URL from standard input, and prints what it found as JSON.
"""

import json
import os
import time

from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import get_well_known_url
from authlib.oidc.core import CodeIDToken, UserInfo
from authlib.oidc.discovery import OpenIDProviderMetadata
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

env = os.environ
scope = "openid profile email offline_access " + env["API_SCOPE"]

session = OAuth2Session(
    env["CLIENT_ID"],
    env["CLIENT_SECRET"],
    scope=scope,
    redirect_uri=env["REDIRECT_URI"],
    code_challenge_method="S256",
)

# Discovery. OpenIDProviderMetadata implements the checks of OpenID Connect Discovery. Its https
# rule does not allow loopback, so those members are not checked here.
found = session.get(get_well_known_url(env["ISSUER"], external=True, suffix="openid-configuration"), withhold_token=True)
found.raise_for_status()
metadata = OpenIDProviderMetadata(found.json())
assert metadata["issuer"] == env["ISSUER"]
for name in metadata.REGISTRY_KEYS:
    if name != "issuer" and not name.endswith(("_endpoint", "_uri", "_documentation")):
        getattr(metadata, "validate_" + name)()

verifier, nonce = generate_token(48), generate_token()
url, state = session.create_authorization_url(
    metadata["authorization_endpoint"], code_verifier=verifier, nonce=nonce
)
print(url, flush=True)
callback = input()

tokens = session.fetch_token(
    metadata["token_endpoint"], authorization_response=callback, state=state, code_verifier=verifier
)
keys = KeySet.import_key_set(session.get(metadata["jwks_uri"], withhold_token=True).json())
decoded = jwt.decode(tokens["id_token"], keys, algorithms=metadata["id_token_signing_alg_values_supported"])
claims = CodeIDToken(
    decoded.claims,
    decoded.header,
    {"iss": {"values": [metadata["issuer"]]}, "aud": {"values": [env["CLIENT_ID"]]}},
    {"nonce": nonce, "client_id": env["CLIENT_ID"], "access_token": tokens["access_token"]},
)
claims.validate(leeway=30)
userinfo = UserInfo(session.get(metadata["userinfo_endpoint"]).json())
assert userinfo["sub"] == claims["sub"]
api = session.get(env["API_URL"]).json()

first_refresh_token = tokens["refresh_token"]
refreshed = session.refresh_token(metadata["token_endpoint"])
api_refreshed = session.get(env["API_URL"]).json()


def active():
    response = session.introspect_token(metadata["introspection_endpoint"], token=session.token["access_token"])
    response.raise_for_status()
    return response.json()["active"]


active_before = active()
session.revoke_token(
    metadata["revocation_endpoint"], token=refreshed["refresh_token"], token_type_hint="refresh_token"
).raise_for_status()
active_after = active()
api_after = session.get(env["API_URL"]).status_code
try:
    session.refresh_token(metadata["token_endpoint"], refresh_token=refreshed["refresh_token"])
    refusal = "none"
except OAuthError as error:
    refusal = error.error

service = OAuth2Session(
    env["SERVICE_ID"], env["SERVICE_SECRET"], token_endpoint_auth_method="client_secret_post", scope=env["API_SCOPE"]
)
service.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", resource=env["RESOURCE"])
api_service = service.get(env["API_URL"]).json()

keyholder = OAuth2Session(
    env["OLDER_KEYHOLDER_ID"], ECKey.import_key(env["KEY"]), token_endpoint_auth_method="private_key_jwt", scope=env["API_SCOPE"]
)
# By default, Authlib's assertions are valid for an hour; the server accepts five minutes.
keyholder.register_client_auth_method(
    PrivateKeyJWT(metadata["token_endpoint"], claims={"exp": int(time.time()) + 60}, alg="ES256")
)
keyholder.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", resource=env["RESOURCE"])
api_by_key = keyholder.get(env["API_URL"]).json()

print(
    json.dumps(
        {
            "subject": claims["sub"],
            "name": userinfo["name"],
            "email": userinfo["email"],
            "api": api["subject"],
            "rotated": refreshed["refresh_token"] != first_refresh_token,
            "api_refreshed": api_refreshed["subject"],
            "active_before": active_before,
            "active_after": active_after,
            "api_after": api_after,
            "refusal": refusal,
            "api_service": api_service["client"],
            "api_by_key": api_by_key["client"],
        }
    )
)
