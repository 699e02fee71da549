package tokenizer

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

type object = map[string]any
type list = []any

func TestUnsupported(t *testing.T) {
	template := func(pieces ...any) object {
		return object{"post_processor": object{"type": "TemplateProcessing", "single": pieces, "special_tokens": object{
			"<s>": object{"ids": list{2039}}, "<none>": object{"ids": list{4000}},
		}}}
	}
	text := object{"Sequence": object{"id": "A"}}
	bos := object{"SpecialToken": object{"id": "<s>"}}
	byteLevel := object{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}
	split := object{"type": "Split", "pattern": object{"Regex": qwenPattern}, "behavior": "Isolated"}
	pre := func(parts ...any) object {
		return object{"pre_tokenizer": object{"type": "Sequence", "pretokenizers": parts}}
	}
	for _, c := range []struct {
		name   string
		change object
		says   string
	}{
		{"model", object{"model": object{"type": "Unigram"}}, `model type "Unigram"`},
		{"model without a type", object{"model": object{"type": nil}}, `model type ""`},
		{"dropout", object{"model": object{"dropout": 0.1}}, "dropout"},
		{"suffix", object{"model": object{"end_of_word_suffix": "</w>"}}, "</w>"},
		{"byte fallback", object{"model": object{"byte_fallback": true}}, "byte fallback"},
		{"normalizer", object{"normalizer": object{"type": "Lowercase"}}, `normalizer "Lowercase"`},
		{"normalizers", object{"normalizer": object{"type": "Sequence", "normalizers": list{object{"type": "NFC"}, object{"type": "Strip"}}}}, `normalizer "Strip"`},
		{"no pre-tokenizer", object{"pre_tokenizer": nil}, "pre-tokenizer"},
		{"GPT-2's pre-tokenizer", object{"pre_tokenizer": object{"type": "ByteLevel"}}, `pre-tokenizer "ByteLevel"`},
		{"pattern", pre(object{"type": "Split", "pattern": object{"Regex": `\w+`}, "behavior": "Isolated"}, byteLevel), `pattern "\\w+"`},
		{"behavior", pre(object{"type": "Split", "pattern": object{"Regex": qwenPattern}, "behavior": "Removed"}, byteLevel), `"Removed"`},
		{"prefix space", pre(split, object{"type": "ByteLevel", "add_prefix_space": true, "use_regex": false}), "pre-tokenizer"},
		{"decoder", object{"decoder": object{"type": "WordPiece"}}, `decoder "WordPiece"`},
		{"no decoder", object{"decoder": nil}, "decoder"},
		{"post-processor", object{"post_processor": object{"type": "BertProcessing"}}, `post-processor "BertProcessing"`},
		{"tokens after the text", template(bos, text, bos), "after the text"},
		{"text twice", template(text, text), "repeats"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(edited(t, c.change), nil)
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "Qwen3 and Llama 3")
		})
	}
	_, err := Parse(edited(t, template(object{"SpecialToken": object{"id": "<none>"}}, text)), nil)
	require.ErrorContains(t, err, "id 4000")
	tok, err := Parse(edited(t, template(bos, text)), nil)
	require.NoError(t, err)
	require.Equal(t, []int32{2039}, tok.EncodeWith(nil, "", EncodeOptions{AddBOS: true}))
	require.Empty(t, tok.Encode(nil, ""))
	id, ok := tok.BOS()
	require.True(t, ok)
	require.EqualValues(t, 2039, id)
}

func TestBadFiles(t *testing.T) {
	whole := string(edited(t, nil))
	for _, c := range []struct{ name, data, says string }{
		{"empty", "", "unexpected end of JSON"},
		{"not an object", "[]", "'{'"},
		{"cut", whole[:len(whole)/2], "unexpected end of JSON"},
		{"more after the end", whole + "{}", "nothing more"},
		{"a byte missing", strings.Replace(whole, `"Ā":`, `"ĀĀĀ":`, 1), "0x00"},
		{"id too large", strings.Replace(whole, `"!":0`, `"!":99999999999999999999`, 1), "token ids end at"},
		{"id below zero", strings.Replace(whole, `"!":0`, `"!":-1`, 1), "token id"},
		{"id not a number", strings.Replace(whole, `"!":0`, `"!":null`, 1), "token id"},
		{"two tokens with an id", strings.Replace(whole, `"!":0`, `"!":1`, 1), "the id 1"},
		{"a token with two ids", strings.Replace(whole, `"!":0`, `"!":0,"!":2038`, 1), "2038"},
		{"a raw token with two ids", strings.Replace(whole, `"!":0`, `"!":0,"\u2581":3000,"\u2581":3001`, 1), "3001"},
		{"not UTF-8", strings.Replace(whole, `"!":0`, "\"!\":0,\"\xff\":3000", 1), "UTF-8"},
		{"a merge of no token", strings.Replace(whole, `["h","e"]`, `["he","he"]`, 1), "lacks"},
		{"a merge of one token", strings.Replace(whole, `["h","e"]`, `["h"]`, 1), "','"},
		{"a merge of three tokens", strings.Replace(whole, `["h","e"]`, `["h","e","x"]`, 1), "']'"},
		{"an old merge of one token", strings.Replace(whole, `["h","e"]`, `"he"`, 1), "not of two tokens"},
		{"a control character", strings.Replace(whole, `["h","e"]`, "[\"h\n\",\"e\"]", 1), "control"},
		{"an added token with another's id", strings.Replace(whole, `"id":2040`, `"id":2039`, 1), "2039"},
		{"an added token with another id", strings.Replace(whole, `"content":"\u003cthink\u003e"`, `"content":"the"`, 1), "the vocabulary gives"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NotEqual(t, whole, c.data, "the test's replacement did nothing")
			_, err := Parse([]byte(c.data), nil)
			require.ErrorContains(t, err, "tokenizer: ")
			require.ErrorContains(t, err, c.says)
			require.NotErrorIs(t, err, errors.ErrUnsupported)
		})
	}
}

func TestOldMerges(t *testing.T) {
	whole := string(edited(t, nil))
	old := strings.Replace(whole, `["h","e"]`, `"h e"`, 1)
	require.NotEqual(t, whole, old)
	tok, err := Parse([]byte(old), nil)
	require.NoError(t, err)
	require.Equal(t, tiny(t).Encode(nil, "he the"), tok.Encode(nil, "he the"))
}

func TestEscapes(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{`"plain"`, "plain"},
		{`"a\"b\\c"`, `a"b\c`},
		{`"\\"`, `\`},
		{`"\u0120\n\ud83d\ude42\/"`, "Ġ\n🙂/"},
	} {
		r := reader{data: []byte(c.json + ",")}
		var scratch []byte
		got, err := r.text(&scratch)
		require.NoError(t, err)
		require.Equal(t, c.want, string(got))
		require.Equal(t, len(c.json), r.at)
		r.at = 0
		skipped, err := r.skip()
		require.NoError(t, err)
		require.Equal(t, c.json, string(skipped))
	}
	for _, bad := range []string{`"`, `"\`, `"\"`, `"\x"`, `"\u12"`, "\"\\\"\n\"", `x`, ``} {
		r := reader{data: []byte(bad)}
		var scratch []byte
		_, err := r.text(&scratch)
		require.Error(t, err, "%q", bad)
	}
}

// TestRawTokens reads a vocabulary with a token whose spelling stands for no bytes.
func TestRawTokens(t *testing.T) {
	tok, err := Parse(edited(t, object{"model": object{"vocab": object{"▁a b": 3000}}}), nil)
	require.NoError(t, err)
	id, ok := tok.ID("▁a b")
	require.True(t, ok)
	require.EqualValues(t, 3000, id)
	require.Equal(t, "▁a b", tok.Decode([]int32{id}))
	require.NotContains(t, tok.Encode(nil, "▁a b"), id)
	require.Equal(t, 3001, tok.Vocab())
	_, ok = tok.Token(2999)
	require.False(t, ok)
}

func TestConfig(t *testing.T) {
	data, err := os.ReadFile("testdata/tokenizer.json")
	require.NoError(t, err)
	for _, c := range []struct{ name, config, bos, eos, template string }{
		{"nothing", `{}`, "", "", ""},
		{"nulls", `{"bos_token":null,"eos_token":null,"chat_template":null}`, "", "", ""},
		{"texts", `{"bos_token":"<think>","eos_token":"<|im_end|>","chat_template":"{{x}}"}`, "<think>", "<|im_end|>", "{{x}}"},
		{"objects", `{"eos_token":{"content":"<|im_end|>","lstrip":false}}`, "", "<|im_end|>", ""},
		{"unknown token", `{"eos_token":"</s>"}`, "", "", ""},
		{"named templates", `{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}`, "", "", "d"},
		{"a token that tokenizer.json lacks", `{"eos_token":"</s>","added_tokens_decoder":{"2048":{"content":"</s>","special":true}}}`, "", "</s>", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok, err := Parse(data, []byte(c.config))
			require.NoError(t, err)
			check := func(id int32, ok bool, want string) {
				t.Helper()
				require.Equal(t, want != "", ok)
				if ok {
					require.Equal(t, want, tok.Decode([]int32{id}))
					require.Equal(t, []int32{id}, tok.Encode(nil, want))
				}
			}
			id, ok := tok.BOS()
			check(id, ok, c.bos)
			id, ok = tok.EOS()
			check(id, ok, c.eos)
			require.Equal(t, c.template, tok.ChatTemplate())
		})
	}
	for _, bad := range []string{`{`, `[]`, `{"eos_token":7}`, `{"chat_template":{}}`, `{"added_tokens_decoder":{"x":{}}}`,
		`{"added_tokens_decoder":{"-5":{"content":"</s>"}}}`, `{"added_tokens_decoder":{"3":{"content":"</s>"}}}`} {
		_, err := Parse(data, []byte(bad))
		require.ErrorContains(t, err, "tokenizer: ", bad)
	}
}

func TestLoad(t *testing.T) {
	_, err := Load(fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "tokenizer.json")

	data := edited(t, nil)
	tok, err := Load(fstest.MapFS{"tokenizer.json": {Data: data}})
	require.NoError(t, err)
	require.Empty(t, tok.ChatTemplate())
	require.Equal(t, tiny(t).Encode(nil, "the end"), tok.Encode(nil, "the end"))

	tok, err = Load(fstest.MapFS{
		"tokenizer.json":        {Data: data},
		"tokenizer_config.json": {Data: []byte(`{"chat_template":"old"}`)},
		"chat_template.jinja":   {Data: []byte("new")},
	})
	require.NoError(t, err)
	require.Equal(t, "new", tok.ChatTemplate())
}
