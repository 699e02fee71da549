package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
)

// setConfig reads tokenizer_config.json.
func (t *Tokenizer) setConfig(data []byte) error {
	var c struct {
		BOS      tokenName            `json:"bos_token"`
		EOS      tokenName            `json:"eos_token"`
		Template chatTemplate         `json:"chat_template"`
		Added    map[int32]addedToken `json:"added_tokens_decoder"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("tokenizer: reading tokenizer_config.json: %w", err)
	}
	var ids []int32
	for id := range c.Added {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		a := c.Added[id]
		a.ID = id
		if _, ok := t.ID(a.Content); ok {
			continue // tokenizer.json has it, and its flags count
		}
		if err := t.add(a); err != nil {
			return err
		}
	}
	if id, ok := t.ID(string(c.BOS)); ok {
		t.bos = id
	}
	if id, ok := t.ID(string(c.EOS)); ok {
		t.eos = id
	}
	t.chatTemplate = string(c.Template)
	return nil
}

// tokenName is a token in tokenizer_config.json: its text, or an object with its text, or null.
type tokenName string

func (n *tokenName) UnmarshalJSON(data []byte) error {
	if data[0] == '{' {
		var object struct {
			Content string `json:"content"`
		}
		err := json.Unmarshal(data, &object)
		*n = tokenName(object.Content)
		return err
	}
	return json.Unmarshal(data, (*string)(n))
}

// chatTemplate is a template in tokenizer_config.json: its source, or a list of named ones, of which the one named
// "default" counts.
type chatTemplate string

func (c *chatTemplate) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		var list []struct{ Name, Template string }
		err := json.Unmarshal(data, &list)
		for _, named := range list {
			if named.Name == "default" {
				*c = chatTemplate(named.Template)
			}
		}
		return err
	}
	return json.Unmarshal(data, (*string)(c))
}
