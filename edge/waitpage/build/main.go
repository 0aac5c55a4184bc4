// Command build bundles the fan's script and style with esbuild. It is run by go generate in package waitpage; its output is
// committed, so that building the product needs Go alone.
package main

import (
	"fmt"
	"os"

	"github.com/evanw/esbuild/pkg/api"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the fan's page:", err)
		os.Exit(1)
	}
}

func run() error {
	r := api.Build(api.BuildOptions{
		EntryPoints:       []string{"src/page.js", "src/page.css"},
		Outdir:            "built",
		Bundle:            true,
		Write:             true,
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		Format:            api.FormatIIFE,
		Target:            api.ES2020,
		Charset:           api.CharsetUTF8,
		LegalComments:     api.LegalCommentsNone,
		Loader:            map[string]api.Loader{".json": api.LoaderJSON},
	})
	for _, m := range r.Errors {
		return fmt.Errorf("%s", m.Text)
	}
	return nil
}
