package tokenizer

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func FuzzRoundTrip(f *testing.F) {
	tok := tiny(f)
	for _, seed := range []string{
		"", "Hello, world! It's 2024.", "<|im_start|>user\nhi<|im_end|>\n<think>", "<|im_", "e\u0301\u0323", "\xff\xe2\x82", "你好 привет",
		strings.Repeat("\u0301", 50), strings.Repeat("a", 200), " \n\t \r\n  x", "\u1100\u1161\u11a8", "👩‍🚀", "\x00", "a\u1ac9\u0301",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids := tok.Encode(nil, text)
		plain := tok.EncodeWith(nil, text, EncodeOptions{PlainText: true})
		for _, id := range plain {
			if int(id) >= tok.OrdinaryVocab() {
				t.Fatalf("%q: plain text became token %d", text, id)
			}
		}
		// Added tokens are the same bytes in the text and out of it, so what the two decode to differs only where
		// normalizing reaches over a token's edge.
		if utf8.ValidString(text) && norm.NFC.IsNormalString(text) {
			if got := tok.Decode(ids); got != text {
				t.Fatalf("got %q, want %q", got, text)
			}
		}
		if got, want := tok.Decode(plain), nfc(valid(text)); got != want {
			t.Fatalf("plain: got %q, want %q", got, want)
		}
		located, offsets := tok.EncodeOffsets(text, EncodeOptions{})
		if len(located) != len(ids) || len(offsets) != len(ids) {
			t.Fatalf("%q: %d tokens, %d with %d offsets", text, len(ids), len(located), len(offsets))
		}
		var b strings.Builder
		s := tok.NewStream(DecodeOptions{})
		for _, id := range ids {
			piece := s.Next(id)
			if !utf8.ValidString(piece) {
				t.Fatalf("%q: the stream cut a rune: %q", text, piece)
			}
			b.WriteString(piece)
		}
		b.WriteString(s.Flush())
		if got, want := b.String(), tok.Decode(ids); got != want {
			t.Fatalf("stream: got %q, want %q", got, want)
		}
	})
}

// smallest is a tokenizer.json with few tokens, for fuzzing to change.
func smallest(f *testing.F) []byte {
	vocab := map[string]int{"he": 256, "ll": 257, "hell": 258}
	for b := range 256 {
		vocab[string(runeOfByte(byte(b)))] = b
	}
	data, err := json.Marshal(object{
		"added_tokens": list{object{"id": 259, "content": "<s>", "special": true, "lstrip": true}},
		"normalizer":   object{"type": "NFC"},
		"pre_tokenizer": object{"type": "Sequence", "pretokenizers": list{
			object{"type": "Split", "pattern": object{"Regex": llamaPattern}, "behavior": "Isolated", "invert": false},
			object{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
		}},
		"post_processor": object{"type": "TemplateProcessing", "special_tokens": object{"<s>": object{"ids": list{259}}},
			"single": list{object{"SpecialToken": object{"id": "<s>"}}, object{"Sequence": object{"id": "A"}}}},
		"decoder": object{"type": "ByteLevel"},
		"model":   object{"type": "BPE", "ignore_merges": false, "vocab": vocab, "merges": list{list{"h", "e"}, "l l", list{"he", "ll"}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	return data
}

func FuzzParse(f *testing.F) {
	config, err := os.ReadFile("testdata/tokenizer_config.json")
	if err != nil {
		f.Fatal(err)
	}
	small := smallest(f)
	if _, err := Parse(small, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(small, []byte(`{"bos_token":"<s>","added_tokens_decoder":{"300":{"content":"<e>","normalized":true}}}`))
	f.Add(small, config)
	for _, change := range [][2]string{
		{`"ignore_merges":false`, `"ignore_merges":true`}, {`["h","e"]`, `["e","h"]`}, {`"l l"`, `"l\u0020l"`}, {`"!":33`, `"!":300`},
		{`"lstrip":true`, `"normalized":true,"single_word":true`}, {`"<s>"`, `"e\u0301"`}, {`"NFC"`, `"NFD"`}, {`259`, `33`},
	} {
		f.Add([]byte(strings.ReplaceAll(string(small), change[0], change[1])), []byte(`{}`))
	}
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`), []byte(`{}`))
	f.Add([]byte(`{"model":{"type":"Unigram","vocab":[["a",0.5]]}}`), []byte(`{"chat_template":[{"name":"default","template":"x"}]}`))
	f.Fuzz(func(t *testing.T, data, config []byte) {
		tok, err := Parse(data, config)
		if err != nil {
			if tok != nil || !strings.HasPrefix(err.Error(), "tokenizer: ") {
				t.Fatalf("got a tokenizer %v with the error %q", tok, err)
			}
			return
		}
		const text = "hell<s>hello <e>hé\u0301 123456\xff<|im_start|>"
		ids, _ := tok.EncodeOffsets(text, EncodeOptions{AddBOS: true})
		for _, id := range ids {
			if int(id) >= tok.Vocab() {
				t.Fatalf("got token %d from a vocabulary of %d", id, tok.Vocab())
			}
		}
		tok.Decode(ids)
		for id := int32(-1); int(id) <= min(tok.Vocab(), 1000); id++ {
			if token, ok := tok.Token(id); ok {
				if back, _ := tok.ID(token); back != id {
					t.Fatalf("token %d is %q, which is token %d", id, token, back)
				}
			}
		}
	})
}
