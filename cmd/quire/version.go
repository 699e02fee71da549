package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/internal/sysinfo"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kernels/cuda"
)

// version is what `quire version` says.
type version struct {
	Build        sysinfo.Build `json:"build"`
	Go           string        `json:"go"`
	OS           string        `json:"os"`
	Arch         string        `json:"arch"`
	KernelSet    string        `json:"kernel_set"`
	KernelReason string        `json:"kernel_set_reason,omitempty"`
	Images       string        `json:"gpu_images"` // hash of the kernels for GPUs that the program carries
}

func (a *App) versionCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:     "version",
		Short:   "Say what was built, of what, and which kernels it uses here",
		Example: "  quire version\n  quire version -json",
		Args:    exactly(0, ""),
		RunE: func(command *cobra.Command, _ []string) error {
			environment := sysinfo.Collect(command.Context())
			v := version{Build: environment.Build, Go: environment.Go, OS: environment.OS, Arch: environment.Arch, Images: cuda.ImagesHash()}
			device, err := kernels.Open(kernels.Options{})
			if err != nil {
				return err
			}
			defer device.Close()
			v.KernelSet, v.KernelReason = device.Info().KernelSet, device.Info().KernelReason
			if asJSON {
				return writeJSON(a.Stdout, v)
			}
			return v.write(a.Stdout)
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return command
}

func (v version) write(w io.Writer) error {
	name := v.Build.Version
	if name == "" {
		name = "(devel)"
	}
	modified := ""
	if v.Build.Modified {
		modified = ", with changes that are not committed"
	}
	reason := ""
	if v.KernelReason != "" {
		reason = " (" + v.KernelReason + ")"
	}
	_, err := fmt.Fprintf(w, "quire %s\ncommit %s%s\n%s %s/%s\nkernels %s%s\nGPU images %s\n",
		name, v.Build.Commit, modified, v.Go, v.OS, v.Arch, v.KernelSet, reason, v.Images[:16])
	return err
}

// writeJSON prints one indented object.
func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
