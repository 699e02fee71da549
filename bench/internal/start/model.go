package start

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quire-llm/quire/model"
)

// writeModel writes a checkpoint as Hugging Face lays models out.
func writeModel(dir string, checkpoint *model.Checkpoint) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("start: writing the model: %w", err)
	}
	config, err := json.MarshalIndent(configJSON(checkpoint.Config), "", "  ")
	if err != nil {
		return fmt.Errorf("start: writing the model: %w", err)
	}
	files := map[string][]byte{"config.json": config}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "generation_config.json"} {
		data, err := fs.ReadFile(checkpoint.Files, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("start: writing the model: %w", err)
		}
		files[name] = data
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			return fmt.Errorf("start: writing the model: %w", err)
		}
	}
	var tensors []model.Tensor
	for name, shape := range checkpoint.Config.Weights() {
		t, err := checkpoint.Weight(name, shape...)
		if err != nil {
			return err
		}
		tensors = append(tensors, t)
	}
	file, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return fmt.Errorf("start: writing the model: %w", err)
	}
	w := bufio.NewWriterSize(file, 1<<20)
	return errors.Join(model.WriteSafetensors(w, tensors), w.Flush(), file.Close())
}

// configJSON is a config of Qwen3's as its makers write it.
func configJSON(c model.Config) map[string]any {
	fields := map[string]any{
		"architectures": []string{string(c.Architecture)}, "model_type": "qwen3", "hidden_act": "silu", "dtype": "bfloat16",
		"hidden_size": c.Hidden, "intermediate_size": c.Intermediate, "num_hidden_layers": c.Layers, "num_attention_heads": c.Heads,
		"num_key_value_heads": c.KVHeads, "head_dim": c.HeadDim, "vocab_size": c.Vocab, "max_position_embeddings": c.MaxPositions,
		"rms_norm_eps": c.NormEps, "tie_word_embeddings": c.TiedHead, "rope_theta": c.Rope.Theta, "eos_token_id": c.EOS,
	}
	if c.BOS >= 0 {
		fields["bos_token_id"] = c.BOS
	}
	return fields
}
