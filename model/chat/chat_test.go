package chat

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// vector is a conversation as the real Jinja engine renders it with the settings that transformers uses.
type vector struct {
	Template string          `json:"tmpl"`
	Context  json.RawMessage `json:"ctx"`
	Out      string          `json:"out"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	data, err := os.ReadFile("testdata/chat_vectors.json")
	require.NoError(t, err)
	var all []vector
	require.NoError(t, json.Unmarshal(data, &all))
	require.Len(t, all, 84)
	return all
}

func TestVectorsOwnRenderer(t *testing.T) {
	sources := map[string]string{"qwen3": qwen3Source, "qwen2.5": qwen25Source}
	for i, v := range vectors(t) {
		template, err := Parse(sources[v.Template])
		require.NoError(t, err)
		require.Equal(t, v.Template, template.Name())
		conversation, err := ParseValue(v.Context)
		require.NoError(t, err)
		got, err := template.Render(conversation)
		require.NoError(t, err)
		require.Equal(t, v.Out, got, "vector %d: %s", i, v.Context)
	}
}

// TestVectorsJinja renders the same vectors through the interpreter, the second opinion on both.
func TestVectorsJinja(t *testing.T) {
	sources := map[string]string{"qwen3": qwen3Source, "qwen2.5": qwen25Source}
	for i, v := range vectors(t) {
		template, err := parseJinja(sources[v.Template], Limits{})
		require.NoError(t, err)
		conversation, err := ParseValue(v.Context)
		require.NoError(t, err)
		got, err := template.Render(conversation)
		require.NoError(t, err)
		require.Equal(t, v.Out, got, "vector %d: %s", i, v.Context)
	}
}

func TestChatML(t *testing.T) {
	template, err := Parse(chatMLSource)
	require.NoError(t, err)
	require.Equal(t, "chatml", template.Name())
	conversation := New(Turn{"system", "Answer."}, Turn{"user", "Hi"})
	got, err := template.Render(conversation)
	require.NoError(t, err)
	require.Equal(t, "<|im_start|>system\nAnswer.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", got)
	jinja, err := parseJinja(chatMLSource, Limits{})
	require.NoError(t, err)
	same, err := jinja.Render(conversation)
	require.NoError(t, err)
	require.Equal(t, got, same)
}

func TestConversationErrors(t *testing.T) {
	for name, c := range map[string]struct{ source, conversation, want string }{
		"no messages":           {qwen3Source, `{}`, "messages must be a list"},
		"empty messages":        {qwen3Source, `{"messages":[]}`, "messages must be a list"},
		"no role":               {qwen3Source, `{"messages":[{"content":"x"}]}`, "message 0 has no role"},
		"system without text":   {qwen3Source, `{"messages":[{"role":"system"}]}`, "is not a string"},
		"call without a name":   {qwen3Source, `{"messages":[{"role":"assistant","tool_calls":[{"arguments":{}}]}]}`, "name of a tool call"},
		"call without argument": {qwen3Source, `{"messages":[{"role":"assistant","tool_calls":[{"name":"f"}]}]}`, "has no arguments"},
		"user without text":     {qwen25Source, `{"messages":[{"role":"user","content":null}]}`, "is not a string"},
		"raised":                {`{{ raise_exception('roles must alternate') }}`, `{"messages":[{"role":"user","content":"x"}]}`, "roles must alternate"},
	} {
		t.Run(name, func(t *testing.T) {
			template, err := Parse(c.source)
			require.NoError(t, err)
			conversation, err := ParseValue([]byte(c.conversation))
			require.NoError(t, err)
			_, err = template.Render(conversation)
			require.ErrorIs(t, err, ErrConversation)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := Parse("")
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// TestPublishedIdioms are pieces of other families' templates.
func TestPublishedIdioms(t *testing.T) {
	const conversation = `{"messages":[{"role":"user","content":" Hi "},{"role":"assistant","content":"Yo"}],
		"add_generation_prompt":true,"bos_token":"<s>","eos_token":"</s>","tools":[{"b":1,"a":[1.0,"x"]}]}`
	for name, c := range map[string]struct{ source, want string }{
		"llama 2":      {`{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}`, "<s>[INST] Hi [/INST] Yo</s>"},
		"llama 3":      {"{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}", "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|>"},
		"namespace":    {`{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'assistant' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}`, "True"},
		"macro":        {`{% macro turn(m) %}[{{ m.role }}]{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}`, "[user][assistant]"},
		"tools":        {`{{ tools | tojson }}`, `[{"b": 1, "a": [1.0, "x"]}]`},
		"tools indent": {`{{ tools[0] | tojson(indent=2) }}`, "{\n  \"b\": 1,\n  \"a\": [\n    1.0,\n    \"x\"\n  ]\n}"},
		"items":        {`{% for k, v in tools[0].items() %}{{ k }}={{ v is sequence }};{% endfor %}`, "b=False;a=True;"},
		"break":        {`{% for m in messages %}{{ m.role }}{% break %}{% endfor %}`, "user"},
		"generation":   {`{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}`, " Hi Yo"},
		"range":        {`{% for i in range(3) %}{{ i }}{% endfor %}`, "012"},
		"undefined":    {`{{ 'no' if tools_in_user_message is not defined else 'yes' }}`, "no"},
	} {
		t.Run(name, func(t *testing.T) {
			template, err := Parse(c.source)
			require.NoError(t, err)
			require.Equal(t, "jinja", template.Name())
			v, err := ParseValue([]byte(conversation))
			require.NoError(t, err)
			got, err := template.Render(v)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

// TestHostileTemplates: each must end as an error, soon and in little memory.
func TestHostileTemplates(t *testing.T) {
	conversation := New(Turn{"user", "x"})
	for name, source := range map[string]string{
		"include a file":       `{% include '/etc/passwd' %}`,
		"import a file":        `{% import '/etc/passwd' as x %}`,
		"extend a file":        `{% extends '/etc/passwd' %}`,
		"block":                `{% block a %}{{ self.a() }}{% endblock %}`,
		"attr filter":          `{{ messages | attr('Len') }}`,
		"loops in loops":       strings.Repeat(`{% for i in range(1000) %}`, 6) + strings.Repeat(`{% endfor %}`, 6),
		"empty filtered loops": `{% for a in range(9999) %}{% for b in range(9999) if false %}{% endfor %}{% endfor %}`,
		"endless range":        `{% for i in range(1000000000000) %}{% endfor %}`,
		"range without bounds": `{{ range(0, 10, 0 - 1) | length }}{% for i in range(5, 9000000000) %}x{% endfor %}`,
		"macro calls itself":   `{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}`,
		"macros call in turn":  `{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}`,
		"recursive loop":       `{% for x in [[1]] recursive %}{{ loop(x) }}{% endfor %}`,
		"doubling":             `{% set s = namespace(v='xxxxxxxx') %}{% for i in range(60) %}{% set s.v = s.v ~ s.v %}{% endfor %}`,
		"doubling lists":       `{% set s = namespace(v=[1,2,3,4]) %}{% for i in range(60) %}{% set s.v = s.v + s.v %}{% endfor %}`,
		"nested lists":         `{% set s = namespace(v=[1]) %}{% for i in range(80) %}{% set s.v = [s.v, s.v] %}{% endfor %}{{ s.v | tojson }}`,
		"repetition":           `{{ 'x' * 100000000000 }}`,
		"power":                `{{ 10 ** 10 ** 10 }}`,
		"join":                 `{% set s = namespace(v='xxxxxxxx') %}{% for i in range(16) %}{% set s.v = s.v ~ s.v %}{% endfor %}{{ range(100000) | join(s.v) }}`,
		"replace":              `{% set s = namespace(v='xxxxxxxx') %}{% for i in range(15) %}{% set s.v = s.v ~ s.v %}{% endfor %}{{ s.v | replace('x', s.v) }}`,
		"replace method":       `{% set s = namespace(v='xxxxxxxx') %}{% for i in range(15) %}{% set s.v = s.v ~ s.v %}{% endfor %}{{ s.v.replace('x', s.v) }}`,
		"center":               `{{ 'x'.center(100000000000) }}`,
		"format":               `{{ '%1000000000d' | format(1) }}`,
		"indent":               `{{ 'x\ny' | indent(100000000000) }}`,
		"long output":          `{% for i in range(400000) %}` + strings.Repeat("text ", 100) + `{% endfor %}`,
		"long captured text":   `{% set t %}{% for i in range(400000) %}` + strings.Repeat("text ", 100) + `{% endfor %}{% endset %}`,
		"long macro text":      `{% macro f() %}{% for i in range(400000) %}` + strings.Repeat("text ", 100) + `{% endfor %}{% endmacro %}{{ f() }}`,
		"deep brackets":        `{{ ` + strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000) + ` }}`,
		"deep blocks":          strings.Repeat(`{% if true %}`, 10_000) + strings.Repeat(`{% endif %}`, 10_000),
		"long expression":      `{{ 1 ` + strings.Repeat(`~ messages `, 10_000) + ` }}`,
		"many nots":            `{{ ` + strings.Repeat(`not `, 50_000) + `true }}`,
		"large source":         strings.Repeat("x", 300<<10),
		"unclosed":             `{% for m in messages %}`,
		"unclosed tag":         `{{ messages `,
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			template, err := Parse(source)
			if err == nil {
				_, err = template.Render(conversation)
			}
			require.Error(t, err)
			t.Logf("%v after %s", err, time.Since(start).Round(time.Millisecond))
			require.Less(t, len(err.Error()), 1000, "an error is a line, not a dump")
		})
	}
}

// TestLimitsNamed: a user is told which limit was met.
func TestLimitsNamed(t *testing.T) {
	template, err := parseJinja(`{% for i in range(100) %}{% endfor %}`, Limits{Steps: 50})
	require.NoError(t, err)
	_, err = template.Render(New(Turn{"user", "x"}))
	var limit *LimitError
	require.ErrorAs(t, err, &limit)
	require.Contains(t, limit.What, "50 steps")
}

func TestJSONLikePython(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":1,"a":[true,null,"é\u0001\"\\/"]}`:         `{"b": 1, "a": [true, null, "é\u0001\"\\/"]}`,
		`[1.0,1e5,1E16,1e-4,0.00001,123456789012345678]`: `[1.0, 100000.0, 1e+16, 0.0001, 1e-05, 123456789012345678]`,
		`[-0,-0.0,1e400,0.1]`:                            `[0, -0.0, Infinity, 0.1]`,
		`{"a":1,"b":2,"a":3}`:                            `{"a": 3, "b": 2}`,
		`"<b>&'"`:                                        `"<b>&'"`,
		`{}`:                                             `{}`,
	} {
		v, err := ParseValue([]byte(in))
		require.NoError(t, err)
		require.Equal(t, want, v.JSON(), "input %s", in)
	}
	for _, in := range []string{``, `{`, `[1,]`, `1 2`, `{"a"}`, `nul`, strings.Repeat("[", 100_000)} {
		_, err := ParseValue([]byte(in))
		require.Error(t, err, "input %.20q", in)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add(chatMLSource)
	f.Add(qwen3Source)
	f.Add(qwen25Source)
	f.Add(`{% set s = namespace(v='x') %}{% for i in range(60) %}{% set s.v = s.v ~ s.v %}{% endfor %}`)
	f.Add(`{% macro f(a) %}{{ f(a) }}{% endmacro %}{{ f(1) | upper }}`)
	conversation, err := ParseValue([]byte(`{"messages":[{"role":"user","content":"x"}],"tools":[{"a":1}],"add_generation_prompt":true}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, source string) {
		template, err := parseJinja(source, Limits{Steps: 20_000, OutputBytes: 64 << 10, ValueBytes: 16 << 10, Time: time.Second})
		if err != nil {
			return
		}
		text, err := template.Render(conversation)
		if err == nil && len(text) > 64<<10+8*len(conversation.JSON()) {
			t.Errorf("%d bytes of prompt past the limit", len(text))
		}
	})
}
