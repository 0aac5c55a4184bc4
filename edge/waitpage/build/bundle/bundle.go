// Package bundle makes the files of the fan's page from their sources.
package bundle

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/evanw/esbuild/pkg/api"
)

// Files are the built files, by their path below dir, which is that of package waitpage.
func Files(dir string) (map[string][]byte, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	common := api.BuildOptions{
		AbsWorkingDir: dir, Bundle: true, MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true,
		Target: api.ES2020, Charset: api.CharsetUTF8, LegalComments: api.LegalCommentsNone,
	}
	page, client := common, common
	page.EntryPoints, page.Outdir, page.Format = []string{"src/page.ts", "src/page.css"}, "built", api.FormatIIFE
	client.EntryPointsAdvanced = []api.EntryPoint{{InputPath: "client/index.ts", OutputPath: "client"}}
	client.Outdir, client.Format = "built", api.FormatESModule
	files := map[string][]byte{}
	for _, o := range []api.BuildOptions{page, client} {
		r := api.Build(o)
		for _, m := range append(r.Errors, r.Warnings...) {
			where := ""
			if m.Location != nil {
				where = fmt.Sprintf("%s:%d: ", m.Location.File, m.Location.Line)
			}
			return nil, fmt.Errorf("%s%s", where, m.Text)
		}
		for _, f := range r.OutputFiles {
			name, err := filepath.Rel(dir, f.Path)
			if err != nil {
				return nil, err
			}
			files[filepath.ToSlash(name)] = f.Contents
		}
	}
	return files, nil
}

// Write writes files below dir.
func Write(dir string, files map[string][]byte) error {
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
			return err
		}
	}
	return nil
}
