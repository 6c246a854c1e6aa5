package audit

// Event is a kind of record. The events that the log of the server has, too, have the same name in
// both (docs/guides/events.md).
type Event struct {
	Name string `json:"name"`
	// Meaning says what happened, for people.
	Meaning string `json:"meaning"`
	// Change reports that the record was written together with a change. Others are sampled.
	Change bool `json:"change"`
	// Failed reports that something was refused.
	Failed bool `json:"failed"`
}

// Events are all events.
var Events = []Event{
	{"user.created", "a user was created", true, false},
	{"user.updated", "a user was changed", true, false},
	{"user.deleted", "a user was deleted, or erased at the user's own request", true, false},
	{"user.disabled", "a user was disabled", true, false},
	{"user.enabled", "a user was enabled", true, false},
	{"user.retired", "a user was retired because no declaration names the user anymore", true, false},
	{"user.restored", "a retired user was restored", true, false},
	{"user.role_changed", "what a user may manage was changed", true, false},
	{"username.changed", "a username was changed", true, false},
	{"email.changed", "the email address of a user was changed, or was verified", true, false},
	{"password.changed", "a password was set, changed or removed", true, false},
	{"password.reset", "a user chose a new password with a message", true, false},
	{"password.rehashed", "an outdated password hash was replaced at a sign-in", true, false},
	{"method.added", "a way to sign in was added", true, false},
	{"method.removed", "a way to sign in was removed", true, false},
	{"method.change_undone", "a user undid a change of how to sign in", true, false},
	{"recovery_code.used", "a recovery code was used", true, false},
	{"user_code.set", "the code with which applications ask for approval was set", true, false},
	{"user_code.removed", "that code was removed", true, false},
	{"external.linked", "an account was linked with a user of another provider", true, false},
	{"external.unlinked", "such a link was removed", true, false},
	{"account.locked_down", "an account was locked down", true, false},
	{"account.unlocked", "an account that was locked down got a new password", true, false},
	{"account.deletion_requested", "a user asked for the deletion of the account", true, false},
	{"account.deletion_canceled", "a user kept an account whose deletion was requested", true, false},
	{"user.recovered", "a user got back in with a link from an operator", true, false},
	{"user.recovery_link_created", "an operator created a link with which a user can get back in", true, false},
	{"user.invited", "an operator created an invitation to sign up", true, false},
	{"sign_in.succeeded", "a user signed in; a session began or continued", true, false},
	{"session.ended", "a session was ended", true, false},
	{"session.all_ended", "everything that was issued to a user ended: sessions, codes and tokens", true, false},
	{"consent.granted", "a user granted a client scopes and access to APIs", true, false},
	{"consent.changed", "what a user has granted to a client was changed", true, false},
	{"consent.revoked", "the access of a client to a user's account was revoked", true, false},
	{"token.revoked", "a token, or an authorization with all its tokens, was revoked", true, false},
	{"token.replayed", "a one-time code or token was used again; the tokens of the authorization ended", true, false},
	{"device.approved", "a user approved a device", true, false},
	{"device.denied", "a user denied a device", true, false},
	{"backchannel.approved", "a user approved a backchannel authentication request", true, false},
	{"backchannel.denied", "a user denied a backchannel authentication request", true, false},
	{"client.created", "a client was created", true, false},
	{"client.registered", "a client registered itself", true, false},
	{"client.updated", "a client was changed", true, false},
	{"client.disabled", "a client was disabled", true, false},
	{"client.enabled", "a client was enabled", true, false},
	{"client.retired", "a client was retired because no declaration names it anymore", true, false},
	{"client.restored", "a retired client was restored", true, false},
	{"client.secret_changed", "the secrets of a client were changed", true, false},
	{"client.deleted", "a client was deleted", true, false},
	{"initial_access_token.created", "an initial access token was created", true, false},
	{"initial_access_token.revoked", "an initial access token was revoked", true, false},
	{"message.retried", "an operator had a message sent again", true, false},
	{"message.dropped", "an operator dropped a message that waited or had failed", true, false},
	{"recording.began", "an operator began to record the accepted requests of a client or user", true, false},
	{"recording.ended", "an operator ended such a recording", true, false},
	{"scope.created", "a scope was created", true, false},
	{"scope.updated", "a scope was changed", true, false},
	{"scope.retired", "a scope was retired because no declaration names it anymore", true, false},
	{"scope.restored", "a retired scope was restored", true, false},
	{"scope.deleted", "a scope was deleted", true, false},
	{"resource.created", "a resource was created", true, false},
	{"resource.updated", "a resource was changed", true, false},
	{"resource.retired", "a resource was retired because no declaration names it anymore", true, false},
	{"resource.restored", "a retired resource was restored", true, false},
	{"resource.deleted", "a resource was deleted", true, false},
	{"signing_key.created", "a signing or encryption key was created", true, false},
	{"signing_key.updated", "the times of a key were changed", true, false},
	{"signing_key.removed", "a key was removed", true, false},
	{"master_key.rotated", "another master key was put in force", true, false},
	{"master_key.rotation_finished", "nothing is sealed with the former master key anymore", true, false},
	{"declarations.applied", "declarations were applied", true, false},
	{"audit.removed", "records were removed because they were older than the retention", true, false},
	{"audit.replayed", "an operator had records sent to a webhook again", true, false},

	{"sign_in.failed", "a sign-in attempt failed", false, true},
	{"sign_in.throttled", "a sign-in attempt was refused because too many had failed", false, true},
	{"password.change_failed", "a user could not change the password", false, true},
	{"password.reset_requested", "a new password was requested", false, false},
	{"sign_in.requested", "a message with which a user can sign in was requested", false, false},
	{"passkey.sign_count", "someone may have a copy of a passkey", false, true},
	{"external.refused", "a user of another provider could not sign in", false, true},
	{"sign_up.throttled", "a new account was refused because too many were created", false, true},
	{"consent.refused", "a user refused the consent that a client requested", false, true},
	{"request.refused", "a request was refused", false, true},
	{"client.authentication_failed", "a client sent invalid credentials", false, true},
	{"account.exported", "a user downloaded the data of the account", false, false},
	{"audit.left_out", "events were left out of this log because there were too many", false, false},
}

var eventsByName = func() map[string]*Event {
	byName := make(map[string]*Event, len(Events))
	for i := range Events {
		byName[Events[i].Name] = &Events[i]
	}
	return byName
}()

// EventByName returns the event with a name; nil if there is none.
func EventByName(name string) *Event { return eventsByName[name] }
