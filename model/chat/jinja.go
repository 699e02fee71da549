package chat

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
)

const templateName = "/template"

// parseJinja makes a template that runs in gonja. It is compiled anew for each rendering, because the fence is part of
// the compiled form; that takes well under a millisecond for templates as they are.
func parseJinja(source string, limits Limits) (*Template, error) {
	limits = limits.withDefaults()
	if err := limits.checkSource(source); err != nil {
		return nil, err
	}
	if _, err := compile(source, newMeter(limits, 0), nil); err != nil {
		return nil, fmt.Errorf("chat: compiling the model's template: %w", shorten(err))
	}
	return &Template{"jinja", func(conversation Value) (string, error) {
		return renderJinja(source, limits, conversation)
	}}, nil
}

func renderJinja(source string, limits Limits, conversation Value) (text string, err error) {
	in := &objects{byMap: map[uintptr]Value{}}
	variables := map[string]any{}
	for _, key := range conversation.Keys() {
		variables[key] = in.toGo(conversation.Get(key))
	}
	m := newMeter(limits, len(conversation.JSON()))
	defer recovered(&err)
	t, err := compile(source, m, in)
	if err != nil {
		return "", err
	}
	out := &boundedWriter{m: m}
	if err := t.Execute(out, exec.NewContext(variables)); err != nil {
		if m.err != nil {
			return "", m.err
		}
		return "", shorten(err)
	}
	return out.String(), m.err
}

// shorten keeps the innermost message: gonja wraps an error once for each node that it passes.
func shorten(err error) error {
	text := err.Error()
	if i := strings.LastIndex(text, raised); i >= 0 {
		return errors.New(strings.TrimSpace(text[i+len(raised):]))
	}
	if limit := (*LimitError)(nil); errors.As(err, &limit) {
		return limit
	}
	if len(text) > 300 { // the end says what, the beginning only where
		text = "…" + text[len(text)-300:]
	}
	return errors.New(text)
}

// recovered makes an error of a panic: gonja panics on some malformed templates and wrong types.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("template failed: %v", p)
	}
}

// compile parses source in an environment in which everything costs steps of m and only harmless things exist.
func compile(source string, m *meter, in *objects) (_ *exec.Template, err error) {
	defer recovered(&err)
	loader, err := loaders.NewMemoryLoader(map[string]string{templateName: source})
	if err != nil {
		return nil, err
	}
	// The settings that transformers uses.
	c := config.New()
	c.TrimBlocks, c.LeftStripBlocks = true, true
	return exec.NewTemplate(templateName, c, loader, &exec.Environment{
		Filters:           m.filters(in),
		Tests:             builtins.Tests,
		ControlStructures: m.controlStructures(),
		Context:           m.globals(),
		Methods:           m.methods(in),
	})
}

// objects remembers which of our values a Go map came from, so that tojson and items() keep the order of the keys.
type objects struct{ byMap map[uintptr]Value }

func (o *objects) toGo(v Value) any {
	switch v.Kind() {
	case Bool:
		return v.Truthy()
	case String:
		return v.Text()
	case Number:
		return goNumber(v.Text())
	case Array:
		list := make([]any, len(v.List()))
		for i, item := range v.List() {
			list[i] = o.toGo(item)
		}
		return list
	case Object:
		m := make(map[string]any, len(v.Keys()))
		for _, key := range v.Keys() {
			m[key] = o.toGo(v.Get(key))
		}
		o.byMap[reflect.ValueOf(m).Pointer()] = v
		return m
	}
	return nil
}

// fromGo turns what a template made back into a Value; maps that came in keep their order, others are sorted by gonja.
func (o *objects) fromGo(v *exec.Value, budget *int) (Value, error) {
	if *budget--; *budget < 0 {
		return Value{}, errLimit("a value is too large")
	}
	for {
		inner, ok := v.Interface().(*exec.Value)
		if !ok {
			break
		}
		v = inner
	}
	switch {
	case v.IsNil():
		return Value{kind: Null}, nil
	case v.IsBool():
		return NewBool(v.Bool()), nil
	case v.IsString():
		*budget -= len(v.String())
		return NewString(v.String()), nil
	case v.IsFloat():
		return Value{kind: Number, text: floatLiteral(v.Float())}, nil
	case v.IsInteger():
		return Value{kind: Number, text: strconv.Itoa(v.Integer())}, nil
	case v.IsList():
		list := Value{kind: Array}
		for i := range v.Len() {
			item, err := o.fromGo(v.Index(i), budget)
			if err != nil {
				return Value{}, err
			}
			list.list = append(list.list, item)
		}
		return list, nil
	case v.IsDict():
		object := NewObject()
		for _, key := range o.keys(v) {
			item, _ := v.GetItem(key)
			converted, err := o.fromGo(item, budget)
			if err != nil {
				return Value{}, err
			}
			object.set(key, converted)
		}
		return object, nil
	}
	return Value{}, fmt.Errorf("a %T cannot be written as JSON", v.Interface())
}

// floatLiteral keeps a float a float: 1.0 is not the integer 1 to Python.
func floatLiteral(f float64) string {
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(text, ".eEIN") {
		text += ".0"
	}
	return text
}

// keys are a dictionary's keys in the order of the conversation where it came from there.
func (o *objects) keys(v *exec.Value) []string {
	if v.Val.Kind() == reflect.Map && o != nil {
		if known, ok := o.byMap[v.Val.Pointer()]; ok && len(known.Keys()) == v.Val.Len() {
			return known.Keys()
		}
	}
	var keys []string
	for _, key := range v.Keys() {
		keys = append(keys, key.String())
	}
	return keys
}
