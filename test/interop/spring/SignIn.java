package com.example.signin;

import java.util.Map;
import java.util.TreeMap;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.security.core.annotation.AuthenticationPrincipal;
import org.springframework.security.oauth2.client.OAuth2AuthorizedClient;
import org.springframework.security.oauth2.client.annotation.RegisteredOAuth2AuthorizedClient;
import org.springframework.security.oauth2.core.oidc.user.OidcUser;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/** The stock OAuth 2 client of Spring Boot; all settings come from the command line. */
@SpringBootApplication
@RestController
public class SignIn {
  public static void main(String[] args) {
    SpringApplication.run(SignIn.class, args);
  }

  @GetMapping("/")
  Map<String, String> home(
      @AuthenticationPrincipal OidcUser user,
      @RegisteredOAuth2AuthorizedClient("valetkey") OAuth2AuthorizedClient client) {
    Map<String, String> seen = new TreeMap<>();
    seen.put("subject", user.getSubject());
    seen.put("name", user.getFullName());
    seen.put("email", user.getEmail());
    seen.put("access_token", client.getAccessToken().getTokenValue());
    seen.put("refresh_token", client.getRefreshToken().getTokenValue());
    return seen;
  }
}
