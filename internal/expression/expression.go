// Package expression compiles and evaluates the expressions of an operator: claims that are
// computed, and rules about users of other providers. An expression has access to nothing but its
// variables, does no I/O, and its time and memory are bounded.
package expression

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"
)

// Limits of an expression. It can only loop over lists, at most two deep, so its time is at most
// quadratic in the size of its variables.
const (
	MaxBytes = 2 << 10
	maxNodes = 200
	maxLists = 2
	// maxMemory is counted in elements of intermediate values.
	maxMemory = 50_000
)

// functions returns the allowed functions of the language: those that do not read the clock and do
// not produce large values from small ones.
func functions() []string {
	return []string{
		"all", "any", "none", "one", "filter", "map", "find", "findIndex", "findLast", "count", "sum", "len",
		"abs", "ceil", "floor", "round", "int", "float", "string", "trim", "trimPrefix", "trimSuffix",
		"upper", "lower", "split", "join", "indexOf", "lastIndexOf", "hasPrefix", "hasSuffix", "max", "min",
		"first", "last", "get", "take", "keys", "values", "uniq", "concat", "sort", "sortBy", "reverse",
		"toPairs", "fromPairs",
	}
}

// Program is a compiled expression. It is safe for concurrent use.
type Program struct{ program *vm.Program }

// Compile compiles an expression whose variables are the fields of a struct of the type of
// variables. It returns an error, of one line, if the expression is not valid: because of its
// syntax, an unknown name, mismatched types or its size.
func Compile(text string, variables any) (*Program, error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("an expression may have at most %d bytes", MaxBytes)
	}
	shape := &shape{lists: map[ast.Node]int{}}
	options := []expr.Option{expr.Env(variables), expr.MaxNodes(maxNodes), expr.DisableAllBuiltins(), expr.Patch(shape)}
	for _, name := range functions() {
		options = append(options, expr.EnableBuiltin(name))
	}
	program, err := expr.Compile(text, options...)
	if err != nil {
		return nil, firstLine(err)
	}
	if shape.err != nil {
		return nil, shape.err
	}
	return &Program{program}, nil
}

// firstLine shortens an error of the language. Its other lines point at the position in the text.
func firstLine(err error) error {
	message, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(message)
}

// shape refuses constructs that let a short expression run for a long time.
type shape struct {
	lists map[ast.Node]int // the depth of nested loops over lists, including the node
	err   error
}

// Visit is called for each node, the inner ones first.
func (s *shape) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BinaryNode:
		if n.Operator == ".." {
			s.err = errors.New("ranges are not supported")
		}
	case *ast.IdentifierNode:
		if n.Value == "$env" {
			s.err = errors.New("$env is not supported: name the value instead")
		}
	case *ast.VariableDeclaratorNode:
		s.err = errors.New("variables are not supported")
	case *ast.PredicateNode:
		inner := 0
		ast.Walk(&n.Node, visitor(func(node *ast.Node) { inner = max(inner, s.lists[*node]) }))
		s.lists[n] = inner + 1
		if s.lists[n] > maxLists {
			s.err = fmt.Errorf("loops over lists may be nested at most %d deep", maxLists)
		}
	}
}

type visitor func(*ast.Node)

// Visit calls v.
func (v visitor) Visit(node *ast.Node) { v(node) }

// Evaluate returns the value of the expression, which can be nil. An error has one line. A value
// that is longer than maxBytes as JSON is an error.
func (p *Program) Evaluate(variables any, maxBytes int) (any, error) {
	machine := vm.VM{MemoryBudget: maxMemory}
	value, err := machine.Run(p.program, variables)
	if err != nil {
		return nil, firstLine(err)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("the value cannot be encoded as JSON: %w", err)
	}
	if len(encoded) > maxBytes {
		return nil, fmt.Errorf("the value has more than %d bytes", maxBytes)
	}
	return value, nil
}
