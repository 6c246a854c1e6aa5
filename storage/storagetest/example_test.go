package storagetest_test

import (
	"fmt"

	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/storagetest"
)

// The tests of a store call Store or Tickets. Linearizable also works without a test.
func ExampleLinearizable() {
	fmt.Println(storagetest.Linearizable(memory.New(), 1))
	// Output: true
}
