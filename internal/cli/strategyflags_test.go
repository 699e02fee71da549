package cli

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/disk"
	"github.com/quire-llm/quire/kvcache/host"
)

func TestStrategyFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		want kvcache.Strategy
		err  string
	}{
		{"", kvcache.Standard{}, ""},
		{"--cache standard", kvcache.Standard{}, ""},
		{"--cache cascade", kvcache.Cascade{}, ""},
		{"--cache chunked", kvcache.Chunked{}, ""},
		{"--cache chunked --chunk-tokens 64 --chunk-by-content", kvcache.Chunked{Auto: kvcache.Auto{Tokens: 64, ByContent: true}}, ""},
		{"--cache chunked --chunk-independent --chunk-after-head --chunk-head-gap 50 --chunk-recompute 4",
			kvcache.Chunked{Mode: kvcache.Independent, AfterHead: true, HeadGap: 50, RecomputeFirst: 4}, ""},
		{"--cache reuse", kvcache.Reuse{Over: kvcache.Cascade{}}, ""},
		{"--cache reuse --reuse-bytes 2GiB --reuse-evict lru", kvcache.Reuse{Over: kvcache.Cascade{}, Bytes: 2 << 30, Evict: kvcache.EvictLRU}, ""},
		{"--cache reuse --reuse-disk d --reuse-disk-bytes 5000", kvcache.Reuse{Over: kvcache.Cascade{}, Tier: disk.Tier{Dir: "d", Bytes: 5000}}, ""},
		{"--cache chunked-reuse --chunk-independent", kvcache.Reuse{Over: kvcache.Chunked{Mode: kvcache.Independent}}, ""},

		{"--cache chunked --chunk-independent --chunk-after-head --chunk-head-gap -1", nil, "--chunk-head-gap must not be negative"},
		{"--cache chunked --chunk-independent --chunk-recompute -1", nil, "--chunk-recompute must not be negative"},
		{"--cache chunked --chunk-tokens -1", nil, "--chunk-tokens must not be negative"},
		{"--cache chunked --chunk-after-head", nil, "--chunk-after-head is for independent chunks"},
		{"--cache chunked-reuse --chunk-recompute 4", nil, "--chunk-recompute is for independent chunks"},
		{"--cache chunked --chunk-independent --chunk-head-gap 9", nil, "--chunk-head-gap is for chunks that are computed after the head"},
		{"--cache chunked --chunk-by-content", nil, "--chunk-by-content needs --chunk-tokens of at least 2"},
		{"--cache odd", nil, `no cache strategy "odd"`},
		{"--cache cascade --reuse-bytes 1GiB", nil, "--reuse-bytes means nothing to --cache cascade"},
		{"--cache cascade --chunk-head-gap 50", nil, "--chunk-head-gap means nothing to --cache cascade"},
		{"--chunk-tokens 5", nil, "--chunk-tokens means nothing to --cache standard"},
		{"--cache reuse --chunk-tokens 5", nil, "--chunk-tokens means nothing to --cache reuse"},
		{"--cache reuse --reuse-evict oldest", nil, `no eviction "oldest"`},
		{"--cache reuse --reuse-bytes many", nil, "--reuse-bytes must be a size"},
		{"--cache reuse --reuse-bytes -5", nil, "--reuse-bytes must be a size"},
		{"--cache reuse --reuse-bytes 9999999TiB", nil, "must be a size"},
		{"--cache reuse --reuse-bytes 5KB", nil, "must be a size"},
		{"--cache reuse --reuse-host-bytes 5000", kvcache.Reuse{Over: kvcache.Cascade{}, Tier: host.Tier{Bytes: 5000}}, ""},
		{"--cache reuse --reuse-host-bytes 5000 --reuse-disk d", kvcache.Reuse{Over: kvcache.Cascade{}, Tier: host.Tier{Bytes: 5000, Under: disk.Tier{Dir: "d"}}}, ""},
		{"--cache cascade --reuse-host-bytes 5000", nil, "means nothing to --cache cascade"},
		{"--cache reuse --reuse-disk-bytes 5MiB", nil, "without a directory"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var f EngineFlags
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			f.RegisterStrategy(flags)
			require.NoError(t, flags.Parse(strings.Fields(c.args)))
			o, err := f.Options()
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, o.Cache)
		})
	}
}
