// Command pages takes pictures of everything a fan can see: each state of the waiting page in a real browser, at three widths, light and dark. It needs
// Chromium and the Node modules of tools/browser (make services, or npm ci there).
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/edge/waitpage"
)

func main() {
	out := flag.String("out", "docs/images/pages", "`directory` for the pictures")
	langs := flag.String("lang", "en", "languages, separated by commas")
	states := flag.String("state", "", "states, separated by commas; empty: all")
	widths := flag.String("width", "360,768,1440", "widths in px, separated by commas")
	zoom := flag.Float64("zoom", 1, "zoom of the page, such as 2 for 200%")
	branded := flag.Bool("branded", false, "with an organiser's colours and logo")
	flag.Parse()
	if err := run(*out, split(*langs), split(*states), split(*widths), *zoom, *branded); err != nil {
		fmt.Fprintln(os.Stderr, "pages:", err)
		os.Exit(1)
	}
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// shot is one picture to take.
type shot struct {
	URL    string `json:"url"`
	File   string `json:"file"`
	Width  string `json:"width"`
	Scheme string `json:"scheme"`
}

func run(out string, langs, states, widths []string, zoom float64, branded bool) error {
	pages, err := waitpage.New("/.stanchion")
	if err != nil {
		return err
	}
	if branded {
		logo := `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 40"><circle cx="20" cy="20" r="18" fill="#b3004b"/><path d="M60 12h90v6H60zM60 23h60v6H60z" fill="#b3004b"/></svg>`
		if err := pages.SetBrand("onsale", waitpage.Brand{Logo: []byte(logo), LogoText: "City Opera", Accent: "#b3004b", Background: "#fbf4f6"}); err != nil {
			return err
		}
	}
	if states == nil {
		for _, s := range waitpage.Previews() {
			states = append(states, string(s))
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler(pages), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()

	var shots []shot
	for _, lang := range langs {
		for _, state := range states {
			for _, width := range widths {
				for _, scheme := range []string{"light", "dark"} {
					name := state + "-" + width + "-" + scheme
					if len(langs) > 1 || lang != "en" {
						name = lang + "-" + name
					}
					shots = append(shots, shot{"http://" + listener.Addr().String() + "/" + lang + "/" + state, filepath.Join(out, name+".png"), width, scheme})
				}
			}
		}
	}
	if err := shoot(shots, zoom); err != nil {
		return err
	}
	var total int64
	for _, s := range shots {
		n, err := squeeze(s.File)
		if err != nil {
			return err
		}
		total += n
	}
	fmt.Printf("%d pictures, %d KiB, in %s\n", len(shots), total>>10, out)
	return nil
}

// handler serves previews under /{lang}/{state}, and their assets.
func handler(pages *waitpage.Pages) http.Handler {
	now := time.Date(2026, 6, 18, 10, 0, 0, 0, time.UTC)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{lang}/{state}", func(w http.ResponseWriter, r *http.Request) {
		var page bytes.Buffer
		if err := pages.Preview(&page, waitpage.State(r.PathValue("state")), "onsale", "The Gala", "City Opera", r.PathValue("lang"), now); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", waitpage.CSP)
		_, _ = w.Write(page.Bytes())
	})
	mux.HandleFunc("GET /.stanchion/assets/{name}", func(w http.ResponseWriter, r *http.Request) {
		a, ok := pages.Asset(r.PathValue("name"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", a.ContentType)
		_, _ = w.Write(a.Body)
	})
	return mux
}

// shoot has the browser take the pictures.
func shoot(shots []shot, zoom float64) error {
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	given, err := json.Marshal(map[string]any{
		"modules":  or(os.Getenv("STANCHION_TEST_NODE_MODULES"), filepath.Join(here, "tools", "browser", "node_modules")),
		"chromium": or(os.Getenv("STANCHION_TEST_CHROMIUM"), "/usr/bin/chromium"),
		"shots":    shots, "zoom": zoom,
	})
	if err != nil {
		return err
	}
	cmd := exec.Command("node", filepath.Join("tools", "pages", "shoot.js"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(given), os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("browser: %w", err)
	}
	return nil
}

func or(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// squeeze rewrites a picture with the 64 colours it uses most; flat pages lose nothing that can be seen.
func squeeze(file string) (int64, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	b := img.Bounds()
	uses := map[color.RGBA]int{}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(img.At(x, y)).(color.RGBA) } //nolint:forcetypeassert // the model's own type
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			uses[at(x, y)]++
		}
	}
	colors := make([]color.RGBA, 0, len(uses))
	for c := range uses {
		colors = append(colors, c)
	}
	slices.SortFunc(colors, func(a, b color.RGBA) int {
		if d := uses[b] - uses[a]; d != 0 {
			return d
		}
		return (int(a.R)<<16 | int(a.G)<<8 | int(a.B)) - (int(b.R)<<16 | int(b.G)<<8 | int(b.B)) // the same picture each time
	})
	var palette color.Palette
	for _, c := range colors[:min(len(colors), 64)] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	for _, c := range colors {
		index[c] = uint8(palette.Index(c)) //nolint:gosec // below 64
	}
	small := image.NewPaletted(b, palette)
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			small.SetColorIndex(x, y, index[at(x, y)])
		}
	}
	var buf bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&buf, small); err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return int64(buf.Len()), os.WriteFile(file, buf.Bytes(), 0o644)
}
