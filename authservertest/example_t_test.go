package authservertest_test

import (
	"fmt"
	"io"
	"testing"
)

// t replaces the *testing.T that an example does not have.
var t testing.TB = exampleT{}

type exampleT struct{ testing.TB }

func (exampleT) Helper()                           {}
func (exampleT) Cleanup(func())                    {} // the process ends after the examples
func (exampleT) Output() io.Writer                 { return io.Discard }
func (exampleT) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
