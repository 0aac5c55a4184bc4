// Package stand puts servers side by side for a comparison: each is a process of its own, pinned to a core, so that its
// processor time can be told from the others'. The edge, the bare proxies written in Go and the origin of known capacity are
// this very program started again in another part; nginx and HAProxy run with the files of peerconf.
package stand

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed peerconf
var peerconf embed.FS

// Server is a server under comparison.
type Server struct {
	Name string
	Addr string // host:port of its public listener
	Ops  string // host:port of its metrics; the edge only
	Pass string // a pass that the edge takes; the edge only

	cmd  *exec.Cmd
	dir  string
	errs *bytes.Buffer
	done chan struct{}
}

// Stand starts servers. Close ends them all.
type Stand struct{ servers []*Server }

// Close ends all servers, by their own process ids.
func (s *Stand) Close() {
	for _, v := range s.servers {
		v.Stop()
	}
}

// Stop ends one server.
func (v *Server) Stop() {
	_ = v.cmd.Process.Kill()
	<-v.done
	_ = os.RemoveAll(v.dir)
}

// CPU is the processor time that the server has used so far, its own and the kernel's on its behalf, to 10 ms.
func (v *Server) CPU() (user, kernel time.Duration, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", v.cmd.Process.Pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read the processor time of %s: %w", v.Name, err)
	}
	_, rest, ok := strings.Cut(string(raw), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, 0, fmt.Errorf("read the processor time of %s: %q", v.Name, raw)
	}
	var ticks [2]int64 // hundredths of a second
	for i, n := range f[11:13] {
		if ticks[i], err = strconv.ParseInt(n, 10, 64); err != nil {
			return 0, 0, fmt.Errorf("read the processor time of %s: %w", v.Name, err)
		}
	}
	const tick = 10 * time.Millisecond
	return time.Duration(ticks[0]) * tick, time.Duration(ticks[1]) * tick, nil
}

// Tools says which of the named programs are missing, and how Debian brings them.
func Tools(names ...string) error {
	var missing []string
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		packages := strings.ReplaceAll(strings.Join(missing, " "), "taskset", "util-linux")
		return fmt.Errorf("missing: %s; install with: apt-get install -y --no-install-recommends %s", strings.Join(missing, ", "), packages)
	}
	return nil
}

// Nginx starts nginx as a proxy.
func (s *Stand) Nginx(ctx context.Context, core int, origin string) (*Server, error) {
	return s.configured(ctx, core, "nginx", "nginx.conf", map[string]string{"ORIGIN": origin})
}

// NginxOrigin starts nginx as an origin that answers 512 bytes.
func (s *Stand) NginxOrigin(ctx context.Context, core int) (*Server, error) {
	return s.configured(ctx, core, "origin", "origin.conf", map[string]string{"BODY": strings.Repeat("stanchion-benchm", 32)})
}

// HAProxy starts HAProxy as a proxy. server and backend are further words of its configuration.
func (s *Stand) HAProxy(ctx context.Context, core int, name, origin, server, backend string) (*Server, error) {
	return s.configured(ctx, core, name, "haproxy.cfg", map[string]string{"ORIGIN": origin, "SERVER": server, "BACKEND": backend})
}

// Part starts a part of this very program, see Main. The part tells its addresses on its first line.
func (s *Stand) Part(ctx context.Context, core int, name, part string, args ...string) (*Server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	v := &Server{Name: name}
	out, err := s.start(ctx, v, core, append([]string{self, partFlag, part}, args...)...)
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	f := strings.Fields(line)
	if err != nil || len(f) == 0 {
		v.Stop()
		return nil, fmt.Errorf("start %s: %w\n%s", name, errors.Join(err, errors.New("it did not say where it listens")), v.errs)
	}
	v.Addr = f[0]
	if len(f) == 3 {
		v.Ops, v.Pass = f[1], f[2]
	}
	return v, nil
}

func (s *Stand) configured(ctx context.Context, core int, name, file string, values map[string]string) (*Server, error) {
	text, err := peerconf.ReadFile("peerconf/" + file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	v := &Server{Name: name}
	if v.dir, err = os.MkdirTemp("", "stanchion-peers-"); err != nil {
		return nil, fmt.Errorf("make a folder for %s: %w", name, err)
	}
	if err := os.Chmod(v.dir, 0o777); err != nil { //nolint:gosec // nginx gives its rights up
		return nil, fmt.Errorf("open the folder of %s: %w", name, err)
	}
	if v.Addr, err = freeAddr(); err != nil {
		return nil, err
	}
	pairs := []string{"@DIR@", v.dir, "@LISTEN@", v.Addr}
	for k, x := range values {
		pairs = append(pairs, "@"+k+"@", x)
	}
	conf := filepath.Join(v.dir, file)
	if err := os.WriteFile(conf, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o644); err != nil { //nolint:gosec // no secret
		return nil, fmt.Errorf("write configuration of %s: %w", name, err)
	}
	argv := []string{"nginx", "-p", v.dir, "-c", conf}
	if strings.HasPrefix(file, "haproxy") {
		argv = []string{"haproxy", "-db", "-f", conf}
	}
	if _, err := s.start(ctx, v, core, argv...); err != nil {
		return nil, err
	}
	return v, v.await(ctx)
}

// start runs argv on one core.
func (s *Stand) start(ctx context.Context, v *Server, core int, argv ...string) (*os.File, error) {
	v.errs, v.done = &bytes.Buffer{}, make(chan struct{})
	v.cmd = exec.CommandContext(ctx, "taskset", append([]string{"-c", strconv.Itoa(core)}, argv...)...)
	v.cmd.Stderr = v.errs
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", v.Name, err)
	}
	v.cmd.Stdout = w
	err = v.cmd.Start()
	_ = w.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", v.Name, err)
	}
	go func() {
		_ = v.cmd.Wait()
		_ = r.Close()
		close(v.done)
	}()
	s.servers = append(s.servers, v)
	return r, nil
}

// await waits until the server accepts connections.
func (v *Server) await(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); {
		if c, err := net.DialTimeout("tcp", v.Addr, time.Second); err == nil {
			_ = c.Close()
			return nil
		}
		select {
		case <-v.done:
			return fmt.Errorf("%s ended: %s", v.Name, v.errs)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", v.Name, ctx.Err())
		case <-tick.C:
		}
	}
	return fmt.Errorf("%s does not listen after 15 s", v.Name)
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// Profile writes a processor profile of the next d of an edge to a file.
func (v *Server) Profile(ctx context.Context, file string, d time.Duration) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/profile?seconds=%d", v.Ops, max(1, int(d.Seconds()))), nil)
	if err != nil {
		return fmt.Errorf("profile %s: %w", v.Name, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("profile %s: %w", v.Name, err)
	}
	defer resp.Body.Close()
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("profile %s: %w", v.Name, err)
	}
	_, err = io.Copy(f, resp.Body)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("profile %s: %w", v.Name, err)
	}
	return nil
}

// PinSelf moves all threads of this program to one core; call it before it has much to do.
func PinSelf(core int) error {
	out, err := exec.Command("taskset", "-a", "-cp", strconv.Itoa(core), strconv.Itoa(os.Getpid())).CombinedOutput() //nolint:gosec // numbers
	if err != nil {
		return fmt.Errorf("pin this program to core %d: %w\n%s", core, err, out)
	}
	runtime.GOMAXPROCS(1)
	return nil
}
