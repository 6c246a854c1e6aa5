package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const base64Letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=."

// PasswordHashKind returns the part of a password hash before the salt: the algorithm and its
// parameters. Stores list it (Store.PasswordHashKinds).
func PasswordHashKind(hash string) string {
	kind := strings.TrimRight(hash, base64Letters)
	if strings.HasPrefix(hash, "$argon2id$") {
		kind = strings.TrimRight(strings.TrimRight(kind, "$"), base64Letters)
	}
	return kind
}

// hashWork determines how long a password hash takes: the cost of bcrypt, or the parameters of
// argon2id.
type hashWork struct {
	bcryptCost   int
	memory, time uint32
	threads      uint8
}

// standardWork is the work of new hashes.
var standardWork = hashWork{memory: argonMemory, time: argonTime, threads: argonThreads}

// Salts and hashes of the correct length that match no password.
const (
	bcryptRest = "......................" + "..............................."
	argonRest  = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// workOf returns the work of a hash; ok is false if the hash is invalid and matches no password.
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

// hash returns a hash with that work, whatever the version of bcrypt.
func (w hashWork) hash() string {
	if w.bcryptCost > 0 {
		return fmt.Sprintf("$2b$%02d$", w.bcryptCost) + bcryptRest
	}
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$", w.memory, w.time, w.threads) + argonRest
}

// allWork returns the work of every kind of hash in the database and of new hashes, without
// duplicates.
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

// verifyInConstantWork compares a password with a hash, "" for none, and also does the work of
// every other kind of hash. The same hashes are computed for every account and hash, so that the
// response time reveals nothing.
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
	if readable { // stored after the kinds were listed
		ok = a.verify(hash, password)
	}
	return ok
}

// bcryptMaxBytes is how many bytes of a password bcrypt uses.
const bcryptMaxBytes = 72

// truncatedByBcrypt reports whether a bcrypt hash may belong to a longer password: bcrypt ignores
// everything after bcryptMaxBytes bytes.
func truncatedByBcrypt(hash, password string) bool {
	return !strings.HasPrefix(hash, "$argon2id$") && len(normalizePassword(password)) >= bcryptMaxBytes
}
