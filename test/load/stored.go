package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"zombiezen.com/go/sqlite"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// refreshTokens are refresh tokens that are stored before the load. Token number i is always the
// same on one day, so that a filled database can be used again.
type refreshTokens struct {
	count   int
	from    time.Time // when the first one was issued
	subject string
	scopes  []byte // JSON

	mu      sync.Mutex
	current map[int]string // the successors of those that were used
}

// storedFor is the time over which the stored tokens were issued. They are valid for storedValid.
const (
	storedFor   = 12 * 24 * time.Hour
	storedValid = 14 * 24 * time.Hour
)

func newRefreshTokens(count int, subject string) (*refreshTokens, error) {
	names, err := json.Marshal(scopes)
	return &refreshTokens{count: count, from: time.Now().Truncate(24 * time.Hour).Add(-storedFor), subject: subject, scopes: names, current: map[int]string{}}, err
}

func (s *refreshTokens) issuedAt(i int) time.Time {
	return s.from.Add(time.Duration(float64(storedFor) * float64(i) / float64(s.count)))
}

// secret and ticket are in the format of authserver/ticket.go. If that changes, the scenario fails.
func (s *refreshTokens) secret(i int) string {
	random := sha256.Sum256(fmt.Append(nil, "token ", i))
	body := "vk_rt_" + base64.RawURLEncoding.EncodeToString(append(s.seconds(i), random[:]...))
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(body)))
	return body + base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s *refreshTokens) seconds(i int) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(s.issuedAt(i).Unix()))
}

func (s *refreshTokens) ticket(i int) storage.Ticket {
	secret, at := s.secret(i), s.issuedAt(i)
	key := ticketkind.RefreshToken.Hash(secret)
	copy(key.ID[:5], secret[len("vk_rt_"):])
	random := sha256.Sum256(fmt.Append(nil, "names ", i))
	name := base64.RawURLEncoding.EncodeToString
	family, grant := name(append(s.seconds(i), random[:10]...)), name(random[10:26])
	data := fmt.Appendf(nil, `{"c":%q,"s":%q,"g":%q,"f":%q,"o":%s,"u":["https://photos.example"],"i":%q,"t":%d,"a":"1","m":["pwd"],"b":%d,"n":%d}`,
		clientID, s.subject, grant, family, s.scopes, name(random[:]), at.Unix(), at.Unix(), at.UnixMilli())
	return storage.Ticket{Key: key, Grant: grant, Family: family, Data: data, Expires: at.Add(storedValid)}
}

// fill stores the tokens, without waiting for the disk, unless they are stored already.
func (s *refreshTokens) fill(ctx context.Context, store *sqldb.Store, database string) error {
	if s.count == 0 {
		return nil
	}
	last := s.ticket(s.count - 1).Key
	if _, err := store.Get(ctx, time.Now(), last); !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if path, ok := strings.CutPrefix(database, "sqlite:"); ok {
		return s.fillSQLite(path)
	}
	return s.fillPostgreSQL(ctx, database)
}

const fillStep = 100_000

// next returns a token to store, and reports progress.
func (s *refreshTokens) next(i int) storage.Ticket {
	if i%1_000_000 == 0 && i > 0 {
		fmt.Fprintf(os.Stderr, "stored %d of %d\n", i, s.count)
	}
	return s.ticket(i)
}

func (s *refreshTokens) fillSQLite(path string) (err error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, query := range []string{"PRAGMA synchronous = OFF", "PRAGMA cache_size = -400000", "BEGIN"} {
		if err := execute(conn, query); err != nil {
			return err
		}
	}
	for i := range s.count {
		t := s.next(i)
		stmt, err := conn.Prepare("INSERT INTO tickets (kind, id, grant_id, family, data, expires, spent) VALUES (?, ?, ?, ?, ?, ?, 0)")
		if err != nil {
			return err
		}
		stmt.BindText(1, string(t.Kind))
		stmt.BindBytes(2, t.ID[:])
		stmt.BindText(3, t.Grant)
		stmt.BindText(4, t.Family)
		stmt.BindBytes(5, t.Data)
		stmt.BindInt64(6, t.Expires.UnixMilli())
		if _, err := stmt.Step(); err != nil {
			return err
		}
		if (i+1)%fillStep == 0 {
			if err := errors.Join(execute(conn, "COMMIT"), execute(conn, "BEGIN")); err != nil {
				return err
			}
		}
	}
	return execute(conn, "COMMIT")
}

func (s *refreshTokens) fillPostgreSQL(ctx context.Context, database string) error {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	columns := []string{"kind", "id", "grant_id", "family", "data", "expires", "spent"}
	i := 0
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"tickets"}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if i == s.count {
			return nil, nil
		}
		t := s.next(i)
		i++
		return []any{string(t.Kind), t.ID[:], t.Grant, t.Family, t.Data, t.Expires.UnixMilli(), int64(0)}, nil
	}))
	if err == nil {
		_, err = conn.Exec(ctx, "VACUUM ANALYZE tickets")
	}
	return err
}

// prepareStoredRefresh uses stored tokens in a random order, and each one's successor once all were
// used.
func prepareStoredRefresh(_ context.Context, t *target, _ keys) (request, error) {
	s := t.stored
	if s == nil || s.count <= maxWorkers {
		return nil, fmt.Errorf("more than %d tokens must be stored", maxWorkers)
	}
	// A step without a common divisor visits every token before it visits one again.
	step := s.count*618/1000 | 1
	for gcd(step, s.count) != 1 {
		step += 2
	}
	var used atomic.Int64
	used.Store(rand.Int64N(int64(s.count)))
	return func(ctx context.Context, _ int) error {
		i := int(used.Add(1) * int64(step) % int64(s.count))
		s.mu.Lock()
		token, ok := s.current[i]
		s.mu.Unlock()
		if !ok {
			token = s.secret(i)
		}
		issued, err := flow{client: clientID}.redeem(ctx, t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.current[i] = issued.RefreshToken
		s.mu.Unlock()
		return nil
	}, nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
