package main

import "testing"

func TestDatabasePasswordsAreNotPrinted(t *testing.T) {
	for database, want := range map[string]string{
		"sqlite:./valetkey.db":                            "sqlite:./valetkey.db",
		"postgres://root:hunter2@db.example.com:5432/v":   "postgres://db.example.com:5432/v",
		"postgres://db.example.com/v?password=hunter2":    "postgres://db.example.com/v",
		"postgres://root:hunter%zz2@db.example.com/v":     "postgres:…",
		"postgres:///v?host=/run/pg&password=hunter2":     "postgres:…",
		"postgresql://root:hunter2@db1,db2.example.com/v": "postgresql://db1,db2.example.com/v",
	} {
		if got := redactedDatabase(database); got != want {
			t.Errorf("%s is printed as %s", database, got)
		}
	}
}
