//go:build !notiny

package tiny

import _ "embed"

// weights is apart from files because an embed.FS gives only copies, and because a program that wants the tokenizer
// alone then does without them.
//
//go:embed qwen3/model.safetensors
var weights []byte
