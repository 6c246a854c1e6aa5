package record_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/storage/record"
)

// What a client can make a grant store is bounded in number and size. The latest remain, and the grant says
// that there were others.
func TestDetailsOfAGrantAreBounded(t *testing.T) {
	for name, test := range map[string]struct{ bytes, added, kept int }{
		"few":  {10, 5, 5},
		"many": {10, 100, 32},
		"long": {10_000, 12, 6},
	} {
		t.Run(name, func(t *testing.T) {
			var d record.GrantedDetails
			for i := range test.added {
				d.Add(time.Unix(int64(i), 0), []json.RawMessage{json.RawMessage(fmt.Sprintf(`{"type":"t","n":%d,"text":"%s"}`, i, strings.Repeat("x", test.bytes)))})
			}
			if len(d.Latest) != test.kept || d.Earlier != (test.kept < test.added) {
				t.Errorf("%d details are kept, earlier ones: %v", len(d.Latest), d.Earlier)
			}
			if last := string(d.Latest[len(d.Latest)-1].Detail); !strings.Contains(last, fmt.Sprintf(`"n":%d,`, test.added-1)) {
				t.Errorf("the latest is %.40s", last)
			}
		})
	}
}
