// Reads a dashboard as strictly as Grafana's own types say: a field that they do not know, one that is missing and a value of
// another type are errors.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// What the dashboard has; another kind of panel belongs here too.
var types = map[string]bool{"stat": true, "timeseries": true}

func check(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	plugins.RegisterDefaultPlugins()
	var strict dashboard.Dashboard
	// It returns an error without content where it found none, and then has not kept the panels.
	if err := strict.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		return err
	}
	var read dashboard.Dashboard
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	// Of a type that is not known nothing was checked.
	for _, panel := range read.Panels {
		if panel.Panel != nil && !types[panel.Panel.Type] {
			return fmt.Errorf("panel %d: its type is %q", *panel.Panel.Id, panel.Panel.Type)
		}
	}
	return read.Validate()
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dashboard FILE")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "%s:\n%v\n", os.Args[1], err)
		os.Exit(1)
	}
}
