package oauth

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
)

// The lists of draft-ietf-oauth-status-list, sections 4.1 and 4.2, and of its appendix C.
func TestStatusListVectors(t *testing.T) {
	short := func(statuses ...byte) map[int64]byte {
		all := map[int64]byte{}
		for i, status := range statuses {
			all[int64(i)] = status
		}
		return all
	}
	for _, vector := range []struct {
		list     string
		size     int64
		statuses map[int64]byte
	}{
		{`{"bits":1,"lst":"eNrbuRgAAhcBXQ"}`, 16, short(1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1)},
		{`{"bits":2,"lst":"eNo76fITAAPfAgc"}`, 12, short(1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3)},
		{`{"bits":1,"lst":"eNrt3AENwCAMAEGogklACtKQPg9LugC9k_ACvreiogEAAKkeCQAAAAAAAAAAAAAAAAAAAIBylgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAXG9IAAAAAAAAAPwsJAAAAAAAAAAAAAAAvhsSAAAAAAAAAAAA7KpLAAAAAAAAAAAAAAAAAAAAAJsLCQAAAAAAAAAAADjelAAAAAAAAAAAKjDMAQAAAACAZC8L2AEb"}`,
			1 << 20, map[int64]byte{0: 1, 1: 0, 1993: 1, 25460: 1, 159495: 1, 495669: 1, 554353: 1, 645645: 1, 723232: 1, 854545: 1, 934534: 1, 1000345: 1, 1000346: 0}},
		{`{"bits":2,"lst":"eNrt2zENACEQAEEuoaBABP5VIO01fCjIHTMStt9ovGVIAAAAAABAbiEBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEB5WwIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAID0ugQAAAAAAAAAAAAAAAAAQG12SgAAAAAAAAAAAAAAAAAAAAAAAAAAAOCSIQEAAAAAAAAAAAAAAAAAAAAAAAD8ExIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAwJEuAQAAAAAAAAAAAAAAAAAAAAAAAMB9SwIAAAAAAAAAAAAAAAAAAACoYUoAAAAAAAAAAAAAAEBqH81gAQw"}`,
			1 << 20, map[int64]byte{0: 1, 1: 0, 1993: 2, 25460: 1, 159495: 3, 495669: 1, 554353: 1, 645645: 2, 723232: 1, 854545: 1, 934534: 2, 1000345: 3}},
		{`{"bits":4,"lst":"eNrt0EENgDAQADAIHwImkIIEJEwCUpCEBBQRHOy35Li1EjoOQGabAgAAAAAAAAAAAAAAAAAAACC1SQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABADrsCAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADoxaEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIIoCgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACArpwKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAGhqVkAzlwIAAAAAiGVRAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABx3AoAgLpVAQAAAAAAAAAAAAAAwM89rwMAAAAAAAAAAAjsA9xMBMA"}`,
			1 << 20, map[int64]byte{0: 1, 1: 0, 1993: 2, 35460: 3, 459495: 4, 595669: 5, 754353: 6, 845645: 7, 923232: 8, 924445: 9, 934534: 10, 1004534: 11, 1000345: 12, 1030203: 13, 1030204: 14, 1030205: 15}},
	} {
		var list StatusList
		if err := json.Unmarshal([]byte(vector.list), &list); err != nil {
			t.Errorf("%.40s: %v", vector.list, err)
			continue
		}
		for index, want := range vector.statuses {
			if got, ok := list.Status(index); !ok || got != want {
				t.Errorf("%.40s: status %d of %d is %d (%v), want %d", vector.list, index, vector.size, got, ok, want)
			}
		}
		for _, outside := range []int64{-1, vector.size, 1 << 62} {
			if _, ok := list.Status(outside); ok {
				t.Errorf("%.40s has a status of %d", vector.list, outside)
			}
		}
	}
	// The same list, encoded by this package.
	list := NewStatusList(1 << 20)
	for _, index := range []int64{0, 1993, 25460, 159495, 495669, 554353, 645645, 723232, 854545, 934534, 1000345} {
		list.Invalidate(index)
	}
	written, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	var again StatusList
	if err := json.Unmarshal(written, &again); err != nil {
		t.Fatal(err)
	}
	if again.bits != 1 || !bytes.Equal(again.statuses, list.statuses) {
		t.Error("a list changes when it is encoded and decoded")
	}
}

func TestStatusListIsLimited(t *testing.T) {
	pack := func(size int) string {
		var packed bytes.Buffer
		w := zlib.NewWriter(&packed)
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(packed.Bytes())
	}
	whole := pack(100)
	for name, document := range map[string]string{
		"too large":         fmt.Sprintf(`{"bits":1,"lst":%q}`, pack(maxStatusListBytes+1)),
		"bits of 3":         fmt.Sprintf(`{"bits":3,"lst":%q}`, whole),
		"no bits":           fmt.Sprintf(`{"lst":%q}`, whole),
		"cut off":           fmt.Sprintf(`{"bits":1,"lst":%q}`, whole[:len(whole)-6]),
		"not compressed":    `{"bits":1,"lst":"AAAA"}`,
		"padded base64":     fmt.Sprintf(`{"bits":1,"lst":%q}`, whole+"=="),
		"a list of numbers": `{"bits":1,"lst":[0]}`,
		"nothing":           `{}`,
	} {
		var list StatusList
		if err := json.Unmarshal([]byte(document), &list); err == nil {
			t.Errorf("a status list that is %s is accepted", name)
		}
	}
}

func FuzzStatusList(f *testing.F) {
	f.Add([]byte(`{"bits":1,"lst":"eNrbuRgAAhcBXQ"}`), int64(3))
	f.Add([]byte(`{"bits":2,"lst":"eNo76fITAAPfAgc"}`), int64(-1))
	f.Fuzz(func(t *testing.T, document []byte, index int64) {
		var list StatusList
		if list.UnmarshalJSON(document) != nil {
			return
		}
		status, ok := list.Status(index)
		if ok && (index < 0 || int(status) >= 1<<list.bits || index >= int64(len(list.statuses)*8/list.bits)) {
			t.Errorf("status %d of %d bits at %d", status, list.bits, index)
		}
	})
}
