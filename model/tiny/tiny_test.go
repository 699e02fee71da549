package tiny_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/tiny"
)

var _ model.Provider = tiny.Provider{}

func TestOpen(t *testing.T) {
	c, err := tiny.Provider{}.Open("tiny")
	require.NoError(t, err)
	defer c.Close()
	require.EqualValues(t, 4_459_776, c.Parameters())
	require.Equal(t, []int32{2041, 2039}, c.Config.EOS)
	require.Len(t, c.Names(), 46)

	again, err := tiny.Provider{}.Open("tiny")
	require.NoError(t, err)
	defer again.Close()
	const name = "model.embed_tokens.weight"
	a, err := c.Weight(name, 2048, 256)
	require.NoError(t, err)
	b, err := again.Weight(name, 2048, 256)
	require.NoError(t, err)
	require.Same(t, &a.Data[0], &b.Data[0], "weights were copied")
	require.Equal(t, c.Revision, again.Revision)

	for _, file := range []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} {
		_, err := fs.Stat(c.Files, file)
		require.NoError(t, err)
	}
}

func TestOtherName(t *testing.T) {
	c, err := tiny.Provider{}.Open("tinny")
	require.NoError(t, err)
	require.Nil(t, c)
}
