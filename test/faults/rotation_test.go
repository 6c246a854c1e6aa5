package faults

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// stopVariable is after how many transactions a rotation waits to be killed; "" means at the end.
const stopVariable = "VALETKEY_FAULTS_STOP"

// sealedClients is enough for a rotation of seven transactions: the first one, one for every 200 clients,
// and the last one.
const sealedClients = 950

// rotateMasterKey rotates the master key of a configuration as "valetkey masterkey rotate" does. It writes
// a line after each transaction, and waits to be killed.
func rotateMasterKey() error {
	c, err := configuration.Read(os.Getenv(configurationVariable))
	if err != nil {
		return err
	}
	d, err := database.Open(context.Background(), &c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	stop, transactions := os.Getenv(stopVariable), 0
	if _, err := d.RotateMasterKey(context.Background(), func(sealed database.MasterKeyState) {
		transactions++
		fmt.Fprintf(os.Stdout, "%d\n", sealed.Clients)
		if strconv.Itoa(transactions) == stop {
			select {}
		}
	}); err != nil {
		return err
	}
	select {}
}

// rotations is a database whose master key is rotated again and again.
type rotations struct {
	*testing.T
	databaseURL, dir, program string
	keys                      int      // how many there were; the latest one is the master key
	clients                   []string // what must not be lost
	mu                        sync.Mutex
	secret, kid               string // of the server, of the signing key
	killed, between           int    // kills, and those that left a rotation unfinished
}

func (r *rotations) key(n int) string { return filepath.Join(r.dir, fmt.Sprint("key ", n)) }

// configuration is that of a program with a key, and the one before it, as a file and as a value.
func (r *rotations) configuration(n int, previous bool) (string, *configuration.Configuration) {
	c := &configuration.Configuration{Database: r.databaseURL, MasterKeyFile: r.key(n)}
	text := fmt.Sprintf("issuer: http://127.0.0.1:1\ndatabase: %q\nmaster_key_file: %q\n", r.databaseURL, r.key(n))
	if previous {
		c.PreviousMasterKeyFile = r.key(n - 1)
		text += fmt.Sprintf("previous_master_key_file: %q\n", r.key(n-1))
	}
	file := filepath.Join(r.dir, "valetkey.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
	return file, c
}

// newKey makes another key the master key, and the present one the previous one.
func (r *rotations) newKey() {
	r.Helper()
	r.keys++
	key := make([]byte, 32)
	key[0] = byte(r.keys)
	if err := os.WriteFile(r.key(r.keys), []byte(base64.StdEncoding.EncodeToString(key)), 0o600); err != nil {
		r.Fatal(err)
	}
}

// open opens the database with the latest key. settle waits for those who are called killed.
func (r *rotations) open(previous bool) (*database.Database, error) {
	_, c := r.configuration(r.keys, previous)
	c.Database = strings.Replace(r.databaseURL, "application_name=killed", "application_name=checking", 1)
	return database.Open(r.Context(), c, slog.New(slog.DiscardHandler))
}

func (r *rotations) mustOpen(previous bool) *database.Database {
	r.Helper()
	d, err := r.open(previous)
	if err != nil {
		r.Fatal(err)
	}
	return d
}

func (r *rotations) close(d *database.Database) {
	r.Helper()
	if err := d.Close(); err != nil {
		r.Error(err)
	}
}

// check checks that everything can be read: with both keys always, and with the new one alone when the
// rotation is finished. It returns the state.
func (r *rotations) check(finished bool) database.MasterKeyState {
	r.Helper()
	d := r.mustOpen(!finished)
	defer r.close(d)
	state, err := d.MasterKeyState(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	if string(d.Secret) != r.secret {
		r.Error("the secret of the server has changed")
	}
	keys, err := d.Keys(r.Context())
	if err != nil || len(keys) != 1 || keys[0].ID != r.kid || keys[0].Private == nil {
		r.Errorf("the signing key is lost: %v, %v", keys, err)
	}
	r.mu.Lock()
	ids := slices.Clone(r.clients)
	r.mu.Unlock()
	for _, id := range ids {
		c, err := d.Client(r.Context(), id)
		if err != nil || len(c.Secrets) != 1 || c.Secrets[0] != "secret of "+id {
			r.Fatalf("the secret of client %s is lost: %v", id, err)
		}
	}
	return state
}

func (r *rotations) createClient(d *database.Database, id string) {
	if err := d.CreateClient(context.WithoutCancel(r.Context()), &record.Client{ID: id, Secrets: []string{"secret of " + id}}); err != nil {
		r.Error(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients = append(r.clients, id)
}

// known returns how many clients there are.
func (r *rotations) known() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.clients)
}

// judge checks the database after a kill. acknowledged is how many clients were sealed for sure.
func (r *rotations) judge(acknowledged int) {
	r.Helper()
	r.killed++
	settle(r.T, r.databaseURL)
	state := r.check(false)
	if all := r.known(); state.Clients > all-acknowledged {
		r.Errorf("%d clients of %d need the previous key, although %d were sealed with the new one", state.Clients, all, acknowledged)
	}
	if !state.Unfinished {
		return
	}
	r.between++
	d, err := r.open(false)
	if err == nil {
		r.close(d)
	}
	if err == nil || !strings.Contains(err.Error(), "valetkey masterkey rotate") {
		r.Errorf("a server without the previous key starts, or does not say what is missing: %v", err)
	}
}

// killAfter kills a rotation after the n-th transaction, or that and a time.
func (r *rotations) killAfter(n int, wait bool) {
	r.Helper()
	file, _ := r.configuration(r.keys, true)
	var stdout *bufio.Scanner
	c := start(r.T, "rotate", func(command *exec.Cmd) {
		command.Env = append(command.Env, configurationVariable+"="+file)
		if wait {
			command.Env = append(command.Env, stopVariable+"="+strconv.Itoa(n))
		}
		pipe, err := command.StdoutPipe()
		if err != nil {
			r.Fatal(err)
		}
		stdout = bufio.NewScanner(pipe)
	})
	acknowledged := 0
	for transactions := 0; stdout.Scan(); {
		var err error
		if acknowledged, err = strconv.Atoi(stdout.Text()); err != nil {
			r.Fatal(err)
		}
		if transactions++; transactions == n {
			if !wait { // in the middle of the next one, perhaps
				<-time.After(time.Duration(rand.IntN(4000)) * time.Microsecond)
			}
			c.kill(r.T)
		}
	}
	c.waitKilled(r.T)
	r.judge(acknowledged)
}

// killProgram kills "valetkey masterkey rotate" when part of the clients are sealed with the new key.
func (r *rotations) killProgram(d *database.Database, part, of int) {
	r.Helper()
	left := r.known() - part*r.known()/of
	file, _ := r.configuration(r.keys, true)
	command := exec.Command(r.program, "masterkey", "rotate", "--config", file)
	if err := command.Start(); err != nil {
		r.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for {
		state, err := d.MasterKeyState(r.Context())
		if err != nil {
			r.Fatal(err)
		}
		if !state.Previous && state.Clients <= left {
			break
		}
		select {
		case err := <-ended: // it was faster
			if err != nil {
				r.Fatalf("the rotation fails: %v", err)
			}
			return
		default:
		}
	}
	if err := command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.Fatal(err)
	}
	<-ended
	r.judge(0)
}

// finish runs "valetkey masterkey rotate" to the end. Then the previous key is of no use.
func (r *rotations) finish() {
	r.Helper()
	file, _ := r.configuration(r.keys, true)
	command(r.T, r.program, "masterkey", "rotate", "--config", file)
	if state := r.check(true); state.NeedsPrevious() {
		r.Errorf("after the rotation: %+v", state)
	}
	_, former := r.configuration(r.keys-1, false)
	if d, err := database.Open(r.Context(), former, slog.New(slog.DiscardHandler)); !errors.Is(err, sqldb.ErrWrongMasterKey) {
		r.Errorf("the former key opens the database: %v", err)
		if err == nil {
			r.close(d)
		}
	}
}

// TestKilledRotationOfTheMasterKey kills a rotation after each of its transactions, in the middle of them,
// and as the command, while another node creates clients. The next run of the command finishes it, and
// every secret can be read at any time.
func TestKilledRotationOfTheMasterKey(t *testing.T) {
	program := buildProgram(t)
	onBoth(t, func(t *testing.T, databaseURL string) {
		r := &rotations{T: t, databaseURL: databaseURL, dir: t.TempDir(), program: program}
		r.newKey()
		first := r.mustOpen(false)
		r.secret, r.kid = string(first.Secret), "key"
		private, err := jose.GenerateKey(jose.ES256)
		if err != nil {
			t.Fatal(err)
		}
		if err := first.UpdateKeys(t.Context(), func([]record.Key) ([]record.Key, error) {
			return []record.Key{{ID: r.kid, Algorithm: jose.ES256, Private: private}}, nil
		}); err != nil {
			t.Fatal(err)
		}
		for i := range sealedClients {
			r.createClient(first, fmt.Sprintf("client %03d", i))
		}
		r.close(first)

		points := []int{1, 2, 3, 4, 5}
		if testing.Short() {
			points = []int{1, 3}
		}
		for _, n := range points {
			r.rotate(func(*database.Database) { r.killAfter(n, true) })
		}
		for _, n := range points {
			r.rotate(func(*database.Database) { r.killAfter(n, false) })
		}
		r.rotate(func(*database.Database) {
			for range points { // the same rotation, which continues each time
				r.killAfter(2, true)
			}
		})
		for i := range points {
			r.rotate(func(node *database.Database) { r.killProgram(node, i, len(points)) })
		}
		if r.between < len(points) {
			t.Errorf("%d kills left a rotation unfinished", r.between)
		}
		t.Logf("%d rotations, %d kills, %d of which left a rotation unfinished; %d clients", r.keys-1, r.killed, r.between, len(r.clients))
		checkIntegrity(t, databaseURL)
	})
}

// rotate begins a rotation to a new key, which is killed, and finishes it, while another node with both
// keys creates clients.
func (r *rotations) rotate(kill func(node *database.Database)) {
	r.Helper()
	r.newKey()
	node := r.mustOpen(true)
	stop, created := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(created)
		for n := range 20 {
			select {
			case <-stop:
				return
			default:
			}
			r.createClient(node, fmt.Sprintf("during %d, %d", r.keys, n))
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	kill(node)
	r.finish()
	close(stop)
	<-created
	r.close(node)
	if r.Failed() {
		r.FailNow()
	}
}
