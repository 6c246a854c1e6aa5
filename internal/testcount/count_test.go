package main

import (
	"strings"
	"testing"
)

// A run of two packages. The tests change it.
const goodRun = `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"pass","Package":"a","Test":"TestOne"}
{"Action":"run","Package":"a","Test":"TestPictures"}
{"Action":"output","Package":"a","Test":"TestPictures","Output":"    a_test.go:1: no directory\n"}
{"Action":"skip","Package":"a","Test":"TestPictures"}
{"Action":"pass","Package":"a"}
{"Action":"start","Package":"b"}
{"Action":"skip","Package":"b"}
`

const pictures = "# A comment\n\na TestPictures checked by hand\n"

func TestCount(t *testing.T) {
	for name, test := range map[string]struct{ run, skips, problem string }{
		"everything allowed": {goodRun, pictures, ""},
		"a skip that is not allowed": {
			strings.ReplaceAll(goodRun, "TestPictures", "TestChromium"), "", "a TestChromium was skipped, which list does not allow",
		},
		"a skip of a subtest": {
			strings.ReplaceAll(goodRun, "TestPictures", "TestPictures/one"), pictures, "a TestPictures/one was skipped, which list does not allow",
		},
		"an outdated list":              {goodRun, pictures + "a TestGone it is slow\n", "list lists a TestGone, which does not exist"},
		"a package that did not end":    {strings.ReplaceAll(goodRun, `{"Action":"skip","Package":"b"}`, ""), pictures, "b did not end"},
		"a test that failed":            {goodRun + `{"Action":"fail","Package":"b"}`, pictures, "b failed"},
		"nothing ran":                   {"", "", "no test passed"},
		"a package that does not build": {`{"Action":"start","Package":"a"}` + "\n" + `{"Action":"fail","Package":"a"}`, "", "a failed"},
		"packages that did not run":     {goodRun, pictures + "c TestElsewhere it is in another run\n", ""},
		"all skips allowed":             {strings.ReplaceAll(goodRun, "TestOne", "TestTwo"), pictures, ""},
	} {
		t.Run(name, func(t *testing.T) {
			allowed, err := readSkips(strings.NewReader(test.skips))
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			err = count(strings.NewReader(test.run), &out, allowed, "list")
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.problem {
				t.Errorf("the problem is %q, want %q\n%s", got, test.problem, out.String())
			}
		})
	}
}

func TestCountEndsWithTheCount(t *testing.T) {
	var out strings.Builder
	if err := count(strings.NewReader(goodRun), &out, nil, ""); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "\n1 passed, 0 failed, 1 skipped\n") || !strings.Contains(out.String(), "skip a TestPictures: a_test.go:1: no directory\n") {
		t.Errorf("the output is:\n%s", out.String())
	}
}

func TestSkipsNeedAReason(t *testing.T) {
	if allowed, err := readSkips(strings.NewReader("a TestPictures\n")); err == nil {
		t.Errorf("a skip without a reason is accepted: %v", allowed)
	}
}
