// Command quire runs, checks and describes language models.
package main

import (
	"context"
	"os"
)

func main() {
	app := &App{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Args: os.Args[1:]}
	os.Exit(int(app.Run(context.Background())))
}
