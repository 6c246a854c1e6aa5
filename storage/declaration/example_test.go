package declaration_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// A file names the description of a scope that is stored, and a scope that is not.
func ExampleReconcile() {
	in := &declaration.Input{
		Now:    time.Now(),
		Source: "https://login.example.com",
		Scopes: []declaration.Record{
			{Name: "photos.read", Members: declaration.Members{"name": json.RawMessage(`"photos.read"`), "description": json.RawMessage(`"See your photos"`)}},
			{Name: "photos.delete", Members: declaration.Members{"name": json.RawMessage(`"photos.delete"`)}},
		},
	}
	stored := &declaration.State{Scopes: []declaration.Row[record.Scope]{
		{Record: record.Scope{Name: "photos.read", Description: "Read photos", Optional: true}},
	}}
	plan := declaration.Reconcile(in, stored)
	for _, change := range plan.Changes {
		fmt.Println(change.Action, change.Kind, change.Name)
		for _, m := range change.Members {
			fmt.Printf("  %s: %s → %s\n", m.Name, m.From, m.To)
		}
	}
	// Output:
	// change scope photos.read
	//   description: "Read photos" → "See your photos"
	// add scope photos.delete
	//   name:  → "photos.delete"
}
