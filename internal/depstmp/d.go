package depstmp

import (
	_ "github.com/HdrHistogram/hdrhistogram-go"
	_ "github.com/nikolalohinski/gonja/v2"
	_ "github.com/nikolalohinski/gonja/v2/loaders"
	_ "github.com/nikolalohinski/gonja/v2/exec"
	_ "github.com/nikolalohinski/gonja/v2/builtins"
	_ "github.com/pkoukk/tiktoken-go"
	_ "github.com/spf13/cobra"
	_ "github.com/stretchr/testify/require"
	_ "github.com/vbauerster/mpb/v8"
	_ "github.com/vbauerster/mpb/v8/decor"
	_ "go.uber.org/goleak"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/term"
	_ "golang.org/x/text/unicode/norm"
	_ "pgregory.net/rapid"
)
