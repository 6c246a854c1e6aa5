package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const base64Letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=."

// PasswordHashKind returns what stands before the salt of a password hash: the algorithm and
// its parameters. Stores list it (Store.PasswordHashKinds).
func PasswordHashKind(hash string) string {
	kind := strings.TrimRight(hash, base64Letters)
	if strings.HasPrefix(hash, "$argon2id$") {
		kind = strings.TrimRight(strings.TrimRight(kind, "$"), base64Letters)
	}
	return kind
}

// hashWork is what decides how long a password hash takes: the cost of bcrypt, or the
// parameters of argon2id.
type hashWork struct {
	bcryptCost   int
	memory, time uint32
	threads      uint8
}

// standardWork is that of new hashes.
var standardWork = hashWork{memory: argonMemory, time: argonTime, threads: argonThreads}

// Salts and hashes of the right length that belong to no password.
const (
	bcryptRest = "......................" + "..............................."
	argonRest  = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// workOf returns the work of a hash; ok is false if it cannot be read, and fits no password.
func workOf(hash string) (w hashWork, ok bool) { return workOfKind(PasswordHashKind(hash)) }

func workOfKind(kind string) (w hashWork, ok bool) {
	if strings.HasPrefix(kind, "$argon2id$") {
		h, err := parseArgonHash(kind + argonRest)
		if err != nil {
			return w, false
		}
		return hashWork{memory: h.memory, time: h.time, threads: h.threads}, true
	}
	if CheckPasswordHash(kind+bcryptRest) != nil {
		return w, false
	}
	cost, err := bcrypt.Cost([]byte(kind + bcryptRest))
	return hashWork{bcryptCost: cost}, err == nil
}

// hash returns a hash of that work, for any version of bcrypt.
func (w hashWork) hash() string {
	if w.bcryptCost > 0 {
		return fmt.Sprintf("$2b$%02d$", w.bcryptCost) + bcryptRest
	}
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$", w.memory, w.time, w.threads) + argonRest
}

// allWork returns the work of every kind of hash that the database holds, and that of new
// hashes, each once.
func (a *Accounts) allWork(ctx context.Context) ([]hashWork, error) {
	kinds, err := a.store.PasswordHashKinds(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the kinds of password hashes: %w", err)
	}
	all := []hashWork{standardWork}
	for _, kind := range kinds {
		if w, ok := workOfKind(kind); ok && !slices.Contains(all, w) {
			all = append(all, w)
		}
	}
	return all, nil
}

// verifyInConstantWork compares a password with a hash, "" for none, and does the work of
// each other kind of hash besides: whoever is asked for, and whatever the hash, the same
// hashes are computed.
func (a *Accounts) verifyInConstantWork(all []hashWork, hash, password string) bool {
	own, readable := workOf(hash)
	ok := false
	for _, w := range all {
		if readable && w == own {
			ok = a.verify(hash, password)
			readable = false // done
		} else {
			a.verify(w.hash(), password)
		}
	}
	if readable { // stored since the kinds were listed
		ok = a.verify(hash, password)
	}
	return ok
}

// bcryptMost is how many bytes of a password bcrypt reads.
const bcryptMost = 72

// cutByBcrypt reports whether a bcrypt hash may be that of a longer password. That of exactly
// bcryptMost bytes is the same as those of all passwords that begin with them.
func cutByBcrypt(hash, password string) bool {
	return !strings.HasPrefix(hash, "$argon2id$") && len(normalizePassword(password)) >= bcryptMost
}
