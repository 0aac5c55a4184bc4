//go:build it

package edge

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// These tests put unmodified servers of other makers behind the edge: nginx with files, a service of events and WebSockets,
// and Django with its administration. What is missing is installed: Debian packages when the tests run as root, and a
// Python environment, pinned by testdata/origins/requirements.txt, in the cache folder (STANCHION_CACHE, else
// ~/.cache/stanchion).

func cacheDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("STANCHION_CACHE")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatalf("neither STANCHION_CACHE nor a home directory is set: %v", err)
		}
		dir = filepath.Join(home, ".cache", "stanchion")
	}
	return filepath.Join(dir, "edge-origins")
}

// command runs a program to its end and fails the test with what it said.
func command(t *testing.T, dir string, env []string, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// debian makes sure that check succeeds, installing a package if it does not.
func debian(t *testing.T, pkg string, check func() error) {
	t.Helper()
	err := check()
	if err == nil {
		return
	}
	install := []string{"apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", pkg}
	if _, missing := exec.LookPath("apt-get"); missing != nil || os.Getuid() != 0 {
		t.Fatalf("%v; install the Debian package %s (as root: %s)", err, pkg, strings.Join(install, " "))
	}
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	cmd := exec.Command(install[0], install[1:]...)
	cmd.Env = append(os.Environ(), env...)
	if cmd.Run() != nil { // a fresh machine has no package lists
		command(t, "", env, "apt-get", "update", "-q")
		command(t, "", env, install...)
	}
	if err := check(); err != nil {
		t.Fatalf("%s is installed, but: %v", pkg, err)
	}
}

// python is the interpreter of the pinned environment.
func python(t *testing.T) string {
	t.Helper()
	lock, err := filepath.Abs("testdata/origins/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	venv := filepath.Join(cacheDir(t), "python-"+hex.EncodeToString(sum[:8]))
	bin := filepath.Join(venv, "bin", "python")
	ready := filepath.Join(venv, "ready")
	if _, err := os.Stat(ready); err == nil && exec.Command(bin, "-c", "import django, uvicorn").Run() == nil {
		return bin
	}
	debian(t, "python3-venv", func() error {
		out, err := exec.Command("python3", "-c", "import sys, venv, ensurepip; assert sys.version_info >= (3, 11), sys.version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("python3 of version 3.11 or newer with venv: %w: %s", err, out)
		}
		return nil
	})
	if err := os.RemoveAll(venv); err != nil {
		t.Fatal(err)
	}
	command(t, "", nil, "python3", "-m", "venv", venv)
	command(t, "", nil, bin, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", lock)
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return bin
}

// serve starts a server and waits until it listens. It ends with the test.
func serve(t *testing.T, dir string, env []string, addr string, argv ...string) {
	t.Helper()
	var log syncBuffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), env...), &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // workers end with it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
		if t.Failed() {
			t.Logf("%s said:\n%s", argv[0], log.String())
		}
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); <-tick.C {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			return
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("%s ended: %v\n%s", argv[0], err, log.String())
		default:
		}
	}
	t.Fatalf("%s does not listen on %s after 60 s\n%s", argv[0], addr, log.String())
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// before puts the edge before an origin: everything freely, but /admin, which is behind a room.
func before(t *testing.T, origin string) *rig {
	t.Helper()
	return newRig(t, nil, func(o *Options) {
		o.Upstreams["shop"] = Upstream{Targets: []string{"http://" + origin}}
		o.Routes = []Route{
			{Paths: []string{"/admin", "/admin/*"}, Upstream: "shop", Room: "onsale", Priority: PriorityDefault},
			{Paths: []string{"/live/ws"}, Upstream: "shop", WebSocket: true, Priority: PriorityDefault},
			{Upstream: "shop", Priority: PriorityDefault},
		}
		o.Limits.SessionPerSecond = -1
	})
}

func TestNginxBehindTheEdge(t *testing.T) {
	nginx := "nginx"
	debian(t, "nginx-light", func() (err error) {
		if nginx, err = exec.LookPath("nginx"); err != nil {
			nginx, err = exec.LookPath("/usr/sbin/nginx")
		}
		return err
	})
	dir, err := os.MkdirTemp("", "edge-nginx-") // of nginx' own user, who may not look into the test's folder
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"body", "files/files/dir", "files/files/upload"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"body", "files/files/upload"} {
		if err := os.Chmod(filepath.Join(dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	big := make([]byte, 8<<20)
	if _, err := rand.Read(big); err != nil {
		t.Fatal(err)
	}
	text1 := strings.Repeat("The Gala at the City Opera. ", 4000)
	for name, content := range map[string][]byte{"big.bin": big, "long.txt": []byte(text1), "dir/index.html": []byte("<p>index</p>")} {
		if err := os.WriteFile(filepath.Join(dir, "files/files", name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	addr := freeAddr(t)
	conf, err := os.ReadFile("testdata/origins/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf = []byte(strings.NewReplacer("@DIR@", dir, "@LISTEN@", addr).Replace(string(conf)))
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), conf, 0o644); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, nil, addr, nginx, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	r := before(t, addr)

	whole := r.ask("GET", "/files/big.bin", nil)
	if whole.StatusCode != 200 || text(whole) != string(big) || whole.ContentLength != int64(len(big)) {
		t.Errorf("whole file: %d, %d bytes", whole.StatusCode, whole.ContentLength)
	}
	etag := whole.Header.Get("ETag")
	if etag == "" || whole.Header.Get("Accept-Ranges") != "bytes" || !strings.HasPrefix(whole.Header.Get("Server"), "nginx/") {
		t.Errorf("head %v", whole.Header)
	}
	if h := r.ask("HEAD", "/files/big.bin", nil); h.StatusCode != 200 || h.ContentLength != int64(len(big)) || text(h) != "" {
		t.Errorf("HEAD: %d, %d bytes", h.StatusCode, h.ContentLength)
	}
	for _, k := range []struct {
		name, ranges, ifRange string
		status, from, to      int
	}{
		{"first bytes", "bytes=0-99", "", 206, 0, 100},
		{"the middle", "bytes=1000000-4999999", "", 206, 1000000, 5000000},
		{"to the end", "bytes=8388000-", "", 206, 8388000, 8 << 20},
		{"the last", "bytes=-500", "", 206, 8<<20 - 500, 8 << 20},
		{"unchanged since", "bytes=5-9", etag, 206, 5, 10},
		{"changed since", "bytes=5-9", `"other"`, 200, 0, 8 << 20},
		{"beyond the end", "bytes=9000000-", "", 416, -1, -1},
	} {
		headers := []string{"Range", k.ranges}
		if k.ifRange != "" {
			headers = append(headers, "If-Range", k.ifRange)
		}
		p := r.ask("GET", "/files/big.bin", nil, headers...)
		if p.StatusCode != k.status {
			t.Errorf("%s: status %d, want %d", k.name, p.StatusCode, k.status)
			continue
		}
		if k.from >= 0 && text(p) != string(big[k.from:k.to]) {
			t.Errorf("%s: %d bytes that are not those asked for", k.name, len(text(p)))
		}
		if want := fmt.Sprintf("bytes %d-%d/%d", k.from, k.to-1, len(big)); k.status == 206 && p.Header.Get("Content-Range") != want {
			t.Errorf("%s: %q, want %q", k.name, p.Header.Get("Content-Range"), want)
		}
	}
	many := r.ask("GET", "/files/big.bin", nil, "Range", "bytes=0-9,100000-100009")
	if kind, params, err := mime.ParseMediaType(many.Header.Get("Content-Type")); many.StatusCode != 206 || err != nil || kind != "multipart/byteranges" {
		t.Errorf("two ranges: %d %v", many.StatusCode, many.Header)
	} else {
		parts := multipart.NewReader(many.Body, params["boundary"])
		for _, at := range []int{0, 100000} {
			p, err := parts.NextPart()
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(p); err != nil || !bytes.Equal(b, big[at:at+10]) {
				t.Errorf("two ranges: %x %v", b, err)
			}
		}
	}
	if n := r.ask("GET", "/files/big.bin", nil, "If-None-Match", etag); n.StatusCode != 304 || text(n) != "" {
		t.Errorf("not changed: %d", n.StatusCode)
	}

	z := r.ask("GET", "/files/long.txt", nil, "Accept-Encoding", "gzip")
	if z.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(z.Header.Get("Vary"), "Accept-Encoding") {
		t.Fatalf("not compressed: %v", z.Header)
	}
	if len(text(z)) > len(text1)/10 {
		t.Errorf("%d bytes of %d", len(text(z)), len(text1))
	}
	gz, err := gzip.NewReader(z.Body)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(gz); err != nil || string(b) != text1 {
		t.Errorf("decompressed: %d bytes, %v", len(b), err)
	}
	if p := r.ask("GET", "/files/long.txt", nil); p.Header.Get("Content-Encoding") != "" || text(p) != text1 {
		t.Errorf("plain: %v", p.Header)
	}

	// nginx adds its own port to the name that was asked for, which would lead around the edge.
	if d := r.ask("GET", "/files/dir", nil); d.StatusCode != 301 || d.Header.Get("Location") != r.url+"/files/dir/" {
		t.Errorf("directory: %d to %s", d.StatusCode, d.Header.Get("Location"))
	}
	if d := r.ask("GET", "/files/dir/", nil); text(d) != "<p>index</p>" {
		t.Errorf("index: %d %s", d.StatusCode, text(d))
	}

	for _, k := range []struct {
		name string
		body io.Reader // a reader whose length is not known goes in chunks
	}{{"sized", bytes.NewReader(big)}, {"chunked", io.MultiReader(bytes.NewReader(big))}} {
		path := "/files/upload/" + k.name + ".bin"
		if u := r.ask("PUT", path, k.body); u.StatusCode != 201 {
			t.Errorf("%s upload: %d %s", k.name, u.StatusCode, text(u))
		}
		got, err := os.ReadFile(filepath.Join(dir, "files", path))
		if err != nil || !bytes.Equal(got, big) {
			t.Errorf("%s upload: %d bytes arrived, %v", k.name, len(got), err)
		}
		if g := r.ask("GET", path, nil); text(g) != string(big) {
			t.Errorf("%s upload: comes back with %d bytes", k.name, len(text(g)))
		}
	}
}

// liveService starts the service of events and WebSockets.
func liveService(t *testing.T) *rig {
	t.Helper()
	bin := python(t)
	dir, err := filepath.Abs("testdata/origins")
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	serve(t, dir, []string{"PYTHONDONTWRITEBYTECODE=1"}, addr, bin, "-m", "uvicorn", "--host", "127.0.0.1", "--port", port, "--ws", "wsproto", "--http", "h11", "live:app")
	return before(t, addr)
}

func TestEventsBehindTheEdge(t *testing.T) {
	r := liveService(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", r.url+"/live/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", "41")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	next := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.TrimSpace(lines.Text()) == want {
				return
			}
		}
		t.Fatalf("the stream ended before %q: %v", want, lines.Err())
	}
	// Each event has to come through before the next one is published: a proxy that waits for more would wait for ever.
	next("event: ready")
	next("data: 41")
	for i := range 5 {
		if p := r.ask("POST", "/live/publish", strings.NewReader(fmt.Sprintf("seat %d", i))); text(p) != "1" {
			t.Fatalf("publish: %d, %s listen", p.StatusCode, text(p))
		}
		next("id: 7")
		next("event: news")
		next(fmt.Sprintf("data: seat %d", i))
	}
	for lines.Scan() && !strings.HasPrefix(lines.Text(), ": ping") { // the service's heartbeat
	}
	if lines.Err() != nil {
		t.Fatalf("no heartbeat: %v", lines.Err())
	}
	cancel() // the fan closes the page; the service must hear of it
	waitFor(t, func() bool { return text(r.ask("POST", "/live/publish", strings.NewReader("to nobody"))) == "0" })
}

// record keeps what is read from a connection.
type record struct {
	net.Conn
	read bytes.Buffer
}

func (c *record) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Write(p[:n])
	return n, err
}

func TestWebSocketBehindTheEdge(t *testing.T) {
	r := liveService(t)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conf, err := websocket.NewConfig("ws://"+r.addr+"/live/ws", r.url)
	if err != nil {
		t.Fatal(err)
	}
	conf.Protocol = []string{"seats"}
	rec := &record{Conn: c}
	ws, err := websocket.NewClient(conf, rec)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{"hello", "", "Grüße", strings.Repeat("x", 70_000), strings.Repeat("seat ", 200_000)} {
		var got string
		if err := websocket.Message.Send(ws, m); err != nil {
			t.Fatal(err)
		}
		if err := websocket.Message.Receive(ws, &got); err != nil || got != m {
			t.Fatalf("%d bytes came back for %d, %v", len(got), len(m), err)
		}
	}
	raw, got := make([]byte, 100_000), []byte(nil)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	if err := websocket.Message.Send(ws, raw); err != nil {
		t.Fatal(err)
	}
	if err := websocket.Message.Receive(ws, &got); err != nil || !bytes.Equal(got, raw) {
		t.Fatalf("%d bytes came back, %v", len(got), err)
	}
	rec.read.Reset()
	if err := websocket.Message.Send(ws, "bye"); err != nil {
		t.Fatal(err)
	}
	var end string
	if err := websocket.Message.Receive(ws, &end); !errors.Is(err, io.EOF) {
		t.Errorf("after bye: %q, %v", end, err)
	}
	if !bytes.HasPrefix(rec.read.Bytes(), []byte{0x88, 0x02, 4001 >> 8, 4001 & 0xff}) {
		t.Errorf("the close frame came as %x", rec.read.Bytes())
	}
	if other := r.ask("GET", "/live/ws", nil, "Connection", "Upgrade", "Upgrade", "h2c"); other.StatusCode != 400 {
		t.Errorf("another upgrade: %d", other.StatusCode)
	}
}

var csrfField = regexp.MustCompile(`name="csrfmiddlewaretoken" value="([^"]+)"`)

// TestDjangoBehindTheEdge logs in to Django's administration behind a room, changes something, and logs out.
func TestDjangoBehindTheEdge(t *testing.T) {
	bin := python(t)
	dir := t.TempDir()
	const user, password = "organiser", "correct horse battery staple"
	env := []string{"DJANGO_SUPERUSER_PASSWORD=" + password, "DJANGO_SETTINGS_MODULE=shop.settings", "PYTHONDONTWRITEBYTECODE=1"}
	command(t, dir, nil, bin, "-m", "django", "startproject", "shop", ".")
	command(t, dir, env, bin, "manage.py", "migrate", "--verbosity", "0")
	command(t, dir, env, bin, "manage.py", "createsuperuser", "--noinput", "--username", user, "--email", "o@example.org")
	addr := freeAddr(t)
	serve(t, dir, env, addr, bin, "-m", "gunicorn", "--bind", addr, "--workers", "2", "--keep-alive", "5", "shop.wsgi")
	r := before(t, addr)

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, CheckRedirect: noRedirects.CheckRedirect, Timeout: 30 * time.Second, Transport: &http.Transport{}}
	ask := func(method, path string, form url.Values, headers ...string) (*http.Response, string) {
		t.Helper()
		var body io.Reader
		if form != nil {
			body = strings.NewReader(form.Encode())
		}
		req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", nav)
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", r.url)
			req.Header.Set("Referer", r.url+path)
		}
		for i := 0; i+1 < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	want := func(resp *http.Response, body string, status int, location string) {
		t.Helper()
		if resp.StatusCode != status || resp.Header.Get("Location") != location {
			t.Fatalf("%s %s: %d to %q, want %d to %q\n%.2000s", resp.Request.Method, resp.Request.URL, resp.StatusCode, resp.Header.Get("Location"), status, location, body)
		}
	}
	csrf := func(page string) string {
		t.Helper()
		m := csrfField.FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("no form with a token:\n%.2000s", page)
		}
		return m[1]
	}

	// Without a pass nobody gets to the log-in, and Django hears nothing of it.
	if resp, body := ask("GET", "/admin/", nil); resp.Header.Get("Stanchion-Decision") != "wait" || strings.Contains(body, "Django") {
		t.Fatalf("without a pass: %d %v", resp.StatusCode, resp.Header)
	}
	here, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(here, []*http.Cookie{{Name: "stanchion-pass-onsale", Value: r.room.passFor(t, nil), Path: "/"}})

	resp, body := ask("GET", "/admin", nil)
	want(resp, body, 301, "/admin/")
	resp, body = ask("GET", "/admin/", nil)
	want(resp, body, 302, "/admin/login/?next=/admin/")
	resp, page := ask("GET", "/admin/login/?next=/admin/", nil)
	want(resp, page, 200, "")
	login := url.Values{"csrfmiddlewaretoken": {csrf(page)}, "username": {user}, "password": {password}, "next": {"/admin/"}}

	resp, body = ask("POST", "/admin/login/?next=/admin/", url.Values{"username": {user}, "password": {password}})
	want(resp, body, 403, "") // no token
	resp, body = ask("POST", "/admin/login/?next=/admin/", login, "Origin", "http://elsewhere.example")
	want(resp, body, 403, "") // from another site
	wrong := url.Values{"csrfmiddlewaretoken": login["csrfmiddlewaretoken"], "username": {user}, "password": {"guess"}, "next": {"/admin/"}}
	resp, body = ask("POST", "/admin/login/?next=/admin/", wrong)
	want(resp, body, 200, "")
	if !strings.Contains(body, "Please enter the correct username and password") {
		t.Errorf("a wrong password is answered with\n%.2000s", body)
	}
	resp, body = ask("POST", "/admin/login/?next=/admin/", login)
	want(resp, body, 302, "/admin/")
	var session *http.Cookie
	for _, c := range resp.Cookies() {
		if c.Name == "sessionid" {
			session = c
		}
	}
	if session == nil || !session.HttpOnly || session.Path != "/" || session.SameSite != http.SameSiteLaxMode {
		t.Fatalf("session cookie %v", session)
	}

	resp, page = ask("GET", "/admin/", nil)
	want(resp, page, 200, "")
	wantContains(t, page, "Site administration", "Log out", user)
	if v := resp.Header.Values("Vary"); !strings.Contains(strings.Join(v, ","), "Cookie") {
		t.Errorf("Vary %q", v)
	}
	resp, page = ask("GET", "/admin/auth/group/add/", nil)
	want(resp, page, 200, "")
	resp, body = ask("POST", "/admin/auth/group/add/", url.Values{"csrfmiddlewaretoken": {csrf(page)}, "name": {"Ushers & Grüße"}, "_save": {"Save"}})
	want(resp, body, 302, "/admin/auth/group/")
	resp, page = ask("GET", "/admin/auth/group/?q=Ushers+%26", nil)
	want(resp, page, 200, "")
	wantContains(t, page, "Ushers &amp; Grüße", "was added successfully")
	resp, body = ask("POST", "/admin/logout/", url.Values{"csrfmiddlewaretoken": {csrf(page)}})
	want(resp, body, 200, "")
	resp, body = ask("GET", "/admin/", nil)
	want(resp, body, 302, "/admin/login/?next=/admin/")
}
