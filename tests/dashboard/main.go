// Reads a dashboard as strictly as Grafana's own types allow: no unknown field, and none missing, in the dashboard, in the options of its
// panels, and in their queries.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func read(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	plugins.RegisterDefaultPlugins()
	read := dashboard.Dashboard{}
	err = read.UnmarshalJSONStrict(text)
	// It returns an empty list where nothing is wrong.
	if found := (cog.BuildErrors{}); errors.As(err, &found) && len(found) == 0 {
		err = read.Validate()
	}
	return err
}

func main() {
	if err := read(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
