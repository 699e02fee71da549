package chat

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// stepFilter passes its input on and costs a step; its name cannot be written in a template.
const stepFilter = "(step)"

// raised marks the message of raise_exception.
const raised = "the template says: "

// allowedFilters leaves out those that reach attributes of Go values, make text of any asked-for width, or draw numbers.
var allowedFilters = []string{"abs", "capitalize", "default", "d", "first", "float", "int", "join", "last", "length",
	"count", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select",
	"selectattr", "sort", "string", "sum", "title", "trim", "unique", "upper", "indent"}

// allowedMethods are the string methods that cannot make more text than they are given.
var allowedMethods = []string{"capitalize", "count", "endswith", "find", "isalnum", "isalpha", "isascii", "isdigit",
	"islower", "isspace", "isupper", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "rfind", "rpartition",
	"rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper", "swapcase"}

// grows reports by how much a filter or method of this name could make more text than it was given.
func grows(name string, in *exec.Value, params *exec.VarArgs) int {
	argument := func(i int) string {
		if i < len(params.Args) {
			return params.Args[i].String()
		}
		return ""
	}
	switch name {
	case "join":
		return in.Len() * len(argument(0))
	case "replace":
		if from := argument(0); from != "" {
			return strings.Count(in.String(), from) * len(argument(1))
		}
		return (len(in.String()) + 1) * (len(argument(1)) + 1)
	case "indent":
		width := 4
		if len(params.Args) > 0 {
			width = len(argument(0))
			if params.Args[0].IsInteger() {
				width = params.Args[0].Integer()
			}
		}
		if given, ok := params.KwArgs["width"]; ok {
			width = max(given.Integer(), len(given.String()))
		}
		return width * (strings.Count(in.String(), "\n") + 1)
	}
	return 0
}

// allow checks a call before it runs.
func (m *meter) allow(name string, in *exec.Value, params *exec.VarArgs) error {
	if err := m.step(); err != nil {
		return err
	}
	if by := grows(name, in, params); by > m.limits.ValueBytes {
		return m.fail(errLimit("%s would make %d bytes", name, by))
	}
	return nil
}

func (m *meter) filters(in *objects) *exec.FilterSet {
	set := map[string]exec.FilterFunction{
		stepFilter: func(_ *exec.Evaluator, v *exec.Value, _ *exec.VarArgs) *exec.Value {
			if err := m.step(); err != nil {
				return exec.AsValue(err)
			}
			return v
		},
		"tojson": func(_ *exec.Evaluator, v *exec.Value, params *exec.VarArgs) *exec.Value {
			if err := m.allow("tojson", v, params); err != nil {
				return exec.AsValue(err)
			}
			return toJSON(in, v, params, m.limits.ValueBytes)
		},
		"items": func(_ *exec.Evaluator, v *exec.Value, params *exec.VarArgs) *exec.Value {
			if err := m.allow("items", v, params); err != nil {
				return exec.AsValue(err)
			}
			return exec.AsValue(pairs(in, v))
		},
	}
	set["dictsort"] = set["items"]
	for _, name := range allowedFilters {
		inner, ok := builtins.Filters.Get(name)
		if !ok {
			continue
		}
		set[name] = func(e *exec.Evaluator, v *exec.Value, params *exec.VarArgs) *exec.Value {
			if err := m.allow(name, v, params); err != nil {
				return exec.AsValue(err)
			}
			result := inner(e, v, params)
			if err := m.measure(result); err != nil {
				return exec.AsValue(err)
			}
			return result
		}
	}
	return exec.NewFilterSet(set)
}

// toJSON is transformers' tojson: json.dumps(value, ensure_ascii=False, indent=indent).
func toJSON(in *objects, v *exec.Value, params *exec.VarArgs, budget int) *exec.Value {
	value, err := in.fromGo(v, &budget)
	if err != nil {
		return exec.AsValue(err)
	}
	if indent, ok := params.KwArgs["indent"]; ok && indent.IsInteger() && indent.Integer() >= 0 && indent.Integer() <= 16 {
		return exec.AsSafeValue(value.indented(indent.Integer()))
	}
	return exec.AsSafeValue(value.JSON())
}

// indented is json.dumps with an indent: each element on a line of its own.
func (v Value) indented(indent int) string {
	var b strings.Builder
	v.dumpIndented(&b, indent, 0)
	return b.String()
}

func (v Value) dumpIndented(b *strings.Builder, indent, level int) {
	line := func(level int) { b.WriteString("\n" + strings.Repeat(" ", indent*level)) }
	switch {
	case v.kind == Array && len(v.list) > 0:
		for i, item := range v.list {
			b.WriteByte("[,"[min(i, 1)])
			line(level + 1)
			item.dumpIndented(b, indent, level+1)
		}
		line(level)
		b.WriteByte(']')
	case v.kind == Object && len(v.keys) > 0:
		for i, key := range v.keys {
			b.WriteByte("{,"[min(i, 1)])
			line(level + 1)
			dumpString(b, key)
			b.WriteString(": ")
			v.items[key].dumpIndented(b, indent, level+1)
		}
		line(level)
		b.WriteByte('}')
	default:
		v.dump(b)
	}
}

func pairs(in *objects, v *exec.Value) []any {
	list := []any{}
	for _, key := range in.keys(v) {
		item, _ := v.GetItem(key)
		list = append(list, []any{key, item.Interface()})
	}
	return list
}

func (m *meter) methods(in *objects) exec.Methods {
	str := map[string]exec.Method[string]{}
	for _, name := range allowedMethods {
		if inner, ok := builtins.Methods.Str.Get(name); ok {
			str[name] = bounded(m, name, inner)
		}
	}
	for _, name := range []string{"join", "replace"} {
		if inner, ok := builtins.Methods.Str.Get(name); ok {
			str[name] = func(self string, v *exec.Value, params *exec.VarArgs) (any, error) {
				if name == "join" && len(params.Args) == 1 { // self is the separator
					if by := len(self) * params.Args[0].Len(); by > m.limits.ValueBytes {
						return nil, m.fail(errLimit("join would make %d bytes", by))
					}
				}
				return bounded(m, name, inner)(self, v, params)
			}
		}
	}
	dict := map[string]exec.Method[map[string]any]{
		"items": func(_ map[string]any, v *exec.Value, params *exec.VarArgs) (any, error) {
			return pairs(in, v), m.step()
		},
		"keys": func(_ map[string]any, v *exec.Value, params *exec.VarArgs) (any, error) {
			return in.keys(v), m.step()
		},
	}
	for _, name := range []string{"get", "values"} {
		if inner, ok := builtins.Methods.Dict.Get(name); ok {
			dict[name] = func(self map[string]any, v *exec.Value, params *exec.VarArgs) (any, error) {
				if err := m.step(); err != nil {
					return nil, err
				}
				return inner(self, v, params)
			}
		}
	}
	list := map[string]exec.Method[[]any]{}
	if inner, ok := builtins.Methods.List.Get("count"); ok {
		list["count"] = inner
	}
	return exec.Methods{
		Str: exec.NewMethodSet(str), Dict: exec.NewMethodSet(dict), List: exec.NewMethodSet(list),
		Bool:  exec.NewMethodSet(map[string]exec.Method[bool]{}),
		Int:   exec.NewMethodSet(map[string]exec.Method[int]{}),
		Float: exec.NewMethodSet(map[string]exec.Method[float64]{}),
	}
}

func bounded(m *meter, name string, inner exec.Method[string]) exec.Method[string] {
	return func(self string, v *exec.Value, params *exec.VarArgs) (any, error) {
		// As a method, replace and the like take the same arguments as the filter of that name; join does not grow here.
		if name != "join" {
			if err := m.allow(name, v, params); err != nil {
				return nil, err
			}
		}
		result, err := inner(self, v, params)
		if err != nil {
			return nil, err
		}
		return result, m.measure(exec.AsValue(result))
	}
}

// globals are the functions that templates of published models call.
func (m *meter) globals() *exec.Context {
	return exec.NewContext(map[string]any{
		"range": func(params *exec.VarArgs) (*exec.Value, error) {
			bounds := []int{0, 0, 1}
			switch n := len(params.Args); n {
			case 1:
				bounds[1] = params.Args[0].Integer()
			case 2, 3:
				for i, a := range params.Args {
					bounds[i] = a.Integer()
				}
			default:
				return nil, errors.New("range takes one to three numbers")
			}
			list := []any{}
			for i := bounds[0]; bounds[2] > 0 && i < bounds[1] || bounds[2] < 0 && i > bounds[1]; i += bounds[2] {
				if err := m.step(); err != nil {
					return nil, err
				}
				list = append(list, i)
			}
			return exec.AsValue(list), nil
		},
		"namespace": func(params *exec.VarArgs) *exec.Value {
			space := map[string]any{}
			for key, v := range params.KwArgs {
				space[key] = v.Interface()
			}
			return exec.AsValue(space)
		},
		"dict": func(params *exec.VarArgs) *exec.Value {
			made := map[string]any{}
			for key, v := range params.KwArgs {
				made[key] = v.Interface()
			}
			return exec.AsValue(made)
		},
		"raise_exception": func(params *exec.VarArgs) (*exec.Value, error) {
			text := "no reason given"
			if len(params.Args) > 0 {
				text = params.Args[0].String()
			}
			return nil, fmt.Errorf("%s%s", raised, text)
		},
		"strftime_now": func(params *exec.VarArgs) (*exec.Value, error) {
			if len(params.Args) != 1 {
				return nil, errors.New("strftime_now takes one format")
			}
			return exec.AsValue(strftime(params.Args[0].String(), time.Now())), nil
		},
	})
}

// strftime knows the directives that chat templates use.
func strftime(format string, at time.Time) string {
	return strings.NewReplacer("%Y", at.Format("2006"), "%m", at.Format("01"), "%d", at.Format("02"),
		"%B", at.Format("January"), "%b", at.Format("Jan"), "%A", at.Format("Monday"), "%a", at.Format("Mon"),
		"%H", at.Format("15"), "%M", at.Format("04"), "%S", at.Format("05"), "%%", "%").Replace(format)
}

// setStatement is {% set x = value %} and {% set x %}…{% endset %}, with the value's size checked: a template can double
// a string in each turn of a loop.
type setStatement struct {
	m         *meter
	at        *tokens.Token
	target    nodes.Expression
	value     nodes.Expression
	condition nodes.Expression // value if condition else other
	other     nodes.Expression
	body      *nodes.Wrapper
}

// Position is the statement's.
func (s *setStatement) Position() *tokens.Token { return s.at }

// String is for gonja's error messages.
func (s *setStatement) String() string { return "set" }

// Execute evaluates and stores.
func (s *setStatement) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	if err := s.m.step(); err != nil {
		return err
	}
	value, err := s.evaluate(r)
	if err != nil {
		return err
	}
	if err := s.m.measure(value); err != nil {
		return err
	}
	switch target := s.target.(type) {
	case *nodes.Name:
		r.Environment.Context.Set(target.Name.Val, value.Interface())
		return nil
	case *nodes.GetAttribute:
		object := r.Eval(target.Node)
		if object.IsError() || !object.IsDict() {
			return fmt.Errorf("set: %s is not a namespace", target.Node)
		}
		return object.Set(exec.AsValue(target.Attribute), value.Interface())
	}
	return fmt.Errorf("set: %s cannot be set", s.target)
}

func (s *setStatement) evaluate(r *exec.Renderer) (*exec.Value, error) {
	if s.body != nil {
		var text bytes.Buffer
		sub := r.Inherit()
		sub.Output = &text
		if err := sub.ExecuteWrapper(s.body); err != nil {
			return nil, err
		}
		return exec.AsSafeValue(text.String()), nil
	}
	expression := s.value
	if s.condition != nil {
		condition := r.Eval(s.condition)
		if condition.IsError() {
			return nil, condition
		}
		if !condition.IsTrue() {
			expression = s.other
		}
	}
	value := r.Eval(expression)
	if value.IsError() {
		return nil, value
	}
	return value, nil
}

func (m *meter) parseSet(p, args *parser.Parser) (nodes.ControlStructure, error) {
	s := &setStatement{m: m, at: p.Current()}
	var err error
	if s.target, err = args.ParseVariableOrLiteral(); err != nil {
		return nil, err
	}
	if args.Match(tokens.Assign) == nil {
		if m.nesting++; m.nesting > m.limits.Depth {
			return nil, m.fail(errLimit("blocks more than %d deep", m.limits.Depth))
		}
		defer func() { m.nesting-- }()
		s.body, _, err = p.WrapUntil("endset")
		return s, err
	}
	if s.value, err = args.ParseExpression(); err != nil {
		return nil, err
	}
	if s.condition, s.other, err = args.ParseCondition(); err != nil {
		return nil, err
	}
	if s.condition != nil && s.other == nil {
		return nil, args.Error("set: if without else", args.Current())
	}
	if !args.End() {
		return nil, args.Error("set: more than one value", args.Current())
	}
	return s, nil
}

// passage is {% generation %}…{% endgeneration %}, with which training code marks the model's own words.
type passage struct {
	at   *tokens.Token
	body *nodes.Wrapper
}

// Position is the statement's.
func (g *passage) Position() *tokens.Token { return g.at }

// String is for gonja's error messages.
func (g *passage) String() string { return "generation" }

// Execute renders what is inside.
func (g *passage) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	return r.ExecuteWrapper(g.body)
}

func (m *meter) parseGeneration(p, args *parser.Parser) (nodes.ControlStructure, error) {
	if m.nesting++; m.nesting > m.limits.Depth {
		return nil, m.fail(errLimit("blocks more than %d deep", m.limits.Depth))
	}
	defer func() { m.nesting-- }()
	at := p.Current()
	body, _, err := p.WrapUntil("endgeneration")
	return &passage{at, body}, err
}
