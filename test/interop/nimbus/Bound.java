import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.JWSHeader;
import com.nimbusds.jose.crypto.ECDSASigner;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.oauth2.sdk.*;
import com.nimbusds.oauth2.sdk.auth.PrivateKeyJWT;
import com.nimbusds.oauth2.sdk.dpop.DefaultDPoPProofFactory;
import com.nimbusds.oauth2.sdk.dpop.DPoPProofFactory;
import com.nimbusds.oauth2.sdk.dpop.JWKThumbprintConfirmation;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.http.HTTPResponse;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.id.State;
import com.nimbusds.oauth2.sdk.pkce.CodeChallengeMethod;
import com.nimbusds.oauth2.sdk.pkce.CodeVerifier;
import com.nimbusds.oauth2.sdk.token.AccessToken;
import com.nimbusds.oauth2.sdk.token.BearerAccessToken;
import com.nimbusds.oauth2.sdk.token.DPoPAccessToken;
import com.nimbusds.openid.connect.sdk.Nonce;
import com.nimbusds.openid.connect.sdk.UserInfoRequest;
import com.nimbusds.openid.connect.sdk.UserInfoResponse;
import com.nimbusds.openid.connect.sdk.op.OIDCProviderMetadata;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.util.Date;
import java.util.UUID;

/**
 * Pushes a signed authorization request (RFC 9126, RFC 9101) with private_key_jwt, gets tokens that
 * are bound to a key (RFC 9449), and uses and refreshes them. The server requires nonces.
 */
public class Bound {
    static OIDCProviderMetadata server;
    static ClientID clientID;
    static ECKey key, boundTo;

    public static void main(String[] args) throws Exception {
        server = OIDCProviderMetadata.resolve(new Issuer(System.getenv("ISSUER")));
        clientID = new ClientID(System.getenv("CLIENT_ID"));
        key = ECKey.parse(System.getenv("KEY"));
        boundTo = new ECKeyGenerator(Curve.P_256).generate();
        URI redirectURI = URI.create(System.getenv("REDIRECT_URI"));

        CodeVerifier verifier = new CodeVerifier();
        State state = new State();
        AuthorizationRequest plain = new AuthorizationRequest.Builder(ResponseType.CODE, clientID)
            .redirectionURI(redirectURI).scope(new Scope("openid", "offline_access")).state(state)
            .codeChallenge(verifier, CodeChallengeMethod.S256)
            .dPoPJWKThumbprintConfirmation(JWKThumbprintConfirmation.of(boundTo))
            .build();
        Date now = new Date();
        JWTClaimsSet claims = new JWTClaimsSet.Builder(plain.toJWTClaimsSet())
            .issuer(clientID.getValue()).audience(server.getIssuer().getValue()).jwtID(UUID.randomUUID().toString())
            .notBeforeTime(now).expirationTime(new Date(now.getTime() + 60_000)).build();
        SignedJWT object = new SignedJWT(new JWSHeader.Builder(JWSAlgorithm.ES256).keyID(key.getKeyID())
            .type(new JOSEObjectType("oauth-authz-req+jwt")).build(), claims);
        object.sign(new ECDSASigner(key));
        PushedAuthorizationResponse pushed = PushedAuthorizationResponse.parse(new PushedAuthorizationRequest(
            server.getPushedAuthorizationRequestEndpointURI(), authentication(), new AuthorizationRequest.Builder(object, clientID).build())
            .toHTTPRequest().send());
        if (!pushed.indicatesSuccess()) {
            throw new Exception("push: " + pushed.toErrorResponse().getErrorObject().toJSONObject());
        }
        System.out.println(new AuthorizationRequest.Builder(pushed.toSuccessResponse().getRequestURI(), clientID)
            .endpointURI(server.getAuthorizationEndpointURI()).build().toURI());
        URI callback = URI.create(new BufferedReader(new InputStreamReader(System.in)).readLine());
        AuthorizationResponse answer = AuthorizationResponse.parse(callback);
        if (!answer.indicatesSuccess() || !state.equals(answer.getState()) || !server.getIssuer().equals(answer.getIssuer())) {
            throw new Exception("the authorization response is " + callback);
        }

        // The first proof has no nonce. The second request has the nonce, and the same assertion.
        PrivateKeyJWT once = authentication();
        AuthorizationCodeGrant code = new AuthorizationCodeGrant(answer.toSuccessResponse().getAuthorizationCode(), redirectURI, verifier);
        HTTPResponse refused = token(once, code, boundTo, null);
        String without = TokenResponse.parse(refused).toErrorResponse().getErrorObject().getCode();
        AccessTokenResponse tokens = AccessTokenResponse.parse(token(once, code, boundTo, refused.getDPoPNonce()));
        Nonce nonce = refused.getDPoPNonce();

        DPoPAccessToken access = tokens.getTokens().getDPoPAccessToken();
        UserInfoResponse info = UserInfoResponse.parse(userinfo(access, nonce));
        AccessTokenResponse refreshed = AccessTokenResponse.parse(
            token(authentication(), new RefreshTokenGrant(tokens.getTokens().getRefreshToken()), boundTo, nonce));
        HTTPResponse bearer = userinfo(new BearerAccessToken(access.getValue()), null);
        HTTPResponse spent = token(once, new RefreshTokenGrant(refreshed.getTokens().getRefreshToken()), boundTo, nonce);

        System.out.printf("{\"subject\": \"%s\", \"without\": \"%s\", \"type\": \"%s\", \"refreshed\": \"%s\", \"bearer\": %d, \"spent\": \"%s\"}%n",
            info.toSuccessResponse().getUserInfo().getSubject(), without, access.getType(),
            refreshed.getTokens().getDPoPAccessToken().getType(), bearer.getStatusCode(),
            TokenResponse.parse(spent).toErrorResponse().getErrorObject().getCode());
    }

    /** A new assertion. Its audience is the issuer (RFC 10070). */
    static PrivateKeyJWT authentication() throws Exception {
        return new PrivateKeyJWT(clientID, URI.create(server.getIssuer().getValue()), JWSAlgorithm.ES256, key.toPrivateKey(), key.getKeyID(), null);
    }

    static HTTPResponse token(PrivateKeyJWT authentication, AuthorizationGrant grant, ECKey proofKey, Nonce nonce) throws Exception {
        HTTPRequest request = new TokenRequest(server.getTokenEndpointURI(), authentication, grant, null).toHTTPRequest();
        DPoPProofFactory proofs = new DefaultDPoPProofFactory(proofKey, JWSAlgorithm.ES256);
        request.setDPoP(proofs.createDPoPJWT("POST", server.getTokenEndpointURI(), nonce));
        return request.send();
    }

    static HTTPResponse userinfo(AccessToken token, Nonce nonce) throws Exception {
        HTTPRequest request = new UserInfoRequest(server.getUserInfoEndpointURI(), token).toHTTPRequest();
        if (token instanceof DPoPAccessToken) {
            request.setDPoP(new DefaultDPoPProofFactory(boundTo, JWSAlgorithm.ES256)
                .createDPoPJWT(request.getMethod().name(), server.getUserInfoEndpointURI(), token, nonce));
        }
        return request.send();
    }
}
