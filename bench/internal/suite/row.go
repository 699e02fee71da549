package suite

import (
	"fmt"

	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/internal/sysinfo"
)

// SchemaVersion is the version of what rows hold besides the original's keys. It rises when a key changes its meaning.
const SchemaVersion = 1

// Details is what every row holds after the keys of the original script. Embed it last.
type Details struct {
	SchemaVersion int    `json:"schema_version"`
	Incomplete    bool   `json:"incomplete,omitempty"` // cut short: the figures are of what was done until then
	Error         string `json:"error,omitempty"`      // by what
	Model         string `json:"model"`
	Synthetic     bool   `json:"synthetic"` // the weights are made up: speed means something, text does not
	Strategy      string `json:"strategy"`
	Exact         bool   `json:"exact"` // nothing but exact keys and values was reused

	Device     string `json:"device"`
	DeviceName string `json:"device_name"`
	Driver     string `json:"driver,omitempty"` // of a GPU
	KernelSet  string `json:"kernel_set"`
	Images     string `json:"images,omitempty"`   // hash of a GPU's kernels; kernels/cuda/TESTED.json says what was tested on them
	CuBLASLt   string `json:"cublaslt,omitempty"` // the version of the library that products may have been left to
	Products   string `json:"products"`           // how inputs of products are rounded: bf16, or f32 for not at all
	// KernelReason says why the kernel set is "go", the slowest.
	KernelReason string `json:"kernel_set_reason,omitempty"`
	Threads      int    `json:"threads"`

	Environment sysinfo.Environment `json:"environment"`
	Settings    Settings            `json:"settings"`
	Seed        int64               `json:"seed"`
	// TokenIDsModulo is given where the model's vocabulary is smaller than the ids that the original draws.
	TokenIDsModulo int `json:"token_ids_modulo,omitempty"`

	// The figures of a row are those of the repeat with the median time: samples[median_repeat].
	MedianRepeat int      `json:"median_repeat"`
	Repeats      int      `json:"repeats"`
	Samples      []Sample `json:"samples"`

	TokensComputed int64 `json:"tokens_computed"`
	TokensReused   int64 `json:"tokens_reused"`

	TimeToFirstToken    stats.Summary `json:"time_to_first_token"`  // seconds, over requests
	InterTokenLatency   stats.Summary `json:"inter_token_latency"`  // seconds, over all gaps of all requests
	TimeSpread          stats.Summary `json:"time_seconds_repeats"` // seconds, over repeats
	PrefillTokensPerSec float64       `json:"prefill_tokens_per_sec"`
	DecodeTokensPerSec  float64       `json:"decode_tokens_per_sec"`

	KVBlocksPeak    int   `json:"kv_blocks_peak"`
	KVBlockTokens   int   `json:"kv_block_tokens"`
	KVBytesPerToken int   `json:"kv_bytes_per_token"`
	KVBytesPeak     int64 `json:"kv_bytes_peak"`
	RSSBytes        int64 `json:"rss_bytes"`
	PeakRSSBytes    int64 `json:"peak_rss_bytes"` // of the process so far, loading included

	OutputSHA256 string `json:"output_sha256"`
}

// FormatSize writes bytes as the original does: two decimals and a unit, each 1024 of the one before.
func FormatSize(bytes int64) string {
	size := float64(bytes)
	for _, unit := range []string{"B", "KB", "MB", "GB"} {
		if size < 1024 {
			return fmt.Sprintf("%.2f %s", size, unit)
		}
		size /= 1024
	}
	return fmt.Sprintf("%.2f TB", size)
}
