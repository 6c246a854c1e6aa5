package memory

import (
	"testing"

	"github.com/valetkey/valetkey/storage/storagetest"
)

func TestStore(t *testing.T) {
	storagetest.Store(t, func(*testing.T) storagetest.Database { return New() })
}
