package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// header is what the params headers declare, in their order.
type header struct {
	files     []string
	constants []constant
	structs   []*layout
	kernels   []kernel
}

// constant is an int32_t constant. A group is what stands together under one comment.
type constant struct {
	name    string // in Go
	value   int
	doc     []string // above it
	comment string   // behind it
	first   bool     // of a group
}

// layout is a struct: where its fields lie.
type layout struct {
	name   string
	doc    []string
	fields []field
	size   int
	align  int
}

// field is a field of a struct.
type field struct {
	cName   string
	goName  string // "_" for one that is not used
	goType  string
	offset  int
	comment string
}

// kernel is an entry point.
type kernel struct {
	name   string
	image  string // the .cu file, without its ending
	params *layout
}

// element is a type that a field may have.
type element struct {
	goType      string
	size, align int
}

var scalars = map[string]element{
	"uint8_t":  {"uint8", 1, 1},
	"int32_t":  {"int32", 4, 4},
	"uint32_t": {"uint32", 4, 4},
	"int64_t":  {"int64", 8, 8},
	"uint64_t": {"uint64", 8, 8},
	"float":    {"float32", 4, 4},

	"TensorMap": {"TensorMap", 128, 64}, // of tensor_map.h; in Go words, which only the packed arguments align
}

var (
	constantLine = regexp.MustCompile(`^constexpr int32_t k(\w+) = (-?\d+);(?:\s*// (.*))?$`)
	structLine   = regexp.MustCompile(`^struct (\w+) \{$`)
	fieldLine    = regexp.MustCompile(`^(?:const )?(\w+)(\*?) (\w+)(?:\[(\w+)\])?;(?:\s*// (.*))?$`)
	kernelLine   = regexp.MustCompile(`^Kernels of (\w+)\.cu: ([\w, ]+)\.$`)
	skippedLine  = regexp.MustCompile(`^(#.*|using bf16 = .*)$`)
)

// parse adds what a header declares to h.
func (h *header) parse(name, text string) error {
	h.files = append(h.files, name)
	var doc []string     // the comment above
	var open *layout     // the struct that is being read
	var kernels []kernel // of it
	grouped := false     // the line above is a constant
	for i, line := range strings.Split(text, "\n") {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("genparams: %s:%d: %s", name, i+1, fmt.Sprintf(format, args...))
		}
		line = strings.TrimSpace(line)
		comment, isComment := strings.CutPrefix(line, "//")
		comment = strings.TrimSpace(comment)
		wasGrouped := grouped
		grouped = false
		if m := constantLine.FindStringSubmatch(line); m != nil && open == nil {
			value, err := strconv.Atoi(m[2])
			if err != nil {
				return fail("%v", err)
			}
			h.constants = append(h.constants, constant{name: m[1], value: value, doc: doc, comment: m[3], first: !wasGrouped})
			doc, grouped = nil, true
			continue
		}
		switch m := structLine.FindStringSubmatch(line); {
		case line == "" && open == nil:
			doc, kernels = nil, nil
		case line == "":
		case isComment && open == nil:
			if m := kernelLine.FindStringSubmatch(comment); m != nil {
				for _, k := range strings.Split(m[2], ", ") {
					kernels = append(kernels, kernel{name: k, image: m[1]})
				}
			} else if strings.Contains(comment, "Kernels of") {
				return fail("not of the form `Kernels of FILE.cu: NAME, NAME.`: %q", comment)
			} else {
				doc = append(doc, comment)
			}
		case isComment:
			return fail("a comment between fields: put it behind one")
		case m != nil && open == nil:
			for len(doc) > 0 && doc[len(doc)-1] == "" { // the line that keeps formatters from joining the kernels' line
				doc = doc[:len(doc)-1]
			}
			open = &layout{name: m[1], doc: doc, align: 1}
			doc = nil
		case line == "};" && open != nil:
			if open.size%open.align != 0 {
				return fail("%s ends with a gap: its size is %d, its alignment %d", open.name, open.size, open.align)
			}
			h.structs = append(h.structs, open)
			for _, k := range kernels {
				k.params = open
				h.kernels = append(h.kernels, k)
			}
			open, kernels = nil, nil
		case open != nil:
			if err := h.field(open, line); err != nil {
				return fail("%v", err)
			}
		case skippedLine.MatchString(line):
		default:
			return fail("not a constant, struct, field or comment: %q", line)
		}
	}
	if open != nil {
		return fmt.Errorf("genparams: %s: struct %s has no end", name, open.name)
	}
	return nil
}

// field adds the field of a line to l.
func (h *header) field(l *layout, line string) error {
	m := fieldLine.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("not a field: %q", line)
	}
	typ, pointer, name, length, comment := m[1], m[2] != "", m[3], m[4], m[5]
	e, err := h.element(typ, pointer)
	if err != nil {
		return err
	}
	if l.size%e.align != 0 {
		return fmt.Errorf("a gap before %s.%s: offset %d, alignment %d", l.name, name, l.size, e.align)
	}
	f := field{cName: name, goName: goName(name), goType: e.goType, offset: l.size, comment: comment}
	count := 1
	if length != "" {
		if count, err = h.length(length); err != nil {
			return err
		}
		f.goType = fmt.Sprintf("[%d]%s", count, e.goType)
	}
	l.fields = append(l.fields, f)
	l.size += count * e.size
	l.align = max(l.align, e.align)
	return nil
}

// element is the type of that name, or the address of one.
func (h *header) element(name string, pointer bool) (element, error) {
	known, ok := scalars[name]
	for _, s := range h.structs {
		if s.name == name {
			known, ok = element{s.name, s.size, s.align}, true
		}
	}
	if pointer && (ok || name == "bf16" || name == "void") {
		return element{"uint64", 8, 8}, nil
	}
	if !ok {
		return known, fmt.Errorf("unknown type %q", name)
	}
	return known, nil
}

// length is an array's: a number or a constant.
func (h *header) length(text string) (int, error) {
	for _, c := range h.constants {
		if "k"+c.name == text && c.value > 0 {
			return c.value, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is no length", text)
	}
	return n, nil
}

// goName turns block_stride into BlockStride. Short words that are initials keep their case.
func goName(name string) string {
	if name == "unused" {
		return "_"
	}
	var b strings.Builder
	for _, word := range strings.Split(name, "_") {
		switch word {
		case "":
		case "kv", "qkv", "bf16", "f32", "fp8":
			b.WriteString(strings.ToUpper(word))
		case "rmsnorm":
			b.WriteString("RMSNorm")
		case "qk":
			b.WriteString("QK")
		case "moe":
			b.WriteString("MoE")
		default:
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}
