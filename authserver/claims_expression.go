package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"

	"github.com/valetkey/valetkey/oauth"
)

// Bounds on an expression. It has no loops but over lists, and those nest no deeper than
// two, so that its time grows with the square of a person's claims at most.
const (
	maxExpressionBytes   = 2 << 10
	maxExpressionNodes   = 200
	maxExpressionLists   = 2
	maxExpressionMemory  = 50_000 // elements of what it makes on its way
	maxExpressionResults = 4 << 10
)

// expressionValues is what an expression can name, and all that it can reach.
type expressionValues struct {
	// Person are the claims of the person; empty for a client's own token.
	Person     map[string]any `expr:"person"`
	ClientID   string         `expr:"client_id"`
	ClientName string         `expr:"client_name"`
	// Scope is what the token or answer is for, and Resource for whom.
	Scope    []string `expr:"scope"`
	Resource []string `expr:"resource"`
}

// expressionFunctions are those of the language that neither look at the clock nor make
// much out of little.
func expressionFunctions() []string {
	return []string{
		"all", "any", "none", "one", "filter", "map", "find", "findIndex", "findLast", "count", "sum", "len",
		"abs", "ceil", "floor", "round", "int", "float", "string", "trim", "trimPrefix", "trimSuffix",
		"upper", "lower", "split", "join", "indexOf", "lastIndexOf", "hasPrefix", "hasSuffix", "max", "min",
		"first", "last", "get", "take", "keys", "values", "uniq", "concat", "sort", "sortBy", "reverse",
		"toPairs", "fromPairs",
	}
}

// CheckExpression reports why an expression for a claim cannot stand: its syntax, a name
// that it does not have, types that do not go together, or its size.
func CheckExpression(text string) error {
	_, err := compileExpression(text)
	return err
}

func compileExpression(text string) (*vm.Program, error) {
	if len(text) > maxExpressionBytes {
		return nil, fmt.Errorf("an expression has at most %d bytes", maxExpressionBytes)
	}
	shape := &expressionShape{lists: map[ast.Node]int{}}
	options := []expr.Option{expr.Env(expressionValues{}), expr.MaxNodes(maxExpressionNodes), expr.DisableAllBuiltins(), expr.Patch(shape)}
	for _, name := range expressionFunctions() {
		options = append(options, expr.EnableBuiltin(name))
	}
	program, err := expr.Compile(text, options...)
	if err != nil {
		// What follows draws the place, which one line of an error cannot.
		message, _, _ := strings.Cut(err.Error(), "\n")
		return nil, errors.New(message)
	}
	return program, shape.err
}

// expressionShape refuses what would let a short expression take long.
type expressionShape struct {
	lists map[ast.Node]int // how deep lists are walked inside each other, from below
	err   error
}

// Visit is called for each node, the inner ones first.
func (s *expressionShape) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BinaryNode:
		if n.Operator == ".." {
			s.err = errors.New("ranges are not taken")
		}
	case *ast.IdentifierNode:
		if n.Value == "$env" {
			s.err = errors.New("$env is not taken: name the value that is meant")
		}
	case *ast.VariableDeclaratorNode:
		s.err = errors.New("variables are not taken")
	case *ast.PredicateNode:
		inner := 0
		ast.Walk(&n.Node, visitor(func(node *ast.Node) { inner = max(inner, s.lists[*node]) }))
		s.lists[n] = inner + 1
		if s.lists[n] > maxExpressionLists {
			s.err = fmt.Errorf("lists are walked inside each other at most %d deep", maxExpressionLists)
		}
	}
}

type visitor func(*ast.Node)

// Visit calls v.
func (v visitor) Visit(node *ast.Node) { v(node) }

// evaluate returns the value of an expression; nil if it has none.
func evaluate(program *vm.Program, values *expressionValues) (any, error) {
	machine := vm.VM{MemoryBudget: maxExpressionMemory}
	value, err := machine.Run(program, values)
	if err != nil {
		message, _, _ := strings.Cut(err.Error(), "\n")
		return nil, errors.New(message)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("the value is not one of JSON: %w", err)
	}
	if len(encoded) > maxExpressionResults {
		return nil, fmt.Errorf("the value has more than %d bytes", maxExpressionResults)
	}
	return value, nil
}

var ruleClaimExpression = rule{
	must:    "the expressions for the claims can be evaluated",
	section: "Valetkey", code: oauth.ServerError,
	says: "a claim could not be made; the operator can look up the reference",
	fix:  "correct the claim's expression: a claim that the person does not have is nil (person.groups ?? [])",
}
