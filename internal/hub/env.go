package hub

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DefaultEndpoint is the server asked where Env.Endpoint is empty.
const DefaultEndpoint = "https://huggingface.co"

// Env is where the cache lies and how the server is reached. The zero value has no cache and asks DefaultEndpoint
// without a token.
type Env struct {
	CacheDir string // the folder that holds models--owner--name
	Endpoint string // scheme, host and perhaps a path, without a final slash; "" means DefaultEndpoint
	Token    string // sent to the endpoint's own host and to no other; "" means none
	Offline  bool   // never touch the network
}

// String shows everything but the token.
func (e Env) String() string {
	token := "no token"
	if e.Token != "" {
		token = "with token"
	}
	return fmt.Sprintf("cache %q, endpoint %q, %s, offline %t", e.CacheDir, e.endpoint(), token, e.Offline)
}

// GoString is String, so that no format verb shows the token.
func (e Env) GoString() string { return e.String() }

func (e Env) endpoint() string {
	if e.Endpoint == "" {
		return DefaultEndpoint
	}
	return strings.TrimRight(e.Endpoint, "/")
}

// EnvFromOS reads the variables that huggingface_hub reads, with the same precedence: HF_HUB_CACHE, the older
// HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME; HF_TOKEN, the older HUGGING_FACE_HUB_TOKEN, then the file that
// HF_TOKEN_PATH names or HF_HOME/token; HF_ENDPOINT; HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE. A variable that is set but
// empty counts as unset, and a token file that cannot be read counts as none.
func EnvFromOS() Env {
	home, _ := os.UserHomeDir() // without one, the variables must say where the cache is
	return envFrom(os.Getenv, home)
}

func envFrom(getenv func(string) string, userHome string) Env {
	first := func(names ...string) string {
		for _, name := range names {
			if v := getenv(name); v != "" {
				return v
			}
		}
		return ""
	}
	expand := func(path string) string {
		if path == "~" || strings.HasPrefix(path, "~/") {
			path = userHome + path[1:]
		}
		return os.Expand(path, func(name string) string {
			if v := getenv(name); v != "" {
				return v
			}
			return "$" + name
		})
	}
	home := expand(first("HF_HOME"))
	if home == "" {
		if base := expand(first("XDG_CACHE_HOME")); base != "" {
			home = filepath.Join(base, "huggingface")
		} else if userHome != "" {
			home = filepath.Join(userHome, ".cache", "huggingface")
		}
	}
	env := Env{
		CacheDir: expand(first("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")),
		Endpoint: strings.TrimRight(first("HF_ENDPOINT"), "/"),
		Token:    strings.TrimSpace(first("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")),
		Offline:  isTrue(first("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")),
	}
	if env.CacheDir == "" && home != "" {
		env.CacheDir = filepath.Join(home, "hub")
	}
	if env.Token == "" {
		path := expand(first("HF_TOKEN_PATH"))
		if path == "" && home != "" {
			path = filepath.Join(home, "token")
		}
		if text, err := os.ReadFile(path); err == nil {
			env.Token = strings.TrimSpace(string(text))
		}
	}
	return env
}

func isTrue(value string) bool {
	return slices.Contains([]string{"1", "ON", "YES", "TRUE"}, strings.ToUpper(value))
}
