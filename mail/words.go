package mail

import (
	"fmt"
	"strings"
	"time"
)

// words are the texts of all messages in one language. A translation is another value of this
// type in languages. In braces: {service}, {username}, {address} and {lifetime}.
type words struct {
	Greeting, GreetingByName string
	CodeLabel                string
	LinkAlternative          string // introduces the URL in plain text
	When, Browser, Remote    string
	Closing                  string
	Minutes, Hours, Days     string // with %d
	Time                     string // layout of package time
	Kinds                    map[Kind]kindWords
}

type kindWords struct {
	Subject string
	Before  []string // paragraphs before the code and the button
	Button  string
	After   []string // paragraphs after them
}

// languages are the texts by language.
var languages = map[string]*words{"en": &english}

var english = words{
	Greeting: "Hello,", GreetingByName: "Hello {username},",
	CodeLabel: "Your code", LinkAlternative: "Or open this link:",
	When: "When", Browser: "Browser", Remote: "Network address",
	Closing: "This message was sent by {service}. Please do not reply to it.",
	Minutes: "%d minutes", Hours: "%d hours", Days: "%d days",
	Time: "2 January 2006, 15:04 UTC",
	Kinds: map[Kind]kindWords{
		KindVerify: {
			Subject: "Confirm your email address",
			Before:  []string{"This email address was entered for an account at {service}. To confirm it, enter the code where you were asked for it, or press the button in the same browser."},
			Button:  "Confirm this address",
			After:   []string{"The code and the link are valid for {lifetime}.", "If you did not ask for this message, ignore it. Do not give the code to anyone."},
		},
		KindAddressInUse: {
			Subject: "You already have an account",
			Before:  []string{"This email address was entered for another account at {service}. It already belongs to your account {username}, so nothing was changed.", "If this was you, sign in to your account. If you have forgotten your password, you can choose a new one from the sign-in page."},
			Button:  "Sign in",
			After:   []string{"If this was not you, you do not need to do anything."},
		},
		KindSignUp: {
			Subject: "Create your account",
			Before:  []string{"To create your account at {service}, enter the code where you were asked for it, or press the button in the same browser."},
			Button:  "Create my account",
			After:   []string{"The code and the link are valid for {lifetime}.", "If you did not ask for this message, ignore it. Do not give the code to anyone."},
		},
		KindInvitation: {
			Subject: "You are invited to {service}",
			Before:  []string{"You are invited to create an account at {service}."},
			Button:  "Create my account",
			After:   []string{"The invitation is for you alone. It is valid for {lifetime} and works once."},
		},
		KindReset: {
			Subject: "Choose a new password",
			Before:  []string{"A new password was requested for your account at {service}. Enter the code where you were asked for it, or press the button."},
			Button:  "Choose a new password",
			After:   []string{"The code and the link are valid for {lifetime}.", "If you did not ask for this message, ignore it. Your password has not been changed. Do not give the code to anyone, even if they say that they work for {service}."},
		},
		KindPasswordChanged: {
			Subject: "Your password was changed",
			Before:  []string{"The password of your account at {service} was changed."},
			Button:  "Choose a new password",
			After:   []string{"If this was you, you do not need to do anything. If it was not, choose a new password now. This also signs out everyone who uses your account."},
		},
		KindAddressChanged: {
			Subject: "Your email address was changed",
			Before:  []string{"The email address of your account at {service} was changed to {address}. We no longer send messages to the address where you received this one."},
			Button:  "Undo the change",
			After:   []string{"If this was you, you do not need to do anything. If it was not, undo the change. This also signs out everyone who uses your account. The link is valid for {lifetime}."},
		},
		KindNewSignIn: {
			Subject: "New sign-in to your account",
			Before:  []string{"Your account at {service} was used in a new browser."},
			Button:  "Review my account",
			After:   []string{"If this was you, you do not need to do anything. If it was not, change your password and sign out on all other devices."},
		},
		KindTest: {
			Subject: "Test message",
			Before:  []string{"{service} can send messages."},
		},
	},
}

// wordsFor returns the texts in a language; those in English if there are none.
func wordsFor(language string) (string, *words) {
	language = strings.ToLower(language)
	for language != "" {
		if w := languages[language]; w != nil {
			return language, w
		}
		i := strings.LastIndexAny(language, "-_")
		language = language[:max(i, 0)]
	}
	return "en", languages["en"]
}

// lifetime returns a duration in words.
func (w *words) lifetime(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf(w.Days, d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf(w.Hours, d/time.Hour)
	}
	return fmt.Sprintf(w.Minutes, d/time.Minute)
}
