package sqldb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/audit"
)

// writeAudit writes and seals n records.
func writeAudit(t *testing.T, s *Store, n int) {
	t.Helper()
	for i := range n {
		if err := s.WriteAudit(t.Context(), audit.Record{Event: "user.updated", Subject: fmt.Sprint("user ", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.SealAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// tamper runs statements as someone who owns the database and its triggers.
func tamper(t *testing.T, s *Store, statements ...string) {
	t.Helper()
	drop := []string{`DROP TRIGGER IF EXISTS audit_records_append_only`, `DROP TRIGGER IF EXISTS audit_records_kept`}
	if s.database.name() != "sqlite" {
		drop = []string{`DROP TRIGGER IF EXISTS audit_records_append_only ON audit_records`, `DROP TRIGGER IF EXISTS audit_records_kept ON audit_records`}
	}
	for _, statement := range append(drop, statements...) {
		if _, err := s.database.write().ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// rewrite computes all hashes anew, as someone can who knows how.
func rewrite(t *testing.T, s *Store) {
	t.Helper()
	records, err := s.AuditSealed(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var hash []byte
	for i, r := range records {
		hash = audit.NextHash(hash, int64(i+1), r.Foreign, r.Text)
		if _, err := s.database.write().ExecContext(t.Context(), `UPDATE audit_records SET sequence = $1, hash = $2 WHERE id = $3`, i+1, hash, r.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.database.write().ExecContext(t.Context(), `UPDATE audit_chain SET sequence = $1, hash = $2`, len(records), hash); err != nil {
		t.Fatal(err)
	}
}

// TestLO09_TamperingIsFound tries what someone with access to the database can do to the log.
func TestLO09_TamperingIsFound(t *testing.T) {
	const change = `UPDATE audit_records SET record = replace(record, '"user 3"', '"user 9"'), subject = 'user 9' WHERE sequence = 4`
	for _, c := range []struct {
		name       string
		statements []string
		rewrite    bool
		// alone is what is found without a checkpoint, and with what is found in addition with one.
		alone, with string
	}{
		{name: "nothing"},
		{name: "a record is changed", statements: []string{change}, alone: "record 4: it was changed"},
		{name: "a record is removed", statements: []string{`DELETE FROM audit_records WHERE sequence = 4`}, alone: "record 4: it is missing"},
		{name: "several are removed", statements: []string{`DELETE FROM audit_records WHERE sequence BETWEEN 4 AND 6`}, alone: "record 4: it is missing, and so are all after it up to 6"},
		{name: "two change places", statements: []string{
			`UPDATE audit_records SET sequence = 99 WHERE sequence = 4`, `UPDATE audit_records SET sequence = 4 WHERE sequence = 5`, `UPDATE audit_records SET sequence = 5 WHERE sequence = 99`,
		}, alone: "record 4: it was changed, or it is in the place of another record"},
		{name: "the end is cut off", statements: []string{`DELETE FROM audit_records WHERE sequence > 7`}, alone: "record 8: it is missing, and so are all after it up to 10"},
		{name: "a search misses it", statements: []string{`UPDATE audit_records SET subject = 'nobody' WHERE sequence = 4`}, alone: "record 4: what it is found by in a search was changed"},
		{name: "a record is changed, and all hashes", statements: []string{change}, rewrite: true, with: "record 10: its hash differs from that in a checkpoint"},
		{name: "a record is removed, and all hashes", statements: []string{`DELETE FROM audit_records WHERE sequence = 4`}, rewrite: true, with: "record 10: a checkpoint of"},
		{name: "the end is cut off, and all hashes", statements: []string{`DELETE FROM audit_records WHERE sequence > 7`}, rewrite: true, with: "the end of the chain was removed"},
		{name: "the beginning is cut off with a forged statement", statements: []string{
			`UPDATE audit_chain SET removed = 5, removed_hash = (SELECT hash FROM audit_records WHERE sequence = 5), anchor = 'x.y.z'`, `DELETE FROM audit_records WHERE sequence <= 5`,
		}, alone: "record 5: the statement about the removed beginning of the chain is invalid"},
		{name: "a record is invented before it is sealed", statements: []string{
			`INSERT INTO audit_records (id, event, actor, subject, client_id, record, code) SELECT 'f' || id, event, actor, subject, client_id, replace(record, '"id":"', '"id":"f'), code FROM audit_records WHERE sequence = 4`,
		}, alone: "record 11: no server with the master key has written it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openTest(t, "sqlite::memory:")
			writeAudit(t, s, 10)
			checkpoint, err := s.AuditCheckpoint(t.Context(), "https://login.example.com", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if len(c.statements) > 0 {
				tamper(t, s, c.statements...)
			}
			if c.rewrite {
				rewrite(t, s)
			}
			if _, err := s.SealAudit(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, checkpoints := range [][]*audit.Checkpoint{nil, {checkpoint}} {
				want := c.alone
				if len(checkpoints) > 0 && c.with != "" {
					want = c.with
				}
				report, err := audit.Verify(t.Context(), s, checkpoints, s.AuditKey())
				if err != nil {
					t.Fatal(err)
				}
				problems := fmt.Sprint(report.Problems)
				if want == "" && len(report.Problems) > 0 || !strings.Contains(problems, want) {
					t.Errorf("with %d checkpoints: found %s, want %q", len(checkpoints), problems, want)
				}
			}
		})
	}
}

// Statements of the program itself cannot change or remove records.
func TestLO09_RecordsAreAppendOnly(t *testing.T) {
	for name, url := range map[string]string{"SQLite": sqliteDatabase(t), "PostgreSQL": postgreSQLDatabase(t)} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, url)
			writeAudit(t, s, 3)
			if err := s.WriteAudit(t.Context(), audit.Record{Event: "user.updated"}); err != nil {
				t.Fatal(err)
			}
			for _, statement := range []string{
				`UPDATE audit_records SET record = 'x' WHERE sequence = 1`, `UPDATE audit_records SET sequence = 77 WHERE sequence = 1`,
				`UPDATE audit_records SET record = 'x' WHERE sequence = 0`, `UPDATE audit_records SET subject = 'x' WHERE sequence = 0`,
				`DELETE FROM audit_records WHERE sequence = 1`, `DELETE FROM audit_records WHERE sequence = 0`,
			} {
				if _, err := s.database.write().ExecContext(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "audit records cannot be") {
					t.Errorf("%s: %v", statement, err)
				}
			}
		})
	}
}

// After old records were removed, the rest is verifiable, also with checkpoints from before.
func TestRetentionKeepsTheChainVerifiable(t *testing.T) {
	for name, url := range map[string]string{"SQLite": sqliteDatabase(t), "PostgreSQL": postgreSQLDatabase(t)} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, url)
			writeAudit(t, s, 6)
			early, err := s.AuditCheckpoint(t.Context(), "", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			records, err := s.AuditSealed(t.Context(), 5, 1)
			if err != nil {
				t.Fatal(err)
			}
			cut := records[0].Time.Add(time.Millisecond)
			for !time.Now().After(cut) {
				time.Sleep(time.Millisecond)
			}
			writeAudit(t, s, 6)
			late, err := s.AuditCheckpoint(t.Context(), "", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if n, err := s.RemoveAudit(t.Context(), cut); err != nil || n != 6 {
				t.Fatalf("RemoveAudit = %d, %v", n, err)
			}
			if n, err := s.RemoveAudit(t.Context(), cut); err != nil || n != 0 {
				t.Fatalf("RemoveAudit again = %d, %v", n, err)
			}
			if _, err := s.SealAudit(t.Context()); err != nil {
				t.Fatal(err)
			}
			report, err := audit.Verify(t.Context(), s, []*audit.Checkpoint{early, late}, s.AuditKey())
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Problems) > 0 || report.First != 7 || report.Last != 13 || report.Removed != 6 || report.Checkpoints != 2 {
				t.Errorf("report %+v", report)
			}
			if report, err = audit.Verify(t.Context(), s, nil, "another key"); err != nil || len(report.Problems) != 1 || !strings.Contains(report.Problems[0].Text, "unknown key") {
				t.Errorf("with another key: %+v, %v", report, err)
			}
		})
	}
}

// TestLO09_RemovedRecordsNeedAStatement tries to pass records off as removed because of their age.
func TestLO09_RemovedRecordsNeedAStatement(t *testing.T) {
	checkpointOf := func(s *Store, at time.Time) *audit.Checkpoint {
		t.Helper()
		c, err := s.AuditCheckpoint(t.Context(), "https://login.example.com", at)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	verify := func(s *Store, checkpoints ...*audit.Checkpoint) string {
		t.Helper()
		report, err := audit.Verify(t.Context(), s, checkpoints, s.AuditKey())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(report.Problems)
	}
	t.Run("with a checkpoint", func(t *testing.T) {
		s := openTest(t, "sqlite::memory:")
		writeAudit(t, s, 5)
		public := checkpointOf(s, time.Now()) // as syslog receivers have it
		writeAudit(t, s, 5)
		tamper(t, s, `UPDATE audit_chain SET removed = 5, removed_hash = (SELECT hash FROM audit_records WHERE sequence = 5), anchor = '`+public.Text+`'`, `DELETE FROM audit_records WHERE sequence <= 5`)
		if found := verify(s, checkpointOf(s, time.Now())); !strings.Contains(found, "record 5") {
			t.Errorf("the beginning was removed with a checkpoint as the statement, and found is %s", found)
		}
	})
	t.Run("with false times", func(t *testing.T) {
		s := openTest(t, "sqlite::memory:")
		writeAudit(t, s, 10)
		kept := checkpointOf(s, time.Now())
		writeAudit(t, s, 5)
		year := fmt.Sprint(`"time":"`, time.Now().UTC().Year())
		tamper(t, s, `UPDATE audit_records SET record = replace(record, '`+year+`', '"time":"2001')`)
		rewrite(t, s)
		// The server itself removes them then.
		if n, err := s.RemoveAudit(t.Context(), time.Now().Add(-400*24*time.Hour)); err != nil || n != 15 {
			t.Fatalf("removed %d, %v", n, err)
		}
		if found := verify(s, kept); !strings.Contains(found, "record 11") {
			t.Errorf("everything was removed, and found is %s", found)
		}
	})
}

// TestLO01_AForeignRecordIsOneLine: what someone with access to the database inserts must not look like
// other records where they are exported.
func TestLO01_AForeignRecordIsOneLine(t *testing.T) {
	s := openTest(t, "sqlite::memory:")
	writeAudit(t, s, 1)
	const forged = `{"sequence":2,"hash":"00","foreign":false,"record":{}}`
	tamper(t, s, `INSERT INTO audit_records (id, event, actor, subject, client_id, record, code) SELECT 'f' || id, event, actor, subject, client_id,
		replace(replace(record, '"v":1,', '"v":1,'||char(10)||' "x":'||char(10)||'`+forged+`'||char(10)||','), '"user.updated"', '"x y\n`+strings.ReplaceAll(forged, `"`, `\"`)+`"'), code FROM audit_records WHERE sequence = 1`)
	if _, err := s.SealAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	records, err := s.AuditSealed(t.Context(), 1, 10)
	if err != nil || len(records) != 1 || !records[0].Foreign || !strings.Contains(records[0].Event, "\n") {
		t.Fatalf("%+v, %v", records, err)
	}
	ocsf, err := records[0].OCSF("https://login.example.com")
	if err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string][]byte{"JSON": records[0].JSONLine(), "syslog": records[0].SyslogMessage(), "OCSF": ocsf} {
		if strings.ContainsAny(string(line), "\r\n") {
			t.Errorf("as %s it has several lines: %s", name, line)
		}
	}
	if header := strings.SplitN(string(records[0].SyslogMessage()), " ", 7); header[5] != "-" {
		t.Errorf("MSGID is %q", header[5])
	}
}
