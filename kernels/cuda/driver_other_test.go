//go:build !(linux && cgo && (amd64 || arm64))

package cuda

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenSaysWhyNot(t *testing.T) {
	_, err := Open(Options{})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Regexp(t, `^cuda: opening the driver: this program was built for \w+(, not for Linux| without cgo): unsupported operation$`, err.Error())
}
