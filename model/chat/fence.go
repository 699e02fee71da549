package chat

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	controls "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// Limits bound what a foreign template may use. Zero fields mean the defaults, which are far above what real ones need.
type Limits struct {
	SourceBytes int           // of the template: 256 KiB
	Steps       int           // loop turns, statements, filters and calls: 500,000
	OutputBytes int           // of the prompt: 4 MiB more than eight times the conversation
	ValueBytes  int           // of any one value on the way: 1 MiB more than four times the conversation
	Depth       int           // macros within macros, blocks within blocks, brackets within brackets: 50
	TagTokens   int           // between {{ and }} or {% and %}: 1,000, at most 100 of them "+" or "~"
	Time        time.Duration // 5 s
}

func (l Limits) withDefaults() Limits {
	or := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	or(&l.SourceBytes, 256<<10)
	or(&l.Steps, 500_000)
	or(&l.OutputBytes, 4<<20)
	or(&l.ValueBytes, 1<<20)
	or(&l.Depth, 50)
	or(&l.TagTokens, 1000)
	if l.Time == 0 {
		l.Time = 5 * time.Second
	}
	return l
}

// LimitError says which limit a template ran into.
type LimitError struct{ What string }

// Error names the limit.
func (e *LimitError) Error() string { return "the model's chat template goes too far: " + e.What }

func errLimit(format string, args ...any) error { return &LimitError{fmt.Sprintf(format, args...)} }

// checkSource refuses what cannot be bounded while a template runs: expressions that multiply strings, nest without end
// or paste a value to itself a thousand times.
func (l Limits) checkSource(source string) error {
	if len(source) > l.SourceBytes {
		return errLimit("%d bytes of source, at most %d", len(source), l.SourceBytes)
	}
	// Lexed tags only: text outside them is free.
	stream := tokens.LexAll(source, config.New())
	count, pastes, depth, inTag := 0, 0, 0, false
	for {
		t := stream.Current()
		if t == nil || t.Type == tokens.EOF {
			return nil
		}
		switch t.Type {
		case tokens.BlockBegin, tokens.VariableBegin:
			inTag, count, pastes, depth = true, 0, 0, 0
		case tokens.BlockEnd, tokens.VariableEnd:
			inTag = false
		case tokens.LeftParenthesis, tokens.LeftBracket, tokens.LeftBrace:
			depth++
		case tokens.RightParenthesis, tokens.RightBracket, tokens.RightBrace:
			depth--
		case tokens.Addition, tokens.Tilde:
			pastes++
		case tokens.Multiply, tokens.Power:
			return errLimit("line %d multiplies", t.Line)
		case tokens.Error:
			return fmt.Errorf("chat: the model's template, line %d: %s", t.Line, t.Val)
		}
		if count++; inTag && (count > l.TagTokens || pastes > 100 || depth > l.Depth) {
			return errLimit("line %d holds an expression that is too long or too deep", t.Line)
		}
		stream.Next()
	}
}

// meter counts what one rendering uses. Every wrapped thing calls step.
type meter struct {
	limits  Limits
	steps   int
	depth   int // macros within macros
	nesting int // blocks within blocks while parsing
	until   time.Time
	err     error // the first limit reached
}

func newMeter(l Limits, conversationBytes int) *meter {
	l.OutputBytes += 8 * conversationBytes
	l.ValueBytes += 4 * conversationBytes
	return &meter{limits: l, until: time.Now().Add(l.Time)}
}

func (m *meter) fail(err error) error {
	if m.err == nil {
		m.err = err
	}
	return m.err
}

func (m *meter) step() error {
	if m.err != nil {
		return m.err
	}
	if m.steps++; m.steps > m.limits.Steps {
		return m.fail(errLimit("more than %d steps", m.limits.Steps))
	}
	if m.steps%64 == 0 && time.Now().After(m.until) {
		return m.fail(errLimit("more than %s", m.limits.Time))
	}
	return nil
}

// measure refuses a value that has grown too large.
func (m *meter) measure(v *exec.Value) error {
	if budget := m.limits.ValueBytes; v != nil && !weigh(v.Val, &budget, 0) {
		return m.fail(errLimit("a value of more than %d bytes", m.limits.ValueBytes))
	}
	return nil
}

// weigh subtracts the size of v, everything in it included, and reports whether it fits the budget.
func weigh(v reflect.Value, budget *int, depth int) bool {
	if *budget -= 8; *budget < 0 || depth > depthLimit {
		return false
	}
	if v.IsValid() && v.CanInterface() {
		if inner, ok := v.Interface().(*exec.Value); ok && inner != nil {
			return weigh(inner.Val, budget, depth+1)
		}
	}
	switch v.Kind() {
	case reflect.String:
		*budget -= v.Len()
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if !weigh(v.Index(i), budget, depth+1) {
				return false
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if !weigh(it.Key(), budget, depth+1) || !weigh(it.Value(), budget, depth+1) {
				return false
			}
		}
	case reflect.Interface:
		return weigh(v.Elem(), budget, depth+1)
	case reflect.Pointer:
		if dict, ok := v.Interface().(*exec.Dict); ok {
			for _, p := range dict.Pairs {
				if !weigh(p.Key.Val, budget, depth+1) || !weigh(p.Value.Val, budget, depth+1) {
					return false
				}
			}
		}
	}
	return *budget >= 0
}

// boundedWriter is the prompt being written.
type boundedWriter struct {
	strings.Builder
	m *meter
}

// Write fails once the prompt is too long.
func (w *boundedWriter) Write(p []byte) (int, error) { return w.WriteString(string(p)) }

// WriteString fails once the prompt is too long.
func (w *boundedWriter) WriteString(s string) (int, error) {
	if w.Len()+len(s) > w.m.limits.OutputBytes {
		return 0, w.m.fail(errLimit("a prompt of more than %d bytes", w.m.limits.OutputBytes))
	}
	return w.Builder.WriteString(s)
}

// fenced is a statement that costs a step.
type fenced struct {
	exec.ControlStructure
	m *meter
}

// stepIn is step for a statement that may write: text captured by a macro or a set block is bounded as well.
func (m *meter) stepIn(r *exec.Renderer) error {
	if out, ok := r.Output.(interface{ Len() int }); ok && out.Len() > m.limits.OutputBytes {
		return m.fail(errLimit("text of more than %d bytes", m.limits.OutputBytes))
	}
	return m.step()
}

// Execute counts, then runs the statement.
func (f *fenced) Execute(r *exec.Renderer, tag *nodes.ControlStructureBlock) error {
	if err := f.m.stepIn(r); err != nil {
		return err
	}
	if err := f.ControlStructure.Execute(r, tag); err != nil {
		return err
	}
	if macro, ok := f.ControlStructure.(*controls.MacroControlStructure); ok {
		f.m.boundMacro(r, macro.Name)
	}
	return f.m.err
}

// boundMacro replaces the macro that was just defined by one that counts how deep it is.
func (m *meter) boundMacro(r *exec.Renderer, name string) {
	defined, _ := r.Environment.Context.Get(name)
	inner, ok := defined.(exec.Macro)
	if !ok {
		return
	}
	r.Environment.Context.Set(name, exec.Macro(func(params *exec.VarArgs) *exec.Value {
		if err := m.step(); err != nil {
			return exec.AsValue(err)
		}
		if m.depth >= m.limits.Depth {
			return exec.AsValue(m.fail(errLimit("macros more than %d deep", m.limits.Depth)))
		}
		m.depth++
		defer func() { m.depth-- }()
		result := inner(params)
		if err := m.measure(result); err != nil {
			return exec.AsValue(err)
		}
		return result
	}))
}

// turn is put before a loop's body: each turn of the loop costs a step.
type turn struct {
	m  *meter
	at *tokens.Token
}

// Position is the loop's.
func (t *turn) Position() *tokens.Token { return t.at }

// String is for gonja's error messages.
func (t *turn) String() string { return "turn of a loop" }

// Execute counts.
func (t *turn) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error { return t.m.stepIn(r) }

// controlStructures are the statements that exist: no files (include, import, extends), no self-reference (block).
func (m *meter) controlStructures() *exec.ControlStructureSet {
	set := map[string]parser.ControlStructureParser{"set": m.parseSet, "generation": m.parseGeneration}
	for _, name := range []string{"for", "if", "macro", "raw", "break", "continue"} {
		inner, _ := controls.All.Get(name)
		set[name] = func(p, args *parser.Parser) (nodes.ControlStructure, error) {
			if m.nesting >= m.limits.Depth {
				return nil, m.fail(errLimit("blocks more than %d deep", m.limits.Depth))
			}
			m.nesting++
			defer func() { m.nesting-- }()
			parsed, err := inner(p, args)
			if err != nil {
				return nil, err
			}
			if loop, ok := parsed.(*controls.ForControlStructure); ok {
				if loop.Recursive {
					return nil, errLimit("recursive loops are not allowed")
				}
				tick := &nodes.ControlStructureBlock{Location: loop.Position(), Name: "turn", ControlStructure: &turn{m, loop.Position()}}
				loop.BodyWrapper.Nodes = append([]nodes.Node{tick}, loop.BodyWrapper.Nodes...)
				if loop.IfCondition != nil {
					loop.IfCondition = &nodes.FilteredExpression{Expression: loop.IfCondition,
						Filters: []*nodes.FilterCall{{Name: stepFilter}}}
				}
			}
			return &fenced{parsed.(exec.ControlStructure), m}, nil
		}
	}
	return exec.NewControlStructureSet(set)
}

// goNumber is a JSON number as a template sees it.
func goNumber(literal string) any {
	if i, err := strconv.Atoi(literal); err == nil {
		return i
	}
	f, _ := strconv.ParseFloat(literal, 64)
	return f
}
